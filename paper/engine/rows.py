"""The ledger columns that describe an order."""

from typing import Any

from paper.engine.orders import Conditional, Order, SpotOrder


def of_order(order: Order) -> dict[str, Any]:
    """An ordinary futures order."""
    return {
        "store": "ordinary",
        "symbol": order.symbol,
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "side": order.side,
        "position_side": order.position_side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "quantity": order.quantity,
        "price": order.price,
        "stop_price": order.stop_price,
        "reduce_only": order.reduce_only,
        "close_position": order.close_position,
        "executed": order.executed,
        "status": order.status,
    }


def of_conditional(order: Conditional) -> dict[str, Any]:
    """An order of the conditional store, and the ordinary one it became."""
    return {
        "store": "conditional",
        "symbol": order.symbol,
        "order_id": order.algo_id,
        "client_order_id": order.client_algo_id,
        "actual_order_id": order.order_id,
        "side": order.side,
        "position_side": order.position_side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "quantity": order.quantity,
        "price": order.price,
        "stop_price": order.trigger_price,
        "reduce_only": order.reduce_only,
        "close_position": order.close_position,
        "status": order.status,
        "reason": order.reject_reason,
    }


def of_spot_order(order: SpotOrder) -> dict[str, Any]:
    """A spot order."""
    return {
        "market": "spot",
        "store": "ordinary",
        "symbol": order.symbol,
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "side": order.side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "quantity": order.quantity,
        "price": order.price,
        "stop_price": order.stop_price,
        "executed": order.executed,
        "status": order.status,
    }
