"""Carry alerts to Telegram, Discord, e-mail or a webhook, by apprise. One that fails never blocks the desk.

A row is due while its raising, or later its clearing, was not told. A tick sends one message of at most
`LINES_A_MESSAGE` lines to every channel, so a storm of causes can never become a storm of messages.
"""

from datetime import datetime, timedelta

import apprise
import structlog
from django.conf import settings
from django.db.models import F, Q, QuerySet

from alerts.models import Alert, Severity
from alerts.services.record import RISING, clear_alert, raise_alert

LINES_A_MESSAGE = 20
FIRST_RETRY = timedelta(seconds=15)
LONGEST_RETRY = timedelta(hours=1)
TOLD_FOR = timedelta(hours=24)
NEVER_TOLD = Q(delivered_at__isnull=True)
END_NOT_TOLD = Q(delivered_at__lt=F("cleared_at"))
NOTIFY_TYPE = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}

log = structlog.get_logger(__name__)


def deliver_due(now: datetime) -> int:
    """Tell what was not told yet; how many alerts at least one channel took.

    What no channel took is tried again after 15 s, doubling up to an hour, for a day.
    """
    channels = list(getattr(settings, "ALERT_URLS", ()))
    alerts = _claim(now) if channels else []
    if not alerts:
        return 0
    taken = [_send(index, url, alerts, now) for index, url in enumerate(channels, start=1)]
    if not any(taken):
        return 0
    return Alert.objects.filter(pk__in=[alert.pk for alert in alerts]).update(
        delivered_at=now, delivery_attempts=0, next_delivery_at=None
    )


def retry_after(attempts: int) -> timedelta:
    """The wait after so many attempts that no channel took."""
    doublings = min(attempts - 1, 16)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)


def message_of(alerts: list[Alert]) -> str:
    """One line an alert, the gravest first."""
    return "\n".join(_line(alert) for alert in _gravest_first(alerts))


def _due(now: datetime) -> QuerySet[Alert]:
    is_time = Q(next_delivery_at__isnull=True) | Q(next_delivery_at__lte=now)
    return Alert.objects.filter(NEVER_TOLD | END_NOT_TOLD, is_time, last_at__gte=now - TOLD_FOR)


def _claim(now: datetime) -> list[Alert]:
    """Take due alerts for this sender alone; the wait for a further try is set before a byte leaves."""
    return [alert for alert in _gravest_first(list(_due(now)))[:LINES_A_MESSAGE] if _is_claimed(alert, now)]


def _is_claimed(alert: Alert, now: datetime) -> bool:
    attempts = alert.delivery_attempts + 1
    unchanged = Alert.objects.filter(
        pk=alert.pk, delivery_attempts=alert.delivery_attempts, delivered_at=alert.delivered_at
    )
    return unchanged.update(delivery_attempts=attempts, next_delivery_at=now + retry_after(attempts)) == 1


def _send(index: int, url: str, alerts: list[Alert], now: datetime) -> bool:
    """Whether this channel took the message. Its address holds a token: only its number is ever named."""
    try:
        is_taken = _notify(url, alerts)
    except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way; telling must not stop the desk
        log.warning("alert channel failed", channel=index, error=type(error).__name__)
        is_taken = False
    cause = f"alert-channel:{index}"
    if is_taken:
        clear_alert(cause, now)
    else:
        text = f"Alert channel {index} does not take messages."
        raise_alert(cause, Severity.WARNING, "ALERT_CHANNEL_FAILED", text, now=now)
    return is_taken


def _notify(url: str, alerts: list[Alert]) -> bool:
    channel = channel_of(url)
    if channel is None:
        return False
    gravest = _gravest_first(alerts)[0]
    title = f"Phalanx {settings.MODE}: {gravest.severity}"
    return bool(channel.notify(body=message_of(alerts), title=title, notify_type=_notify_type(gravest)))


def channel_of(url: str) -> apprise.Apprise | None:
    """The channel of an address, or None for one that apprise cannot read.

    What is longer than the channel takes goes in several messages: some refuse it whole instead.
    """
    plugin = apprise.Apprise.instantiate(url)
    if plugin is None:
        return None
    plugin.overflow_mode = apprise.OverflowMode.SPLIT
    channel = apprise.Apprise()
    channel.add(plugin)
    return channel


def _notify_type(alert: Alert) -> apprise.NotifyType:
    return NOTIFY_TYPE[Severity(alert.severity)]


def _gravest_first(alerts: list[Alert]) -> list[Alert]:
    return sorted(
        alerts, key=lambda alert: (-RISING.index(Severity(alert.severity)), alert.last_at, alert.pk)
    )


def _line(alert: Alert) -> str:
    where = " ".join(part for part in (alert.account, alert.symbol) if part)
    counted = f" (x{alert.count})" if alert.count > 1 else ""
    state = "over: " if alert.cleared_at else ""
    return f"{state}{alert.severity} {alert.code}{counted} {where}: {alert.message}".replace("  ", " ")
