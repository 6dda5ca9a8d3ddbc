"""The figures of section 10 from plain rows; every one tells its n and its period, or is None.

n counts decisions: a signal on a thousand accounts is one opinion, not a thousand. Money is quote units,
rates are fractions.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from statistics import median

from trading.domain.percent import ONE, ZERO
from trading.domain.states import CloseReason

ENOUGH_DECISIONS = 30

HITS = (
    CloseReason.TAKE_PROFIT_1,
    CloseReason.TAKE_PROFIT_2,
    CloseReason.TAKE_PROFIT_3,
    CloseReason.STOP_LOSS,
    CloseReason.BREAK_EVEN,
    CloseReason.RATCHET,
    CloseReason.TRAILING,
    CloseReason.MANUAL,
)
"""The ends every report tells, those that never came with 0; others appear once they came."""


@dataclass(frozen=True, slots=True)
class ClosedPosition:
    """One closed position. `reasons` are the targets it reached and why its legs were closed.

    `profit` is before `fees` (positive when paid) and `funding` (positive when received).
    `profit_at_last_target` is what all of it would have made at the last target, None when the plan had none.
    `slippage_bps` is the entry against the decision's mark, positive when it cost; `signal_to_fill_ms` from
    the signal's arrival to the first fill, `decision_to_answer_ms` from decision to the exchange's answer.
    """

    decision: Hashable
    account: Hashable
    symbol: str
    is_long: bool
    source: str
    profit: Decimal
    fees: Decimal
    funding: Decimal
    opened_at: datetime
    closed_at: datetime
    reasons: tuple[CloseReason, ...] = ()
    profit_at_last_target: Decimal | None = None
    slippage_bps: Decimal | None = None
    signal_to_fill_ms: Decimal | None = None
    decision_to_answer_ms: Decimal | None = None
    unprotected_seconds: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        """Profit after fees and funding."""
        return self.profit - self.fees + self.funding


@dataclass(frozen=True, slots=True)
class Statistics:
    """The figures of one group; None where there is nothing to compute them from.

    `profit_drawdown` is the deepest fall of the summed net profit from its peak, in quote units, decision by
    decision in the order they ended. `hit_rates` are shares of positions, latencies medians, slippage a mean.
    """

    decisions: int
    positions: int
    accounts: int
    since: datetime | None
    until: datetime | None
    wins: int
    win_rate: Decimal | None
    average_win: Decimal | None
    average_loss: Decimal | None
    profit_factor: Decimal | None
    expectancy: Decimal | None
    realized: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal
    profit_drawdown: Decimal | None
    hit_rates: Mapping[CloseReason, Decimal]
    harvest_effectiveness: Decimal | None
    slippage_bps: Decimal | None
    signal_to_fill_ms: Decimal | None
    decision_to_answer_ms: Decimal | None
    unprotected_seconds: Decimal
    longest_unprotected_seconds: Decimal | None

    @property
    def is_small(self) -> bool:
        """Whether there are too few decisions to conclude anything; a report must say so."""
        return self.decisions < ENOUGH_DECISIONS


def statistics(positions: Sequence[ClosedPosition]) -> Statistics:
    """Return the figures of closed positions.

    A decision wins when its net over accounts is above 0 and loses below it; at 0 it is neither.
    """
    nets = decision_nets(positions)
    wins = [net for net in nets.values() if net > 0]
    losses = [net for net in nets.values() if net < 0]
    return Statistics(
        decisions=len(nets),
        positions=len(positions),
        accounts=len({position.account for position in positions}),
        since=min((position.opened_at for position in positions), default=None),
        until=max((position.closed_at for position in positions), default=None),
        wins=len(wins),
        win_rate=_share(len(wins), len(nets)),
        average_win=_mean(wins),
        average_loss=_mean(losses),
        profit_factor=profit_factor(nets.values()),
        expectancy=_mean(list(nets.values())),
        realized=sum((position.profit for position in positions), ZERO),
        fees=sum((position.fees for position in positions), ZERO),
        funding=sum((position.funding for position in positions), ZERO),
        net=sum(nets.values(), ZERO),
        profit_drawdown=profit_drawdown(positions),
        hit_rates=hit_rates(positions),
        harvest_effectiveness=harvest_effectiveness(positions),
        slippage_bps=_mean(_known(position.slippage_bps for position in positions)),
        signal_to_fill_ms=_median(_known(position.signal_to_fill_ms for position in positions)),
        decision_to_answer_ms=_median(_known(position.decision_to_answer_ms for position in positions)),
        unprotected_seconds=sum((position.unprotected_seconds for position in positions), ZERO),
        longest_unprotected_seconds=max((one.unprotected_seconds for one in positions), default=None),
    )


def decision_nets(positions: Iterable[ClosedPosition]) -> dict[Hashable, Decimal]:
    """Return the net profit of each decision over all its accounts."""
    nets: dict[Hashable, Decimal] = defaultdict(lambda: ZERO)
    for position in positions:
        nets[position.decision] += position.net
    return dict(nets)


def profit_factor(nets: Iterable[Decimal]) -> Decimal | None:
    """Return what was won for each unit lost; None while nothing was lost."""
    results = list(nets)
    lost = -sum((net for net in results if net < 0), ZERO)
    return sum((net for net in results if net > 0), ZERO) / lost if lost > 0 else None


def profit_drawdown(positions: Iterable[ClosedPosition]) -> Decimal | None:
    """Return the deepest fall of the summed net profit from its peak (0 at the start); None without any."""
    listed = list(positions)
    ended: dict[Hashable, datetime] = {}
    for position in listed:
        ended[position.decision] = max(ended.get(position.decision, position.closed_at), position.closed_at)
    nets = decision_nets(listed)
    total, peak, deepest = ZERO, ZERO, ZERO
    for decision in sorted(ended, key=lambda one: ended[one]):
        total += nets[decision]
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest if listed else None


def hit_rates(positions: Sequence[ClosedPosition]) -> dict[CloseReason, Decimal]:
    """Return the share of positions that met each reason at least once: all of `HITS`, others when met."""
    met: dict[CloseReason, int] = defaultdict(int)
    for position in positions:
        for reason in set(position.reasons):
            met[reason] += 1
    told = [reason for reason in CloseReason if reason in HITS or met[reason]] if positions else []
    return {reason: Decimal(met[reason]) / len(positions) for reason in told}


def harvest_effectiveness(positions: Iterable[ClosedPosition]) -> Decimal | None:
    """Return realised profit as a share of what all at the last target would have made."""
    planned = [position for position in positions if position.profit_at_last_target is not None]
    ideal = sum((position.profit_at_last_target or ZERO for position in planned), ZERO)
    return sum((position.profit for position in planned), ZERO) / ideal if ideal > 0 else None


def unit_values(points: Sequence[tuple[Decimal, Decimal]]) -> list[Decimal]:
    """Return the unitised value at each point of (equity, transferred in since the point before), from 1.

    A deposit is no profit and a withdrawal no loss.
    """
    values, before = [ONE] if points else [], points[0][0] if points else ZERO
    for equity, transferred in points[1:]:
        growth = (equity - transferred) / before if before > 0 else ONE
        values.append(values[-1] * growth)
        before = equity
    return values


def max_drawdown(values: Iterable[Decimal]) -> Decimal:
    """Return the largest fall from a peak, as a fraction of that peak."""
    peak, deepest = ZERO, ZERO
    for value in values:
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak if peak > 0 else ZERO)
    return deepest


def daily_returns(values: Sequence[tuple[date, Decimal]]) -> list[Decimal]:
    """Return what the unitised value made each day, oldest first, from (day, value) in order of time.

    The first day counts from the first value. A day without a value has no return of its own: what it made
    is in the next.
    """
    last_of = dict(values)
    before = values[0][1] if values else ONE
    returns = []
    for value in last_of.values():
        returns.append(value / before - ONE if before > 0 else ZERO)
        before = value
    return returns


@dataclass(frozen=True, slots=True)
class MoneyFlow:
    """The money of one asset over a period; `fees` positive when paid, the others positive when received."""

    start: Decimal
    realized: Decimal
    fees: Decimal
    funding: Decimal
    transfers: Decimal
    other: Decimal
    unrealized_change: Decimal
    end: Decimal

    @property
    def unexplained(self) -> Decimal:
        """What the flow does not explain of the end; 0 to the last unit when the books are right."""
        return self.end - (
            self.start
            + self.realized
            - self.fees
            + self.funding
            + self.transfers
            + self.other
            + self.unrealized_change
        )


def _known(values: Iterable[Decimal | None]) -> list[Decimal]:
    return [value for value in values if value is not None]


def _share(count: int, of: int) -> Decimal | None:
    return Decimal(count) / of if of else None


def _mean(values: Sequence[Decimal]) -> Decimal | None:
    return sum(values, ZERO) / len(values) if values else None


def _median(values: Sequence[Decimal]) -> Decimal | None:
    return median(values) if values else None
