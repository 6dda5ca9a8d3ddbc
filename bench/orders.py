"""The one order every way of sending is measured with: small, whole in the filters, far under any limit."""

from collections.abc import Mapping
from types import MappingProxyType

SYMBOL = "BTC/USDT:USDT"
VENUE_SYMBOL = "BTCUSDT"
BASE = "BTC"
QUANTITY = "0.010"
PRICE = "95000.0"

LIMIT_ORDER: Mapping[str, str] = MappingProxyType(
    {
        "symbol": VENUE_SYMBOL,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "IOC",
        "quantity": QUANTITY,
        "price": PRICE,
    }
)
MARKET_ORDER: Mapping[str, str] = MappingProxyType(
    {"symbol": VENUE_SYMBOL, "side": "BUY", "type": "MARKET", "quantity": QUANTITY}
)
