"""Every refusal of the gate, from rows and a real market, and that nothing of it reached the exchange."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import Account, Health
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.exit_plan import ExitPolicy
from trading.domain.limits import SizingModel
from trading.domain.states import AllocationOutcome, DenyCode, OrderStatus
from trading.models import Decision, Halt, Order, Signal
from trading.services import market
from trading.services.allocation import allocate
from trading.services.selection import request
from trading.services.valkey import valkey
from trading.tests.services.holding import answer
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WEATHER,
    a_position,
    a_signal,
    fit_accounts,
    mark_of,
    now,
    read_back,
    set_columns,
)
from trading.tests.services.sending import an_entry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]

ORDER = "POST /fapi/v1/order"


class Case:
    """One account, one signal, and what makes the gate refuse it."""

    def __init__(self, settings: Settings, exchange: PaperExchange) -> None:
        self.settings, self.exchange = settings, exchange
        self.symbol, self.side = BTC, "LONG"
        self.changes: dict[str, str] = {}
        (self.account,) = fit_accounts(1, BTC, ETH, SOL, executors=(Market.FUTURES,))

    def limit(self, **changes: Any) -> None:
        """A limit no operator could set, to meet one rule alone."""
        self.settings.LIMITS = replace(self.settings.LIMITS, **changes)

    def ask(self, code: DenyCode) -> None:
        """Have one rule about the market's weather asked."""
        self.settings.GATE_OFF = WEATHER - {code}


def halted(case: Case) -> None:
    Halt.objects.create(
        scope="account",
        target=case.account.name,
        level="HALT_ENTRIES",
        reason="a test",
        raised_by="olga",
        raised_at=now(),
    )


def unhealthy(case: Case) -> None:
    set_columns(case.account, health=Health.UNHEALTHY, health_code="PORTFOLIO_MARGIN")


def stale(case: Case) -> None:
    set_columns(case.account, fresh_at=now() - timedelta(seconds=31))


def unread(case: Case) -> None:
    case.symbol = SOL
    valkey().delete(f"desk:depth:{SOL}")
    case.exchange.add_fault(kind="http", endpoint="GET /fapi/v1/depth", status=500, count=0)


def expired(case: Case) -> None:
    case.changes["expired"] = "yes"


def duplicate(case: Case) -> None:
    assert allocate(request(a_signal(), now()).pk, now()).entries  # committed, and never sent here


def pending(case: Case) -> None:
    an_entry(case.account)
    Decision.objects.update(decided_at=now() - timedelta(seconds=60))


def unknown(case: Case) -> None:
    pending(case)
    Order.objects.update(status=OrderStatus.UNKNOWN)


def holding(case: Case) -> None:
    a_position(case.account, BTC)


def closed(case: Case) -> None:
    case.symbol = SOL
    listing = market._listing(Market.FUTURES).current()
    shut = replace(listing.instruments[SOL], trading=False)
    listing.instruments = {**listing.instruments, SOL: shut}


def crowded(case: Case) -> None:
    for symbol in (ETH, SOL, "XRP/USDT:USDT", "BNB/USDT:USDT", "ADA/USDT:USDT"):
        a_position(case.account, symbol, quantity="0.001")


def busy_day(case: Case) -> None:
    case.limit(daily_trades=0)


def lost_day(case: Case) -> None:
    set_columns(case.account, wallet_balance=Decimal(9550))


def spent_budget(case: Case) -> None:
    case.limit(risk_budget=Decimal("0.005"))


def one_sided(case: Case) -> None:
    case.limit(same_direction=Decimal("0.1"))


def alike(case: Case) -> None:
    case.ask(DenyCode.CORRELATED)
    case.limit(correlation=Decimal(-1))
    for symbol in (ETH, SOL):
        a_position(case.account, symbol, quantity="0.001")


def wild(case: Case) -> None:
    case.ask(DenyCode.VOLATILITY)
    case.limit(max_volatility=Decimal(0))


def against_trend(case: Case) -> None:
    case.ask(DenyCode.TREND_AGAINST)
    figures = market.figures([BTC], now())[BTC]
    assert figures.mark_price is not None
    assert figures.ema200 is not None
    case.side = "SHORT" if figures.mark_price > figures.ema200 else "LONG"


def before_funding(case: Case) -> None:
    case.ask(DenyCode.FUNDING)
    case.limit(funding_minutes=10_000, funding_share=Decimal(-1000))


def wide(case: Case) -> None:
    case.ask(DenyCode.SPREAD)
    case.limit(max_spread=Decimal(0))


def moved_away(case: Case) -> None:
    case.changes["entry_price"] = f"{mark_of(BTC) * Decimal('0.995'):.8f}"


def poor_reward(case: Case) -> None:
    case.ask(DenyCode.REWARD_RISK)
    case.limit(min_reward_risk=Decimal(100))


def near_liquidation(case: Case) -> None:
    case.limit(liquidation_share=Decimal("0.001"))


def other_leverage(case: Case) -> None:
    case.account.symbol_settings.update(leverage=5)


def over_bracket(case: Case) -> None:
    set_columns(case.account, leverage=1000)
    read_back(case.account, BTC)
    case.settings.GATE_OFF = WEATHER | {DenyCode.STOP_INVALID}


def too_little(case: Case) -> None:
    case.limit(sizing_model=SizingModel.FIXED_NOTIONAL, fixed_notional=Decimal(1))


def under_a_lot(case: Case) -> None:
    listing = market._listing(Market.FUTURES).current()
    coarse = replace(listing.instruments[SOL], min_quantity=1000 / mark_of(SOL))
    listing.instruments = {**listing.instruments, SOL: coarse}
    case.symbol = SOL
    case.limit(sizing_model=SizingModel.FIXED_NOTIONAL, fixed_notional=Decimal(500))


