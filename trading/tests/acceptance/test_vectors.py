"""The vectors of the trading rules that concern exits, through the desk's public interface."""

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import Account
from exchange.errors import OrderNotPlaced
from exchange.port import OrderRequest, OrderSide, OrderType
from tests.proofs import missing_proofs
from trading.domain import exit_plan
from trading.domain.limits import SizingModel
from trading.models import Position
from trading.tests import rows
from trading.tests.acceptance.desk import BTC, ETH, SOL, PublicDesk, now
from trading.tests.busy_desk import PLAN
from trading.tests.services.holding import at_exchange, stops_there

HERE = "trading/tests/acceptance/test_vectors.py"
PUBLIC: dict[str, str] = {
    "V1": "test_v1_the_plan_between_26x_and_27x",
    "V2": "test_v2_v3_the_adaptive_plan_of_an_account_follows_its_leverage",
    "V3": "test_v2_v3_the_adaptive_plan_of_an_account_follows_its_leverage",
    "V4": "test_v4_v5_v7_v8_the_shorts_of_the_reports_had_not_reached_their_stops",
    "V5": "test_v4_v5_v7_v8_the_shorts_of_the_reports_had_not_reached_their_stops",
    "V6": "test_v6_equity_and_available_are_told_of_an_account",
    "V7": "test_v4_v5_v7_v8_the_shorts_of_the_reports_had_not_reached_their_stops",
    "V8": "test_v4_v5_v7_v8_the_shorts_of_the_reports_had_not_reached_their_stops",
    "V9": "test_v9_a_stop_beyond_the_liquidation_is_refused",
    "V13": "test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing",
    "V16": "test_v16_a_failed_read_closes_nothing_stops_entries_and_no_exit",
    "V18": "test_v18_a_stop_the_mark_is_past_closes_at_market",
    "V20": "test_v20_size_and_stop_are_of_the_plan_and_not_of_the_signal",
    "V21": "test_v21_a_second_close_position_stop_is_refused_and_the_first_protects",
    "V22": "test_v22_a_long_only_account_may_open_a_third_long",
    "V23": "test_v23_one_decision_stopped_out_everywhere_halts_nobody",
    "V24": "test_v24_cancelling_orders_leaves_the_stops",
}


def test_every_vector_of_exits_is_proven_over_the_public_interface() -> None:
    assert missing_proofs(f"{HERE}::{name}" for name in PUBLIC.values()) == []


