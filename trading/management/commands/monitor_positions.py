from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from accounts.models import Account
from alerts.models import Alert
from trading.services import monitoring
from trading.tasks import see_through


class Command(BaseCommand):
    """`manage.py monitor_positions`."""

    help = "One tick of monitoring in this process: compare with the exchange, correct, tell what differed."

    def handle(self, *_: Any, **__: Any) -> None:
        now = settings.CLOCK.now()
        see_through(monitoring.monitor(now))
        told = Alert.objects.filter(last_at__gte=now).order_by("last_at", "pk")
        for alert in told:
            where = " ".join(part for part in (alert.account, alert.symbol) if part)
            self.stdout.write(f"{alert.severity} {alert.code} {where}: {alert.message}")
        read = Account.objects.filter(audited_at__gte=now).count()
        self.stdout.write(f"{read} accounts read, {len(told)} differences and warnings")
