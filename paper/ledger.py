"""The record of everything the exchange accepted: append-only, complete, and enough to recompute balances.

`fold` reads rows only and never the account state, so that comparing the two proves both.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal

ZERO = Decimal(0)

# kind: what each row says. Money moves in DEPOSIT, FILL, FUNDING, INSURANCE and TRANSFER rows only.
DEPOSIT, TRANSFER, FUNDING, INSURANCE = "DEPOSIT", "TRANSFER", "FUNDING", "INSURANCE"
SETTING, AMENDED = "SETTING", "AMENDED"
PLACED, FILL, CANCELED, EXPIRED, REJECTED, TRIGGERED = (
    "PLACED",
    "FILL",
    "CANCELED",
    "EXPIRED",
    "REJECTED",
    "TRIGGERED",
)


@dataclass(slots=True)
class Row:
    """One accepted change.

    `store` is ordinary or conditional; `money` is the wallet change of `asset` (realised profit less fee on a
    futures fill); a spot fill moves quantity, quantity x price and fee.
    """

    seq: int
    time_ms: int
    wall_ms: int
    kind: str
    account: str
    market: str = "futures"
    store: str = ""
    symbol: str = ""
    order_id: int = 0
    client_order_id: str = ""
    actual_order_id: int = 0
    side: str = ""
    position_side: str = ""
    type: str = ""
    time_in_force: str = ""
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    reduce_only: bool = False
    close_position: bool = False
    executed: Decimal = ZERO
    status: str = ""
    fill_id: int = 0
    maker: bool = False
    fee: Decimal = ZERO
    fee_asset: str = ""
    realized: Decimal = ZERO
    asset: str = ""
    money: Decimal = ZERO
    reason: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def shown(row: Row) -> dict[str, object]:
    """The row with its decimals as plain text."""
    values: dict[str, object] = {}
    for name in COLUMNS:
        value = getattr(row, name)
        values[name] = format(value, "f") if type(value) is Decimal else value
    return values


def as_csv(rows: Iterable[Row]) -> str:
    """All columns, one line a row, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(shown(row) for row in rows)
    return out.getvalue()


@dataclass(slots=True)
class Folded:
    """What the rows of one account add up to."""

    wallet: Decimal
    spot: dict[str, Decimal]
    positions: dict[tuple[str, str], Decimal]


def _fold_spot(folded: Folded, row: Row, base: str, quote: str) -> None:
    sign = 1 if row.side == "BUY" else -1
    for asset, change in ((base, sign * row.quantity), (quote, -sign * row.quantity * row.price)):
        folded.spot[asset] = folded.spot.get(asset, ZERO) + change
    folded.spot[row.fee_asset] = folded.spot.get(row.fee_asset, ZERO) - row.fee


def _fold_futures(folded: Folded, row: Row) -> None:
    folded.wallet += row.realized - row.fee
    place = (row.symbol, row.position_side)
    signed = row.quantity if row.side == "BUY" else -row.quantity
    folded.positions[place] = folded.positions.get(place, ZERO) + signed


def fold(rows: Iterable[Row], account: str, assets: dict[str, tuple[str, str]]) -> Folded:
    """Balances and positions of the account from its rows; `assets` names base and quote of spot symbols."""
    folded = Folded(ZERO, {}, {})
    for row in rows:
        if row.account != account:
            continue
        if row.kind == FILL and row.market == "spot":
            _fold_spot(folded, row, *assets[row.symbol])
        elif row.kind == FILL:
            _fold_futures(folded, row)
        elif row.market == "spot" and row.money:
            folded.spot[row.asset] = folded.spot.get(row.asset, ZERO) + row.money
        else:
            folded.wallet += row.money
    return folded