@pytest.fixture
def narrow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans not widened beyond costs and noise, nor stretched by the funding of the hour."""
    settings.LIMITS = replace(settings.LIMITS, min_stop=False)
    monkeypatch.setattr(exit_plan, "FUNDING_WEIGHT", Decimal(0))


def moves_of(plan: dict[str, Any]) -> list[Decimal]:
    """TP1, TP2, TP3 and the stop, in percent of the entry."""
    targets = [Decimal(target["price_move_pct"]) for target in plan["targets"]]
    return [*targets, Decimal(plan["hard_stop_pct"])]


def shares_of(position: dict[str, Any]) -> list[Decimal]:
    whole = Decimal(position["initial_quantity"])
    return [
        (Decimal(target["quantity"]) / whole).quantize(Decimal("0.01"))
        for target in position["plan"]["targets"]
    ]


def near(found: list[Decimal], expected: str, within: str = "0.001") -> bool:
    pairs = zip(found, map(Decimal, expected.split()), strict=True)
    return all(abs(one - other) <= Decimal(within) for one, other in pairs)


# ── the plan ─────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("narrow")
def test_v1_the_plan_between_26x_and_27x(desk: PublicDesk) -> None:
    for leverage in (26, 27):
        desk.add_account(leverage=leverage)
    decision = desk.decide()
    at_26, at_27 = (desk.position(share["account"]) for share in decision["allocations"])
    if at_26["leverage"] != 26:
        at_26, at_27 = at_27, at_26
    assert (at_26["leverage"], at_27["leverage"]) == (26, 27)
    of_report = [Decimal(text) for text in ("0.8317", "1.3158", "1.8579", "0.8073")]
    for less, found, more in zip(moves_of(at_26["plan"]), of_report, moves_of(at_27["plan"]), strict=True):
        assert min(less, more) - Decimal("0.0001") <= found <= max(less, more) + Decimal("0.0001")
        assert abs(less - more) < Decimal("0.004")
    assert near(shares_of(at_26), "0.40 0.40 0.20", "0.01")


@pytest.mark.usefixtures("narrow")
def test_v2_v3_the_adaptive_plan_of_an_account_follows_its_leverage(desk: PublicDesk) -> None:
    expected = {1: "1.191 0.664", 2: "1.0765 0.7094", 5: "0.958 0.757", 10: "0.894 0.782", 20: "0.847 0.801"}
    expected[50] = "0.803 0.819"
    names = {desk.add_account(leverage=leverage): leverage for leverage in (*expected, 100)}
    ends = {share["account"]: share for share in desk.decide()["allocations"]}
    for name, leverage in names.items():
        if leverage == 100:
            # Its stop of 0.829 % would lie beyond the liquidation: never opened, never without a plan.
            assert (ends[name]["outcome"], ends[name]["code"]) == ("DENIED", "STOP_INVALID")
            continue
        position = desk.position(name)
        found = moves_of(position["plan"])
        assert near([found[0], found[3]], expected[leverage]), (leverage, found)
        assert (position["leverage"], position["plan"]["policy"]) == (leverage, "adaptive")
        assert position["protection"] == "VERIFIED"
        if leverage == 2:
            assert near(found, "1.0765 1.4383 1.9191 0.7094", "0.0002")
            assert near(shares_of(position), "0.30 0.30 0.40", "0.01")


# ── the reports, in their own units ──────────────────────────────────────────

REPORTED = (
    # symbol, quantity, entry, leverage, mark, stop, price move, profit, ROE
    ("ATOM/USDT:USDT", "446.03", "2.224", 2, "2.24301", "2.25069", "-0.855", "-8.479", "-1.71"),
    ("LINK/USDT:USDT", "75.87", "13.184", 2, "13.2130", "13.342", "-0.22", "-2.2", "-0.44"),
    ("BNB/USDT:USDT", "2.17", "896.80", 2, "906.325", "914.74", "-1.062", "-20.669", "-2.124"),
    ("BTC/USDT:USDT", "0.013", "91508.90", 2, "92415.8", "93339.10", "-0.991", "-11.79", "-1.982"),
)


@pytest.mark.parametrize(
    ("symbol", "quantity", "entry", "leverage", "mark", "stop", "move", "profit", "roe"),
    REPORTED,
    ids=["V4-ATOM", "V5-LINK", "V7-BNB", "V8-BTC"],
)
def test_v4_v5_v7_v8_the_shorts_of_the_reports_had_not_reached_their_stops(
    desk: PublicDesk,
    symbol: str,
    quantity: str,
    entry: str,
    leverage: int,
    mark: str,
    stop: str,
    move: str,
    profit: str,
    roe: str,
) -> None:
    at, stops_at, far = Decimal(entry), Decimal(stop), Decimal(entry) * Decimal("0.9")
    plan = replace(
        PLAN,
        is_long=False,
        entry_price=at,
        initial_quantity=Decimal(quantity),
        leverage=Decimal(leverage),
        hard_stop_price=stops_at,
        stop_price=stops_at,
        levels=(exit_plan.Level(1, far, Decimal(quantity)),),
        break_even_price=at,
    )
    rows.position(
        rows.account("reported"),
        symbol=symbol,
        is_long=False,
        leverage=leverage,
        quantity=Decimal(quantity),
        initial_quantity=Decimal(quantity),
        entry_price=at,
        stop_price=stops_at,
        plan=exit_plan.to_json(plan),
    )
    desk.tick(symbol, mark)
    told = desk.position("reported", symbol)
    assert (told["status"], told["closing_for"], told["life"]) == ("OPEN", "", [])
    assert (told["price_move_pct"], told["roe_pct"]) == (move, roe)
    assert abs(Decimal(told["unrealized_profit"]) - Decimal(profit)) < Decimal("0.001")
    assert Decimal(told["distance_to_stop_pct"]) > 0
    desk.tick(symbol, stop)
    assert desk.position("reported", symbol)["closing_for"] == "STOP_LOSS"


def test_v6_equity_and_available_are_told_of_an_account(desk: PublicDesk) -> None:
    name = desk.add_account()
    position = desk.open_one()
    Account.objects.filter(name=name).update(audited_at=None)
    desk.monitor()
    told = desk.named(name)
    wallet, unrealized = Decimal(told["wallet_balance"]), Decimal(told["unrealized_profit"])
    assert Decimal(told["equity"]) == wallet + unrealized
    margin = Decimal(told["equity"]) - Decimal(told["available_balance"])
    notional = Decimal(position["quantity"]) * Decimal(position["entry_price"])
    assert abs(margin - notional / 3) < notional * Decimal("0.002")
    of_report = {"wallet_balance": "10056.84", "unrealized_profit": "-10.32", "available_balance": "9045.53"}
    Account.objects.filter(name=name).update(**of_report)
    told = desk.named(name)
    assert (told["equity"], told["available_balance"]) == ("10046.52", "9045.53")


def test_v9_a_stop_beyond_the_liquidation_is_refused(desk: PublicDesk, settings: Settings) -> None:
    settings.EXIT_POLICY = "signal"
    desk.exchange.set_mark("SOLUSDT", "138.73")
    desk.add_account(leverage=20)
    share = desk.share(SOL, entry_price="138.73", stop_price="124.857", take_profit_price="180")
    assert (share["outcome"], share["code"], share["client_order_id"]) == ("DENIED", "STOP_INVALID", None)
    assert abs(Decimal(share["detail"]["liquidation"]) - Decimal("0.0452")) < Decimal("0.0001")
    assert abs(Decimal(share["detail"]["farthest"]) - Decimal("0.0362")) < Decimal("0.0001")
    assert desk.get("positions")["items"] == []


def test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing(
    desk: PublicDesk, settings: Settings
) -> None:
    settings.LIMITS = replace(
        settings.LIMITS, sizing_model=SizingModel.FIXED_NOTIONAL, fixed_notional=Decimal("3307.5")
    )
    desk.exchange.set_mark("ETHUSDT", "3300")
    name = desk.add_account(leverage=20)
    position = desk.open_one(ETH)
    assert position["initial_quantity"] == "1"
    targets = position["plan"]["targets"]
    assert [target["quantity"] for target in targets] == ["0.4", "0.4", "0.2"]
    left = []
    for target in targets:
        desk.move(ETH, target["price"])
        left.append(desk.position(name, ETH)["quantity"])
    closed = desk.position(name, ETH)
    assert left == ["0.6", "0.2", "0"]
    assert [(leg["quantity"], leg["reason"]) for leg in closed["legs"]] == [
        ("0.4", "TAKE_PROFIT_1"),
        ("0.4", "TAKE_PROFIT_2"),
        ("0.2", "TAKE_PROFIT_3"),
    ]
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "TAKE_PROFIT_3")


def test_v20_size_and_stop_are_of_the_plan_and_not_of_the_signal(
    desk: PublicDesk, settings: Settings
) -> None:
    settings.LIMITS = replace(settings.LIMITS, min_stop=False, symbol_notional=Decimal(3))
    name = desk.add_account(leverage=2)
    mark = desk.mark_there(BTC)
    share = desk.share(stop_price=f"{mark * Decimal('0.997'):.2f}")
    assert share["outcome"] == "FILLED"
    equity = Decimal(desk.named(name)["wallet_balance"])
    assert Decimal(share["detail"]["loss_at_stop"]) <= equity / 100
    position = desk.position(name)
    assert near([Decimal(position["plan"]["hard_stop_pct"])], "0.7094")
    (stop,) = position["stops"]
    assert stop["trigger_price"] == position["plan"]["hard_stop_price"]


# ── protection ───────────────────────────────────────────────────────────────


def test_v16_a_failed_read_closes_nothing_stops_entries_and_no_exit(desk: PublicDesk) -> None:
    name = desk.add_account()
    position = desk.open_one()
    desk.exchange.add_fault(
        kind="http", endpoint="GET /fapi/v3/positionRisk", account=name, status=500, count=0
    )
    # Half a minute later, by its rows: nothing was read since.
    Account.objects.filter(name=name).update(fresh_at=now() - timedelta(seconds=31), audited_at=None)
    desk.monitor()
    after = desk.position(name)
    assert (after["status"], after["quantity"]) == ("OPEN", position["quantity"])
    assert (after["protection"], after["legs"]) == ("VERIFIED", [])
    share = desk.share(ETH)
    assert (share["outcome"], share["code"], share["client_order_id"]) == ("DENIED", "STALE_DATA", None)
    desk.post(f"close-position/{position['id']}")
    closed = desk.position(name)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "MANUAL")


def fall_once_filled(desk: PublicDesk, name: str, price: str) -> Thread:
    """Move the mark as soon as the account's entry is filled, while its stop is still on the way."""

    def watch() -> None:
        while not any(row["account"] == name and row["kind"] == "FILL" for row in desk.exchange.ledger()):
            time.sleep(0.01)
        desk.exchange.set_mark("BTCUSDT", price)

    thread = Thread(target=watch)
    thread.start()
    return thread


