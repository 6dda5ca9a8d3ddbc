"""Stop everything: halt entries, cancel orders, flatten, prove flat, resume. Each level includes the last.

1. A halt is a row before anything else happens; every sender reads it right before it sends.
2. A protective stop of an open position is never cancelled here: stops go when flat is proven.
3. Flat is what the exchange says on a fresh reading, not what our rows hope.
4. Foreign positions are named, never closed, unless the operator says so.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q, QuerySet

from accounts.models import Account
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.port import Market, PositionReport
from trading.domain.autohalt import HaltCode
from trading.domain.states import AT_EXCHANGE, OPEN, CloseReason, HaltLevel, OrderPurpose, PositionStatus
from trading.models import Halt, Order, Position
from trading.models.operations import HaltScope
from trading.services import halts, pictures
from trading.services.bells import Bells
from trading.services.halts import LEVELS, Reach
from trading.services.quick_exits import close_in_sets
from trading.services.spot_only import spot_only

Ring = Callable[[Bells], object]

log = structlog.get_logger(__name__)


def raise_halt(
    scope: str,
    level: str,
    reason: str,
    by: str,
    now: datetime,
    *,
    is_automatic: bool = False,
    code: str = "",
    includes_foreign: bool = False,
    ring: Ring | None = None,
) -> tuple[Halt, Bells]:
    """Halt a scope at a level and start what the level asks; the same standing halt is raised once.

    `scope` is as `halts.read_reach` reads it, `ring` as in `carry_out`. Raises `ScopeUnknown`.
    """
    reach = halts.read_reach(scope)
    standing = _standing_like(reach, HaltLevel(level), code)
    if standing is not None and includes_foreign:
        _include_foreign(standing)
    halt = standing or Halt.objects.create(
        scope=reach.scope,
        target=reach.target,
        level=level,
        code=code,
        reason=reason[:300],
        raised_by=by,
        is_automatic=is_automatic,
        raised_at=now,
        result={"symbols": list(reach.symbols), "includes_foreign": includes_foreign, "accounts": {}},
    )
    log.warning("halt_raised", scope=str(halt), level=level, by=by, code=code)
    raise_alert(f"halt:{halt.pk}", Severity.CRITICAL, "HALT", f"{halt}: {reason}"[:500], now=now)
    return halt, carry_out(halt, now, ring)


def carry_out(halt: Halt, now: datetime, ring: Ring | None = None) -> Bells:
    """Do what the halt's level asks, as far as it can go now; safe to repeat.

    `ring` is called with the bells of each set of positions once it is committed: of a thousand the first
    exits leave while the last are written. What it was not called with is returned.
    """
    bells = Bells()
    if LEVELS.index(HaltLevel(halt.level)) >= LEVELS.index(HaltLevel.CANCEL_ORDERS):
        bells.cancel.extend(_cancellable(halt).values_list("pk", flat=True))
    if halt.level == HaltLevel.FLATTEN:
        # Only rows are written here: a web process that holds no keys must be able to flatten.
        held = list(open_positions(halt).order_by("pk").values_list("pk", flat=True))
        for closes in close_in_sets(held, CloseReason.FLATTEN, now):
            (ring or bells.add)(closes)
    return bells


def continue_flattening(now: datetime) -> Bells:
    """Drive every standing flatten to proof: close what is open, read again, record what is left and why."""
    bells = Bells()
    flattening = Halt.objects.filter(resumed_at__isnull=True, level=HaltLevel.FLATTEN)
    for halt in flattening:
        # What fills after the proof, an order found late, is closed like the rest.
        if not halt.result.get("flat_at") or open_positions(halt).exists():
            bells.add(carry_out(halt, now))
            prove_flat(halt, now)
    return bells


def prove_flat(halt: Halt, now: datetime) -> bool:
    """Read the exchange again and write each account's residuals and seconds to flat; True when all are.

    One that this proof showed flat is not read again while nothing of ours is open there. Judged by the
    newest row: what the operator asked for while the exchange was read counts.
    """
    accounts = [account for account in accounts_in(halt) if not _is_proven(halt, account)]
    without_futures = spot_only(accounts)
    read = pictures.positions_of(account for account in accounts if account.pk not in without_futures)
    read |= dict.fromkeys(without_futures, ())
    with transaction.atomic():
        newest = Halt.objects.select_for_update().get(pk=halt.pk)
        halt.result = newest.result
        outcome: dict[str, Any] = dict(halt.result.get("accounts", {}))
        for account in accounts:
            outcome[account.name] = _account_result(halt, account, read.get(account.pk), outcome)
        is_flat = all(result["is_flat"] for result in outcome.values())
        _write_proof(halt, outcome, now if is_flat else None)
    return is_flat


def _is_proven(halt: Halt, account: Account) -> bool:
    """Whether the proof that is under way showed the account flat, and its rows have nothing open since."""
    shown = halt.result.get("accounts", {}).get(account.name, {})
    if halt.result.get("flat_at") or not shown.get("is_flat"):
        return False
    held = Position.objects.filter(reached_by(halt), account=account, status=PositionStatus.OPEN)
    return not held.exists() and not _unresolved(halt, account)


def _write_proof(halt: Halt, outcome: dict[str, Any], flat_at: datetime | None) -> None:
    halt.result["accounts"] = outcome
    halt.result.pop("flat_at", None)
    if flat_at is not None:
        halt.result["flat_at"] = flat_at.isoformat()
        halt.result["seconds_to_flat"] = max(
            (one["seconds_to_flat"] for one in outcome.values()), default=0.0
        )
    halt.save(update_fields=["result"])


def resume(scope: str, reason: str, by: str, now: datetime) -> int:
    """Lift the standing halts of exactly this scope; returns how many. Raises `ScopeUnknown`.

    A halt goes by its own name, be it nobody's any more: a group removed, a coin no longer listed.
    """
    kind, _, target = scope.strip().partition(":")
    standing = Halt.objects.filter(resumed_at__isnull=True)
    named = standing.filter(scope=kind, target=target)
    if not named.exists():
        reach = halts.read_reach(scope)
        named = standing.filter(scope=reach.scope, target=reach.target)
    return lift(named, reason, by, now)


def lift(standing: QuerySet[Halt], reason: str, by: str, now: datetime) -> int:
    """End these halts and their alerts; returns how many."""
    lifted = list(standing)
    for halt in lifted:
        halt.resumed_at, halt.resumed_by, halt.resume_reason = now, by, reason[:300]
        halt.save(update_fields=["resumed_at", "resumed_by", "resume_reason"])
        clear_alert(f"halt:{halt.pk}", now=now)
        log.warning("halt_resumed", scope=str(halt), by=by)
    # An account let go on after its fall starts from here: the same fall would halt it at the next look.
    fallen = [one.target for one in lifted if (one.scope, one.code) == (HaltScope.ACCOUNT, HaltCode.DRAWDOWN)]
    Account.objects.filter(name__in=fallen).update(peak_equity=None, peak_at=None)
    return len(lifted)


def accounts_in(halt: Halt) -> list[Account]:
    """The accounts of this desk's mode that a halt reaches, archived ones left out."""
    accounts = Account.objects.filter(archived_at__isnull=True, mode=settings.MODE).select_related("group")
    if halt.scope == HaltScope.GROUP:
        return list(accounts.filter(group__name=halt.target))
    if halt.scope == HaltScope.ACCOUNT:
        return list(accounts.filter(name=halt.target))
    if halt.scope == HaltScope.VENUE:
        return list(accounts.filter(exchange=halt.target))
    return list(accounts)