def over_maximum(case: Case) -> None:
    case.limit(max_order_notional=Decimal(1))


def without_margin(case: Case) -> None:
    set_columns(case.account, available_balance=Decimal(0))


CASES: dict[DenyCode, tuple[Callable[[Case], None], set[str]]] = {
    DenyCode.HALTED: (halted, {"scope"}),
    DenyCode.ACCOUNT_UNHEALTHY: (unhealthy, {"reasons"}),
    DenyCode.STALE_DATA: (stale, {"picture_age_seconds", "limit"}),
    DenyCode.SIGNAL_EXPIRED: (expired, {"expires_at"}),
    DenyCode.DUPLICATE: (duplicate, {"age_seconds", "limit"}),
    DenyCode.OUTCOME_UNKNOWN: (unknown, {"base"}),
    DenyCode.ORDER_PENDING: (pending, {"base"}),
    DenyCode.POSITION_OPEN: (holding, {"base"}),
    DenyCode.SYMBOL_CLOSED: (closed, {"trading", "reduce_only"}),
    DenyCode.MAX_POSITIONS: (crowded, {"open", "limit"}),
    DenyCode.DAILY_TRADES: (busy_day, {"today", "limit"}),
    DenyCode.DAILY_LOSS: (lost_day, {"day_profit", "at_stops", "floor"}),
    DenyCode.RISK_BUDGET: (spent_budget, {"open_risk", "budget"}),
    DenyCode.SAME_DIRECTION: (one_sided, {"side_risk", "budget"}),
    DenyCode.CORRELATED: (alike, {"with_symbols", "correlation"}),
    DenyCode.VOLATILITY: (wild, {"range_24h", "limit"}),
    DenyCode.TREND_AGAINST: (against_trend, {"mark_price", "ema200"}),
    DenyCode.FUNDING: (before_funding, {"payment", "limit", "settles_at"}),
    DenyCode.SPREAD: (wide, {"spread", "limit"}),
    DenyCode.PRICE_AWAY: (moved_away, {"mark_price", "away", "limit"}),
    DenyCode.REWARD_RISK: (poor_reward, {"reward_risk", "limit"}),
    DenyCode.STOP_INVALID: (near_liquidation, {"stop_distance", "liquidation", "farthest"}),
    DenyCode.SETTINGS: (other_leverage, {"leverage", "asked_leverage", "margin_mode", "asked_margin_mode"}),
    DenyCode.LEVERAGE_BRACKET: (over_bracket, {"quantity", "notional", "wanted_quantity", "cap"}),
    DenyCode.MIN_NOTIONAL: (too_little, {"quantity", "notional", "wanted_quantity", "cap", "min_notional"}),
    DenyCode.MIN_QUANTITY: (under_a_lot, {"quantity", "notional", "wanted_quantity", "cap", "min_quantity"}),
    DenyCode.MAX_ORDER: (over_maximum, {"quantity", "notional", "wanted_quantity", "cap"}),
    DenyCode.MARGIN: (without_margin, {"quantity", "notional", "wanted_quantity", "cap", "available"}),
}


@pytest.fixture
def case(settings: Settings, faults: PaperExchange) -> Case:
    settings.GATE_OFF = WEATHER
    settings.EXIT_POLICY = ExitPolicy.ADAPTIVE
    return Case(settings, faults)


@pytest.fixture(autouse=True)
def own_market_table() -> Iterator[None]:
    """A table these tests may change: the next to ask reads it anew."""
    yield
    market._listing.cache_clear()


def orders_refused(exchange: PaperExchange) -> int:
    """How many orders the exchange has refused, whatever for."""
    told = exchange.get("/paper/status")["refusals"]
    return sum(count for what, count in told.items() if what.startswith(ORDER))


def orders_of(exchange: PaperExchange, account: Account) -> list[dict[str, Any]]:
    return [row for row in exchange.ledger() if row["account"] == account.name and row["client_order_id"]]


def decided(case: Case) -> Decision:
    signal = a_signal(
        case.symbol, case.side, **{name: told for name, told in case.changes.items() if name != "expired"}
    )
    decision = request(signal, now())
    if "expired" in case.changes:
        Signal.objects.filter(pk=signal.pk).update(expires_at=now())
    return decision


def test_every_code_of_the_gate_is_here() -> None:
    assert list(CASES) == [code for code in DenyCode if code is not DenyCode.VENUE_CIRCUIT]


@pytest.mark.parametrize("code", CASES)
def test_a_refusal_tells_its_numbers_and_nothing_reaches_the_exchange(case: Case, code: DenyCode) -> None:
    arrange, numbers = CASES[code]
    arrange(case)
    before = orders_refused(case.exchange)

    decision = decided(case)
    answer(allocate(decision.pk, now()))

    share = decision.allocations.get(account=case.account)
    assert (share.outcome, share.code) == (AllocationOutcome.DENIED, code), share.detail
    assert set(share.detail) == numbers
    assert not share.orders.exists()
    assert orders_of(case.exchange, case.account) == []
    assert orders_refused(case.exchange) == before


def test_a_book_that_was_not_read_is_missing_data_and_no_order_that_is_too_large(case: Case) -> None:
    unread(case)
    decision = decided(case)
    answer(allocate(decision.pk, now()))
    share = decision.allocations.get()
    assert (share.code, share.detail) == (DenyCode.STALE_DATA, {"missing": "depth_notional"})
    assert orders_of(case.exchange, case.account) == []