def test_v18_a_stop_the_mark_is_past_closes_at_market(desk: PublicDesk) -> None:
    name = desk.add_account()
    slow = {"kind": "delay", "endpoint": "POST /fapi/v1/algoOrder", "seconds": 1.0, "count": 1}
    desk.exchange.add_fault(account=name, **slow)
    falling = fall_once_filled(desk, name, "97000")
    share = desk.share()
    falling.join()
    assert share["outcome"] == "FILLED"
    closed = desk.position(name)
    assert [(stop["status"], stop["code"]) for stop in closed["stops"]] == [("REJECTED", "-2021")]
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "STOP_FAILED")
    assert {leg["reason"] for leg in closed["legs"]} == {"STOP_FAILED"}
    assert sum(Decimal(leg["quantity"]) for leg in closed["legs"]) == Decimal(closed["initial_quantity"])
    (told,) = desk.alerts("STOP_FAILED")
    assert "closed at failed stop" in told["message"]


def test_v21_a_second_close_position_stop_is_refused_and_the_first_protects(desk: PublicDesk) -> None:
    name = desk.add_account()
    told = desk.open_one()
    position = Position.objects.select_related("account").get()
    second = OrderRequest(
        client_order_id="byhand0000000001",
        symbol=BTC,
        side=OrderSide.SELL,
        type=OrderType.STOP_MARKET,
        quantity=None,
        close_position=True,
        trigger_price=Decimal(98_000),
        timestamp_ms=int(now().timestamp() * 1000),
    )
    with pytest.raises(OrderNotPlaced) as refused:
        at_exchange(position, second)
    assert refused.value.code == "-4130"
    Account.objects.filter(name=name).update(audited_at=None)
    desk.monitor()
    after = desk.position(name)
    assert (after["status"], after["protection"], after["stops"]) == ("OPEN", "VERIFIED", told["stops"])
    (resting,) = stops_there(position.account)
    assert resting.client_order_id == told["stops"][0]["client_order_id"]


