from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchange.errors import ReadFailed
from trading.services.exported_ledger import LedgerRows, LedgerUnreadable, fetch_ledger, read_ledger
from trading.services.reconciliation import reconcile, unexplained_orders


class Command(BaseCommand):
    """`manage.py reconcile`."""

    help = "Hold our rows against the exchange's exported ledger; exit code 1 unless they agree."

    def add_arguments(self, parser: CommandParser) -> None:
        origin = parser.add_mutually_exclusive_group()
        origin.add_argument("--ledger", type=Path, help="an exported ledger, .csv or .json")
        origin.add_argument("--url", help="a paper exchange (default: PAPER_EXCHANGE_URL)")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            ledger = _ledger(options)
            differences = reconcile(ledger)
        except (LedgerUnreadable, ReadFailed) as error:
            raise CommandError(f"not compared: {error}") from error
        unexplained = unexplained_orders()
        for difference in differences:
            self.stdout.write(str(difference))
        for client_order_id in unexplained:
            self.stdout.write(f"UNEXPLAINED {client_order_id}: its end is not known")
        if differences or unexplained:
            raise CommandError(
                f"our rows and the ledger do not agree: {len(differences)} differences,"
                f" {len(unexplained)} unexplained orders over {len(ledger)} ledger rows"
            )
        self.stdout.write(self.style.SUCCESS(f"our rows and the ledger agree over {len(ledger)} ledger rows"))


def _ledger(options: dict[str, Any]) -> LedgerRows:
    if options["ledger"]:
        return read_ledger(options["ledger"])
    return fetch_ledger(options["url"] or settings.PAPER_EXCHANGE_URL, settings.PAPER_ADMIN_SECRET)
