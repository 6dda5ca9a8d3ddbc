"""A figure: one measured number beside the floor it stands on and the bound it should keep."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of the value itself, or of its ratio to the floor."""

    limit: float
    of_ratio: bool = False
    is_least: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.limit:g}{' x floor' if self.of_ratio else ''}"

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Whether it holds; None when the ratio is asked for and there is no floor."""
        judged = ratio if self.of_ratio else value
        if judged is None:
            return None
        return judged >= self.limit if self.is_least else judged <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `floor` is what the same work costs without the desk, in the same unit.

    A value of None is a figure that was not measured, and the note says why.
    """

    name: str
    value: float | None
    unit: str
    floor: float | None = None
    bound: Bound | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value in floors."""
        return self.value / self.floor if self.floor and self.value is not None else None

    @property
    def is_bound_met(self) -> bool | None:
        """Whether the bound holds; None without one, or without a value."""
        if self.bound is None or self.value is None:
            return None
        return self.bound.is_met(self.value, self.ratio)

    def as_json(self) -> str:
        """The figure as one line."""
        told = {
            "name": self.name,
            "value": _short(self.value),
            "unit": self.unit,
            "floor": _short(self.floor),
            "ratio": _short(self.ratio),
            "bound": None if self.bound is None else str(self.bound),
            "bound_met": self.is_bound_met,
            "note": self.note or None,
        }
        return json.dumps(told)


def report(figures: Sequence[Figure]) -> None:
    """Print each figure on its own line, at once."""
    for figure in figures:
        sys.stdout.write(figure.as_json() + "\n")
    sys.stdout.flush()


def middle(values: Sequence[float]) -> float:
    """The median of rounds: one slow round says something of the machine, not of the desk."""
    return median(values)


def _short(number: float | None) -> float | None:
    """Four figures: no measurement here is better than that."""
    return None if number is None else float(f"{number:.4g}")
