"""The incidents that choosing well must end, as they happened, judged by the exchange's own ledger.

V23, a decision stopped out on every account, is in `tests/test_vectors.py`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from redis import Redis

from accounts.models import Account, SymbolSetting
from alerts.models import Alert
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.limits import Limits, SizingModel
from trading.domain.states import OPEN, CloseReason, DenyCode, OrderPurpose, PositionStatus
from trading.models import Decision, Order, Position, Signal
from trading.services import closing, preparing
from trading.services.allocation import allocate
from trading.services.decisions import settle
from trading.services.exposure import Held, InFlight, exposures
from trading.services.fan_outs import read_fan_outs
from trading.services.selection import request
from trading.services.signals import SignalRefused
from trading.tests.services.holding import answer, fresh, held_there, hold, pinned_mark, visit
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WEATHER,
    a_signal,
    fit_accounts,
    now,
    set_columns,
    set_wallet,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]

XRP = "XRP/USDT:USDT"
ENTRY = "POST /fapi/v1/order"
AVOIDABLE = ("-2019", "-4164", "-1111", "-4005", "-2027")
"""Margin, minimum notional, precision, maximum quantity, leverage bracket: what a gate can know."""


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings, redis: Redis) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange


def carried_out(signal: Signal, *, seconds_ago: float = 0) -> Decision:
    """Have a signal executed to its end, as if it had been decided so long ago."""
    decision = request(signal, now())
    preparing.prepare_decision(decision.pk, now())
    answer(allocate(decision.pk, now()))
    settle([decision.pk], now())
    made = decision.decided_at - timedelta(seconds=seconds_ago)
    Decision.objects.filter(pk=decision.pk).update(decided_at=made)
    decision.refresh_from_db()
    return decision


def ends(decision: Decision) -> list[tuple[str, str]]:
    return list(decision.allocations.order_by("account_id").values_list("outcome", "code"))


def entered(exchange: PaperExchange, account: Account) -> int:
    """How many entries the exchange took of an account."""
    ours = set(Order.objects.filter(purpose=OrderPurpose.ENTRY).values_list("client_order_id", flat=True))
    rows = [row for row in exchange.ledger() if row["account"] == account.name and row["kind"] == "PLACED"]
    return sum(row["client_order_id"] in ours for row in rows)


def refused(exchange: PaperExchange) -> Counter[str]:
    """How often the exchange refused an order, by what a gate could have known."""
    told = exchange.get("/paper/status")["refusals"]
    return Counter({code: told.get(f"{ENTRY} {code}", 0) for code in AVOIDABLE})


def test_v19_an_account_out_of_margin_is_denied_five_times_and_asks_the_exchange_nothing(
    exchange: PaperExchange,
) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    set_columns(account, available_balance=Decimal(0))
    before = refused(exchange)
    for _ in range(5):
        assert ends(carried_out(a_signal(), seconds_ago=60)) == [("DENIED", "MARGIN")]
    assert entered(exchange, account) == 0
    assert refused(exchange) == before
    assert not account.breakers.exists()
    (alert,) = Alert.objects.filter(cause="denied:MARGIN")
    assert alert.count == 5


def test_v10_of_two_small_accounts_one_is_told_the_minimum_and_the_other_trades(
    exchange: PaperExchange, settings: Settings
) -> None:
    settings.LIMITS = replace(
        settings.LIMITS, sizing_model=SizingModel.FIXED_MARGIN, fixed_margin=Decimal("0.02"), leverage=10
    )
    poor, rich = fit_accounts(2, ETH, executors=(Market.FUTURES,))  # whose minimum notional is 20
    for account, free in ((poor, "100"), (rich, "154")):
        set_wallet(account, free)
        set_columns(account, leverage=10)
        SymbolSetting.objects.filter(account=account).update(leverage=10)
    before = refused(exchange)
    decision = carried_out(a_signal(ETH))
    assert read_fan_outs([decision])[decision.pk].counts == {"DENIED": 1, "FILLED": 1}
    assert ends(decision) == [("DENIED", "MIN_NOTIONAL"), ("FILLED", "")]
    assert (entered(exchange, poor), entered(exchange, rich)) == (0, 1)
    assert refused(exchange) == before


def test_v15_a_burst_of_the_same_advice_buys_once(exchange: PaperExchange) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    first = carried_out(a_signal(), seconds_ago=10)  # within thirty, however slow the machine is
    second = carried_out(a_signal())
    Decision.objects.filter(pk=first.pk).update(decided_at=now() - timedelta(seconds=31))
    third = carried_out(a_signal())
    assert [ends(one)[0] for one in (first, second, third)] == [
        ("FILLED", ""),
        ("DENIED", "DUPLICATE"),
        ("DENIED", "POSITION_OPEN"),
    ]
    assert entered(exchange, account) == 1
    assert Position.objects.filter(account=account).count() == 1


def test_v22_a_long_only_account_takes_its_third_long_where_another_may_not(
    exchange: PaperExchange, settings: Settings
) -> None:
    """A tenth of the risk budget on one side holds two such longs; a spot account has no other side."""
    settings.LIMITS = replace(
        settings.LIMITS, risk_per_trade=Decimal("0.0025"), same_direction=Decimal("0.1")
    )
    (spot,) = fit_accounts(1, BTC, ETH, SOL, executors=(Market.SPOT,))
    (futures,) = fit_accounts(1, BTC, ETH, SOL, executors=(Market.FUTURES,))
    decisions = [carried_out(a_signal(symbol)) for symbol in (BTC, ETH, SOL)]
    on_spot, on_futures = (
        [one.allocations.get(account=account) for one in decisions] for account in (spot, futures)
    )
    assert [share.outcome in {"FILLED", "PARTIAL"} for share in on_spot] == [True] * 3
    assert [share.outcome in {"FILLED", "PARTIAL"} for share in on_futures] == [True, True, False]
    assert on_futures[2].code == DenyCode.SAME_DIRECTION
    assert entered(exchange, futures) == 2


def test_a_day_that_reached_its_loss_enters_nothing_more_and_its_exits_go_on(exchange: PaperExchange) -> None:
    position = hold()
    account = position.account
    set_columns(account, wallet_balance=Decimal(9550), available_balance=Decimal(9000))
    entries = entered(exchange, account)
    decision = carried_out(a_signal(ETH))
    (share,) = decision.allocations.all()
    assert (share.outcome, share.code) == ("DENIED", DenyCode.DAILY_LOSS)
    assert Decimal(share.detail["day_profit"]) < -400
    assert Decimal(share.detail["floor"]) == -500
    assert entered(exchange, account) == entries
    answer(closing.request_closes([position.pk], reason=CloseReason.MANUAL, now=now()))
    visit(position)
    assert fresh(position).status == PositionStatus.CLOSED
    assert held_there(account) == []


# ── any run ──────────────────────────────────────────────────────────────────

coins = st.sampled_from((BTC, ETH, SOL, XRP))
steps = st.one_of(
    st.tuples(st.just("signal"), coins, st.sampled_from(("LONG", "SHORT"))),
    st.tuples(st.just("move"), coins, st.integers(-300, 300)),
    st.tuples(st.just("close"), st.integers(0, 20)),
    st.tuples(st.just("refuse"), st.sampled_from((-2010, -1001, -1003)), st.integers(0, 3)),
)


@pytest.mark.drill
@pytest.mark.timeout(900)
@hypothesis_settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(steps, min_size=4, max_size=9), seed=st.integers(0, 10_000))
def test_no_run_asks_for_what_the_exchange_must_refuse_or_passes_a_limit(
    exchange: PaperExchange, redis: Redis, sequence: list[tuple[object, ...]], seed: int
) -> None:
    before = refused(exchange)
    accounts = _mixed_accounts(exchange, Random(seed))
    prices = {
        one: Decimal(exchange.get("/paper/status")["marks"][_venue(one)]) for one in (BTC, ETH, SOL, XRP)
    }
    for name, *told in sequence:
        if name == "signal":
            _signal(str(told[0]), str(told[1]))
            _assert_within_limits(accounts)
        elif name == "move":
            prices[str(told[0])] *= 1 + Decimal(int(str(told[1]))) / 10_000
            exchange.set_mark(_venue(str(told[0])), f"{prices[str(told[0])]:.2f}")
            redis.flushdb()
        elif name == "close":
            _close(accounts, int(str(told[0])))
        else:
            whom = accounts[int(str(told[1])) % len(accounts)].name
            exchange.add_fault(kind="http", endpoint=ENTRY, status=400, code=told[0], account=whom)
    exchange.delete("/paper/faults")
    for one in (ETH, SOL, XRP):
        exchange.set_mark(_venue(one), None)
    assert refused(exchange) == before


def _mixed_accounts(exchange: PaperExchange, chance: Random) -> list[Account]:
    """A rich, a middling, a small and a nearly empty one, at leverages of their own, as at the exchange."""
    Account.objects.update(archived_at=now())  # those of the example before
    accounts = fit_accounts(4, BTC, ETH, SOL, XRP, executors=(Market.FUTURES,))
    for account, wallet in zip(accounts, ("10000", "1500", "154", "22"), strict=True):
        exchange.post("/paper/account", key=account.name, deposit=wallet)
        set_wallet(account, wallet)
        set_columns(account, leverage=chance.choice((1, 3, 10, 20)))
        SymbolSetting.objects.filter(account=account).delete()
    return accounts


def _venue(symbol: str) -> str:
    return f"{symbol.partition('/')[0]}USDT"


def _signal(symbol: str, side: str) -> None:
    try:
        carried_out(a_signal(symbol, side), seconds_ago=60)
    except SignalRefused:
        return  # the mark moved too fast for its own signal


def _close(accounts: list[Account], number: int) -> None:
    opened = Position.objects.filter(status=PositionStatus.OPEN, account__in=accounts)
    held = list(opened.order_by("pk"))
    if held:
        answer(closing.request_closes([held[number % len(held)].pk], reason=CloseReason.MANUAL, now=now()))


def _assert_within_limits(accounts: list[Account]) -> None:
    limits = {account.pk: Limits() for account in accounts}
    found = exposures(list(Account.objects.filter(pk__in=limits)), limits, {}, now())
    for account in accounts:
        every: list[Held | InFlight] = [*found[account.pk].held, *found[account.pk].in_flight]
        assert len(every) <= limits[account.pk].max_positions
        assert len({stake.base for stake in every}) == len(every)
        live = Order.objects.filter(account=account, purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN))
        assert not live.exists()
