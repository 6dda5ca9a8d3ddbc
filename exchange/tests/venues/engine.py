"""A wire exchange that keeps orders: immediate ones fill whole at their price, stops rest until fired.

One book, told in each venue's own shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from exchange.tests.venues import bybit, okx
from exchange.tests.venues.wire import DROP, Asked, WireExchange, now_ms

MARK = Decimal(70_000)


@dataclass
class Kept:
    """One order of the book; a stop that fired has become number `number` + 1000."""

    number: int
    client_id: str
    side: str
    quantity: Decimal
    price: Decimal
    is_stop: bool
    closes: bool = False
    is_open: bool = False
    has_fired: bool = False
    at_ms: int = field(default_factory=now_ms)

    @property
    def has_filled(self) -> bool:
        return not self.is_open


@dataclass
class Book:
    """What was ordered; `is_deaf` loses answers after the order was taken, `is_away` before."""

    orders: list[Kept] = field(default_factory=list)
    is_deaf: bool = False
    is_away: bool = False

    def take(self, client_id: str, side: str, quantity: str, price: object, *, is_stop: bool) -> Kept:
        wanted = Decimal(quantity or 0)
        kept = Kept(len(self.orders) + 1, client_id, side.lower(), wanted, Decimal(str(price)), is_stop)
        kept.closes, kept.is_open = wanted == 0, is_stop
        self.orders.append(kept)
        return kept

    def named(self, client_id: str) -> list[Kept]:
        return [one for one in self.orders if one.client_id == client_id]

    @property
    def held(self) -> Decimal:
        """The position in the venue's own units."""
        filled = [one for one in self.orders if one.has_filled]
        return sum((one.quantity if one.side == "buy" else -one.quantity for one in filled), Decimal(0))

    def fire(self, client_id: str) -> None:
        """The mark went through the stop: it sells what is held."""
        (stop,) = self.named(client_id)
        stop.quantity = stop.quantity or abs(self.held)
        stop.is_open, stop.has_fired = False, True


def _answering(book: Book, take: Callable[[Asked], Any], away: Any) -> Callable[[Asked], Any]:
    def answer(asked: Asked) -> Any:
        if book.is_away:
            return away
        told = take(asked)
        return DROP if book.is_deaf else told

    return answer


def open_bybit(wire: WireExchange, book: Book) -> None:
    """Serve the book in Bybit's shapes."""

    def take(asked: Asked) -> Any:
        told = asked.body
        price, is_stop = told.get("triggerPrice") or told.get("price") or MARK, "triggerPrice" in told
        kept = book.take(told["orderLinkId"], told["side"], told["qty"], price, is_stop=is_stop)
        return bybit.result(orderId=f"b-{kept.number}", orderLinkId=kept.client_id)

    def row(kept: Kept) -> Any:
        told = {
            "orderId": f"b-{kept.number}",
            "orderLinkId": kept.client_id,
            "side": kept.side.capitalize(),
            "qty": str(kept.quantity),
            "cumExecQty": "0" if kept.is_open else str(kept.quantity),
            "avgPrice": "" if kept.is_open else str(kept.price),
            "updatedTime": str(kept.at_ms),
        }
        if not kept.is_stop:
            return bybit.order(**told, orderStatus="New" if kept.is_open else "Filled")
        waiting = "Untriggered" if kept.is_open else "Filled"
        return bybit.stop(
            **told, orderStatus=waiting, triggerPrice=str(kept.price), closeOnTrigger=kept.closes
        )

    def orders(asked: Asked) -> Any:
        wanted_open = asked.query.get("openOnly") == "0"
        chosen = [one for one in book.orders if one.is_open is wanted_open]
        for name, own in (
            ("orderLinkId", lambda one: one.client_id),
            ("orderId", lambda one: f"b-{one.number}"),
        ):
            if name in asked.query:
                chosen = [one for one in chosen if own(one) == asked.query[name]]
        return bybit.rows(*[row(one) for one in reversed(chosen)])

    def executions(asked: Asked) -> Any:
        wanted = asked.query.get("orderId")
        filled = [one for one in book.orders if one.has_filled and wanted in {None, f"b-{one.number}"}]
        return bybit.rows(
            *[
                bybit.execution(
                    execId=f"e-{one.number}",
                    orderId=f"b-{one.number}",
                    orderLinkId=one.client_id,
                    side=one.side.capitalize(),
                    execQty=str(one.quantity),
                    execPrice=str(one.price),
                    execTime=str(one.at_ms),
                )
                for one in filled
            ]
        )

    def positions(_: Asked) -> Any:
        side = "Buy" if book.held > 0 else "Sell"
        return bybit.rows(
            bybit.position(side=side if book.held else "", size=str(abs(book.held)), leverage="3")
        )

    def cancel(asked: Asked) -> Any:
        waiting = [one for one in book.named(asked.body["orderLinkId"]) if one.is_open]
        book.orders = [one for one in book.orders if one not in waiting]
        return bybit.acknowledged(asked) if waiting else bybit.refusal(110001)

    wire.answer("GET /v5/market/instruments-info", bybit.rows(bybit.instrument()))
    wire.answer("GET /v5/market/time", lambda _: bybit.result(timeNano=f"{now_ms()}000000"))
    wire.answer("POST /v5/order/create", _answering(book, take, bybit.refusal(10016, "Server error.")))
    wire.answer("POST /v5/order/cancel", cancel)
    wire.answer("GET /v5/order/realtime", orders)
    wire.answer("GET /v5/order/history", orders)
    wire.answer("GET /v5/execution/list", executions)
    wire.answer("GET /v5/position/list", positions)


