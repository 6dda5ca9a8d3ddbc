"""What can be bought and sold here: filters, brackets and the shape of the synthetic book."""

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

TABLE = Path(__file__).with_name("symbols.json")


@dataclass(frozen=True, slots=True)
class Bracket:
    """One step of the leverage ladder: up to `cap` of notional, at most `leverage`."""

    number: int
    leverage: int
    floor: Decimal
    cap: Decimal
    maintenance: Decimal
    cum: Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market with its filters; `brackets` is empty on spot."""

    symbol: str
    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    price_precision: int
    quantity_precision: int
    reference_price: Decimal
    spread_bps: Decimal
    depth_notional: Decimal
    max_notional: Decimal = Decimal(0)
    multiplier_up: Decimal = Decimal("1.05")
    multiplier_down: Decimal = Decimal("0.95")
    trigger_protect: Decimal = Decimal("0.05")
    liquidation_fee: Decimal = Decimal("0.0125")
    market_take_bound: Decimal = Decimal("0.05")
    max_orders: int = 200
    brackets: tuple[Bracket, ...] = ()

    def price(self, value: Decimal) -> str:
        """A price as the wire shows it."""
        return f"{value:.{self.price_precision}f}"

    def quantity(self, value: Decimal) -> str:
        """A quantity as the wire shows it."""
        return f"{value:.{self.quantity_precision}f}"

    def bracket(self, notional: Decimal) -> Bracket:
        """The bracket a position of this notional falls in; the last one beyond the table."""
        for step in self.brackets:
            if notional <= step.cap:
                return step
        return self.brackets[-1]

    def cap_at(self, leverage: int) -> Decimal:
        """The largest notional this leverage allows."""
        return max((step.cap for step in self.brackets if step.leverage >= leverage), default=Decimal(0))


TEXT = frozenset({"symbol", "base", "quote"})
WHOLE = frozenset({"price_precision", "quantity_precision", "max_orders"})


def _bracket(number: int, row: list[str]) -> Bracket:
    leverage, floor, cap, maintenance, cum = row
    numbers = (Decimal(floor), Decimal(cap), Decimal(maintenance), Decimal(cum))
    return Bracket(number, int(leverage), *numbers)


def _instrument(row: dict[str, object]) -> Instrument:
    ladder = row.pop("brackets", [])
    brackets = (
        tuple(_bracket(n, step) for n, step in enumerate(ladder, 1)) if isinstance(ladder, list) else ()
    )
    values = {
        name: str(value) if name in TEXT else int(str(value)) if name in WHOLE else Decimal(str(value))
        for name, value in row.items()
    }
    return Instrument(**values, brackets=brackets)  # type: ignore[arg-type]  # the table's columns are the fields


@dataclass(frozen=True, slots=True)
class Markets:
    """The futures and the spot table, by wire symbol."""

    futures: dict[str, Instrument]
    spot: dict[str, Instrument]

    def only(self, symbols: set[str]) -> "Markets":
        """The same tables, reduced to these symbols."""
        return Markets(
            {s: i for s, i in self.futures.items() if s in symbols},
            {s: i for s, i in self.spot.items() if s in symbols},
        )


def load_markets(invented: int = 0) -> Markets:
    """The symbol table that comes with the package, and so many invented futures beside it."""
    table = json.loads(TABLE.read_text())
    futures, spot = ([_instrument(row) for row in table[name]] for name in ("usdm", "spot"))
    models = [futures[number % len(futures)] for number in range(invented)]
    futures += [_alike(model, number) for number, model in enumerate(models, 1)]
    return Markets({i.symbol: i for i in futures}, {i.symbol: i for i in spot})


def _alike(model: Instrument, number: int) -> Instrument:
    """A symbol that does not exist, with the filters and brackets of one that does."""
    base = f"X{number:03d}"
    return replace(model, symbol=base + model.quote, base=base)
