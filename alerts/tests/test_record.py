from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from alerts.models import Alert, Severity
from alerts.services import acknowledge, clear_alert, raise_alert

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def raise_once(cause: str = "unknown:7", severity: Severity = Severity.WARNING, now: datetime = NOW) -> Alert:
    return raise_alert(
        cause, severity, "OUTCOME_UNKNOWN", "An order has no outcome.", now=now, account="alpha"
    )


@pytest.mark.django_db
def test_the_same_cause_again_is_counted_on_one_row() -> None:
    first = raise_once()
    again = raise_once(now=LATER)
    assert again.pk == first.pk
    assert (again.count, again.first_at, again.last_at) == (2, NOW, LATER)
    assert Alert.objects.count() == 1


@pytest.mark.django_db
def test_a_cause_that_comes_back_after_it_was_cleared_is_a_new_row() -> None:
    first = raise_once()
    assert clear_alert("unknown:7", LATER)
    again = raise_once(now=LATER)
    assert again.pk != first.pk
    assert again.count == 1


@pytest.mark.django_db
def test_clearing_what_does_not_stand_changes_nothing() -> None:
    raise_once()
    assert not clear_alert("unknown:8", LATER)
    assert Alert.objects.get().cleared_at is None


@pytest.mark.django_db
def test_a_graver_return_asks_for_attention_again_and_a_lighter_one_never_lowers_it() -> None:
    alert = raise_once()
    acknowledge(alert, "olga", NOW)
    graver = raise_once(severity=Severity.CRITICAL)
    assert (graver.severity, graver.acknowledged_at) == ("CRITICAL", None)
    lighter = raise_once(severity=Severity.INFO)
    assert lighter.severity == "CRITICAL"


@pytest.mark.django_db
def test_the_first_person_to_acknowledge_is_kept() -> None:
    alert = raise_once()
    assert acknowledge(alert, "olga", NOW)
    assert not acknowledge(alert, "boris", LATER)
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.acknowledged_at) == ("olga", NOW)
    assert alert.cleared_at is None


@pytest.mark.django_db
def test_a_message_longer_than_its_column_is_cut() -> None:
    alert = raise_alert("long", Severity.INFO, "LONG", "No stop. " * 100, now=NOW)
    alert.refresh_from_db()
    assert alert.message == ("No stop. " * 100)[:500]


@pytest.mark.django_db
def test_a_signed_address_never_reaches_the_row() -> None:
    signed = "GET https://fapi.binance.com/fapi/v3/balance?timestamp=1&signature=deadbeefcanary failed"
    raise_alert("read", Severity.INFO, "READ", signed, now=NOW)
    raise_alert("read", Severity.INFO, "READ", signed, now=NOW)
    assert Alert.objects.get().message == "GET https://fapi.binance.com/fapi/v3/balance?[redacted] failed"


@pytest.mark.django_db(transaction=True)
def test_one_cause_raised_from_many_threads_at_once_is_one_row_with_every_count() -> None:
    def raise_and_close(_: int) -> None:
        raise_once()
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(raise_and_close, range(24)))
    assert [alert.count for alert in Alert.objects.all()] == [24]
