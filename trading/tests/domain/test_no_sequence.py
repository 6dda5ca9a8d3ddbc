"""No sequence of signals, fills, moves and failures takes an account past a limit, or into a coin twice.

One account under the gate, as the desk asks it, and an exchange that knows nothing of the gate: it has its
own margin, filters and brackets, and what it would have refused is a fault of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trading.domain.exit_plan import Distances
from trading.domain.gate import (
    AccountState,
    Book,
    GateInput,
    MarketState,
    Proposal,
    SignalTerms,
    Stake,
    refusal_after_sizing,
    refusal_before_sizing,
)
from trading.domain.instrument import Instrument, round_stop
from trading.domain.limits import Limits, SizingModel
from trading.domain.percent import ONE, ZERO, price_at, profit
from trading.domain.sizing import Kelly, SizingInput, entry_cap, loss_at_stop, size
from trading.domain.states import DenyCode
from trading.tests.domain.samples import NOW, D, instrument

COINS = ("SOL", "ETH", "BTC", "XRP", "BNB", "ADA", "DOT")
FEE, DEPOSIT = D("0.0005"), D(1000)
WEATHER = frozenset({DenyCode.TREND_AGAINST, DenyCode.FUNDING, DenyCode.PRICE_AWAY, DenyCode.REWARD_RISK})


@dataclass(slots=True)
class Entry:
    """An entry on its way, or the position it became."""

    base: str
    is_long: bool
    quantity: D
    price: D
    stop: D
    margin: D
    notional: D
    is_unknown: bool = False

    @property
    def risk(self) -> D:
        return loss_at_stop(
            self.quantity,
            is_long=self.is_long,
            entry_price=self.price,
            stop_price=self.stop,
            taker_fee=FEE,
            slippage=Limits().stop_slippage,
        )

    def stake(self, mark: D) -> Stake:
        return Stake(f"{self.base}/USDT:USDT", self.base, self.is_long, self.quantity * mark, self.risk)


@dataclass(slots=True)
class Desk:
    """What our rows say, and what the exchange would say."""

    limits: Limits
    leverage: D
    wallet: D = DEPOSIT
    baseline: D = DEPOSIT
    trades: int = 0
    minutes: int = 0
    marks: dict[str, D] = field(default_factory=lambda: dict.fromkeys(COINS, D(100)))
    held: dict[str, Entry] = field(default_factory=dict)
    flying: dict[str, Entry] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    # ── what happens ──

    def signal(self, base: str, is_long: bool, distance: D, room: D) -> None:
        """One signal, judged, sized and sent."""
        asked, sizing_input, found = self._question(base, is_long, distance, room)
        refusal = refusal_before_sizing(asked)
        if refusal is None:
            sizing = size(sizing_input)
            proposal = Proposal(sizing_input.cap_price, sizing_input.stop_price, found, sizing, FEE)
            refusal = refusal_after_sizing(asked, proposal)
            if refusal is None:
                self._send(base, is_long, sizing_input, sizing)
                self.told.append(f"{base} {sizing.quantity}")
                return
        self.told.append(f"{base} {refusal.code}")

    def trade(self, base: str, is_long: bool, distance: D, room: D) -> None:
        """One signal whose entry, if any, fills whole."""
        self.signal(base, is_long, distance, room)
        self.fill(base, ONE)

    def fill(self, base: str, share: D) -> None:
        """The entry fills in part or whole; nothing of it stays on its way."""
        entry = self.flying.pop(base, None)
        if entry is None:
            return
        quantity = (entry.quantity * share).quantize(D("0.001"), "ROUND_FLOOR")
        if quantity > 0:
            assert base not in self.held
            margin = quantity * entry.price / self.leverage
            self.held[base] = replace(
                entry, quantity=quantity, margin=margin, notional=quantity * entry.price, is_unknown=False
            )
            self.wallet -= quantity * entry.price * FEE

    def fail(self, base: str) -> None:
        """The exchange refuses it, or it was never placed."""
        self.flying.pop(base, None)

    def lose(self, base: str) -> None:
        """Its answer is lost."""
        if base in self.flying:
            self.flying[base].is_unknown = True

    def move(self, base: str, change: D) -> None:
        """The mark moves; a stop on the way ends the position there."""
        self.marks[base] = max(D(1), (self.marks[base] * (ONE + change)).quantize(D("0.01")))
        self.minutes += 1
        entry = self.held.get(base)
        if entry is None:
            return
        way = 1 if entry.is_long else -1
        if (self.marks[base] - entry.stop) * way <= 0:
            made = profit(
                is_long=entry.is_long, quantity=entry.quantity, entry_price=entry.price, price=entry.stop
            )
            self.wallet += made - entry.quantity * entry.stop * (FEE + self.limits.stop_slippage)
            del self.held[base]

    # ── what is known ──

    @property
    def unrealized(self) -> D:
        return sum(
            (
                profit(
                    is_long=one.is_long,
                    quantity=one.quantity,
                    entry_price=one.price,
                    price=self.marks[one.base],
                )
                for one in self.held.values()
            ),
            ZERO,
        )

    @property
    def equity(self) -> D:
        return self.wallet + self.unrealized

    @property
    def exchange_available(self) -> D:
        """What the exchange lets a new order use: it counts open losses, and knows no reserve of ours."""
        used = sum((one.margin for one in self.held.values()), ZERO)
        resting = sum((one.notional / self.leverage for one in self.flying.values()), ZERO)
        return self.wallet + min(ZERO, self.unrealized) - used - resting

    def _available(self) -> D:
        """The exchange's figure less what our orders in flight claim, with their buffer."""
        used = sum((one.margin for one in self.held.values()), ZERO)
        claimed = sum((one.margin for one in self.flying.values()), ZERO)
        return self.wallet + min(ZERO, self.unrealized) - used - claimed

    def _question(
        self, base: str, is_long: bool, distance: D, room: D
    ) -> tuple[GateInput, SizingInput, Distances]:
        market, mark = _market(base), self.marks[base]
        found = Distances(
            distance, (distance * 2, distance * 3, distance * 4), (D("0.3"), D("0.3"), D("0.4"))
        )
        cap = entry_cap(
            mark_price=mark, stop_distance=distance, is_long=is_long, tick=market.tick, limits=self.limits
        )
        stop = round_stop(
            price_at(is_long=is_long, entry_price=cap, move=-distance), market.tick, is_long=is_long
        )
        stakes = [*self.held.values(), *self.flying.values()]
        account = AccountState(
            wallet=self.wallet,
            unrealized=self.unrealized,
            available=self._available(),
            day_profit=self.equity - self.baseline,
            day_baseline=self.baseline,
            leverage=self.leverage,
            asked_leverage=self.leverage,
            trades_today=self.trades,
            picture_age_seconds=1.0,
        )
        asked = GateInput(
            now=NOW + timedelta(minutes=self.minutes),
            limits=self.limits,
            is_long=is_long,
            instrument=market,
            signal=SignalTerms(stop_price=stop, take_profit_price=cap * 2),
            account=account,
            market=_weather(mark),
            book=Book(
                held=tuple(one.stake(self.marks[one.base]) for one in self.held.values()),
                in_flight=tuple(one.stake(one.price) for one in self.flying.values()),
                unknown_bases=frozenset(one.base for one in self.flying.values() if one.is_unknown),
                pending_bases=frozenset(one.base for one in self.flying.values() if not one.is_unknown),
                open_bases=frozenset(self.held),
                correlations={f"{one}/USDT:USDT": D("0.5") for one in COINS},
            ),
            gate_off=WEATHER,
        )
        wanted = SizingInput(
            instrument=market,
            limits=self.limits,
            is_long=is_long,
            mark_price=mark,
            cap_price=cap,
            stop_price=stop,
            taker_fee=FEE,
            leverage=self.leverage,
            wallet=self.wallet,
            unrealized=self.unrealized,
            available=self._available(),
            gross_notional=sum((one.quantity * self._weighed_at(one) for one in stakes), ZERO),
            symbol_notional=sum(
                (one.quantity * self._weighed_at(one) for one in stakes if one.base == base), ZERO
            ),
            desk_notional=room,
            kelly=Kelly(closed=40, win_rate=D("0.55"), payoff=D("1.4")),
        )
        return asked, wanted, found

    def _weighed_at(self, one: Entry) -> D:
        return one.price if one.base in self.flying else self.marks[one.base]

    def _send(self, base: str, is_long: bool, wanted: SizingInput, sizing: Any) -> None:
        """What the exchange would refuse must never be asked of it; what limits forbid must never be sent."""
        market, quantity, price = wanted.instrument, sizing.quantity, wanted.cap_price
        worst = min(price, wanted.mark_price)
        bracket = market.bracket_at(quantity * price)
        assert base not in self.held, "two positions of one coin"
        assert base not in self.flying, "two entries of one coin"
        assert quantity % market.step == 0, "-1111"
        assert price % market.tick == 0, "-1111"
        assert quantity <= min(market.max_quantity, market.max_market_quantity), "-4005"
        assert quantity * worst >= market.min_notional, "-4164"
        assert quantity * price / self.leverage <= self.exchange_available, "-2019"
        assert bracket is not None
        assert bracket.max_leverage >= self.leverage, "-2027"
        self.flying[base] = Entry(
            base, is_long, quantity, price, wanted.stop_price, sizing.margin_required, quantity * price
        )
        self.trades += 1
        self._assert_limits(self.flying[base])

    def _assert_limits(self, newest: Entry) -> None:
        """Every limit of an entry, counted here once more and not by the gate's own words."""
        every, limits, worth = [*self.held.values(), *self.flying.values()], self.limits, self.equity
        notional = sum((one.quantity * self._weighed_at(one) for one in every), ZERO)
        longs = sum((one.risk for one in every if one.is_long), ZERO)
        shorts = sum((one.risk for one in every if not one.is_long), ZERO)
        assert len(every) <= limits.max_positions
        assert self.trades <= limits.daily_trades
        assert longs + shorts <= limits.risk_budget * worth
        assert max(longs, shorts) <= limits.same_direction * limits.risk_budget * worth
        assert notional <= limits.gross_notional * worth
        assert newest.notional <= limits.symbol_notional * worth
        assert self._available() >= limits.margin_reserve * worth
        assert self.equity - self.baseline - longs - shorts > -limits.daily_loss * self.baseline


