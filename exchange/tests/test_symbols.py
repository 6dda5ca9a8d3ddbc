from decimal import Decimal

import pytest

from exchange.port import InstrumentReport, Market
from exchange.symbols import SymbolTable, UnknownSymbol


def listed(base: str, market: Market, quote: str = "USDT") -> InstrumentReport:
    symbol = f"{base}/{quote}:{quote}" if market is Market.FUTURES else f"{base}/{quote}"
    one = Decimal(1)
    return InstrumentReport(
        symbol=symbol,
        market=market,
        base=base,
        quote=quote,
        tick=one,
        step=one,
        min_quantity=one,
        max_quantity=one,
        max_market_quantity=one,
        min_notional=one,
        is_trading=True,
        venue_symbol=f"{base}{quote}",
    )


@pytest.fixture
def table() -> SymbolTable:
    both = [listed("DOT", Market.FUTURES), listed("DOT", Market.SPOT)]
    return SymbolTable([*both, listed("1000PEPE", Market.FUTURES), listed("PAXG", Market.SPOT)])


@pytest.mark.parametrize(
    "written",
    [
        "DOTUSDT",
        "DOTUSDT:USDT",
        "DOT-USDT",
        "DOT/USDT:USDT",
        "BINANCE:DOTUSDT.P",
        "DOTUSDT.P",
        " dotusdt ",
        "DOT/USDT",
    ],
)
def test_every_writing_of_a_perpetual_is_the_perpetual(table: SymbolTable, written: str) -> None:
    assert table.unify(written) == "DOT/USDT:USDT"


def test_what_only_spot_lists_is_spot(table: SymbolTable) -> None:
    assert table.unify("PAXGUSDT") == "PAXG/USDT"
    with pytest.raises(UnknownSymbol):
        table.unify("PAXGUSDT.P")


@pytest.mark.parametrize(
    "written",
    ["", "DOT", "USDTDOT", "DOTBUSD", "DOT/USD", "PEPEUSDT", "DOTUSDT_260925", "DOT/USDT:BTC", "🚀"],
)
def test_what_the_market_table_lacks_is_refused_by_name(table: SymbolTable, written: str) -> None:
    with pytest.raises(UnknownSymbol) as refused:
        table.unify(written)

    assert refused.value.written == written


def test_twins_share_base_and_quote(table: SymbolTable) -> None:
    assert table.spot_twin("DOT/USDT:USDT") == "DOT/USDT"
    assert table.futures_twin("DOT/USDT") == "DOT/USDT:USDT"
    assert table.twin_on("DOT/USDT:USDT", Market.FUTURES) == "DOT/USDT:USDT"


def test_a_missing_twin_is_none_never_a_guess(table: SymbolTable) -> None:
    assert table.spot_twin("1000PEPE/USDT:USDT") is None
    assert table.futures_twin("PAXG/USDT") is None


def test_an_unlisted_symbol_has_no_rules(table: SymbolTable) -> None:
    with pytest.raises(UnknownSymbol):
        table.instrument("DOGE/USDT:USDT")
    assert "DOGE/USDT:USDT" not in table
