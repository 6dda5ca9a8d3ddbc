"""Warnings: what an operator must hear of before a limit is reached. One per cause, until it is gone."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Min

from accounts.models import Account
from accounts.services.limits import desk_limits
from alerts.models import Alert, Severity
from alerts.services import clear_alert, raise_alert
from trading.domain.limits import Limits
from trading.domain.percent import ONE, ZERO, sign
from trading.domain.states import PositionStatus
from trading.models import Position
from trading.services.exposure import Exposure

NEAR_STOP, DECISION_LOSING, DAY_LOSS, MARGIN_LOW = "STOP_NEAR", "DECISION_LOSING", "DAY_LOSS", "MARGIN_LOW"
NO_STOP = "NO_VERIFIED_STOP"

SLACK = Decimal("0.1")
"""The part of its limit that a warning's figure must be better by to be taken back.

At the limit itself it would be told and taken back with every mark, and be heard by nobody.
"""


def warn(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    exposures: Mapping[int, Exposure],
    marks: Mapping[str, Decimal],
    now: datetime,
) -> None:
    """Raise and clear the warnings of positions, decisions and accounts as they stand at these marks."""
    desk, told = desk_limits(), _told()
    standing = _decision_warnings(marks, desk, told)
    standing |= _account_warnings(accounts, limits, exposures, desk, told)
    standing |= _unprotected(desk, now)
    for cause in standing.keys() - told:
        code, message = standing[cause]
        raise_alert(cause, Severity.WARNING, code, message, now=now)
    for cause in told - standing.keys():
        clear_alert(cause, now=now)


def _slack(cause: str, told: Collection[str]) -> Decimal:
    return SLACK if cause in told else ZERO


def _decision_warnings(
    marks: Mapping[str, Decimal], limits: Limits, told: Collection[str]
) -> dict[str, tuple[str, str]]:
    by_decision: dict[int, list[Position]] = defaultdict(list)
    held = Position.objects.filter(status=PositionStatus.OPEN, allocation__isnull=False)
    for position in held.select_related("allocation"):
        if position.symbol in marks and position.allocation is not None:
            by_decision[position.allocation.decision_id].append(position)
    found: dict[str, tuple[str, str]] = {}
    for decision, positions in by_decision.items():
        near_cause, losing_cause = f"stop-near:{decision}", f"decision-losing:{decision}"
        approach = limits.stop_approach * (ONE - _slack(near_cause, told))
        near = [one for one in positions if is_near_stop(one, marks[one.symbol], approach)]
        losing = [one for one in positions if _is_losing(one, marks[one.symbol], _slack(losing_cause, told))]
        symbol = positions[0].symbol
        if near:
            found[near_cause] = (
                NEAR_STOP,
                f"{symbol}: {len(near)} of {len(positions)} positions of one decision are near their stop.",
            )
        if len(positions) > 1 and len(losing) == len(positions):
            found[losing_cause] = (
                DECISION_LOSING,
                f"{symbol}: the decision is losing on all of its {len(positions)} accounts.",
            )
    return found


def _unprotected(limits: Limits, now: datetime) -> dict[str, tuple[str, str]]:
    """Positions without a verified stop for too long, by symbol, whoever was to protect them."""
    since = now - timedelta(seconds=limits.unprotected_seconds)
    late = Position.objects.filter(status=PositionStatus.OPEN, is_foreign=False, unprotected_since__lte=since)
    rows = late.order_by().values_list("symbol").annotate(n=Count("pk"), first=Min("unprotected_since"))
    return {
        f"no-stop:{symbol}": (
            NO_STOP,
            f"{symbol}: {n} without a verified stop, the longest for {(now - first).total_seconds():.0f} s.",
        )
        for symbol, n, first in rows
    }


def is_near_stop(position: Position, mark_price: Decimal, share: Decimal) -> bool:
    """Whether the loss from entry is at least `share` of the way from entry to the stop."""
    if position.stop_price is None:
        return False
    way = abs(position.entry_price - position.stop_price)
    is_stop_behind = (position.stop_price < position.entry_price) == position.is_long
    return is_stop_behind and way > 0 and _lost(position, mark_price) >= share * way


def _is_losing(position: Position, mark_price: Decimal, slack: Decimal) -> bool:
    """Whether it is not ahead of its entry by `slack` of the way from there to its stop."""
    way = ZERO if position.stop_price is None else abs(position.entry_price - position.stop_price)
    return _lost(position, mark_price) > -slack * way


def _lost(position: Position, mark_price: Decimal) -> Decimal:
    """What one unit has lost since its entry, in quote units; negative where it has gained."""
    return (position.entry_price - mark_price) * sign(is_long=position.is_long)


def _account_warnings(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    exposures: Mapping[int, Exposure],
    desk: Limits,
    told: Collection[str],
) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for account in accounts:
        exposure = exposures.get(account.pk)
        if exposure is None:
            continue
        # As the halt measures it: who trades spot alone has no futures money at midnight.
        if exposure.day_profit is not None and exposure.day_baseline:
            share, cause = exposure.day_profit / exposure.day_baseline, f"day-loss:{account.pk}"
            if share <= -desk.day_warning * (ONE - _slack(cause, told)):
                found[cause] = (
                    DAY_LOSS,
                    f"{account.name}: the day stands at {share:.2%} of equity.",
                )
        cause = f"margin-low:{account.pk}"
        if _is_margin_low(account, limits[account.pk].margin_reserve * (ONE + _slack(cause, told))):
            found[cause] = (
                MARGIN_LOW,
                f"{account.name}: {account.available_balance:f} available is less than the reserve.",
            )
    return found


def _is_margin_low(account: Account, reserve: Decimal) -> bool:
    if account.available_balance is None or account.wallet_balance is None:
        return False
    equity = account.wallet_balance + (account.unrealized_profit or ZERO)
    return account.available_balance < reserve * equity


def _told() -> set[str]:
    ours = Alert.objects.filter(
        code__in=[NEAR_STOP, DECISION_LOSING, DAY_LOSS, MARGIN_LOW, NO_STOP], cleared_at__isnull=True
    )
    return set(ours.values_list("cause", flat=True))
