"""What others wrote is kept as they published it."""

import hashlib
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "static" / "vendor"


def test_every_vendored_file_is_the_published_one() -> None:
    folders = sorted(VENDOR.iterdir())
    assert [folder.name for folder in folders] == ["lightweight-charts-5.2.1"]
    for folder in folders:
        listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
        assert set(listed) == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
        assert {"LICENSE", "NOTICE"} <= set(listed)
        for name, digest in listed.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
