from celery import shared_task
from django.conf import settings

from accounts.models import Account
from accounts.services import clocks, verification
from accounts.services.registry import sync_environment_accounts

ACCOUNTS_A_TICK = 80


@shared_task(name="accounts.tasks.verify_accounts")
def verify_accounts() -> None:
    """Watch the clocks, and ring for the accounts that are due; all at once would use up the budget."""
    now = settings.CLOCK.now()
    clocks.watch_clocks(now)
    due = verification.due_accounts(now).values_list("pk", flat=True)
    for account_id in due[:ACCOUNTS_A_TICK]:
        verify_account.delay(account_id)


@shared_task(name="accounts.tasks.verify_account")
def verify_account(account_id: int, is_asked: bool = False) -> None:
    """Verify one account; by a tick only when it is due, by an operator's wish at once."""
    now = settings.CLOCK.now()
    account = Account.objects.filter(pk=account_id, archived_at=None).first()
    if account is not None and (is_asked or verification.is_due(account, now)):
        verification.verify_account(account, now)


@shared_task(name="accounts.tasks.boot")
def boot() -> None:
    """What a desk does with its accounts when it starts: see who the environment tells, ask how all are."""
    sync_environment_accounts(settings.CLOCK.now())
    verify_accounts()
