import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trading.models import Order

COLUMNS = ("client_order_id", "account", "status", "filled_quantity", "allocation")
CHUNK = 2000


class Sink(Protocol):
    """Where text goes: a file, or the terminal."""

    def write(self, text: str, /) -> object:
        """Take the next part."""


class Command(BaseCommand):
    """`manage.py export_orders`."""

    help = "Write every order, entries, exits and stops, oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--csv", action="store_true", required=True, help="comma-separated, a header first"
        )
        parser.add_argument("--output", type=Path, help="the file to write; the terminal without it")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["output"] is None:
            _write(self.stdout)
            return
        try:
            with options["output"].open("w", newline="", encoding="utf-8") as output:
                _write(output)
        except OSError as error:
            raise CommandError(str(error)) from error


def _write(output: Sink) -> None:
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_lines())


def _lines() -> Iterator[tuple[str, ...]]:
    rows = Order.objects.select_related("account", "allocation", "position__allocation").order_by("pk")
    for order in rows.iterator(CHUNK):
        yield (
            order.client_order_id,
            order.account.name,
            order.status,
            f"{order.filled_quantity.normalize():f}",
            _allocation(order),
        )


def _allocation(order: Order) -> str:
    """The share an order serves: an exit and a stop serve that of their position; a foreign one has none."""
    share = order.allocation or (order.position.allocation if order.position else None)
    return str(share.uuid) if share else ""
