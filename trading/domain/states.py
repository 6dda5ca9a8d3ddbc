"""Every state and code of the desk, and the one table of legal steps of an order.

Promises:
1. An order's status moves only along `STEPS`; writers compare-and-set from `predecessors(status)`.
2. A terminal order is left only by a row of `LATE_FILLS`: the exchange filled what we believed ended.
3. What *we* refuse is a `DenyCode`; what the exchange refuses is its own code on a REJECTED order.
"""

from collections.abc import Mapping
from enum import StrEnum


class OrderStatus(StrEnum):
    """Where one order is between our row and the exchange's book."""

    PENDING = "PENDING"
    CLAIMED = "CLAIMED"
    SUBMITTED = "SUBMITTED"
    UNKNOWN = "UNKNOWN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"


class OrderPurpose(StrEnum):
    """Why an order exists; part of its client order id."""

    ENTRY = "ENTRY"
    EXIT = "EXIT"
    HARD_STOP = "HARD_STOP"
    WORKING_STOP = "WORKING_STOP"


class AllocationOutcome(StrEnum):
    """What became of one account's share of a decision."""

    PENDING = "PENDING"
    FILLED = "FILLED"
    PARTIAL = "PARTIAL"
    DENIED = "DENIED"
    REJECTED = "REJECTED"
    SKIPPED = "SKIPPED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


class DecisionStatus(StrEnum):
    """OPEN while an allocation is undecided; NONE when nothing was chosen."""

    OPEN = "OPEN"
    COMPLETE = "COMPLETE"
    NONE = "NONE"


class Protection(StrEnum):
    """How sure we are of the stop at the exchange; only VERIFIED was seen there."""

    UNPROTECTED = "UNPROTECTED"
    ACKED = "ACKED"
    VERIFIED = "VERIFIED"


