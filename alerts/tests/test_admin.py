from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from alerts.models import Alert, Severity
from alerts.services import raise_alert

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIST = "admin:alerts_alert_changelist"

pytestmark = pytest.mark.django_db


@pytest.fixture
def alert() -> Alert:
    return raise_alert(
        "unprotected:1", Severity.CRITICAL, "UNPROTECTED", "No stop.", now=NOW, account="alpha"
    )


def log_in(client: Client, *rights: str) -> Client:
    user = get_user_model().objects.create_user("olga", password="a password of hers", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client.force_login(user)
    return client


def test_an_operator_acknowledges_and_the_alert_stands(client: Client, alert: Alert) -> None:
    operator = log_in(client, "view_alert", "change_alert")
    assert "UNPROTECTED" in operator.get(reverse(LIST)).content.decode()
    operator.post(reverse(LIST), {"action": "acknowledge_selected", "_selected_action": [alert.pk]})
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.cleared_at) == ("olga", None)


def test_who_may_only_look_cannot_acknowledge(client: Client, alert: Alert) -> None:
    viewer = log_in(client, "view_alert")
    viewer.post(reverse(LIST), {"action": "acknowledge_selected", "_selected_action": [alert.pk]})
    alert.refresh_from_db()
    assert alert.acknowledged_at is None


@pytest.mark.parametrize(("page", "arguments"), [("add", False), ("delete", True)])
def test_nobody_adds_or_deletes_an_alert(client: Client, alert: Alert, page: str, arguments: bool) -> None:
    operator = log_in(client, "view_alert", "add_alert", "change_alert", "delete_alert")
    address = reverse(f"admin:alerts_alert_{page}", args=[alert.pk] if arguments else [])
    assert operator.post(address, {"post": "yes"}).status_code == 403
    assert Alert.objects.count() == 1


@pytest.mark.parametrize(("state", "is_shown"), [("unseen", True), ("standing", True), ("over", False)])
def test_alerts_are_filtered_by_state(client: Client, alert: Alert, state: str, is_shown: bool) -> None:
    page = log_in(client, "view_alert").get(reverse(LIST), {"state": state})
    assert ("No stop." in page.content.decode()) is is_shown
