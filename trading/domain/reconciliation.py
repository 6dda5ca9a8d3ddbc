"""The proof: the exchange's ledger and the desk's rows, each folded on its own, held against each other.

1. Neither fold reads anything of the other side; what is compared are only the two results.
2. Equal means equal: every placement once, every fill with all its figures, every wallet to the last unit.
3. A difference names its kind, its key and both figures; no difference is the only good answer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal(0)

Place = tuple[str, str, str]
"""Account, market, and symbol or asset."""


@dataclass(frozen=True, slots=True)
class LedgerFill:
    """One execution as one side has it. `realized` excludes fees; `fee` is positive when paid."""

    account: str
    market: str
    symbol: str
    trade_id: str
    client_order_id: str
    is_buy: bool
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    realized: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Placement:
    """One order accepted by the exchange: `store` is ordinary or conditional."""

    account: str
    client_order_id: str
    store: str


@dataclass(frozen=True, slots=True)
class MoneyMove:
    """A change of a wallet that is no execution: deposit, transfer, funding, insurance."""

    account: str
    market: str
    asset: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing the two sides do not agree on; a side that has nothing says so with a dash."""

    kind: str
    key: str
    desk: str
    exchange: str

    def __str__(self) -> str:
        """One line for an operator."""
        return f"{self.kind} {self.key}: desk {self.desk}, exchange {self.exchange}"


@dataclass(slots=True)
class Books:
    """One side's fold. `expected_absent` are ids the desk says were never placed."""

    fills: dict[tuple[str, str, str, str], LedgerFill] = field(default_factory=dict)
    doubled_fills: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    placements: Counter[Placement] = field(default_factory=Counter)
    wallets: dict[Place, Decimal] = field(default_factory=dict)
    positions: dict[Place, Decimal] = field(default_factory=dict)


def fold(
    fills: Iterable[LedgerFill],
    placements: Iterable[Placement],
    moves: Iterable[MoneyMove],
    assets: Mapping[str, tuple[str, str]],
) -> Books:
    """Fold one side's facts into wallets and positions; `assets` names base and quote of every symbol."""
    books = Books()
    books.placements.update(placements)
    for move in moves:
        _add(books.wallets, (move.account, move.market, move.asset), move.quantity)
    for fill in fills:
        key = (fill.account, fill.market, fill.symbol, fill.trade_id)
        books.doubled_fills[key] += 1
        books.fills[key] = fill
        _fold_fill(books, fill, *assets[fill.symbol])
    return books


def compare(desk: Books, exchange: Books) -> list[Difference]:
    """Every difference between the two folds."""
    return [
        *_compare_placements(desk, exchange),
        *_compare_fills(desk, exchange),
        *_compare_sums("WALLET", desk.wallets, exchange.wallets),
        *_compare_sums("POSITION", desk.positions, exchange.positions),
    ]


def _fold_fill(books: Books, fill: LedgerFill, base: str, quote: str) -> None:
    signed = fill.quantity if fill.is_buy else -fill.quantity
    if fill.market == "spot":
        _add(books.wallets, (fill.account, fill.market, base), signed)
        _add(books.wallets, (fill.account, fill.market, quote), -signed * fill.price)
        _add(books.wallets, (fill.account, fill.market, fill.fee_asset or quote), -fill.fee)
        return
    _add(books.wallets, (fill.account, fill.market, quote), fill.realized - fill.fee)
    _add(books.positions, (fill.account, fill.market, fill.symbol), signed)


def _add(sums: dict[Place, Decimal], place: Place, quantity: Decimal) -> None:
    sums[place] = sums.get(place, ZERO) + quantity


def _compare_placements(desk: Books, exchange: Books) -> list[Difference]:
    differences = [
        Difference("PLACED_TWICE", _placement_key(one), str(desk.placements[one]), str(count))
        for one, count in sorted(exchange.placements.items(), key=_by_key)
        if count > 1
    ]
    unknown = sorted(map(_placement_key, exchange.placements.keys() - desk.placements.keys()))
    never = sorted(map(_placement_key, desk.placements.keys() - exchange.placements.keys()))
    return [
        *differences,
        *(Difference("UNKNOWN_TO_DESK", key, "-", "placed") for key in unknown),
        *(Difference("NEVER_PLACED", key, "placed", "-") for key in never),
    ]


def _by_key(item: tuple[Placement, int]) -> str:
    return _placement_key(item[0])


def _placement_key(placement: Placement) -> str:
    return f"{placement.account} {placement.client_order_id} {placement.store}"


def _compare_fills(desk: Books, exchange: Books) -> list[Difference]:
    differences = [
        Difference("FILL_TWICE", " ".join(key), str(count), "-")
        for key, count in sorted(desk.doubled_fills.items())
        if count > 1
    ]
    for key in sorted(desk.fills.keys() | exchange.fills.keys()):
        ours, theirs = desk.fills.get(key), exchange.fills.get(key)
        if ours is None or theirs is None:
            differences.append(Difference("FILL_MISSING", " ".join(key), _shown(ours), _shown(theirs)))
        elif ours != theirs:
            differences.append(Difference("FILL_DIFFERS", " ".join(key), _shown(ours), _shown(theirs)))
    return differences


def _shown(fill: LedgerFill | None) -> str:
    if fill is None:
        return "-"
    side = "buy" if fill.is_buy else "sell"
    return (
        f"{side} {fill.quantity.normalize():f} @ {fill.price.normalize():f} fee {fill.fee.normalize():f}"
        f" {fill.fee_asset} realised {fill.realized.normalize():f} {fill.client_order_id}"
    )


def _compare_sums(
    kind: str, desk: Mapping[Place, Decimal], exchange: Mapping[Place, Decimal]
) -> list[Difference]:
    differences = []
    for place in sorted(desk.keys() | exchange.keys()):
        ours, theirs = desk.get(place, ZERO), exchange.get(place, ZERO)
        if ours != theirs:
            differences.append(
                Difference(kind, " ".join(place), f"{ours.normalize():f}", f"{theirs.normalize():f}")
            )
    return differences
