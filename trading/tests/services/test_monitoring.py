"""Ours against the exchange's picture: what differs is put right from executions, or told and left alone."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import Settings

from accounts.models import Account, Health
from accounts.services.gateways import gateway_for
from accounts.services.symbol_settings import ensure_symbol_settings_of
from alerts.models import Alert
from exchange import heartbeat
from exchange.futures_gateway import FuturesGateway
from exchange.loop import IoLoop
from exchange.port import Market, OrderRequest, OrderSide, OrderType, PositionReport
from tests.processes import PaperExchange, wait_until
from trading.domain.states import OPEN, CloseReason, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Halt, Order, Position
from trading.services import audits, balances, closing, emergency, monitoring
from trading.services.bells import Bells
from trading.services.closing import request_close
from trading.services.execution import claiming, sending
from trading.services.fills import record_fills
from trading.services.spot_only import spot_only
from trading.services.valkey import valkey
from trading.tests.services.holding import (
    answer,
    at_exchange,
    cancel_elsewhere,
    fresh,
    held_there,
    hold,
    orders_of,
    sell_elsewhere,
    stops_there,
    stranger,
)
from trading.tests.services.journey import BTC, WEATHER, fit_accounts, mark_of, now, set_columns
from trading.tests.services.sending import a_held_position, a_resting_stop, an_entry, told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults", "redis")]

MARK = Decimal(100_000)
POSITIONS = "GET /fapi/v*/positionRisk"


@pytest.fixture(autouse=True)
def pinned(paper_exchange: PaperExchange, settings: Settings) -> None:
    settings.GATE_OFF = WEATHER
    paper_exchange.set_mark("BTCUSDT", str(MARK))


def audit(account: Account) -> Bells:
    """Read the account and put right what differs, answering no bell."""
    return monitoring.audit([account], audits.watched_symbols([account], now()), now())


def alerts_of(account: Account) -> set[str]:
    return set(Alert.objects.filter(account=account.name, cleared_at=None).values_list("code", flat=True))


def a_place(account: Account) -> Position:
    """Where a stranger trades: no row."""
    return Position(account=account, market=Market.FUTURES, symbol=BTC, is_long=True)


# ── error is not empty ───────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "endpoint", [POSITIONS, "GET /fapi/v1/openOrders", "GET /fapi/v1/openAlgoOrders", "GET /fapi/v*/account*"]
)
def test_a_read_that_fails_changes_nothing_and_exits_go_on(
    paper_exchange: PaperExchange, endpoint: str
) -> None:
    position = hold()
    account = position.account
    before = (account.fresh_at, account.wallet_balance, account.audited_at)
    paper_exchange.add_fault(kind="http", endpoint=endpoint, account=account.name, status=500, count=0)
    bells = audit(account)
    account.refresh_from_db()
    assert not bells
    assert (account.fresh_at, account.wallet_balance, account.audited_at) == before
    unchanged = fresh(position)
    assert (unchanged.status, unchanged.protection) == (PositionStatus.OPEN, Protection.VERIFIED)
    assert len(stops_there_after(paper_exchange, account)) == 1
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=now()))
    assert fresh(position).status == PositionStatus.CLOSED


def stops_there_after(paper: PaperExchange, account: Account) -> list[Any]:
    """The stops at the exchange by its own ledger, for its reads are failing."""
    placed = {row["client_order_id"] for row in told_of(paper, account) if row["store"] == "conditional"}
    gone = {row["client_order_id"] for row in told_of(paper, account, "CANCELED")}
    return sorted(placed - gone)


def test_a_truncated_list_is_a_failed_read_not_an_empty_account(paper_exchange: PaperExchange) -> None:
    position = hold()
    paper_exchange.add_fault(kind="truncate_body", endpoint=POSITIONS, account=position.account.name, count=0)
    assert not audit(position.account)
    assert fresh(position).status == PositionStatus.OPEN


def test_a_whole_reading_makes_the_account_fresh_and_its_money_known(paper_exchange: PaperExchange) -> None:
    position = hold()
    moment = now() + timedelta(seconds=1)
    account = position.account
    monitoring.audit([account], audits.watched_symbols([account], moment), moment)
    account.refresh_from_db()
    (deposit,) = (row for row in told_of(paper_exchange, account, "DEPOSIT") if row["market"] == "futures")
    fees = sum(Decimal(row["fee"]) for row in told_of(paper_exchange, account, "FILL"))
    assert (account.fresh_at, account.audited_at) == (moment, moment)
    assert account.wallet_balance == Decimal(deposit["money"]) - fees


# ── keys that may do nothing on futures ──────────────────────────────────────
@pytest.fixture
def on_spot(paper_exchange: PaperExchange) -> Account:
    """An account that trades spot alone, by a key without the right to futures."""
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    paper_exchange.post("/paper/account", key=account.name, permissions={"enableFutures": False})
    set_columns(account, fresh_at=None, spot_wallet=None)
    return account


def test_an_account_that_trades_spot_alone_is_read_whole_without_a_word_on_futures(
    paper_exchange: PaperExchange, on_spot: Account
) -> None:
    refused = paper_exchange.get("/paper/status")["refusals"]
    audit(on_spot)
    balances.read_incomes([on_spot], now())
    on_spot.refresh_from_db()
    assert on_spot.fresh_at is not None
    assert (on_spot.spot_wallet, on_spot.wallet_balance) == (Decimal(10_000), None)
    assert paper_exchange.get("/paper/status")["refusals"] == refused
    assert spot_only([on_spot]) == {on_spot.pk}


def test_a_flatten_proves_an_account_flat_that_trades_spot_alone(on_spot: Account) -> None:
    halt, _ = emergency.raise_halt(f"account:{on_spot.name}", "FLATTEN", "a test", "olga", now())
    assert emergency.prove_flat(halt, now())


def test_an_account_left_on_spot_alone_is_read_on_futures_while_it_holds_something_there() -> None:
    position = hold(account=fit_accounts(1)[0])
    position.account.executors.filter(market=Market.FUTURES).update(is_enabled=False)
    assert audits.read([position.account], {}, now())[position.account_id].positions != ()
    assert spot_only([position.account]) == set()
    close_row(position)
    Order.objects.filter(account=position.account, status__in=sorted(OPEN)).update(status="CANCELLED")
    assert spot_only([position.account]) == {position.account_id}


def test_nothing_differs_where_ours_is_theirs() -> None:
    position = hold()
    assert not audit(position.account)
    assert alerts_of(position.account) == set()


# ── positions that are gone, or changed ──────────────────────────────────────
def test_a_liquidated_position_is_closed_from_its_executions_with_that_reason(
    paper_exchange: PaperExchange,
) -> None:
    (account,) = fit_accounts(1)
    ensure_symbol_settings_of([account], [BTC], now())
    position = a_held_position(account)
    paper_exchange.set_mark("BTCUSDT", "40000")
    wait_until(lambda: held_there(position.account) == [], "the liquidation", 10)
    audit(position.account)
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.LIQUIDATED)
    assert closed.quantity == 0
    assert CloseReason.LIQUIDATED in alerts_of(position.account)


def test_a_position_a_person_closed_at_the_exchange_is_closed_as_foreign() -> None:
    position = hold()
    sell_elsewhere(position, position.quantity)
    audit(position.account)
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.FOREIGN)


def test_a_part_sold_elsewhere_is_booked_and_the_rest_stays_open() -> None:
    position = hold()
    part = Decimal("0.002")
    sell_elsewhere(position, part)
    bells = audit(position.account)
    now_held = fresh(position)
    assert (now_held.status, now_held.quantity) == (PositionStatus.OPEN, position.quantity - part)
    assert position.pk in bells.positions
    assert alerts_of(position.account) == {"CORRECTED"}
    assert not audit(position.account), "put right once, it differs no more"


def test_what_an_order_in_flight_explains_is_left_to_the_order() -> None:
    order = an_entry()
    sending.send_all(claiming.mark_submitted(claiming.claim([order.pk]), now()))
    assert len(held_there(order.account)) == 1
    assert not audit(order.account)
    assert not Position.objects.filter(account=order.account).exists()
    assert alerts_of(order.account) == set()


# ── what is not ours ─────────────────────────────────────────────────────────
def test_a_foreign_position_is_shown_and_followed_and_never_closed(paper_exchange: PaperExchange) -> None:
    (account,) = fit_accounts(1)
    bought = Decimal("0.010")
    at_exchange(a_place(account), stranger(a_place(account), OrderSide.BUY, bought))
    for _ in range(2):
        answer(audit(account))
    shown = Position.objects.get(account=account)
    assert (shown.is_foreign, shown.is_long, shown.quantity) == (True, True, bought)
    assert alerts_of(account) == {"FOREIGN"}

    at_exchange(shown, stranger(shown, OrderSide.BUY, bought))
    audit(account)
    shown.refresh_from_db()
    assert (shown.quantity, shown.status) == (2 * bought, PositionStatus.OPEN)

    at_exchange(shown, stranger(shown, OrderSide.SELL, 2 * bought))
    audit(account)
    shown.refresh_from_db()
    assert (shown.status, shown.close_reason) == (PositionStatus.CLOSED, CloseReason.FOREIGN)
    assert "FOREIGN" not in alerts_of(account)
    assert all(row["client_order_id"].startswith("stranger") for row in told_of(paper_exchange, account))


def test_a_foreign_order_is_told_and_never_cancelled() -> None:
    position = hold()
    foreign = OrderRequest(
        client_order_id=f"stranger{uuid4().hex[:16]}",
        symbol=BTC,
        side=OrderSide.SELL,
        type=OrderType.STOP_MARKET,
        quantity=Decimal("0.001"),
        timestamp_ms=int(now().timestamp() * 1000),
        trigger_price=Decimal(50_000),
        reduce_only=True,
    )
    at_exchange(position, foreign)
    answer(audit(position.account))
    assert alerts_of(position.account) == {"FOREIGN"}
    resting = {one.client_order_id for one in stops_there(position.account)}
    assert foreign.client_order_id in resting
    assert len(resting) == 2


# ── stops ────────────────────────────────────────────────────────────────────
def test_a_stop_that_vanished_is_found_missing_and_placed_again() -> None:
    position = hold()
    (stop,) = orders_of(position, OrderPurpose.HARD_STOP)
    cancel_elsewhere(position, stop)
    assert stops_there(position.account) == []
    bells = audit(position.account)
    stop.refresh_from_db()
    assert stop.status == OrderStatus.CANCELLED
    answer(bells)
    answer(Bells(positions=[position.pk]), now() + timedelta(seconds=2))
    assert len(stops_there(position.account)) == 1
    assert fresh(position).protection == Protection.VERIFIED


def a_leftover(position: Position) -> Order:
    """A stop that rests at the exchange while our row calls it cancelled."""
    stop = a_resting_stop(position, below_pct="5")
    Order.objects.filter(pk=stop.pk).update(status=OrderStatus.CANCELLED, finished_at=now())
    return stop


def close_row(position: Position) -> None:
    Position.objects.filter(pk=position.pk).update(
        status=PositionStatus.CLOSED, quantity=0, closed_at=now(), updated_at=now() - timedelta(hours=1)
    )


def test_a_stop_left_over_where_nothing_is_open_any_more_is_cancelled(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    stop = resting_without_position(position)
    audit(position.account)
    gone = [row["client_order_id"] for row in told_of(paper_exchange, position.account, "CANCELED")]
    assert gone == [stop.client_order_id]
    assert "FOREIGN" not in alerts_of(position.account)
    assert not audit(position.account)


def resting_without_position(position: Position) -> Order:
    """A stop of a position that was closed long ago, resting by itself: reduce-only would not outlive it."""
    stop = a_leftover(position)
    close_row(position)
    request = replace(sending.request_of(stop), reduce_only=False, client_order_id=stop.client_order_id)
    cancel_elsewhere(position, stop)
    sell_elsewhere(position, position.quantity)
    at_exchange(position, replace(request, timestamp_ms=int(now().timestamp() * 1000)))
    return stop


def test_a_stop_of_what_the_exchange_still_holds_is_never_taken_for_an_orphan(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    a_leftover(position)
    close_row(position)
    audit(position.account)
    assert len(stops_there(position.account)) == 1
    assert told_of(paper_exchange, position.account, "CANCELED") == []


def test_a_spot_stop_that_fired_closes_its_position_by_lookup(paper_exchange: PaperExchange) -> None:
    position = hold(executors=(Market.SPOT,))
    (stop,) = orders_of(position)
    gateway = gateway_for(position.account, Market.SPOT)
    assert stop.trigger_price is not None
    paper_exchange.post(
        "/paper/mark", symbol="BTCUSDT", price=str(stop.trigger_price - 50), last=str(stop.trigger_price - 50)
    )

    def rests() -> bool:
        listed = gateway.fetch_open_orders(position.symbol, is_conditional=True)
        return bool(IoLoop.current().run(listed, 5))

    wait_until(lambda: not rests(), "the spot stop to fire", 10)
    answer(audit(position.account))
    closed = fresh(position)
    stop.refresh_from_db()
    assert (stop.status, stop.filled_quantity) == (OrderStatus.FILLED, stop.quantity)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


# ── who is read ──────────────────────────────────────────────────────────────
def test_doubted_accounts_are_read_first_then_open_risk_then_the_longest_unread(settings: Settings) -> None:
    settings.WEIGHT_LIMIT_PER_MINUTE = 600  # 40 a tick: three accounts
    doubted, held, old, young = fit_accounts(4)
    moment = now()
    for account, minutes in ((held, 1), (old, 9), (young, 2)):
        Account.objects.filter(pk=account.pk).update(audited_at=moment - timedelta(minutes=minutes))
    accounts = list(Account.objects.filter(pk__in=[one.pk for one in (young, old, held, doubted)]))
    watched = {held.pk: audits.Watched(futures=frozenset({BTC}))}
    chosen = audits.choose(accounts, watched, moment)
    assert [one.pk for one in chosen] == [doubted.pk, held.pk, old.pk]


def test_an_account_not_yet_verified_is_read_only_where_it_holds_something() -> None:
    new, holding = fit_accounts(2)
    Account.objects.update(health=Health.UNVERIFIED)
    watched = {holding.pk: audits.Watched(futures=frozenset({BTC}))}
    chosen = audits.choose(list(Account.objects.filter(pk__in=[new.pk, holding.pk])), watched, now())
    assert [one.pk for one in chosen] == [holding.pk]


def test_a_tick_monitors_and_flattens_with_the_broker_gone(settings: Settings) -> None:
    position = hold()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    valkey.cache_clear()
    try:
        monitoring.monitor(now())
    finally:
        valkey.cache_clear()
    account = Account.objects.get(pk=position.account_id)
    assert account.audited_at is not None
    assert fresh(position).status == PositionStatus.OPEN
    assert mark_of(BTC) == MARK


def test_a_strangers_contract_that_is_not_listed_is_shown_and_stops_no_halt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = hold().account
    quarterly = "BTCUSDT_261225"
    real = FuturesGateway.fetch_positions

    async def with_a_quarterly(self: FuturesGateway) -> list[PositionReport]:
        one = Decimal(1)
        return [*await real(self), PositionReport(quarterly, True, one, one, one, Decimal(0))]

    monkeypatch.setattr(FuturesGateway, "fetch_positions", with_a_quarterly)
    Account.objects.filter(pk=account.pk).update(day_baseline_equity=Decimal(1_000_000))
    monitoring.monitor(now())
    assert Position.objects.get(account=account, is_foreign=True).symbol == quarterly
    assert Halt.objects.filter(code="DAILY_LOSS", target=account.name).exists()


def test_an_account_whose_correction_fails_holds_no_other_back_and_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = hold().account, hold("SHORT").account
    real = monitoring._differences

    def failing(account: Account, *rest: Any) -> Any:
        if account.pk == first.pk:
            raise RuntimeError("never seen before")
        return real(account, *rest)

    position = Position.objects.get(account=second)
    at_exchange(position, stranger(position, OrderSide.BUY, position.quantity))
    monkeypatch.setattr(monitoring, "_differences", failing)
    both = [first, second]
    answer(monitoring.audit(both, audits.watched_symbols(both, now()), now()))
    assert fresh(position).status == PositionStatus.CLOSED
    first.refresh_from_db()
    assert first.audited_at is None
    assert "NOT_CORRECTED" in alerts_of(first)

    monkeypatch.undo()
    answer(audit(first))
    assert "NOT_CORRECTED" not in alerts_of(first)


def test_executions_that_cannot_be_booked_hold_back_no_others_and_no_halt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd, sound = hold(), hold("SHORT")

    def failing(account: Account, *rest: Any) -> Bells:
        if account.pk == odd.account.pk:
            raise RuntimeError("never seen before")
        return record_fills(account, *rest)

    for position, side in ((odd, OrderSide.SELL), (sound, OrderSide.BUY)):
        at_exchange(position, stranger(position, side, position.quantity))
    monkeypatch.setattr(closing, "record_fills", failing)
    both = [odd.account, sound.account]
    monitoring.audit(both, audits.watched_symbols(both, now()), now())
    assert (fresh(odd).status, fresh(sound).status) == (PositionStatus.OPEN, PositionStatus.CLOSED)
    odd.account.refresh_from_db()
    assert odd.account.audited_at is None
    assert ("NOT_CORRECTED" in alerts_of(odd.account), "NOT_CORRECTED" in alerts_of(sound.account)) == (
        True,
        False,
    )

    monkeypatch.undo()
    answer(audit(odd.account))
    assert fresh(odd).status == PositionStatus.CLOSED
    assert "NOT_CORRECTED" not in alerts_of(odd.account)


# ── whether marks come ───────────────────────────────────────────────────────
def test_marks_read_by_call_are_no_living_stream() -> None:
    position = hold()
    valkey().flushdb()
    accounts = [position.account]
    monitoring._judge(accounts, now())
    assert mark_of(BTC) == MARK, "read by call, and on the board since"
    monitoring._judge(accounts, now())
    halt = Halt.objects.get(code="STREAM_STALE")
    assert halt.resumed_at is None
    heartbeat.beat(valkey(), heartbeat.MARKS)
    monitoring._judge(accounts, now())
    halt.refresh_from_db()
    assert halt.resumed_at is not None


def test_a_stream_nobody_can_ask_about_is_stale(settings: Settings) -> None:
    account = hold().account
    heartbeat.beat(valkey(), heartbeat.MARKS)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    valkey.cache_clear()
    try:
        monitoring._judge([account], now())
    finally:
        valkey.cache_clear()
    assert Halt.objects.filter(code="STREAM_STALE", resumed_at=None).exists()
