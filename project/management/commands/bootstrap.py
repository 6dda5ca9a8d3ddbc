from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.utils import timezone

from accounts.services.verification import due_accounts, verify_account
from project.credentials import write_once
from project.schedule import install


class Command(BaseCommand):
    """Everything a desk needs before its first tick; done again, it adds only what is missing."""

    help = "Migrates, installs the schedule, makes the accounts of this mode, the operator and an API token."

    def handle(self, *_args: Any, **_options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        install(timezone.now())
        if settings.MODE == "paper" and settings.PAPER_ACCOUNTS:
            call_command("create_paper_accounts", count=settings.PAPER_ACCOUNTS)
        if settings.ENVIRONMENT_ACCOUNTS:
            call_command("sync_accounts")
        self._verify()
        write_once(settings.VAR_DIR / "credentials.txt", self.stdout)

    def _verify(self) -> None:
        """Ask the exchange of accounts nobody has asked about, so that the first selection finds them fit."""
        for account in due_accounts(timezone.now()).filter(verified_at=None):
            verdict = verify_account(account, timezone.now())
            if not verdict.is_fit:
                self.stdout.write(f"{account.name}: {verdict.code} {verdict.message}".rstrip())
