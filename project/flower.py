"""Flower behind a login, for it can revoke tasks: `python -m project.flower [--host ADDRESS]`."""

import argparse
import os

import django
from django.conf import settings

from project.celery import app


def main() -> None:
    """Serve Flower until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    host = parser.parse_args().host
    django.setup()
    # In the environment, not among the words of the command, where every user of the machine reads them.
    os.environ["FLOWER_BASIC_AUTH"] = f"{settings.FLOWER_USER}:{settings.FLOWER_PASSWORD}"
    app.start(["flower", f"--address={host}", f"--port={settings.FLOWER_PORT}"])


if __name__ == "__main__":
    main()
