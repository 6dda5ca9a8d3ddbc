"""What an emergency stop would reach, named before anybody confirms it. Rows only: nothing is sent."""

from collections import Counter
from dataclasses import dataclass

from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import Halt, Order, Position
from trading.services import emergency
from trading.services.halts import read_reach


@dataclass(frozen=True, slots=True)
class StopPreview:
    """Counts of one scope: accounts, entries to recall, positions by symbol; strangers' ones by name."""

    scope: str
    accounts: int
    entries: int
    positions: int
    by_symbol: dict[str, int]
    foreign: tuple[Position, ...]


def preview(scope: str) -> StopPreview:
    """Count what `scope` holds. Raises `ScopeUnknown`, as raising the halt would."""
    reach = read_reach(scope)
    # Never saved: it only says what such a halt would cover.
    halt = Halt(scope=reach.scope, target=reach.target, result={"symbols": list(reach.symbols)})
    held = Position.objects.filter(emergency.reached_by(halt), status=PositionStatus.OPEN)
    entries = Order.objects.filter(
        emergency.reached_by(halt), purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN)
    )
    ours = list(held.filter(is_foreign=False).values_list("symbol", flat=True))
    foreign = held.filter(is_foreign=True).select_related("account").order_by("account__name", "symbol")
    return StopPreview(
        scope=scope,
        accounts=len(emergency.accounts_in(halt)),
        entries=entries.count(),
        positions=len(ours),
        by_symbol=dict(Counter(ours).most_common()),
        foreign=tuple(foreign),
    )