def test_v22_a_long_only_account_may_open_a_third_long(desk: PublicDesk, settings: Settings) -> None:
    settings.EXIT_POLICY = "signal"
    # Three times 0.28 percent: more than 70 % of this budget, and within all of it.
    settings.LIMITS = replace(settings.LIMITS, risk_per_trade=Decimal("0.0028"), risk_budget=Decimal("0.010"))
    long_only, both_ways = desk.add_account(executors=("spot",)), desk.add_account()
    ends = {long_only: "", both_ways: ""}
    details = []
    for symbol in (BTC, ETH, SOL):
        mark = desk.mark_there(symbol)
        told = {"stop_price": f"{mark * Decimal('0.95'):.2f}", "take_profit_price": f"{mark * 2:.2f}"}
        for share in desk.decide(symbol, **told)["allocations"]:
            ends[share["account"]] = share["outcome"] + share["code"]
            details.append((symbol, share["outcome"], share["code"], share["detail"]))
    assert ends == {long_only: "FILLED", both_ways: "DENIEDSAME_DIRECTION"}, details


# ── halts ────────────────────────────────────────────────────────────────────


def test_v23_one_decision_stopped_out_everywhere_halts_nobody(desk: PublicDesk) -> None:
    names = [desk.add_account() for _ in range(4)]
    stop = Decimal(next(desk.position(one["account"]) for one in desk.decide()["allocations"])["stop_price"])
    desk.move(BTC, stop - 20)
    Account.objects.update(audited_at=None)
    desk.monitor()
    for name in names:
        closed = desk.position(name)
        assert (closed["status"], closed["close_reason"]) == ("CLOSED", "STOP_LOSS")
        assert [leg["reason"] for leg in closed["legs"]] == ["STOP_LOSS"]
    desk.monitor()
    halts = desk.get("emergency-stop")["items"]
    assert [halt["code"] for halt in halts if halt["code"] == "STOP_OUTS"] == []


def test_v24_cancelling_orders_leaves_the_stops(desk: PublicDesk) -> None:
    name = desk.add_account()
    before = desk.open_one()
    desk.post("emergency-stop", scope="desk", level="CANCEL_ORDERS", reason="a drill")
    after = desk.position(name)
    assert (after["status"], after["protection"], after["stops"]) == ("OPEN", "VERIFIED", before["stops"])
    resting = stops_there(Account.objects.get(name=name))
    assert [one.client_order_id for one in resting] == [before["stops"][0]["client_order_id"]]
    assert desk.share(ETH)["code"] == "HALTED"
