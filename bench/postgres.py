"""A Postgres of the stage's own: made, started and gone with it, durable as a desk's is."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

USER = "desk"
SYSTEM_USER = "postgres"
INSTALLED = Path("/usr/lib/postgresql")
MISSING = "no initdb in /usr/lib/postgresql/*/bin nor on the path"


def binaries() -> Path | None:
    """Where initdb and postgres are, the newest version first; None when there is no Postgres."""
    versions = sorted(INSTALLED.glob("*/bin"), key=lambda place: _number(place.parent.name), reverse=True)
    for place in versions:
        if (place / "initdb").exists():
            return place
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def make(directory: Path) -> None:
    """Make an empty cluster in a directory that is not there yet. Raises RuntimeError without a Postgres."""
    found = binaries()
    if found is None:
        raise RuntimeError(MISSING)
    directory.mkdir(mode=0o700)
    owner = system_user()
    if owner is not None:
        known = pwd.getpwnam(owner)
        os.chown(directory, known.pw_uid, known.pw_gid)
        directory.parent.chmod(0o711)  # another user has to pass through
    words = [str(found / "initdb"), "-D", str(directory), "-U", USER, "--auth=trust", "--no-sync"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, user=owner, cwd="/")


def words(directory: Path, port: int) -> list[str]:
    """How the server is started: as Postgres comes, fsync and synchronous commits included."""
    found = binaries()
    if found is None:
        raise RuntimeError(MISSING)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "max_connections": 200,
        "unix_socket_directories": "",
    }
    told = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return [str(found / "postgres"), "-D", str(directory), *told]


def url(port: int) -> str:
    """The `DATABASE_URL` of it."""
    return f"postgres://{USER}@127.0.0.1:{port}/postgres"


def system_user() -> str | None:
    """Who runs the server: Postgres refuses root, and runs as whoever measures otherwise."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def _number(version: str) -> float:
    return float(version) if version.replace(".", "", 1).isdigit() else 0.0
