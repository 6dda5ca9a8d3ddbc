"""One standing row per cause: the first time makes it, every further time counts."""

from collections.abc import Collection
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F

from alerts.models import Alert, Severity
from exchange.redaction import redact

RISING = (Severity.INFO, Severity.WARNING, Severity.CRITICAL)
MESSAGE_LENGTH = 500
RACES_LOST_AT_MOST = 5


def raise_alert(
    cause: str,
    severity: Severity,
    code: str,
    message: str,
    *,
    now: datetime,
    account: str = "",
    symbol: str = "",
) -> Alert:
    """Tell people of `cause`: a new row, or one more count on the standing one.

    `cause` is the stable identity (``unprotected:17``), never a text with changing figures. `account` is the
    account's name. A severity above the standing one is told again; a lower one never lowers it. What looks
    like a key, a signature or an address with a query is taken out of the message before it is stored.
    """
    message = redact(message)[:MESSAGE_LENGTH]
    for _ in range(RACES_LOST_AT_MOST):
        if (standing := _count_again(cause, severity, message, now)) is not None:
            return standing
        try:
            with transaction.atomic():
                return Alert.objects.create(
                    cause=cause,
                    severity=severity,
                    code=code,
                    message=message,
                    account=account,
                    symbol=symbol,
                    first_at=now,
                    last_at=now,
                )
        except IntegrityError:
            # Another process raised the same cause between the two statements: count on its row.
            continue
    raise RuntimeError(f"{cause} was raised and cleared by others {RACES_LOST_AT_MOST} times in a row")


def clear_alert(cause: str, now: datetime) -> bool:
    """The cause is gone. False when none stood; people who were told are told of the end, too."""
    return clear_alerts([cause], now) > 0


def clear_alerts(causes: Collection[str], now: datetime) -> int:
    """Several causes are gone; how many alerts stood.

    Those that stand are few, and a crowd's causes are many: they are compared here.
    """
    standing, gone = Alert.objects.filter(cleared_at__isnull=True), set(causes)
    found = [pk for pk, cause in standing.values_list("pk", "cause") if cause in gone]
    return standing.filter(pk__in=found).update(cleared_at=now, next_delivery_at=None) if found else 0


def acknowledge(alert: Alert, user: str, now: datetime) -> bool:
    """A person has seen it; the first one is kept. The alert stands until its cause is gone."""
    seen = {"acknowledged_at": now, "acknowledged_by": user}
    return Alert.objects.filter(pk=alert.pk, acknowledged_at__isnull=True).update(**seen) > 0


def _count_again(cause: str, severity: Severity, message: str, now: datetime) -> Alert | None:
    standing = Alert.objects.filter(cause=cause, cleared_at__isnull=True)
    if not standing.update(count=F("count") + 1, last_at=now, message=message):
        return None
    _raise_severity(cause, severity)
    return Alert.objects.filter(cause=cause).latest("id")


def _raise_severity(cause: str, severity: Severity) -> None:
    lower = RISING[: RISING.index(severity)]
    Alert.objects.filter(cause=cause, cleared_at__isnull=True, severity__in=lower).update(
        severity=severity,
        acknowledged_at=None,
        acknowledged_by="",
        delivered_at=None,
        delivery_attempts=0,
        next_delivery_at=None,
    )
