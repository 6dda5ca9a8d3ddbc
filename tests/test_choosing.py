"""The incidents that choosing well must end, as they happened, judged by the exchange's own ledger.

V23, a decision stopped out on every account, is in `tests/test_vectors.py`; `tests/test_replayed.py` lives
through the same over recorded minutes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings
from redis import Redis

from accounts.models import Account, SymbolSetting
from alerts.models import Alert
from exchange.port import Market
from tests.judged import ENTRY, carried_out, ends, entered, refused
from tests.processes import PaperExchange
from trading.domain.limits import Limits, SizingModel
from trading.domain.states import OPEN, CloseReason, DenyCode, OrderPurpose, OrderStatus, PositionStatus
from trading.models import Decision, Order, Position
from trading.services import closing
from trading.services.bells import Bells
from trading.services.exposure import Held, InFlight, exposures
from trading.services.fan_outs import read_fan_outs
from trading.services.signals import SignalRefused
from trading.tests.services.holding import answer, fresh, held_there, hold, pinned_mark, visit
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WEATHER,
    a_signal,
    fit_accounts,
    mark_of,
    now,
    set_columns,
    set_wallet,
)
from trading.tests.services.sending import grow_older, look_up

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]

XRP = "XRP/USDT:USDT"


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings, redis: Redis) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange


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

COINS = (BTC, ETH, SOL, XRP)
WALLETS = ("3000000", "10000", "154", "22")
ROUNDING = Decimal("1.01")
"""A fill is worth a little else than the cap it was judged at."""

Step = tuple[str, *tuple[str | int, ...]]

coins, whom = st.sampled_from(COINS), st.integers(0, len(WALLETS) - 1)
steps = st.one_of(
    st.tuples(st.just("signal"), coins, st.sampled_from(("LONG", "SHORT"))),
    st.tuples(st.just("signal"), coins, st.sampled_from(("LONG", "SHORT"))),
    st.tuples(st.just("move"), coins, st.integers(-300, 300)),
    st.tuples(st.just("close"), st.integers(0, 20)),
    st.tuples(st.just("refuse"), st.sampled_from((-2010, -1001, -1003)), whom),
    st.tuples(st.just("lose"), whom),
)


@pytest.mark.timeout(120)
def test_a_run_of_everything_asks_for_nothing_the_exchange_must_refuse(
    exchange: PaperExchange, redis: Redis
) -> None:
    told: tuple[Step, ...] = (
        ("signal", XRP, "SHORT"),
        ("move", BTC, -67),
        ("lose", 0),
        ("refuse", -1001, 1),
        ("signal", BTC, "SHORT"),
        ("signal", BTC, "LONG"),
        ("close", 1),
        ("move", XRP, 250),
        ("refuse", -2010, 2),
        ("signal", SOL, "LONG"),
        ("signal", XRP, "LONG"),
    )
    _run(exchange, redis, told, Random(280))


@pytest.mark.drill
@pytest.mark.timeout(1800)
@hypothesis_settings(
    max_examples=60,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a run is no faster for having failed before
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(steps, min_size=4, max_size=12), seed=st.integers(0, 10_000))
def test_no_run_asks_for_what_the_exchange_must_refuse_or_passes_a_limit(
    exchange: PaperExchange, redis: Redis, sequence: list[Step], seed: int
) -> None:
    _run(exchange, redis, sequence, Random(seed))


def _run(exchange: PaperExchange, redis: Redis, sequence: Sequence[Step], chance: Random) -> None:
    """Live through the sequence on accounts of their own, and have the exchange judge it."""
    before = refused(exchange)
    run = _Run(exchange, redis, _mixed_accounts(exchange, chance))
    try:
        for name, *told in sequence:
            getattr(run, name)(*told)
    finally:
        exchange.delete("/paper/faults")
    run.end()
    for coin in COINS[1:]:
        exchange.set_mark(_venue(coin), None)
    assert refused(exchange) == before
    assert bought_twice(exchange, run.accounts) == []


class _Run:
    """What happens to some accounts, a step at a time; after each signal no limit is passed."""

    def __init__(self, exchange: PaperExchange, redis: Redis, accounts: list[Account]) -> None:
        self.accounts = accounts
        self._exchange, self._redis = exchange, redis

    def signal(self, symbol: str, side: str) -> None:
        try:
            decision = carried_out(a_signal(symbol, side), seconds_ago=60)
        except SignalRefused:
            return  # the mark moved too fast for its own signal
        entered = decision.allocations.filter(outcome__in=("FILLED", "PARTIAL")).values_list("account_id")
        _assert_within_limits([one for one in self.accounts if (one.pk,) in set(entered)], symbol)

    def move(self, symbol: str, by: int) -> None:
        """By so many hundredths of a percent; what rests at the exchange triggers there."""
        price = mark_of(symbol) * (1 + Decimal(by) / 10_000)
        self._exchange.set_mark(_venue(symbol), f"{price:.4f}")
        self._redis.flushdb()

    def close(self, number: int) -> None:
        held = Position.objects.filter(status=PositionStatus.OPEN, account__in=self.accounts).order_by("pk")
        if held:
            chosen = held[number % len(held)].pk
            answer(closing.request_closes([chosen], reason=CloseReason.MANUAL, now=now()))

    def refuse(self, code: int, number: int) -> None:
        whom = self.accounts[number].name
        self._exchange.add_fault(kind="http", endpoint=ENTRY, status=400, code=code, account=whom)

    def lose(self, number: int) -> None:
        """The next entry is placed and its answer lost."""
        whom = self.accounts[number].name
        self._exchange.add_fault(kind="close_socket", endpoint=ENTRY, apply=True, account=whom)

    def end(self) -> None:
        """What is unclear is looked up, what waits is too late: every entry has an end."""
        entries = Order.objects.filter(account__in=self.accounts, purpose=OrderPurpose.ENTRY)
        for unclear in entries.filter(status=OrderStatus.UNKNOWN):
            look_up(unclear)
            look_up(unclear)
            grow_older(unclear)
            look_up(unclear)
        waiting = entries.filter(status__in=sorted(OPEN))
        waiting.update(due_at=None)
        answer(Bells(entries=list(waiting.values_list("pk", flat=True))), now() + timedelta(seconds=60))
        assert not waiting.exists()


def _mixed_accounts(exchange: PaperExchange, chance: Random) -> list[Account]:
    """A very rich, a middling, a small and a nearly empty one, each at a leverage, read a while ago."""
    Account.objects.update(archived_at=now())  # those of the example before
    accounts = fit_accounts(len(WALLETS), *COINS, executors=(Market.FUTURES,))
    for account, wallet in zip(accounts, WALLETS, strict=True):
        exchange.post("/paper/account", key=account.name, deposit=wallet)
        set_wallet(account, wallet)
        read_at = now() - timedelta(seconds=10)
        set_columns(account, leverage=chance.choice((1, 3, 10, 20)), balances_at=read_at)
        SymbolSetting.objects.filter(account=account).delete()
    return accounts


def _venue(symbol: str) -> str:
    return f"{symbol.partition('/')[0]}USDT"


def _assert_within_limits(entered: Sequence[Account], symbol: str) -> None:
    """What accounts have at stake that just entered a symbol, at the marks they were judged by."""
    limits = Limits()
    marks = {coin: mark_of(coin) for coin in COINS}
    accounts = Account.objects.filter(pk__in=[one.pk for one in entered])
    found = exposures(list(accounts), dict.fromkeys((one.pk for one in entered), limits), marks, now())
    for exposure in found.values():
        every: list[Held | InFlight] = [*exposure.held, *exposure.in_flight]
        equity = exposure.wallets[Market.FUTURES].equity * ROUNDING
        assert len(every) <= limits.max_positions
        assert len({stake.base for stake in every}) == len(every)
        assert exposure.risk() <= limits.risk_budget * equity
        assert exposure.notional() <= limits.gross_notional * equity
        assert exposure.notional(symbol.partition("/")[0]) <= limits.symbol_notional * equity


def bought_twice(exchange: PaperExchange, accounts: Sequence[Account]) -> list[str]:
    """The entries that filled while the exchange held something of the coin from another, by its ledger."""
    names = {account.name for account in accounts}
    told = Order.objects.filter(account__in=accounts, purpose=OrderPurpose.ENTRY)
    entries = set(told.values_list("client_order_id", flat=True))
    held = defaultdict[tuple[str, str], Decimal](Decimal)
    opened_by: dict[tuple[str, str], str] = {}
    doubled = []
    for row in exchange.ledger():
        if row["kind"] != "FILL" or row["account"] not in names:
            continue
        where, name = (row["account"], row["symbol"]), row["client_order_id"]
        if name in entries and held[where] and opened_by.get(where) != name:
            doubled.append(name)
        opened_by[where] = name if name in entries else opened_by.get(where, "")
        held[where] += Decimal(row["quantity"]) * (1 if row["side"] == "BUY" else -1)
    return doubled
