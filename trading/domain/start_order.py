"""Who of a decision starts first: a rotation from decision to decision, so that no account is always last.

Promises, for accounts that stay the same:
1. In as many decisions as there are accounts, each account has each place once.
2. In any number of decisions in a row the accounts' mean places already lie close together: neighbours in
   time do not start side by side, as they would were the line moved on by one.
"""

from collections.abc import Sequence
from math import gcd, sqrt
from typing import TypeVar

T = TypeVar("T")

GOLDEN_SECTION = (sqrt(5) - 1) / 2
"""The part of the line it moves on by: of all parts the one whose multiples fill a circle most evenly."""


def start_order(line: Sequence[T], turn: int) -> list[T]:
    """Return `line` in the order in which its members start in the given turn, counted from any number."""
    if not line:
        return []
    first = turn * stride(len(line)) % len(line)
    return [*line[first:], *line[:first]]


def stride(count: int) -> int:
    """By how many places a line of `count` moves on each turn: nearest the golden section, coprime to it."""
    aim = max(1, round(count * GOLDEN_SECTION))
    outwards = (step for away in range(count) for step in (aim - away, aim + away))
    return next(step for step in outwards if step > 0 and gcd(step, count) == 1)
