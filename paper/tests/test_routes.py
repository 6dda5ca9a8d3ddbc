"""What is served, what it weighs, and who may ask, as the contract lists it."""

from typing import Any, cast

import pytest

from paper.protocol.calls import KEYED, PUBLIC, SIGNED, Call
from paper.protocol.routes import ENDPOINTS, ROUTES

# Weight without and with a symbol.
FUTURES = {
    "GET ping": 1, "GET time": 1, "GET exchangeInfo": 1,
    "POST order": 0, "PUT order": 0, "GET order": 1, "DELETE order": 1, "POST order/test": 1,
    "POST batchOrders": 5, "DELETE batchOrders": 1, "GET openOrder": 1, "GET openOrders": (40, 1),
    "GET allOrders": 5, "DELETE allOpenOrders": 1, "POST countdownCancelAll": 10,
    "POST algoOrder": 0, "GET algoOrder": 1, "DELETE algoOrder": 1, "GET openAlgoOrders": (40, 1),
    "GET allAlgoOrders": 5, "DELETE algoOpenOrders": 1, "GET userTrades": 5, "GET income": 30,
    "POST leverage": 1, "POST marginType": 1, "POST positionMargin": 1,
    "GET positionSide/dual": 30, "POST positionSide/dual": 1,
    "GET multiAssetsMargin": 30, "POST multiAssetsMargin": 1, "GET leverageBracket": 1,
    "GET symbolConfig": 5, "GET accountConfig": 5, "GET commissionRate": 20, "GET rateLimit/order": 1,
    "GET premiumIndex": (10, 1), "GET fundingRate": 0, "GET fundingInfo": 0,
    "GET ticker/24hr": (40, 1), "GET ticker/price": (2, 1), "GET ticker/bookTicker": (5, 2),
    "GET klines": 5, "GET markPriceKlines": 5, "GET indexPriceKlines": 5, "GET depth": 10, "GET trades": 5,
    "GET aggTrades": 20, "GET historicalTrades": 200, "GET openInterest": 1,
    "POST listenKey": 1, "PUT listenKey": 1, "DELETE listenKey": 1,
}  # fmt: skip
OTHERS = {
    "GET /fapi/v2/account": 5, "GET /fapi/v2/balance": 5, "GET /fapi/v2/positionRisk": 5,
    "GET /fapi/v2/ticker/price": (2, 1),
    "GET /fapi/v3/account": 5, "GET /fapi/v3/balance": 5, "GET /fapi/v3/positionRisk": 5,
}  # fmt: skip
WEIGHTS: dict[str, Any] = {
    name.replace(" ", " /fapi/v1/"): weight for name, weight in FUTURES.items()
} | OTHERS
UNWEIGHED = [
    "GET /dapi/v1/exchangeInfo",
    "GET /sapi/v1/account/apiRestrictions",
    "GET /sapi/v1/capital/config/getall",
    "GET /sapi/v1/margin/allPairs",
    "GET /sapi/v1/margin/isolated/allPairs",
    "GET /sapi/v1/margin/allAssets",
    "GET /sapi/v1/system/status",
    "GET /api/v3/ping",
    "GET /api/v3/time",
    "GET /api/v3/exchangeInfo",
    "GET /api/v3/account",
    "POST /api/v3/order",
    "GET /api/v3/order",
    "DELETE /api/v3/order",
    "GET /api/v3/openOrders",
    "GET /api/v3/allOrders",
    "GET /api/v3/myTrades",
    "GET /api/v3/ticker/24hr",
    "GET /api/v3/ticker/price",
    "GET /api/v3/ticker/bookTicker",
    "GET /api/v3/klines",
    "GET /api/v3/depth",
    "GET /api/v3/trades",
]


def weight_of(endpoint: str, **params: str) -> int:
    method, path = endpoint.split()
    return ROUTES[method, path].weigh(Call(cast("Any", None), method, path, params))


@pytest.mark.parametrize("endpoint", WEIGHTS)
def test_an_endpoint_weighs_what_is_published(endpoint: str) -> None:
    weight = WEIGHTS[endpoint]
    without, named = weight if isinstance(weight, tuple) else (weight, weight)
    assert (weight_of(endpoint), weight_of(endpoint, symbol="BTCUSDT")) == (without, named)


@pytest.mark.parametrize(
    ("endpoint", "limits"),
    [
        ("klines", {"1": 1, "99": 1, "100": 2, "499": 2, "500": 5, "1000": 5, "1500": 10}),
        ("depth", {"5": 2, "50": 2, "100": 5, "500": 10, "1000": 20}),
    ],
)
def test_a_longer_page_weighs_more(endpoint: str, limits: dict[str, int]) -> None:
    assert {limit: weight_of(f"GET /fapi/v1/{endpoint}", limit=limit) for limit in limits} == limits


def test_the_rest_of_the_contract_is_served() -> None:
    assert set(UNWEIGHED) - ENDPOINTS == set()


def test_whoever_changes_or_reads_an_account_must_sign() -> None:
    for (method, path), route in ROUTES.items():
        if path.endswith("/listenKey"):
            assert route.security == KEYED
        elif route.security == PUBLIC:
            assert method == "GET" or path == "/api/v3/userDataStream"
        elif path != "/fapi/v1/historicalTrades":
            assert route.security == SIGNED
