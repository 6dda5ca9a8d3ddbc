"""Warnings: what an operator must hear of before a limit is reached. One per cause, until it is gone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Min

from accounts.models import Account
from accounts.services.limits import desk_limits
from alerts.models import Alert, Severity
from alerts.services import clear_alert, raise_alert
from trading.domain.limits import Limits
from trading.domain.percent import price_move
from trading.domain.states import PositionStatus
from trading.models import Position
from trading.services.exposure import Exposure

NEAR_STOP, DECISION_LOSING, DAY_LOSS, MARGIN_LOW = "STOP_NEAR", "DECISION_LOSING", "DAY_LOSS", "MARGIN_LOW"
NO_STOP = "NO_VERIFIED_STOP"


def warn(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    exposures: Mapping[int, Exposure],
    marks: Mapping[str, Decimal],
    now: datetime,
) -> None:
    """Raise and clear the warnings of positions, decisions and accounts as they stand at these marks."""
    desk = desk_limits()
    standing = _decision_warnings(marks, desk) | _account_warnings(accounts, limits, exposures, desk)
    standing |= _unprotected(desk, now)
    told = _told()
    for cause in standing.keys() - told:
        code, message = standing[cause]
        raise_alert(cause, Severity.WARNING, code, message, now=now)
    for cause in told - standing.keys():
        clear_alert(cause, now=now)


def _decision_warnings(marks: Mapping[str, Decimal], limits: Limits) -> dict[str, tuple[str, str]]:
    by_decision: dict[int, list[Position]] = defaultdict(list)
    held = Position.objects.filter(status=PositionStatus.OPEN, allocation__isnull=False)
    for position in held.select_related("allocation"):
        if position.symbol in marks and position.allocation is not None:
            by_decision[position.allocation.decision_id].append(position)
    found: dict[str, tuple[str, str]] = {}
    for decision, positions in by_decision.items():
        near = [one for one in positions if is_near_stop(one, marks[one.symbol], limits.stop_approach)]
        symbol = positions[0].symbol
        if near:
            found[f"stop-near:{decision}"] = (
                NEAR_STOP,
                f"{symbol}: {len(near)} of {len(positions)} positions of one decision are near their stop.",
            )
        if len(positions) > 1 and all(_move(one, marks[one.symbol]) < 0 for one in positions):
            found[f"decision-losing:{decision}"] = (
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
    gone = position.entry_price - mark_price if position.is_long else mark_price - position.entry_price
    is_stop_behind = (position.stop_price < position.entry_price) == position.is_long
    return is_stop_behind and way > 0 and gone >= share * way


def _move(position: Position, mark_price: Decimal) -> Decimal:
    return price_move(is_long=position.is_long, entry_price=position.entry_price, price=mark_price)


def _account_warnings(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    exposures: Mapping[int, Exposure],
    desk: Limits,
) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for account in accounts:
        exposure = exposures.get(account.pk)
        if exposure is None:
            continue
        # As the halt measures it: who trades spot alone has no futures money at midnight.
        if exposure.day_profit is not None and exposure.day_baseline:
            share = exposure.day_profit / exposure.day_baseline
            if share <= -desk.day_warning:
                found[f"day-loss:{account.pk}"] = (
                    DAY_LOSS,
                    f"{account.name}: the day stands at {share:.2%} of equity.",
                )
        if _is_margin_low(account, limits[account.pk].margin_reserve):
            found[f"margin-low:{account.pk}"] = (
                MARGIN_LOW,
                f"{account.name}: {account.available_balance:f} available is less than the reserve.",
            )
    return found


def _is_margin_low(account: Account, reserve: Decimal) -> bool:
    if account.available_balance is None or account.wallet_balance is None:
        return False
    equity = account.wallet_balance + (account.unrealized_profit or Decimal(0))
    return account.available_balance < reserve * equity


def _told() -> set[str]:
    ours = Alert.objects.filter(
        code__in=[NEAR_STOP, DECISION_LOSING, DAY_LOSS, MARGIN_LOW, NO_STOP], cleared_at__isnull=True
    )
    return set(ours.values_list("cause", flat=True))