def _market(base: str) -> Instrument:
    return instrument(symbol=f"{base}/USDT:USDT", base=base, max_market_quantity=D(25), step=D("0.001"))


def _weather(mark: D) -> MarketState:
    return MarketState(
        mark_price=mark,
        mark_age_seconds=1.0,
        spread=D("0.0002"),
        range_24h=D("0.03"),
        ema200=mark,
        funding_rate=ZERO,
        next_funding_at=NOW + timedelta(days=1),
        quote_volume_24h=D(10**9),
        depth_notional=D(10**7),
    )


coins = st.sampled_from(COINS)
advice = (
    coins,
    st.sampled_from([True, True, True, False]),
    st.sampled_from([D("0.003"), D("0.012"), D("0.02"), D("0.04")]),
    st.sampled_from([D(10**6), D(10**6), D(10**6), D(500), D("5.05")]),
)
trades = st.tuples(st.just("trade"), *advice)
events = st.one_of(
    trades,
    trades,
    trades,
    st.tuples(st.just("signal"), *advice),
    st.tuples(st.just("fill"), coins, st.sampled_from([D(0), D("0.1"), D("0.5"), D(1)])),
    st.tuples(st.just("fail"), coins),
    st.tuples(st.just("lose"), coins),
    st.tuples(st.just("move"), coins, st.decimals("-0.06", "0.06", places=4)),
)
rules = st.builds(
    Limits,
    sizing_model=st.sampled_from(SizingModel),
    risk_per_trade=st.sampled_from([D("0.0025"), D("0.01"), D("0.016")]),
    fixed_notional=st.sampled_from([D(5), D(400), D(5000)]),
    fixed_margin=st.sampled_from([D("0.02"), D("0.5")]),
    equity_share=st.sampled_from([D("0.1"), D(3)]),
    max_positions=st.sampled_from([2, 7, 7]),
    daily_trades=st.sampled_from([3, 40, 40]),
    symbol_notional=st.sampled_from([D("0.2"), D(1), D(2)]),
)
leverages = st.sampled_from([D(1), D(3), D(3), D(10), D(50)])


def played(limits: Limits, leverage: D, sequence: Sequence[tuple[Any, ...]]) -> Desk:
    desk = Desk(limits, leverage)
    for name, *told in sequence:
        getattr(desk, name)(*told)
        assert not set(desk.held) & set(desk.flying)
    return desk


@settings(max_examples=150, deadline=None)
@given(limits=rules, leverage=leverages, sequence=st.lists(events, min_size=20, max_size=60))
def test_no_sequence_of_signals_fills_moves_and_failures_passes_a_limit_or_enters_a_coin_twice(
    limits: Limits, leverage: D, sequence: Sequence[tuple[Any, ...]]
) -> None:
    first = played(limits, leverage, sequence)
    assert played(limits, leverage, sequence).told == first.told  # equal inputs, equal decisions
