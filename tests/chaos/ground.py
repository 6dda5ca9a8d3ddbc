"""The ground a run stands on: place, broker, database and exchange of its own, and the lines to them.

Entering it tells Django's settings to this process; models may be loaded only afterwards.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from tests.chaos.postgres import Postgres
from tests.chaos.proxy import Proxy
from tests.processes import PaperExchange, Valkey

SQLITE, POSTGRES = "sqlite", "postgres"
KEPT = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV"})
"""What a run takes over from its caller's environment: nothing of a desk's own settings."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is. `database` is None on SQLite, which has no line that could be cut."""

    place: Path
    kind: str
    valkey: Valkey
    exchange: PaperExchange
    broker: Proxy
    database: Proxy | None
    desk_redis_url: str
    desk_database_url: str


@contextmanager
def entered(kind: str, server_url: str) -> Iterator[Ground]:
    """Everything started, the environment of this process told; all gone afterwards.

    `server_url` names a Postgres in which a database is made for the run; without one a server is started.
    """
    with ExitStack() as ends:
        place = Path(tempfile.mkdtemp(prefix="phalanx-chaos-"))
        place.chmod(0o755)  # the owner of Postgres passes through
        ends.callback(shutil.rmtree, place, ignore_errors=True)
        url = ends.enter_context(_database(kind, server_url, place))
        valkey = Valkey(place / "valkey")
        exchange = PaperExchange(place / "exchange", "--weight-limit", "0")
        _tell(place, url, valkey, exchange)
        # What died while it started is to be ended too.
        ends.callback(valkey.stop)
        valkey.start()
        ends.callback(exchange.stop)
        exchange.start()
        broker = ends.enter_context(_line(valkey.url))
        database = ends.enter_context(_line(url)) if kind == POSTGRES else None
        yield Ground(
            place=place,
            kind=kind,
            valkey=valkey,
            exchange=exchange,
            broker=broker,
            database=database,
            desk_redis_url=_through(broker, valkey.url),
            desk_database_url=_through(database, url) if database else url,
        )


@contextmanager
def _database(kind: str, server_url: str, place: Path) -> Iterator[str]:
    if kind == SQLITE:
        yield f"sqlite:///{place / 'desk.sqlite3'}"
        return
    with ExitStack() as ends:
        if not server_url:
            server = Postgres(place / "postgres")
            ends.callback(server.stop)
            server.start()
            server_url = server.url
        name = f"chaos_{uuid4().hex[:12]}"
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type,unused-ignore]
        ends.callback(_drop, server_url, name)
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def _line(url: str) -> Iterator[Proxy]:
    proxy = Proxy(urlsplit(url).port or 0)
    proxy.start()
    yield proxy
    proxy.stop()


def _through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))


def _tell(place: Path, database_url: str, valkey: Valkey, exchange: PaperExchange) -> None:
    """The observer's own environment: the direct ways, and no rate budget that counts its questions."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    os.environ.clear()
    os.environ |= kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "ENV_FILE": os.devnull,
        "MODE": "paper",
        "VAR_DIR": str(place / "var"),
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "PAPER_EXCHANGE_URL": exchange.url,
        "DEMO_SIGNALS": "off",
        "LOG_LEVEL": "WARNING",
        "BROKER_VISIBILITY_SECONDS": "10",
        "WEIGHT_LIMIT_PER_MINUTE": "0",
        "SECRET_KEY": "a key for tests only, long enough to be one",
    }
