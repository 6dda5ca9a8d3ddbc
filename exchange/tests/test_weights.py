"""What a request weighs, as published (exchange documentation, request weights of USDⓈ-M futures)."""

from typing import Any

import pytest

from exchange.clients import UNWEIGHED
from exchange.port import Market
from exchange.quirks import BINANCE

WEIGHTS = BINANCE.markets[Market.FUTURES].weights


@pytest.mark.parametrize(
    ("endpoint", "params", "weight"),
    [
        ("POST order", {"symbol": "BTCUSDT"}, 0),
        ("POST algoOrder", {"symbol": "BTCUSDT"}, 0),
        ("GET order", {"symbol": "BTCUSDT"}, 1),
        ("DELETE order", {"symbol": "BTCUSDT"}, 1),
        ("GET algoOrder", {"symbol": "BTCUSDT"}, 1),
        ("DELETE algoOrder", {"symbol": "BTCUSDT"}, 1),
        ("GET openOrders", {"symbol": "BTCUSDT"}, 1),
        ("GET openOrders", {}, 40),
        ("GET openAlgoOrders", {"symbol": "BTCUSDT"}, 1),
        ("GET openAlgoOrders", {}, 40),
        ("GET time", {}, 1),
        ("GET exchangeInfo", {}, 1),
        ("POST leverage", {"symbol": "BTCUSDT"}, 1),
        ("POST marginType", {"symbol": "BTCUSDT"}, 1),
        ("POST positionSide/dual", {}, 1),
        ("GET leverageBracket", {}, 1),
        ("POST listenKey", {}, 1),
        ("PUT listenKey", {}, 1),
        ("GET premiumIndex", {"symbol": "BTCUSDT"}, 1),
        ("GET premiumIndex", {}, 10),
        ("GET ticker/24hr", {"symbol": "BTCUSDT"}, 1),
        ("GET ticker/24hr", {}, 40),
        ("GET ticker/bookTicker", {"symbol": "BTCUSDT"}, 2),
        ("GET ticker/bookTicker", {}, 5),
        ("GET account", {}, 5),
        ("GET positionRisk", {}, 5),
        ("GET userTrades", {"symbol": "BTCUSDT"}, 5),
        ("GET symbolConfig", {}, 5),
        ("GET accountConfig", {}, 5),
        ("GET income", {}, 30),
        ("GET klines", {"limit": 99}, 1),
        ("GET klines", {"limit": 499}, 2),
        ("GET klines", {}, 5),
        ("GET klines", {"limit": 1000}, 5),
        ("GET klines", {"limit": 1500}, 10),
        ("GET depth", {"limit": 50}, 2),
        ("GET depth", {"limit": 100}, 5),
        ("GET depth", {"limit": 500}, 10),
        ("GET depth", {"limit": 1000}, 20),
    ],
)
def test_a_request_weighs_what_is_published(endpoint: str, params: dict[str, Any], weight: int) -> None:
    assert WEIGHTS.get(endpoint, UNWEIGHED).of(params) == weight


def test_an_account_may_place_300_orders_in_ten_seconds_and_1200_in_a_minute() -> None:
    windows = BINANCE.markets[Market.FUTURES].order_windows
    assert [(window.seconds, window.limit) for window in windows] == [(10, 300), (60, 1200)]
