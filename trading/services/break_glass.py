"""Flatten from the exchange's own positions, with the database gone. The one exception to the one path.

It knows only what the exchange says and the keys that need no database: environment accounts, and on paper
the paper accounts' names. Nothing is recorded; reconciliation adopts the result when the database is back.
An account that does not answer holds up no other.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from django.conf import settings

from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, OrderReport, OrderRequest, OrderSide, OrderType, PositionReport

ROUND_SECONDS = 12.0
PAUSE_SECONDS = 0.5


@dataclass(slots=True)
class Flattened:
    """What became of one account: closes sent, what is still open, and why."""

    account: str
    sent: int = 0
    residuals: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_flat(self) -> bool:
        """Whether the exchange, read again, holds nothing."""
        return not self.residuals and not self.problems


def flatten(gateways: Mapping[str, ExchangeGateway], symbol: str, seconds: float) -> list[Flattened]:
    """Close what the exchange holds (of `symbol`, or all when empty) until flat or out of time."""
    until = time.monotonic() + seconds
    results = {name: Flattened(name) for name in gateways}
    open_accounts = dict(gateways)
    while open_accounts:
        _close_round(open_accounts, symbol, results)
        open_accounts = {name: one for name, one in gateways.items() if not results[name].is_flat}
        if time.monotonic() >= until:
            break
        if open_accounts:
            time.sleep(PAUSE_SECONDS)
    _remove_stops({name: one for name, one in gateways.items() if results[name].is_flat}, symbol, results)
    return list(results.values())


def _close_round(
    gateways: Mapping[str, ExchangeGateway], symbol: str, results: Mapping[str, Flattened]
) -> None:
    """Send one reduce-only close for everything open, and read again. Twice can close nothing twice."""
    for name in gateways:
        results[name].problems.clear()
    rounds = [_close(gateway, symbol, results[name]) for name, gateway in gateways.items()]
    for name, end in zip(gateways, IoLoop.current().run_all(rounds, ROUND_SECONDS), strict=True):
        if isinstance(end, BaseException):
            results[name].problems.append(_told(end))


async def _close(gateway: ExchangeGateway, symbol: str, result: Flattened) -> None:
    with priority(Priority.EXIT):  # its reads too: nothing is more urgent, whatever the budget was used for
        await _close_and_look(gateway, symbol, result)


async def _close_and_look(gateway: ExchangeGateway, symbol: str, result: Flattened) -> None:
    held = await _open_positions(gateway, symbol)
    result.residuals = [f"{one.symbol} {one.quantity}" for one in held]
    ends = await asyncio.gather(
        *(gateway.submit_order(_close_request(one, gateway.timestamp_ms())) for one in held),
        return_exceptions=True,
    )
    for position, end in zip(held, ends, strict=True):
        if isinstance(end, BaseException):
            result.problems.append(f"{position.symbol}: {_told(end)}")
        else:
            result.sent += 1
    if held:
        result.residuals = [f"{one.symbol} {one.quantity}" for one in await _open_positions(gateway, symbol)]


async def _open_positions(gateway: ExchangeGateway, symbol: str) -> Sequence[PositionReport]:
    held = await gateway.fetch_positions()
    return [one for one in held if one.quantity > 0 and symbol in {"", one.symbol}]


def _close_request(position: PositionReport, timestamp_ms: int) -> OrderRequest:
    return OrderRequest(
        client_order_id=f"{settings.DESK_ID_PREFIX}bg{uuid4().hex}"[:32],
        symbol=position.symbol,
        side=OrderSide.SELL if position.is_long else OrderSide.BUY,
        type=OrderType.MARKET,
        quantity=position.quantity,
        timestamp_ms=timestamp_ms,
        # In hedge mode the position side already makes it a close, and reduce-only beside it is refused.
        reduce_only=not position.position_side,
        position_side=position.position_side,
    )


def _remove_stops(
    gateways: Mapping[str, ExchangeGateway], symbol: str, results: Mapping[str, Flattened]
) -> None:
    """Only after flat is read: a stop is what protects until then."""
    removals = [_remove(gateway, symbol) for gateway in gateways.values()]
    for name, end in zip(gateways, IoLoop.current().run_all(removals, ROUND_SECONDS), strict=True):
        if isinstance(end, BaseException):
            results[name].problems.append(f"orders left: {_told(end)}")


async def _remove(gateway: ExchangeGateway, symbol: str) -> None:
    for is_conditional in (True, False):
        orders = await gateway.fetch_open_orders(symbol or None, is_conditional=is_conditional)
        for order in filter(_is_of_a_position, orders):
            await gateway.cancel_order(order.symbol, order.client_order_id, is_conditional=is_conditional)


def _is_of_a_position(order: OrderReport) -> bool:
    """Ours, or one that can only close: somebody else's resting entry is theirs to keep."""
    is_ours = order.client_order_id.startswith(settings.DESK_ID_PREFIX)
    return is_ours or order.reduce_only or order.close_position


def _told(error: BaseException) -> str:
    return error.code if isinstance(error, GatewayError) else type(error).__name__
