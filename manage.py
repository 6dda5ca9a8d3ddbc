#!/usr/bin/env python
import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line

from project.env import SettingsRefused

REFUSED = 2


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        execute_from_command_line(sys.argv)
    except SettingsRefused as refused:
        sys.stderr.write(f"{refused}\n")
        sys.exit(REFUSED)
    finally:
        close_exchange_connections()


def close_exchange_connections() -> None:
    """A command that spoke to an exchange leaves no open connection to complain about."""
    gateways = sys.modules.get("accounts.services.gateways")
    if gateways is not None and settings.configured:
        gateways.close_gateways()


if __name__ == "__main__":
    main()
