"""One request, parsed, and the table entry that leads to whoever answers it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from paper.engine.refusals import Refusal, refuse
from paper.engine.venue import Portfolio

if TYPE_CHECKING:
    from paper.service import Service

# Only ASCII digits: \d would also take those of every other script.
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{0,20})?")
WHOLE = re.compile(r"-?[0-9]{1,19}")
LEGAL = r"legal range is '^([0-9]{1,20})(\.[0-9]{1,20})?$'"
Json = dict[str, Any] | list[Any]


def malformed(name: str) -> Refusal:
    """-1102: the parameter is absent, empty or not what its name promises."""
    return Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


@dataclass(slots=True)
class Call:
    """A parsed request. `portfolio` is set once its key and signature were accepted."""

    service: "Service"
    method: str
    path: str
    params: dict[str, str]
    key: str = ""
    _portfolio: Portfolio | None = field(default=None)

    def accept(self, portfolio: Portfolio) -> None:
        """Its key, and its signature where one is needed, were right."""
        self._portfolio = portfolio

    @property
    def portfolio(self) -> Portfolio:
        """The account that asks."""
        if self._portfolio is None:
            raise refuse(-2014, status=401)
        return self._portfolio

    def text(self, name: str, default: str = "") -> str:
        """The parameter, or the default when absent or empty."""
        return self.params.get(name) or default

    def need(self, name: str) -> str:
        """The parameter, else -1102."""
        value = self.params.get(name)
        if not value:
            raise malformed(name)
        return value

    def flag(self, name: str) -> bool:
        """A boolean in any spelling."""
        value = self.params.get(name, "").lower()
        if value not in {"", "true", "false"}:
            raise Refusal(-1130, f"Data sent for parameter '{name}' is not valid.")
        return value == "true"

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number, else -1102 when it is none."""
        value = self.params.get(name)
        if not value:
            return default
        if not WHOLE.fullmatch(value):
            raise malformed(name)
        return int(value)

    def need_integer(self, name: str) -> int:
        """A whole number, else -1102."""
        self.need(name)
        return self.integer(name)

    def decimal(self, name: str) -> Decimal | None:
        """An exact number, None when absent, -1100 when it is none."""
        value = self.params.get(name)
        if not value:
            return None
        if not NUMBER.fullmatch(value):
            raise Refusal(-1100, f"Illegal characters found in parameter '{name}'; {LEGAL}.")
        return Decimal(value)

    def need_decimal(self, name: str) -> Decimal:
        """An exact number, else -1102."""
        value = self.decimal(name)
        if value is None:
            raise malformed(name)
        return value

    def limit(self, default: int, highest: int) -> int:
        """The page length asked for, -1130 outside 1..highest."""
        limit = self.integer("limit", default)
        if not 1 <= limit <= highest:
            raise Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit


Found = TypeVar("Found")


def looked_up(
    call: Call, number_name: str, id_name: str, code: int, find: Callable[[int, str], Found | None]
) -> Found:
    """What `find` has by the number or the client id the call names.

    -1102 when it names neither, `code` when there is nothing, or when a fault rule hides it.
    """
    number, client_id = call.integer(number_name), call.text(id_name)
    if not number and not client_id:
        raise Refusal(-1102, f"Param '{id_name}' or '{number_name}' must be sent, but both were empty/null!")
    call.service.faults.check_lookup(call)
    found = find(number, client_id)
    if found is None:
        raise refuse(code)
    return found


Answer = Callable[[Call], Json]

SIGNING = frozenset({"timestamp", "recvWindow", "signature"})
PUBLIC, KEYED, SIGNED = "public", "keyed", "signed"


@dataclass(frozen=True, slots=True)
class Route:
    """How one path is served: who may call, what it weighs, and whether it counts as an order, or several.

    `is_funding` counts it in the pool of funding rates. `parameters` are all it reads; None where others are
    ignored. `preparing` is long work in short steps, between which others are served.
    """

    answer: Answer
    security: str = PUBLIC
    weight: int | Callable[[Call], int] = 1
    is_order: bool = False
    orders: int = 1
    is_funding: bool = False
    parameters: frozenset[str] | None = None
    preparing: Callable[[Call], Iterator[None]] | None = None

    def weigh(self, call: Call) -> int:
        """What the call costs of the minute's weight."""
        return self.weight if isinstance(self.weight, int) else self.weight(call)

    def check_parameters(self, call: Call) -> None:
        """-1104 when something was sent that is not read."""
        if self.parameters is None:
            return
        read = sum(name in self.parameters or name in SIGNING for name in call.params)
        if read < len(call.params):
            raise Refusal(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s)"
                f" but was sent '{len(call.params)}'.",
            )


Routes = dict[tuple[str, str], Route]


def by_symbol(one: int, every: int) -> Callable[[Call], int]:
    """A weight that depends on whether a symbol was named."""
    return lambda call: one if call.params.get("symbol") else every