class PositionStatus(StrEnum):
    """Whether a position still holds a quantity."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


class CloseReason(StrEnum):
    """Why a leg or a position was closed."""

    STOP_LOSS = "STOP_LOSS"
    TAKE_PROFIT_1 = "TAKE_PROFIT_1"
    TAKE_PROFIT_2 = "TAKE_PROFIT_2"
    TAKE_PROFIT_3 = "TAKE_PROFIT_3"
    BREAK_EVEN = "BREAK_EVEN"
    RATCHET = "RATCHET"
    TRAILING = "TRAILING"
    TIME_LIMIT = "TIME_LIMIT"
    LOSS_GUARD = "LOSS_GUARD"
    EXCESS = "EXCESS"
    SIGNAL = "SIGNAL"
    MANUAL = "MANUAL"
    FLATTEN = "FLATTEN"
    UNPROTECTED = "UNPROTECTED"
    STOP_FAILED = "STOP_FAILED"
    LIQUIDATED = "LIQUIDATED"
    ADL = "ADL"
    SETTLED = "SETTLED"
    FOREIGN = "FOREIGN"


class HaltLevel(StrEnum):
    """How hard trading is stopped; each level includes the one before."""

    HALT_ENTRIES = "HALT_ENTRIES"
    CANCEL_ORDERS = "CANCEL_ORDERS"
    FLATTEN = "FLATTEN"


class DenyCode(StrEnum):
    """Why we refused an allocation, in the order the gate asks."""

    HALTED = "HALTED"
    ACCOUNT_UNHEALTHY = "ACCOUNT_UNHEALTHY"
    STALE_DATA = "STALE_DATA"
    SIGNAL_EXPIRED = "SIGNAL_EXPIRED"
    DUPLICATE = "DUPLICATE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    ORDER_PENDING = "ORDER_PENDING"
    POSITION_OPEN = "POSITION_OPEN"
    SYMBOL_CLOSED = "SYMBOL_CLOSED"
    MAX_POSITIONS = "MAX_POSITIONS"
    DAILY_TRADES = "DAILY_TRADES"
    DAILY_LOSS = "DAILY_LOSS"
    RISK_BUDGET = "RISK_BUDGET"
    SAME_DIRECTION = "SAME_DIRECTION"
    CORRELATED = "CORRELATED"
    VOLATILITY = "VOLATILITY"
    TREND_AGAINST = "TREND_AGAINST"
    FUNDING = "FUNDING"
    SPREAD = "SPREAD"
    PRICE_AWAY = "PRICE_AWAY"
    REWARD_RISK = "REWARD_RISK"
    STOP_INVALID = "STOP_INVALID"
    SETTINGS = "SETTINGS"
    LEVERAGE_BRACKET = "LEVERAGE_BRACKET"
    MIN_NOTIONAL = "MIN_NOTIONAL"
    MIN_QUANTITY = "MIN_QUANTITY"
    MAX_ORDER = "MAX_ORDER"
    MARGIN = "MARGIN"
    # Not asked per account: the rest of one decision, once enough accounts met the same refusal.
    VENUE_CIRCUIT = "VENUE_CIRCUIT"


class SkipCode(StrEnum):
    """The rule by which an account was not offered its share, or an order of ours was not sent."""

    NO_MARKET = "NO_MARKET"
    NO_EXECUTOR = "NO_EXECUTOR"
    CANARY_REFUSED = "CANARY_REFUSED"
    NO_CANARY = "NO_CANARY"
    HOUSE_ACCOUNT_UNSET = "HOUSE_ACCOUNT_UNSET"
    ROUTE = "ROUTE"
    HALTED = "HALTED"
    PAUSED = "PAUSED"
    OUTLIVED = "OUTLIVED"


class ExpireCode(StrEnum):
    """Why a share ended without a fill and without a refusal."""

    DEADLINE = "DEADLINE"
    NO_FILL = "NO_FILL"
    NOT_PLACED = "NOT_PLACED"


_S = OrderStatus

_FACTS = frozenset({_S.ACKNOWLEDGED, _S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELLED, _S.EXPIRED, _S.REJECTED})

LATE_FILLS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    # A cancel lost the race against the last fill; only the fill moved money.
    _S.CANCELLED: frozenset({_S.FILLED}),
    # The fill report came after the end of an immediate-or-cancel order, or an order that three looks in
    # both stores called absent was placed after all. Refusing the step would leave a position unprotected.
    _S.EXPIRED: frozenset({_S.PARTIALLY_FILLED, _S.FILLED}),
}

STEPS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    _S.PENDING: frozenset({_S.CLAIMED, _S.CANCELLED, _S.EXPIRED}),
    # Back to PENDING when the lease ran out: CLAIMED is before any byte left, so nothing can be out there.
    _S.CLAIMED: frozenset({_S.SUBMITTED, _S.PENDING, _S.CANCELLED, _S.EXPIRED}),
    # Back to PENDING only after a definite "try again" (throttled, clock, rate limit): the same id is reused.
    _S.SUBMITTED: _FACTS | {_S.UNKNOWN, _S.PENDING},
    _S.UNKNOWN: _FACTS,
    # A conditional order is acknowledged, then triggered and refused by the matching engine.
    _S.ACKNOWLEDGED: frozenset({_S.PARTIALLY_FILLED, _S.FILLED, _S.CANCELLED, _S.EXPIRED, _S.REJECTED}),
    _S.PARTIALLY_FILLED: frozenset({_S.FILLED, _S.CANCELLED, _S.EXPIRED}),
    _S.FILLED: frozenset(),
    _S.CANCELLED: LATE_FILLS[_S.CANCELLED],
    _S.EXPIRED: LATE_FILLS[_S.EXPIRED],
    _S.REJECTED: frozenset(),
}

TERMINAL = frozenset({_S.FILLED, _S.CANCELLED, _S.EXPIRED, _S.REJECTED})
"""An order in one of these is finished for us; nobody works on it again."""

OPEN = frozenset(OrderStatus) - TERMINAL
"""An order in one of these still needs someone, so the sweeper looks at it."""

AT_EXCHANGE = frozenset({_S.SUBMITTED, _S.UNKNOWN, _S.ACKNOWLEDGED, _S.PARTIALLY_FILLED})
"""The exchange may hold the order, so its exposure is reserved and its account and base are closed."""

UNDECIDED = frozenset({AllocationOutcome.PENDING, AllocationOutcome.UNKNOWN})
"""Outcomes that keep a decision open."""


def successors(status: OrderStatus) -> frozenset[OrderStatus]:
    """The states an order may move to from `status`."""
    return STEPS[status]


def predecessors(status: OrderStatus) -> frozenset[OrderStatus]:
    """The states from which an order may move to `status`; what a compare-and-set filters on."""
    return frozenset(before for before, after in STEPS.items() if status in after)
