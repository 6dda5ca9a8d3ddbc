"""What one transaction changes of many positions, kept in memory and written in two statements."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from accounts.services.fixed_queries import Statement, carry_out
from trading.models import Position, PositionEvent
from trading.services.many_rows import changing, inserting

COLUMNS = ("plan", "stop_price", "closing_for", "reduction", "crossed_at", "check_at")
"""What following a plan or wanting an exit may change."""

PROTECTION = (
    *("protection", "unprotected_since", "unprotected_seconds", "acked_at", "verified_at"),
    *("closing_for", "reduction", "check_at"),
)
"""What looking after a stop may change."""


@dataclass(slots=True)
class PositionChanges:
    """Locked positions that changed in memory, and the steps of their timelines."""

    columns: Sequence[str] = COLUMNS
    positions: list[Position] = field(default_factory=list)
    steps: list[PositionEvent] = field(default_factory=list)

    def take(self, position: Position, steps: Sequence[PositionEvent] | None) -> None:
        """Keep a position that changed; None is nothing."""
        if steps is not None:
            self.positions.append(position)
            self.steps += steps

    def values_of(self, position: Position) -> tuple[object, ...]:
        """What may change of it, as it is in memory."""
        return tuple(getattr(position, name) for name in self.columns)

    def write(self, *before: Statement) -> None:
        """Write positions and timelines, after what else is written with them."""
        rows = [(one.pk, *self.values_of(one)) for one in self.positions]
        changed = changing(Position, self.columns, rows, same={"updated_at": timezone.now()})
        carry_out(*before, *changed, *inserting(PositionEvent, self.steps))