def open_positions(halt: Halt) -> QuerySet[Position]:
    """The open positions a flatten closes; foreign ones only when the operator included them."""
    held = Position.objects.filter(status=PositionStatus.OPEN).filter(reached_by(halt))
    return held if halt.result.get("includes_foreign") else held.filter(is_foreign=False)


def _standing_like(reach: Reach, level: HaltLevel, code: str) -> Halt | None:
    return Halt.objects.filter(
        scope=reach.scope, target=reach.target, level=level, code=code, resumed_at__isnull=True
    ).first()


def _include_foreign(halt: Halt) -> None:
    """The operator has seen the foreign positions named and wants them gone too."""
    with transaction.atomic():
        halt.result = Halt.objects.select_for_update().get(pk=halt.pk).result
        halt.result["includes_foreign"] = True
        halt.result.pop("flat_at", None)
        halt.save(update_fields=["result"])


def _cancellable(halt: Halt) -> QuerySet[Order]:
    """Entries still unsent or resting. Stops are not in it: they are what keeps a position safe meanwhile."""
    return Order.objects.filter(purpose=OrderPurpose.ENTRY, status__in=OPEN).filter(reached_by(halt))


def reached_by(halt: Halt) -> Q:
    """The rows of orders and positions that a halt's scope covers."""
    if halt.scope == HaltScope.GROUP:
        return Q(account__group__name=halt.target)
    if halt.scope == HaltScope.ACCOUNT:
        return Q(account__name=halt.target)
    if halt.scope == HaltScope.VENUE:
        return Q(account__exchange=halt.target)
    if halt.scope == HaltScope.SYMBOL:
        return Q(symbol__in=halt.result.get("symbols", [halt.target]))
    return Q()


