"""Order requests as the desk would make them."""

from decimal import Decimal
from typing import Any

from exchange.port import OrderRequest, OrderSide, OrderType

BTC = "BTC/USDT:USDT"


def entry(**changes: Any) -> OrderRequest:
    fields: dict[str, Any] = {
        "client_order_id": "phx1",
        "symbol": BTC,
        "side": OrderSide.BUY,
        "type": OrderType.LIMIT_IOC,
        "quantity": Decimal("0.013"),
        "price": Decimal("70000.1"),
        "timestamp_ms": 1789000000000,
        **changes,
    }
    return OrderRequest(**fields)


def hard_stop(**changes: Any) -> OrderRequest:
    return entry(
        **{
            "client_order_id": "phxstop1",
            "side": OrderSide.SELL,
            "type": OrderType.STOP_MARKET,
            "quantity": None,
            "price": None,
            "trigger_price": Decimal(69000),
            "close_position": True,
            **changes,
        }
    )
