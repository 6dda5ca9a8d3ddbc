"""Bells: ids of rows that have something due, returned by services and rung by tasks.

A lost bell costs seconds, never an order: the sweeper finds the same rows by their state.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bells:
    """Row ids by what is due for them.

    `entries`, `exits`: orders PENDING to be sent (exits include stops); `resolve`: orders to look up;
    `unread`: orders to look up unless a stream tells their executions first; `cancel`: resting orders to
    cancel; `positions`: positions to protect or check; `allocations`: allocations to offer to the secondary
    executor; `decisions`: decisions to settle; `signals`: closes and cancels to carry out.
    `later`: those of `positions` that are over and ask by themselves to be looked at in a moment: they are
    not rung, so that nobody's exit waits behind their stops.
    """

    entries: list[int] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    resolve: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    cancel: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)
    allocations: list[int] = field(default_factory=list)
    decisions: list[int] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is due."""
        return any(getattr(self, name) for name in self.__dataclass_fields__)

    def add(self, other: "Bells") -> "Bells":
        """Merge another's ids into these, each id once, in order."""
        for name in self.__dataclass_fields__:
            if more := getattr(other, name):
                mine: list[int] = getattr(self, name)
                mine[:] = dict.fromkeys([*mine, *more])
        return self
