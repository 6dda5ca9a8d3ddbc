from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.errors import AccountRefused
from accounts.services.registry import create_paper_accounts


class Command(BaseCommand):
    """`create_paper_accounts --count N`."""

    help = "Make what is missing of paper-0001 to paper-<count>, each with a futures and a spot executor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=int, required=True)

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            made = create_paper_accounts(options["count"])
        except AccountRefused as refused:
            raise CommandError(refused.message) from refused
        self.stdout.write(f"{len(made)} paper accounts made, {options['count']} asked for.")
