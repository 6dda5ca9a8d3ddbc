"""Status, alerts, orders and equity over HTTP."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from redis import Redis

from accounts.models import Account, Breaker
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange import heartbeat
from trading.domain.states import CloseReason, PositionStatus
from trading.models import EquitySnapshot, Halt, Income
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db


def test_status_tells_what_lives_what_is_halted_and_what_is_open(asking: Asker, redis: Redis) -> None:
    client = asking(Scope.READ)
    assert client.get("/api/bot/status").json()["parts"]["marks"]["is_stale"] is True, "nothing lives yet"
    heartbeat.beat(redis, heartbeat.MARKS)
    heartbeat.beat(redis, heartbeat.worker_key("exits", 1))
    heartbeat.beat(redis, heartbeat.watcher_key())
    redis.set(heartbeat.watcher_key("watcher_2"), "1000.0")
    rows.position(rows.account("alpha", day_baseline_equity=Decimal(9_900)))
    rows.account("beta", is_enabled=False, pause_reason="holiday", wallet_balance=None)
    Halt.objects.create(
        scope="desk", level="HALT_ENTRIES", reason="drill", raised_by="olga", raised_at=rows.NOON
    )
    raise_alert("drill", Severity.CRITICAL, "DRILL", "a drill", now=rows.NOON)

    told = client.get("/api/bot/status").json()

    assert (told["mode"], told["broker_answers"], told["gate_off"]) == ("paper", True, [])
    assert told["parts"]["marks"]["is_stale"] is False
    assert told["parts"]["worker exits"]["is_stale"] is False
    assert [told["parts"][name]["is_stale"] for name in ("watcher", "watcher_2")] == [False, True]
    assert told["parts"]["beat"] == {"age_seconds": None, "limit_seconds": 60.0, "is_stale": True}
    assert [halt["reason"] for halt in told["halts"]] == ["drill"]
    assert told["positions"] == {"open": 1, "foreign": 0, "UNPROTECTED": 0, "ACKED": 0, "VERIFIED": 1}
    assert told["orders"] == {"open": 0, "unknown": 0}
    assert told["alerts"] == {"CRITICAL": 1}
    accounts = told["accounts"]
    assert (accounts["total"], accounts["active"], accounts["paused"]) == (2, 1, 1)
    assert (accounts["equity"], accounts["day_change"]) == ("10000", "100")


def test_status_tells_since_when_the_longest_unread_account_waits_for_its_audit(asking: Asker) -> None:
    def oldest_audit() -> datetime:
        told = asking(Scope.READ).get("/api/bot/status").json()["accounts"]["oldest_audit_at"]
        return datetime.fromisoformat(told)

    rows.account("alpha", audited_at=rows.NOON)
    rows.account("beta", audited_at=rows.NOON - timedelta(minutes=11))
    assert oldest_audit() == rows.NOON - timedelta(minutes=11)
    rows.account("dead key", audited_at=rows.NOON - timedelta(days=3), health="CREDENTIAL_ERROR")
    assert oldest_audit() == rows.NOON - timedelta(minutes=11), "a dead key is not asked"
    never_read = rows.account("new", audited_at=None)
    Account.objects.filter(pk=never_read.pk).update(created_at=rows.NOON - timedelta(hours=1))
    assert oldest_audit() == rows.NOON - timedelta(hours=1)


def test_alerts_are_listed_while_they_stand(asking: Asker) -> None:
    raise_alert("one", Severity.WARNING, "FIRST", "first", now=rows.NOON)
    raise_alert("two", Severity.CRITICAL, "SECOND", "second", now=rows.NOON)
    clear_alert("one", rows.NOON)
    client = asking(Scope.READ)

    assert [alert["code"] for alert in client.get("/api/bot/alerts").json()["items"]] == ["SECOND"]
    assert len(client.get("/api/bot/alerts?standing=false").json()["items"]) == 2


def test_orders_name_their_decision_and_where_they_stand(asking: Asker) -> None:
    made = rows.decision(rows.signal())
    rows.entry(rows.allocation(made, rows.account()), "pxone", code="-2019", status="REJECTED")

    told = asking(Scope.READ).get("/api/bot/orders?status=rejected").json()["items"]

    assert [(order["client_order_id"], order["code"], order["decision_id"]) for order in told] == [
        ("pxone", "-2019", str(made.uuid))
    ]
    assert asking(Scope.READ).get("/api/bot/orders?status=FILLED").json()["items"] == []


def test_an_account_that_was_not_read_is_no_loss_and_one_that_joins_no_profit(asking: Asker) -> None:
    now = datetime.now(UTC)
    alpha, beta, gamma = (rows.account(name) for name in ("alpha", "beta", "gamma"))
    readings = ((alpha, 3), (beta, 3), (alpha, 2), (alpha, 1), (beta, 1), (gamma, 1))
    for account, minutes_ago in readings:
        EquitySnapshot.objects.create(
            account=account,
            at=now - timedelta(minutes=minutes_ago),
            wallet=Decimal(100),
            unrealized_profit=Decimal(-minutes_ago),
        )
    client = asking(Scope.READ)

    points = client.get("/api/bot/equity").json()["items"]
    assert [point["equity"] for point in points] == ["293", "294", "297"]
    beta_alone = client.get("/api/bot/equity?account=beta").json()["items"]
    assert [point["equity"] for point in beta_alone] == ["97", "99"]


def test_statistics_count_decisions_and_tell_their_period(asking: Asker, redis: Redis) -> None:
    made = rows.decision(rows.signal())
    for name, profit in (("alpha", 30), ("beta", -10)):
        share = rows.allocation(made, rows.account(name))
        rows.position(
            share.account,
            allocation=share,
            status=PositionStatus.CLOSED,
            quantity=0,
            exit_price=Decimal(101),
            realized_profit=Decimal(profit),
            fees=Decimal(1),
            close_reason=CloseReason.STOP_LOSS,
            closed_at=rows.NOON + timedelta(hours=1),
        )
    client = asking(Scope.READ)

    told = client.get("/api/bot/stats").json()

    desk, closed = told["desk"], told["desk"]["closed"]
    assert (closed["decisions"], closed["positions"], closed["accounts"]) == (1, 2, 2)
    assert (closed["win_rate_pct"], closed["net"]) == ("100", "18")
    assert closed["warning"] == "fewer than 30 closed decisions: too few to conclude anything"
    assert (closed["hit_rates_pct"]["STOP_LOSS"], closed["hit_rates_pct"]["MANUAL"]) == ("100", "0")
    assert closed["until"] == "2026-11-20T13:00:00Z"
    assert desk["outcomes"] == {"FILLED": 2}
    assert {one["name"]: one["closed"]["net"] for one in told["accounts"]} == {"alpha": "29", "beta": "-11"}
    assert client.get("/api/bot/stats?source=nobody").json()["desk"]["closed"]["win_rate_pct"] is None
    assert client.get("/api/bot/stats?side=UP").status_code == 422


def test_the_money_of_accounts_of_another_mode_is_not_the_desks(asking: Asker, redis: Redis) -> None:
    for name, mode in (("ours", "paper"), ("another", "live")):
        rows.account(name, mode=mode, wallet_balance=Decimal(10_000), unrealized_profit=Decimal(0))
    told = asking(Scope.READ).get("/api/bot/status").json()
    assert Decimal(told["accounts"]["equity"]) == 10_000
    assert told["accounts"]["total"] == 1


def test_what_was_paid_in_and_out_is_no_change_of_the_day(asking: Asker, redis: Redis) -> None:
    since = rows.NOON - timedelta(hours=2)
    day = {"day_baseline_equity": Decimal(9_000), "day_started_at": since}
    for name, moves in (("alpha", {"1500": 60, "77": -60}), ("beta", {"-600": 60})):
        account = rows.account(name, **day)
        for quantity, minutes in moves.items():
            Income.objects.create(
                account=account,
                income_id=quantity,
                kind="TRANSFER",
                asset="USDT",
                quantity=Decimal(quantity),
                at=since + timedelta(minutes=minutes),
            )
    told = asking(Scope.READ).get("/api/bot/status").json()["accounts"]
    assert (told["equity"], told["day_change"]) == ("20000", "1100")


def test_a_circuit_counts_as_open_until_its_time_is_over(asking: Asker, redis: Redis) -> None:
    for name, hours in (("alpha", 1), ("beta", -1)):
        Breaker.objects.create(
            account=rows.account(name),
            code="-2019",
            rejections=3,
            open_until=timezone.now() + timedelta(hours=hours),
        )
    assert asking(Scope.READ).get("/api/bot/status").json()["circuits_open"] == 1