def _account_result(
    halt: Halt,
    account: Account,
    read: Iterable[PositionReport] | None,
    before: dict[str, Any],
) -> dict[str, Any]:
    """What one account still holds by the exchange's word. Unread is not flat."""
    if read is None:
        return {"is_flat": False, "residuals": [{"reason": "UNREACHABLE"}]}
    foreign = _foreign_sides(account)
    covered = halt.result.get("symbols") or None
    residuals, named = [], []
    for report in read:
        if covered and report.symbol not in covered:
            continue
        entry = {"symbol": report.symbol, "is_long": report.is_long, "quantity": str(report.quantity)}
        if (report.symbol, report.is_long) in foreign and not halt.result.get("includes_foreign"):
            named.append(entry)
        else:
            residuals.append({**entry, "reason": _residual_reason(account, report)})
    residuals += _spot_residuals(halt, account) + _unresolved(halt, account)
    known = before.get(account.name, {})
    result: dict[str, Any] = {"is_flat": not residuals, "residuals": residuals, "foreign": named}
    if not residuals:
        result["seconds_to_flat"] = known.get("seconds_to_flat", _seconds_to_flat(halt, account))
    return result


def _seconds_to_flat(halt: Halt, account: Account) -> float:
    """From the halt to the end of the account's last exit, by the desk's clock; 0 where nothing was open."""
    exits = Order.objects.filter(
        reached_by(halt), account=account, purpose=OrderPurpose.EXIT, finished_at__gte=halt.raised_at
    )
    last = exits.aggregate(last=Max("finished_at"))["last"]
    return 0.0 if last is None else float((last - halt.raised_at).total_seconds())


def _foreign_sides(account: Account) -> set[tuple[str, bool]]:
    held = Position.objects.filter(account=account, status=PositionStatus.OPEN, is_foreign=True)
    return set(held.values_list("symbol", "is_long"))


def _residual_reason(account: Account, report: PositionReport) -> str:
    live = (
        Order.objects.filter(account=account, symbol=report.symbol, purpose=OrderPurpose.EXIT)
        .order_by("-id")
        .first()
    )
    if live is None:
        return "NOT_ORDERED"
    return live.code or str(live.status)


def _spot_residuals(halt: Halt, account: Account) -> list[dict[str, Any]]:
    """Spot positions are the fold of our fills; a wallet balance is never ours to sell."""
    held = open_positions(halt).filter(account=account, market=Market.SPOT)
    return [
        {"symbol": position.symbol, "is_long": True, "quantity": str(position.quantity), "reason": "CLOSING"}
        for position in held
    ]


def _unresolved(halt: Halt, account: Account) -> list[dict[str, Any]]:
    """Entries the exchange may have: while their fate is open, flat is not proven."""
    entries = Order.objects.filter(reached_by(halt), account=account, purpose=OrderPurpose.ENTRY)
    return [
        {"symbol": order.symbol, "quantity": str(order.quantity), "reason": f"ENTRY_{order.status}"}
        for order in entries.filter(status__in=AT_EXCHANGE)
    ]


@transaction.atomic
def raise_once(scope: str, code: str, reason: str, now: datetime) -> tuple[Halt, Bells] | None:
    """Raise an automatic entry halt unless one of this code stands in the scope; None when it does."""
    reach = halts.read_reach(scope)
    if _standing_like(reach, HaltLevel.HALT_ENTRIES, code) is not None:
        return None
    return raise_halt(scope, HaltLevel.HALT_ENTRIES, reason, "desk", now, is_automatic=True, code=code)