def open_okx(wire: WireExchange, book: Book) -> None:  # noqa: C901 - one endpoint after another
    """Serve the book in OKX's shapes, in contracts."""

    def take(asked: Asked) -> Any:
        (told,) = asked.body
        kept = book.take(told["clOrdId"], told["side"], told["sz"], told.get("px", MARK), is_stop=False)
        return okx.rows({"clOrdId": kept.client_id, "ordId": str(kept.number), "sCode": "0", "sMsg": ""})

    def take_stop(asked: Asked) -> Any:
        told = asked.body
        kept = book.take(
            told["algoClOrdId"], told["side"], told.get("sz", ""), told["slTriggerPx"], is_stop=True
        )
        answer = {"algoClOrdId": kept.client_id, "algoId": str(kept.number), "sCode": "0", "sMsg": ""}
        return okx.rows(answer)

    def number_of(kept: Kept) -> str:
        return str(kept.number + 1000) if kept.is_stop else str(kept.number)

    def row(kept: Kept) -> Any:
        return okx.order(
            ordId=number_of(kept),
            clOrdId="" if kept.is_stop else kept.client_id,
            algoClOrdId=kept.client_id if kept.is_stop else "",
            side=kept.side,
            sz=str(kept.quantity),
            accFillSz=str(kept.quantity),
            avgPx=str(kept.price),
            uTime=str(kept.at_ms),
        )

    def order(asked: Asked) -> Any:
        ordinary = [one for one in book.orders if not one.is_stop or one.has_fired]
        found = [
            one
            for one in ordinary
            if asked.query.get("ordId") == number_of(one)
            or (not one.is_stop and asked.query.get("clOrdId") == one.client_id)
        ]
        return okx.rows(*map(row, found)) if found else okx.refusal("51603", "Order does not exist")

    def stop_row(kept: Kept) -> Any:
        return okx.algo(
            algoId=str(kept.number),
            algoClOrdId=kept.client_id,
            side=kept.side,
            sz="" if kept.closes else str(kept.quantity),
            closeFraction="1" if kept.closes else "",
            slTriggerPx=str(kept.price),
            state="live" if kept.is_open else "effective",
            ordIdList=[number_of(kept)] if kept.has_fired else [],
        )

    def algo(asked: Asked) -> Any:
        found = [one for one in book.named(asked.query["algoClOrdId"]) if one.is_stop]
        return okx.rows(*map(stop_row, found)) if found else okx.refusal("51603", "Order does not exist")

    def waiting(asked: Asked) -> Any:
        is_ours = asked.query["ordType"] == "conditional"
        return okx.rows(*[stop_row(one) for one in book.orders if is_ours and one.is_stop and one.is_open])

    def fills(asked: Asked) -> Any:
        wanted = asked.query.get("ordId")
        return okx.rows(
            *[
                okx.fill(
                    tradeId=str(one.number + 5000),
                    billId=str(one.number + 9000),
                    ordId=number_of(one),
                    clOrdId="" if one.is_stop else one.client_id,
                    side=one.side,
                    fillSz=str(one.quantity),
                    fillPx=str(one.price),
                    fillTime=str(one.at_ms),
                )
                for one in book.orders
                if one.has_filled and wanted in {None, number_of(one)}
            ]
        )

    def cancel_stop(asked: Asked) -> Any:
        (told,) = asked.body
        found = [one for one in book.named(told["algoClOrdId"]) if one.is_open]
        book.orders = [one for one in book.orders if one not in found]
        return okx.algo_acknowledged(asked) if found else okx.order_refusal("51400")

    held = lambda _: okx.rows(  # noqa: E731 - one line of many
        okx.position(instId="BTC-USDT-SWAP", pos=str(book.held), avgPx="70000", markPx="70000")
    )
    wire.answer("GET /api/v5/public/instruments", okx.INSTRUMENTS)
    wire.answer("GET /api/v5/public/time", lambda _: okx.rows({"ts": str(now_ms())}))
    busy = okx.refusal("50013", "Systems are busy. Please try again later.")
    wire.answer("POST /api/v5/trade/batch-orders", _answering(book, take, busy))
    wire.answer("POST /api/v5/trade/order-algo", _answering(book, take_stop, busy))
    wire.answer("POST /api/v5/trade/cancel-algos", cancel_stop)
    wire.answer("GET /api/v5/trade/order", order)
    wire.answer("GET /api/v5/trade/order-algo", algo)
    wire.answer("GET /api/v5/trade/orders-pending", okx.rows())
    wire.answer("GET /api/v5/trade/orders-algo-pending", waiting)
    wire.answer("GET /api/v5/trade/fills", fills)
    wire.answer("GET /api/v5/trade/fills-history", fills)
    wire.answer("GET /api/v5/account/positions", held)
