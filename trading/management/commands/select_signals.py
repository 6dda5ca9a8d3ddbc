from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from trading.services import selection
from trading.services.bells import Bells
from trading.tasks import ring


class Command(BaseCommand):
    """`manage.py select_signals`."""

    help = "One selection in this process, as the tick does it; what was chosen is rung to the workers."

    def handle(self, *_: Any, **__: Any) -> None:
        chosen = selection.select(settings.CLOCK.now())
        if not chosen:
            self.stdout.write("nothing to select: the cooldown lasts, or no signal is open")
            return
        ring(Bells(decisions=[one.pk for one in chosen]))
        for one in chosen:
            self.stdout.write(f"{one.status} {one.signal or ''} {one.reason}".strip())
