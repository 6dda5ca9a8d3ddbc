import pytest

from trading.domain.tradingview import (
    AlertRefused,
    content_id,
    exit_price,
    read_advice,
    refuse_unknown,
)


def strategy(action: str, before: str, after: str) -> dict[str, str]:
    return {"action": action, "previous_position": before, "position": after}


@pytest.mark.parametrize(
    ("fields", "advised"),
    [
        (strategy("buy", "flat", "long"), [("open", "LONG")]),
        (strategy("sell", "flat", "short"), [("open", "SHORT")]),
        (strategy("sell", "long", "flat"), [("close", "LONG")]),
        (strategy("buy", "short", "flat"), [("close", "SHORT")]),
        (strategy("sell", "long", "short"), [("close", "LONG"), ("open", "SHORT")]),
        (strategy("buy", "short", "long"), [("close", "SHORT"), ("open", "LONG")]),
        (strategy("buy", "long", "long"), [("open", "LONG")]),
        (strategy(" BUY ", "Flat", "LONG"), [("open", "LONG")]),
        ({"action": "long"}, [("open", "LONG")]),
        ({"action": "short"}, [("open", "SHORT")]),
        ({"action": "close"}, [("close", "LONG")]),
        ({"action": "close", "previous_position": "short"}, [("close", "SHORT")]),
        ({"action": "cancel"}, [("cancel", "LONG")]),
        ({"action": "sell", "position": "flat"}, [("close", "LONG")]),
    ],
    ids=str,
)
def test_an_order_of_a_strategy_means_what_its_positions_say(
    fields: dict[str, str], advised: list[tuple[str, str]]
) -> None:
    assert [(one.action, one.side) for one in read_advice(fields)] == advised


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"action": "buy"}, "POSITION"),
        ({"action": "sell", "position": "short"}, "POSITION"),
        ({"action": "sell", "position": "{{strategy.market_position}}"}, "POSITION"),
        (strategy("sell", "long", "long"), "PARTIAL"),
        (strategy("buy", "short", "short"), "PARTIAL"),
        ({"action": "{{strategy.order.action}}"}, "ACTION"),
        ({}, "ACTION"),
    ],
    ids=str,
)
def test_an_order_that_may_mean_two_things_is_refused(fields: dict[str, str], code: str) -> None:
    with pytest.raises(AlertRefused) as refused:
        read_advice(fields)
    assert refused.value.code == code


def test_a_stop_is_told_as_a_price_or_as_percent_of_the_price() -> None:
    fields = {"price": "86000.5", "stop_percent": "2", "take_profit_price": "90000"}

    assert exit_price(fields, "stop", is_above=False) == "84280.490000000000"
    assert exit_price(fields, "stop", is_above=True) == "87720.510000000000"
    assert exit_price(fields, "take_profit", is_above=True) == "90000"
    assert exit_price({}, "stop", is_above=False) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"price": "100", "stop_percent": "2", "stop_price": "98"}, "TWICE"),
        ({"price": "100", "stop_percent": "-2"}, "PERCENT"),
        ({"price": "100", "stop_percent": "100"}, "PERCENT"),
        ({"price": "100", "stop_percent": "NaN"}, "NOT_A_NUMBER"),
        ({"price": "100", "stop_percent": "1e999999"}, "NOT_A_NUMBER"),
        ({"price": "1e40", "stop_percent": "2"}, "NOT_A_NUMBER"),
        ({"price": "{{close}}", "stop_percent": "2"}, "NOT_A_NUMBER"),
        ({"stop_percent": "2"}, "NOT_A_NUMBER"),
    ],
    ids=str,
)
def test_a_stop_that_cannot_be_worked_out_is_refused(fields: dict[str, str], code: str) -> None:
    with pytest.raises(AlertRefused) as refused:
        exit_price(fields, "stop", is_above=False)
    assert refused.value.code == code


def test_a_misspelt_field_is_named() -> None:
    refuse_unknown(["ticker", "stop_price"])
    with pytest.raises(AlertRefused, match="stop_prise"):
        refuse_unknown(["ticker", "stop_prise"])


def test_what_is_said_again_has_the_same_id_and_what_is_said_otherwise_another() -> None:
    said = {"ticker": "BTCUSDT.P", "time": "2026-11-20T12:00:00Z"}

    assert content_id(said, "open") == content_id(dict(reversed(said.items())), "open")
    assert content_id(said, "open") != content_id(said, "close")
    assert content_id(said, "open") != content_id(said | {"time": "2026-11-20T12:00:01Z"}, "open")
