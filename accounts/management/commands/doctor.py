from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.services.examination import examine
from accounts.services.gateways import close_gateways


class Command(BaseCommand):
    """`doctor`: exits 1 when anything is not well."""

    help = "Ask settings, database, broker, exchange and every account, and print a line each."

    def handle(self, *_: Any, **__: Any) -> None:
        failed = 0
        try:
            for finding in examine(settings.CLOCK.now()):
                self.stdout.write(str(finding))
                failed += not finding.is_well
        finally:
            close_gateways()
        if failed:
            raise CommandError(f"{failed} not well")
