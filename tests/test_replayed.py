"""The incidents of choosing lived through again over recorded minutes: the fall of bitcoin on 21 May 2025.

The exchange's marks are the recorded closes; the desk decides, enters and is stopped out on them. Where the
candles are not there the same incidents stand on invented marks in `tests/test_choosing.py`.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pytest_django import Settings
from redis import Redis

from accounts.models import Account, SymbolSetting
from accounts.services.limits import usable_limits_of
from alerts.models import Alert
from exchange.port import Market
from tests.judged import carried_out, ends, entered, refused
from tests.processes import PaperExchange
from trading.domain.limits import SizingModel
from trading.domain.states import CloseReason, DenyCode, PositionStatus
from trading.models import Decision, Halt, Position
from trading.services import automatic_halts, closing, monitoring
from trading.services.audits import watched_symbols
from trading.services.exposure import exposures
from trading.tests.services.holding import answer, held_there, hold, visit
from trading.tests.services.journey import (
    BTC,
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
COINS = {BTC: "BTCUSDT", SOL: "SOLUSDT", XRP: "XRPUSDT"}
FALL = datetime(2025, 5, 21, 17, 10, tzinfo=UTC)
"""Bitcoin at 109,004; twenty minutes later at 106,812."""

MINUTES = 21
OPENED_AT, CLOSE = "open_time", "close"


class Tape:
    """Recorded minutes, told to the exchange as its marks one after another."""

    def __init__(self, exchange: PaperExchange, redis: Redis, place: Path) -> None:
        self._exchange, self._redis = exchange, redis
        self._closes = {name: _closes(place / f"{name}-1m.csv.gz") for name in COINS.values()}

    def play(self, minute: int) -> None:
        """Have the marks be those of so many minutes after the fall began; stops they cross fire there."""
        for name, closes in self._closes.items():
            self._exchange.set_mark(name, closes[minute])
        self._redis.flushdb()  # no mark of the minute before stays on the board

    def rewind(self) -> None:
        """Give the marks back to the exchange."""
        for name in self._closes:
            self._exchange.set_mark(name, None)


def _closes(recorded: Path) -> list[str]:
    first = int(FALL.timestamp() * 1000)
    last = first + int(timedelta(minutes=MINUTES).total_seconds() * 1000)
    with gzip.open(recorded, "rt") as rows:
        return [row[CLOSE] for row in csv.DictReader(rows) if first <= int(row[OPENED_AT]) < last]


@pytest.fixture
def tape(
    recorded_candles: Path, paper_exchange: PaperExchange, settings: Settings, redis: Redis
) -> Iterator[Tape]:
    settings.GATE_OFF = WEATHER
    played = Tape(paper_exchange, redis, recorded_candles)
    played.play(0)
    yield played
    played.rewind()


def test_v19_the_fall_is_advised_five_times_to_an_account_without_margin_and_nothing_is_asked_for(
    tape: Tape, paper_exchange: PaperExchange
) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    set_columns(account, available_balance=Decimal(0))
    before = refused(paper_exchange)
    for minute in range(5):
        tape.play(minute)
        assert ends(carried_out(a_signal(BTC, "SHORT"), seconds_ago=60)) == [("DENIED", "MARGIN")]
    assert entered(paper_exchange, account) == 0
    assert refused(paper_exchange) == before
    assert not account.breakers.exists()
    assert Alert.objects.get(cause="denied:MARGIN").count == 5


def test_v10_at_the_recorded_price_the_smaller_of_two_accounts_is_told_the_minimum(
    tape: Tape, paper_exchange: PaperExchange, settings: Settings
) -> None:
    told = {"sizing_model": SizingModel.FIXED_MARGIN, "fixed_margin": Decimal("0.02"), "leverage": 10}
    settings.LIMITS = replace(settings.LIMITS, **told)
    poor, rich = fit_accounts(2, SOL, executors=(Market.FUTURES,))  # whose minimum notional is 5
    for account, free in ((poor, "25"), (rich, "38.50")):
        set_wallet(account, free)
        set_columns(account, leverage=10)
        SymbolSetting.objects.filter(account=account).update(leverage=10)
    before = refused(paper_exchange)
    assert ends(carried_out(a_signal(SOL))) == [("DENIED", "MIN_NOTIONAL"), ("FILLED", "")]
    assert (entered(paper_exchange, poor), entered(paper_exchange, rich)) == (0, 1)
    assert refused(paper_exchange) == before


def test_v15_a_burst_of_the_same_advice_through_the_fall_sells_once(
    tape: Tape, paper_exchange: PaperExchange
) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    first = carried_out(a_signal(BTC, "SHORT"), seconds_ago=10)  # within thirty, however slow the machine is
    tape.play(1)
    second = carried_out(a_signal(BTC, "SHORT"))
    Decision.objects.filter(pk=first.pk).update(decided_at=now() - timedelta(seconds=31))
    tape.play(2)
    third = carried_out(a_signal(BTC, "SHORT"))
    assert [ends(one)[0] for one in (first, second, third)] == [
        ("FILLED", ""),
        ("DENIED", "DUPLICATE"),
        ("DENIED", "POSITION_OPEN"),
    ]
    assert entered(paper_exchange, account) == 1


def test_longs_held_into_the_fall_close_the_day_to_entries_before_their_stops_and_are_let_out(
    tape: Tape, paper_exchange: PaperExchange
) -> None:
    """The day has lost 2.3 %, two longs may lose one each, and the fall takes the room for a third."""
    (account,) = fit_accounts(1, BTC, SOL, XRP, executors=(Market.FUTURES,))
    set_columns(account, day_baseline_equity=Decimal(10_235))
    position = hold(account=account)
    assert ends(carried_out(a_signal(SOL), seconds_ago=60)) == [("FILLED", "")]
    for minute in range(1, 7):
        tape.play(minute)
    decision = carried_out(a_signal(XRP))
    (share,) = decision.allocations.all()
    assert (share.outcome, share.code) == ("DENIED", DenyCode.DAILY_LOSS), share.detail
    assert entered(paper_exchange, account) == 2
    answer(closing.request_closes([position.pk], reason=CloseReason.MANUAL, now=now()))
    visit(position)
    assert [one.symbol for one in held_there(account)] == [SOL]


def test_v22_a_long_only_account_takes_its_third_long_through_the_fall(
    tape: Tape, paper_exchange: PaperExchange, settings: Settings
) -> None:
    settings.LIMITS = replace(
        settings.LIMITS, risk_per_trade=Decimal("0.0025"), same_direction=Decimal("0.1")
    )
    fit_accounts(1, executors=(Market.SPOT,))
    bought = []
    for minute, symbol in enumerate((BTC, SOL, XRP)):
        tape.play(minute)
        bought += ends(carried_out(a_signal(symbol)))
    assert [outcome in {"FILLED", "PARTIAL"} for outcome, _ in bought] == [True] * 3


@pytest.mark.parametrize(
    "count", [10, pytest.param(1_000, marks=[pytest.mark.drill, pytest.mark.timeout(1_800)])]
)
def test_v23_accounts_stopped_out_by_one_decision_are_one_stop_out_and_halt_no_desk(
    tape: Tape, paper_exchange: PaperExchange, settings: Settings, count: int
) -> None:
    settings.LIMITS = replace(settings.LIMITS, deadline_seconds=120)  # one sender, where a desk has workers
    accounts = fit_accounts(count, executors=(Market.FUTURES,))
    decision = carried_out(a_signal(BTC))
    assert Counter(ends(decision)) == {("FILLED", ""): count}
    Account.objects.update(day_started_at=now())  # the exchange opens an account, with a deposit, when asked
    for minute in range(1, MINUTES):
        tape.play(minute)
    answer(monitoring.audit(accounts, watched_symbols(accounts, now()), now()))
    limits = usable_limits_of(accounts)
    at_stake = exposures(list(Account.objects.all()), limits, {}, now())
    assert automatic_halts.check(accounts, limits, at_stake, 0.0, now()) == []
    assert not Halt.objects.exists()
    stopped = Position.objects.filter(allocation__decision=decision, status=PositionStatus.CLOSED)
    assert set(stopped.values_list("close_reason", flat=True)) == {CloseReason.STOP_LOSS}
    assert stopped.count() == count
    assert sold_once(paper_exchange, accounts)


def sold_once(exchange: PaperExchange, accounts: Sequence[Account]) -> bool:
    """Whether what closed each account was one order, by the exchange's own ledger."""
    names = {account.name for account in accounts}
    sold = {
        (row["account"], row["order_id"])
        for row in exchange.ledger()
        if row["kind"] == "FILL" and row["side"] == "SELL" and row["account"] in names
    }
    return len(sold) == len(names)
