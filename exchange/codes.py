"""What a venue's numeric codes say about an order, as data: one `CodeBook` a venue.

A code is definite only by its own venue's documentation. What no set names is unknown.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CodeBook:
    """The venue's codes by what the caller may do next; `read` finds the code in the text of an answer.

    Of the throttled ones `out_of_step` say that the clock is wrong or the request too late, `too_many_orders`
    that this account orders too fast. `undecided` are documented to say nothing of the order: they outrank
    even an HTTP status that is otherwise definite. `already_set`, `not_open` and `not_found` answer settings,
    cancels and queries.
    """

    read: Callable[[str], str | None]
    rejected: frozenset[str]
    throttled: frozenset[str]
    unavailable: frozenset[str] = NONE
    undecided: frozenset[str] = NONE
    out_of_step: frozenset[str] = NONE
    too_many_orders: frozenset[str] = NONE
    duplicate: frozenset[str] = NONE
    already_set: frozenset[str] = NONE
    not_open: frozenset[str] = NONE
    not_found: frozenset[str] = NONE
    duplicate_text: str = ""
    unavailable_text: re.Pattern[str] | None = None


def span(first: int, last: int) -> frozenset[str]:
    """Every code from `first` to `last`, both included."""
    return frozenset(str(code) for code in range(first, last + 1))


def codes(*numbers: int) -> frozenset[str]:
    """These codes as the wire writes them."""
    return frozenset(str(number) for number in numbers)


def answer_in(text: str) -> Mapping[str, Any] | None:
    """The JSON object in an answer, or in a client library's words around it; None when there is none."""
    try:
        answer = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
