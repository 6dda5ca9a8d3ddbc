"""The admin: every list within fifteen questions, every form opens, actions keep to the rules."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import PeriodicTask
from redis import Redis

from accounts.models import Account
from alerts.models import Alert
from tests.processes import PaperExchange
from trading.domain.states import CloseReason, PositionStatus
from trading.models import (
    ApiToken,
    Decision,
    Fill,
    Halt,
    Order,
    Position,
    Signal,
    SignalSource,
    Webhook,
)
from trading.services.tokens import create_token
from trading.services.webhooks import create_webhook
from trading.tests import rows
from trading.tests.busy_desk import fill_desk

pytestmark = pytest.mark.django_db

LISTS: list[type[Model]] = [
    Account, Alert, ApiToken, Decision, Fill, Halt, Order, Position, Signal, SignalSource, Webhook
]  # fmt: skip
READ_ONLY: list[type[Model]] = [Alert, Decision, Fill, Halt, Order, Position, Signal]


@pytest.fixture
def owner(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def path(model: type[Model], page: str = "changelist", *args: int) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def act(client: Client, action: str, *chosen: Model) -> HttpResponse:
    body = {"action": action, "_selected_action": [row.pk for row in chosen]}
    return client.post(path(type(chosen[0])), body, follow=True)  # type: ignore[return-value]


def busy(redis: Redis) -> None:
    fill_desk(redis, accounts=25)
    create_token("bot", ["read"])
    create_webhook("momentum", SignalSource.objects.all()[0], "olga")
    Halt.objects.create(
        scope="desk", level="HALT_ENTRIES", reason="drill", raised_by="olga", raised_at=rows.NOON
    )


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model.__name__)
def test_a_list_of_any_length_asks_at_most_fifteen_questions(
    owner: Client, redis: Redis, model: type[Model], django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    busy(redis)

    with django_assert_max_num_queries(15):  # type: ignore[operator]
        assert owner.get(path(model)).status_code == 200


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model.__name__)
def test_every_row_opens(owner: Client, redis: Redis, model: type[Model]) -> None:
    busy(redis)
    row = model._default_manager.first()
    assert row is not None

    assert owner.get(path(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model.__name__)
def test_what_the_desk_writes_no_person_adds_edits_or_deletes(
    owner: Client, redis: Redis, model: type[Model]
) -> None:
    busy(redis)
    row = model._default_manager.first()
    assert row is not None
    before = vars(row).copy()

    assert owner.get(path(model, "add")).status_code == 403
    assert owner.post(path(model, "change", row.pk), {"reason": "edited"}).status_code == 403
    assert owner.post(path(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    row.refresh_from_db()
    assert {name: vars(row)[name] for name in before if name != "_state"} == {
        name: value for name, value in before.items() if name != "_state"
    }


def test_states_are_words_not_colours_alone(owner: Client, redis: Redis) -> None:
    busy(redis)

    positions = owner.get(path(Position)).content.decode().replace("\xa0", " ")
    for word in ("VERIFIED", "ACKED", "+0.27 %", "+0.80 %", "+0.09 %", "+1.23 %", "CLOSED STOP_LOSS"):
        assert word in positions
    decisions = owner.get(path(Decision)).content.decode()
    for words in ("25 FILLED", "1 DENIED: MARGIN", "187, 271, 355, 355", "+5.17, +6.37"):
        assert words in decisions


def test_the_ledger_is_inside_the_decision(owner: Client, redis: Redis) -> None:
    made = fill_desk(redis, accounts=3)

    page = owner.get(path(Decision, "change", made.pk)).content.decode()

    page = page.replace("\xa0", " ")
    for word in ("paper-0001", "paper-0099", "DENIED", "MARGIN", "FILLED"):
        assert word in page
    for words in ("187, 194, 201, 201", "+4.07, +4.17", "187 ms", "+3.97 bps"):
        assert words in page
    assert "primary futures DENIED MARGIN" in page
    assert "secondary spot DENIED MIN_NOTIONAL" in page


def test_closing_keeps_the_wish_of_open_positions_of_ours_alone(owner: Client, redis: Redis) -> None:
    ours, foreign = rows.position(rows.account("alpha")), rows.position(rows.account("beta"), is_foreign=True)
    closed = rows.position(rows.account("gamma"), status=PositionStatus.CLOSED, quantity=0)

    response = act(owner, "close_selected", ours, foreign, closed)

    assert "1 to be closed, 2 left alone." in response.content.decode()
    assert list(Position.objects.exclude(closing_for="").values_list("pk", "closing_for")) == [
        (ours.pk, CloseReason.MANUAL)
    ]
    assert not Order.objects.exists()


def test_executing_a_signal_twice_leads_to_one_decision(
    owner: Client, redis: Redis, paper_exchange: PaperExchange
) -> None:
    asked = rows.signal()

    act(owner, "execute_selected", asked)
    act(owner, "execute_selected", asked)

    made = Decision.objects.get()
    assert (made.signal, made.is_requested) == (asked, True)


def test_a_cancelled_signal_is_not_executed(owner: Client, redis: Redis) -> None:
    response = act(owner, "execute_selected", rows.signal(status="CANCELLED"))

    assert "CANCELLED" in response.content.decode()
    assert not Decision.objects.exists()


def test_an_account_leads_to_what_the_gate_says_of_it(owner: Client, redis: Redis) -> None:
    account = rows.account()
    assert f'href="/desk/accounts/{account.uuid}/why/"' in owner.get(path(Account)).content.decode()


def test_archiving_is_refused_while_a_position_is_open(owner: Client, redis: Redis) -> None:
    holder, idle = rows.account("holder"), rows.account("idle")
    rows.position(holder)

    response = act(owner, "archive_selected", holder, idle)

    assert "holder holds a position" in response.content.decode()
    assert list(Account.objects.filter(archived_at=None)) == [holder]


def test_resuming_lifts_every_halt_of_the_scope(owner: Client, redis: Redis) -> None:
    told = {"scope": "desk", "reason": "drill", "raised_by": "olga", "raised_at": rows.NOON}
    first = Halt.objects.create(level="HALT_ENTRIES", **told)
    Halt.objects.create(level="CANCEL_ORDERS", **told)

    act(owner, "resume_selected", first)

    assert not Halt.objects.filter(resumed_at=None).exists()
    assert set(Halt.objects.values_list("resumed_by", flat=True)) == {"olga"}


def test_a_viewer_sees_and_cannot_act(redis: Redis, db: None) -> None:
    position = rows.position(rows.account())
    viewer = User.objects.create_user("vera", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)

    assert client.get(path(Position)).status_code == 200
    act(client, "close_selected", position)
    position.refresh_from_db()
    assert position.closing_for == ""

    call_command("install_schedule")
    sweep = PeriodicTask.objects.get(task="trading.tasks.sweep")
    for action in ("disable_tasks", "toggle_tasks", "run_tasks"):
        act(client, action, sweep)
    sweep.refresh_from_db()
    assert sweep.enabled


def test_schedules_are_shown_in_the_same_style(owner: Client, redis: Redis) -> None:
    call_command("install_schedule")

    page = owner.get("/admin/django_celery_beat/periodictask/").content.decode()

    assert "sweep" in page
    assert owner.get("/admin/django_celery_beat/periodictask/add/").status_code == 200
    assert owner.get("/admin/django_celery_beat/intervalschedule/").status_code == 200


def test_every_model_a_person_may_see_is_registered() -> None:
    registered = set(admin.site._registry)
    assert set(LISTS) <= registered


TERMS = {
    "name": "alpha",
    "time_zone": "UTC",
    "leverage": "3",
    "position_mode": "one-way",
    "margin_mode": "isolated",
    **{f"{prefix}-{kind}_FORMS": "0" for prefix in ("executors", "limits") for kind in ("TOTAL", "INITIAL")},
}


@pytest.mark.parametrize("changed", [{"position_mode": "hedge"}, {"margin_mode": "cross"}])
def test_an_open_position_holds_an_account_in_its_modes(owner: Client, changed: dict[str, str]) -> None:
    account = rows.account("alpha")
    held = rows.position(account)
    page = path(Account, "change", account.pk)
    told = owner.post(page, TERMS | changed, follow=True).content.decode()
    assert "HAS_POSITION" in told
    account.refresh_from_db()
    assert (account.position_mode, account.margin_mode) == ("one-way", "isolated")
    Position.objects.filter(pk=held.pk).update(status=PositionStatus.CLOSED, closed_at=rows.NOON)
    owner.post(page, TERMS | changed)
    account.refresh_from_db()
    assert changed.items() <= {**vars(account)}.items()


def test_a_mode_nobody_knows_is_an_error_beside_its_field(owner: Client) -> None:
    account = rows.account("alpha")
    answer = owner.post(path(Account, "change", account.pk), TERMS | {"position_mode": "sideways"})
    assert answer.status_code == 200
    assert "sideways is not one of the available choices" in answer.content.decode()
