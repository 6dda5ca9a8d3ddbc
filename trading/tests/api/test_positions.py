"""Positions over HTTP: three percentages with units, the distance to the stop, the proof of protection."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from redis import Redis

from exchange.marks import MarkBoard
from exchange.port import MarkPrice
from trading.domain.states import CloseReason, PositionStatus, Protection
from trading.models import Order, Position, SignalSource
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db


def mark(redis: Redis, price: str) -> None:
    now = datetime.now(UTC)
    MarkBoard(redis).publish([MarkPrice(rows.SYMBOL, Decimal(price), now)])


def test_a_position_shows_every_percentage_with_its_unit(asking: Asker, redis: Redis) -> None:
    mark(redis, "101")
    rows.position(rows.account())

    told = asking(Scope.READ).get("/api/bot/positions?status=OPEN").json()["items"][0]

    assert (told["side"], told["quantity"], told["entry_price"], told["mark_price"]) == (
        "LONG",
        "2",
        "100",
        "101",
    )
    assert (told["price_move_pct"], told["roe_pct"], told["equity_pct"]) == ("1", "3", "0.02")
    assert (told["stop_price"], told["distance_to_stop_pct"]) == ("98", "2.97")
    assert (told["unrealized_profit"], told["protection"], told["unprotected_seconds"]) == (
        "2",
        "VERIFIED",
        "0.4",
    )


def test_the_atom_short_of_the_report_had_not_reached_its_stop(asking: Asker, redis: Redis) -> None:
    mark(redis, "2.24301")
    rows.position(
        rows.account(),
        is_long=False,
        leverage=2,
        quantity=Decimal("446.03"),
        entry_price=Decimal("2.224"),
        stop_price=Decimal("2.25069"),
    )

    told = asking(Scope.READ).get("/api/bot/positions").json()["items"][0]

    assert (told["side"], told["price_move_pct"], told["roe_pct"]) == ("SHORT", "-0.855", "-1.71")
    assert told["unrealized_profit"] == "-8.4790303"
    assert Decimal(told["distance_to_stop_pct"]) > 0


def test_without_a_mark_nothing_is_guessed(asking: Asker, redis: Redis) -> None:
    rows.position(rows.account(), symbol="NOPE/USDT:USDT")

    told = asking(Scope.READ).get("/api/bot/positions").json()["items"][0]

    assert [told[name] for name in ("mark_price", "price_move_pct", "roe_pct", "unrealized_profit")] == [
        None
    ] * 4


def test_unprotected_seconds_run_while_there_is_no_stop(asking: Asker, redis: Redis) -> None:
    since = datetime.now(UTC) - timedelta(seconds=7)
    rows.position(rows.account(), protection=Protection.UNPROTECTED, unprotected_since=since)

    told = asking(Scope.READ).get("/api/bot/positions").json()["items"][0]

    assert told["protection"] == "UNPROTECTED"
    assert 7.4 <= float(told["unprotected_seconds"]) < 9


def test_positions_are_filtered_by_status_account_and_symbol(asking: Asker, redis: Redis) -> None:
    alpha, beta = rows.account("alpha"), rows.account("beta")
    rows.position(alpha)
    rows.position(
        beta,
        status=PositionStatus.CLOSED,
        quantity=0,
        exit_price=Decimal(98),
        closed_at=rows.NOON,
        close_reason=CloseReason.STOP_LOSS,
        realized_profit=Decimal(-4),
    )
    client = asking(Scope.READ)

    closed = client.get("/api/bot/positions?status=CLOSED").json()["items"]
    assert [(item["account"], item["close_reason"], item["price_move_pct"]) for item in closed] == [
        ("beta", "STOP_LOSS", "-2")
    ]
    assert closed[0]["distance_to_stop_pct"] is None
    assert len(client.get("/api/bot/positions?account=alpha").json()["items"]) == 1
    assert client.get("/api/bot/positions?symbol=ETH/USDT:USDT").json()["items"] == []
    assert client.get("/api/bot/positions?status=open").status_code == 422


def test_closing_records_the_intent_and_leaves_the_sending_to_a_worker(asking: Asker, redis: Redis) -> None:
    position = rows.position(rows.account())
    client = asking(Scope.TRADE)

    first = client.post(f"/api/bot/close-position/{position.uuid}")
    again = client.post(f"/api/bot/close-position/{position.uuid}")

    assert (first.status_code, again.status_code) == (202, 202)
    position.refresh_from_db()
    assert position.closing_for == CloseReason.MANUAL
    assert not Order.objects.exists()
    assert redis.llen("desk:exits") == 2


def test_a_closed_or_foreign_position_is_not_closed(asking: Asker, redis: Redis) -> None:
    closed = rows.position(
        rows.account("alpha"), status=PositionStatus.CLOSED, quantity=0, closed_at=rows.NOON
    )
    foreign = rows.position(rows.account("beta"), is_foreign=True)
    client = asking(Scope.TRADE)

    answers = [client.post(f"/api/bot/close-position/{position.uuid}") for position in (closed, foreign)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert [answer.json()["error"]["code"] for answer in answers] == ["POSITION_CLOSED", "FOREIGN"]
    assert not Position.objects.exclude(closing_for="").exists()


@pytest.mark.parametrize("is_demonstration", [True, False])
def test_every_row_that_a_demonstration_led_to_says_so(
    asking: Asker, redis: Redis, *, is_demonstration: bool
) -> None:
    signal = rows.signal()
    SignalSource.objects.filter(pk=signal.source_id).update(is_demonstration=is_demonstration)
    account = rows.account()
    share = rows.allocation(rows.decision(signal), account)
    position = rows.position(account, allocation=share)
    rows.entry(share, "pxentry")
    stop = rows.entry(share, "pxstop", purpose="HARD_STOP")
    Order.objects.filter(pk=stop.pk).update(allocation=None, position=position)
    client = asking(Scope.READ)
    for path, count in (("decisions", 1), ("orders", 2), ("positions", 1)):
        items = client.get(f"/api/bot/{path}").json()["items"]
        assert [item["is_demonstration"] for item in items] == [is_demonstration] * count
