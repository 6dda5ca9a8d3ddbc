from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.services.registry import sync_environment_accounts


class Command(BaseCommand):
    """`sync_accounts`."""

    help = "Make the rows of environment accounts match TRADING_ACCOUNT_<n>_*; vanished ones are paused."

    def handle(self, *_: Any, **__: Any) -> None:
        done = sync_environment_accounts(settings.CLOCK.now())
        for word, names in (("made", done.created), ("changed", done.updated), ("paused", done.paused)):
            self.stdout.write(f"{word}: {', '.join(names) or 'none'}")
        if done.refused:
            raise CommandError(
                "\n".join(f"{name} refused: {reason}" for name, reason in done.refused.items())
            )
