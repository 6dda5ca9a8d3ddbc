"""The oracle: the exchange's own ledger against the desk's rows, in the words of the proof.

doubled      the exchange took one client order id twice, two entries of one share filled, a fill is two rows
lost         the exchange has a placement or a fill that no row of ours tells
phantom      our rows tell of a placement or a fill that the exchange does not have
unexplained  figures differ, wallets or positions do not add up, an order has no known end, a position is said
             to have been closed by somebody else where nobody else trades
late         an entry reached the book after its deadline or after the receive window of its stored timestamp
incomplete   a decision is open, or a share of it undecided
unprotected  a position at the exchange is not ours to the last unit with a stop seen there
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from tests.processes import PaperExchange
from tests.trading_desk import entered_more_than_once, placed_more_than_once
from trading.domain.reconciliation import Difference
from trading.domain.states import UNDECIDED, DecisionStatus, OrderPurpose, Protection
from trading.models import Allocation, Decision, Order, Position
from trading.services.reconciliation import reconcile, unexplained_orders
from trading.services.taken import TAKEN

RECEIVE_WINDOW_SECONDS = 5.0
NOTHING = "-"

LedgerRow = Mapping[str, Any]


@dataclass(slots=True)
class Verdict:
    """What is wrong, by kind; nothing is the only good answer."""

    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    unprotected: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any(asdict(self).values())

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(found) for kind, found in asdict(self).items()}

    def told(self, most: int = 20) -> str:
        """What was found, a line each, the first of each kind."""
        return "\n".join(f"{kind}: {one}" for kind, found in asdict(self).items() for one in found[:most])


def judge(exchange: PaperExchange, accounts: Collection[str], *, slack_seconds: float = 0.0) -> Verdict:
    """Compare both sides now. `slack_seconds` is how long the exchange may have held a request."""
    ledger = exchange.ledger()
    mine = [row for row in ledger if row["account"] in accounts]
    placed = [row for row in mine if row["kind"] == "PLACED"]
    verdict = Verdict(
        doubled=[
            *(f"{one} placed twice" for one in placed_more_than_once(placed)),
            *(f"{account} {symbol} entered twice" for account, symbol in _entered_twice(mine)),
        ],
        late=_late(placed, slack_seconds),
        incomplete=_incomplete(),
        unprotected=_unprotected(exchange, accounts),
    )
    for difference in reconcile(ledger):
        _sort_in(verdict, difference)
    verdict.unexplained += [f"{one} has no known end" for one in unexplained_orders()]
    verdict.unexplained += _blamed_on_others()
    return verdict


def _blamed_on_others() -> list[str]:
    # A row of a stranger's ends so too, when it turns out to be ours.
    blamed = Position.objects.filter(close_reason__in=TAKEN, is_foreign=False).select_related("account")
    return [f"{one.account.name} {one.symbol} position {one.pk} closed {one.close_reason}" for one in blamed]


def _entered_twice(mine: Iterable[LedgerRow]) -> list[tuple[str, str]]:
    return entered_more_than_once([row for row in mine if row["kind"] == "FILL"])


def _sort_in(verdict: Verdict, difference: Difference) -> None:
    told = str(difference)
    if difference.kind in {"PLACED_TWICE", "FILL_TWICE"}:
        verdict.doubled.append(told)
    elif difference.kind == "UNKNOWN_TO_DESK" or (_is_missing(difference) and difference.desk == NOTHING):
        verdict.lost.append(told)
    elif difference.kind == "NEVER_PLACED" or _is_missing(difference):
        verdict.phantom.append(told)
    else:
        verdict.unexplained.append(told)


def _is_missing(difference: Difference) -> bool:
    return difference.kind == "FILL_MISSING"


def _late(placed: Iterable[LedgerRow], slack_seconds: float) -> list[str]:
    """Entries the exchange took later than their deadline, or than their own timestamp, allows."""
    entries = Order.objects.filter(purpose=OrderPurpose.ENTRY, request_timestamp_ms__isnull=False)
    told = {
        order.client_order_id: (order.request_timestamp_ms, order.deadline_at) for order in entries.iterator()
    }
    allowed_ms = (RECEIVE_WINDOW_SECONDS + slack_seconds) * 1000
    late = []
    for row in placed:
        stamped_ms, deadline_at = told.get(row["client_order_id"], (None, None))
        if stamped_ms is None or deadline_at is None:
            continue
        latest_ms = min(stamped_ms, deadline_at.timestamp() * 1000) + allowed_ms
        if row["wall_ms"] > latest_ms:
            late.append(f"{row['client_order_id']} taken {row['wall_ms'] - latest_ms:.0f} ms too late")
    return late


def _incomplete() -> list[str]:
    decisions = Decision.objects.filter(status=DecisionStatus.OPEN)
    shares = Allocation.objects.filter(outcome__in=UNDECIDED).select_related("account", "decision")
    return [
        *(f"decision {decision.uuid} is open" for decision in decisions),
        *(f"{one.account.name} in {one.decision.uuid} is {one.outcome}" for one in shares),
    ]


def _unprotected(exchange: PaperExchange, accounts: Collection[str]) -> list[str]:
    """Positions that only one side has, or of another size, or without a stop that was seen."""
    there = {
        (wallet["key"], name.partition("/")[0]): Decimal(str(quantity))
        for wallet in exchange.get("/paper/wallets")
        for name, quantity in wallet["positions"].items()
        if wallet["key"] in accounts and Decimal(str(quantity))
    }
    ours: dict[tuple[str, str], Decimal] = {}
    wrong: list[str] = []
    for position in Position.objects.filter(status="OPEN").select_related("account"):
        key = (position.account.name, f"{position.base}USDT")
        signed = position.quantity if position.is_long else -position.quantity
        ours[key] = ours.get(key, Decimal(0)) + signed
        if position.protection != Protection.VERIFIED:
            wrong.append(f"{' '.join(key)} is {position.protection}")
    differing = (key for key in sorted(there.keys() | ours.keys()) if there.get(key, 0) != ours.get(key, 0))
    return wrong + [f"{' '.join(key)}: desk {ours.get(key)}, exchange {there.get(key)}" for key in differing]
