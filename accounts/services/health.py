"""What is known of an account's fitness to enter, and telling people when it changes."""

from datetime import datetime

from accounts.models import Account, Health
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.redaction import redact

MESSAGE_LENGTH = 300
CAN_WITHDRAW = "KEY_CAN_WITHDRAW"
UNFIT = (Health.UNHEALTHY, Health.CREDENTIAL_ERROR)


def mark_credential_error(account: Account, code: str, message: str, now: datetime) -> bool:
    """No order for this account until its keys are replaced; False when that was known with this code."""
    known = {"health": Health.CREDENTIAL_ERROR, "health_code": code}
    text = redact(message)[:MESSAGE_LENGTH]
    changed = Account.objects.filter(pk=account.pk).exclude(**known).update(**known, health_message=text)
    if changed:
        tell_health(account, Health.CREDENTIAL_ERROR, code, text, now)
    return changed > 0


def tell_health(account: Account, health: Health, code: str, message: str, now: datetime) -> None:
    """One alert an account while it is unfit; it clears when the account is healthy again."""
    cause = f"account-health:{account.pk}"
    if health not in UNFIT:
        clear_alert(cause, now)
        return
    is_grave = health == Health.CREDENTIAL_ERROR or code == CAN_WITHDRAW
    severity = Severity.CRITICAL if is_grave else Severity.WARNING
    text = f"{account.name} takes no entries: {code}. {message}".strip()
    raise_alert(cause, severity, f"ACCOUNT_{health}", text, now=now, account=account.name)
