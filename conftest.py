"""The ground of every test: a place and a broker of its own, told to Django before it loads."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
from redis import Redis

from tests.processes import PaperExchange, Valkey

PLACE = Path(tempfile.mkdtemp(prefix="phalanx-tests-"))
VALKEY = Valkey(PLACE / "valkey")
SLOW = ("whole_system", "browser", "timeout")
PAPER = PaperExchange(PLACE / "paper", "--weight-limit", "0")  # a minute of tests reads more than a desk's

for name in [name for name in os.environ if name.startswith(("LIMIT_", "TRADING_ACCOUNT_", "HPKE_"))]:
    del os.environ[name]
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "ENV_FILE": os.devnull,
    "MODE": "paper",
    "VAR_DIR": str(PLACE / "var"),
    "REDIS_URL": VALKEY.url,
    "PAPER_EXCHANGE_URL": PAPER.url,
    "DEMO_SIGNALS": "off",
    "LOG_LEVEL": "WARNING",
    "BROKER_VISIBILITY_SECONDS": "10",
    "SECRET_KEY": "a key for tests only, long enough to be one",
}
django.setup()
# Whoever runs tests in several processes hands this environment on: a process that finds settings named in it
# loads them before it has a place of its own.
del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of whole desks, browsers and long limits first: begun last, one keeps the rest waiting."""
    slow = {item.path for item in items if any(item.get_closest_marker(mark) for mark in SLOW)}
    items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure() -> None:
    PAPER.stop()
    VALKEY.stop()
    shutil.rmtree(PLACE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def valkey() -> Valkey:
    """A real Valkey, the one `settings.REDIS_URL` names; not emptied between tests."""
    VALKEY.start()
    return VALKEY


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    """A client of the broker, which is empty when the test begins."""
    with valkey.client() as client:
        client.flushdb()
        yield client


@pytest.fixture(scope="session")
def paper_exchange() -> PaperExchange:
    """The paper exchange `settings.PAPER_EXCHANGE_URL` names, with its administration: synthetic, seed 7."""
    PAPER.start()
    return PAPER


@pytest.fixture(scope="session")
def recorded_candles() -> Path:
    """The folder of recorded candles, named by PHALANX_DATA; skips where there is none."""
    place = Path(os.environ.get("PHALANX_DATA", Path(__file__).parent.parent / "shared" / "data"))
    if not (place / "manifest.json").is_file():
        pytest.skip(f"no recorded candles at PHALANX_DATA={place.name}")
    return place
