from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trading.services.tokens import Scope, TokenRefused, create_token


class Command(BaseCommand):
    """`manage.py create_token`."""

    help = "Make an API token and print it, alone, on the last line. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True)
        parser.add_argument("--scopes", required=True, help=f"comma-separated, of {', '.join(Scope)}")
        parser.add_argument("--replace", action="store_true", help="end the former token of this name")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            token = create_token(options["name"], options["scopes"].split(","), replace=options["replace"])
        except TokenRefused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(token)
