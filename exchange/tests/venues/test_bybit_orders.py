"""Orders at Bybit over the wire: what is sent, what an answer means, and how an order is found again."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from exchange.bybit_gateway import BybitGateway
from exchange.errors import (
    GatewayError,
    OrderRejected,
    OutcomeUnknown,
    ReadFailed,
    Throttled,
    VenueUnavailable,
)
from exchange.factory import ExperimentalFactory
from exchange.port import OrderRequest, OrderSide, OrderType, ReportStatus
from exchange.tests.orders import BTC, entry, hard_stop
from exchange.tests.venues import bybit
from exchange.tests.venues.bybit import BybitWire, refusal, rows
from exchange.tests.venues.wire import DROP, KEY, Asked, another_account, sent_now

CREATE, CANCEL = "POST /v5/order/create", "POST /v5/order/cancel"
REALTIME, HISTORY = "GET /v5/order/realtime", "GET /v5/order/history"


async def test_an_entry_is_sent_exactly_as_decided_and_signed_with_the_stored_time(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    request = sent_now(entry(), late_ms=3_000)

    report = await bybit_gateway.submit_order(request)

    (asked,) = bybit_wire.asked_for(CREATE)
    assert asked.body == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Limit",
        "qty": "0.013",
        "price": "70000.1",
        "timeInForce": "IOC",
        "orderLinkId": "phx1",
        "positionIdx": 0,
    }
    assert asked.headers["X-BAPI-API-KEY"] == KEY
    assert asked.headers["X-BAPI-TIMESTAMP"] == str(request.timestamp_ms)
    assert asked.headers["X-BAPI-RECV-WINDOW"] == "5000"
    assert bybit_wire.changes == [asked]
    # The venue acknowledges and matches later: nothing is made up of what became of it.
    assert (report.status, report.filled_quantity) == (ReportStatus.NEW, Decimal(0))
    assert (report.client_order_id, report.exchange_order_id) == ("phx1", "1321003749386327552")
    assert report.average_price is None


async def test_nothing_is_asked_of_the_account_before_its_first_order(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    await bybit_gateway.submit_order(sent_now(entry()))

    private = [asked.call for asked in bybit_wire.asked if not asked.path.startswith("/v5/market/")]
    assert private == [CREATE]


async def test_a_hard_stop_closes_whatever_is_open_when_the_mark_falls_through_it(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    report = await bybit_gateway.submit_order(sent_now(hard_stop()))

    (asked,) = bybit_wire.asked_for(CREATE)
    assert asked.body == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "side": "Sell",
        "orderType": "Market",
        "qty": "0",
        "triggerPrice": "69000",
        "triggerDirection": 2,
        "triggerBy": "MarkPrice",
        "reduceOnly": True,
        "closeOnTrigger": True,
        "orderLinkId": "phxstop1",
        "positionIdx": 0,
    }
    assert (report.is_conditional, report.close_position, report.status) == (True, True, ReportStatus.NEW)


async def test_the_working_stop_of_a_short_buys_its_quantity_when_the_mark_rises(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    stop = hard_stop(side=OrderSide.BUY, close_position=False, reduce_only=True, quantity=Decimal("0.013"))

    await bybit_gateway.submit_order(sent_now(stop))

    (asked,) = bybit_wire.asked_for(CREATE)
    assert (asked.body["triggerDirection"], asked.body["qty"], asked.body["reduceOnly"]) == (1, "0.013", True)
    assert "closeOnTrigger" not in asked.body


async def test_a_stop_limit_names_its_price(bybit_wire: BybitWire, bybit_gateway: BybitGateway) -> None:
    stop = hard_stop(
        type=OrderType.STOP_LIMIT, close_position=False, quantity=Decimal("0.013"), price=Decimal(68900)
    )

    await bybit_gateway.submit_order(sent_now(stop))

    (asked,) = bybit_wire.asked_for(CREATE)
    assert (asked.body["orderType"], asked.body["price"], asked.body["qty"]) == ("Limit", "68900", "0.013")


async def test_an_exit_reduces_only_in_hedge_mode_too(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    close = entry(
        type=OrderType.MARKET, price=None, side=OrderSide.SELL, reduce_only=True, position_side="LONG"
    )

    await bybit_gateway.submit_order(sent_now(close))

    (asked,) = bybit_wire.asked_for(CREATE)
    assert (asked.body["positionIdx"], asked.body["reduceOnly"], asked.body["side"]) == (1, True, "Sell")
    assert "price" not in asked.body


@pytest.mark.parametrize("request_", [entry(), hard_stop()])
async def test_the_venue_refuses_an_order_that_wakes_up_too_late(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, request_: OrderRequest
) -> None:
    taken: list[Asked] = []
    bybit_wire.answer(CREATE, taken.append)

    for late_ms in (5_500, 45_000):
        with pytest.raises(Throttled) as refused:
            await bybit_gateway.submit_order(sent_now(request_, late_ms=late_ms))
        assert refused.value.code == "10002"

    assert taken == []


async def test_an_order_refused_for_its_time_is_not_sent_again_and_a_read_is_once_by_the_right_clock(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.order()))
    assert await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False) is not None
    bybit_gateway._connection.clock.offset_ms = -60_000
    bybit_gateway._connection.clock._measured_at = float("-inf")

    with pytest.raises(Throttled):
        await bybit_gateway.submit_order(sent_now(entry(), late_ms=60_000))
    assert len(bybit_wire.asked_for(CREATE)) == 1
    bybit_gateway._connection.clock.offset_ms = -60_000
    assert await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False) is not None

    assert len(bybit_wire.asked_for(REALTIME)) == 3


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (entry(quantity=Decimal("0.0135")), "LOCAL_PRECISION"),
        (entry(price=Decimal("70000.15")), "LOCAL_PRECISION"),
        (hard_stop(trigger_price=Decimal("69000.05")), "LOCAL_PRECISION"),
        (entry(symbol="DOGE/USDT:USDT"), "LOCAL_SYMBOL"),
        (entry(client_order_id="p" * 37), "LOCAL_CLIENT_ID"),
    ],
)
async def test_what_would_be_changed_on_the_way_never_leaves(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, request_: OrderRequest, code: str
) -> None:
    with pytest.raises(OrderRejected) as refused:
        await bybit_gateway.submit_order(request_)

    assert refused.value.code == code
    assert bybit_wire.changes == []


UNKNOWN, REJECTED, LATER, UNAVAILABLE = OutcomeUnknown, OrderRejected, Throttled, VenueUnavailable

# docs/v5/error. The names are the page's own.
DOCUMENTED = [
    (10000, "Server Timeout", UNKNOWN),
    (10001, "Request parameter error", REJECTED),
    (10002, "The request time exceeds the time window range.", LATER),
    (10003, "API key is invalid.", REJECTED),
    (10004, "Error sign, please check your signature generation algorithm.", REJECTED),
    (10005, "Permission denied, please check your API key permissions.", REJECTED),
    (10006, "Too many visits. Exceeded the API Rate Limit.", LATER),
    (10010, "Unmatched IP, please check your API key's bound IP addresses.", REJECTED),
    (10014, "Invalid duplicate request.", UNKNOWN),
    (10016, "Server error.", UNKNOWN),
    (10017, "Route not found.", UNAVAILABLE),
    (10027, "Transactions are banned.", REJECTED),
    (33004, "(Derivatives) Your api key has expired", REJECTED),
    (110003, "Order price exceeds the allowable range.", REJECTED),
    (110007, "Available balance is insufficient", REJECTED),
    (110017, "orderQty will be truncated to zero", REJECTED),
    (110020, "Not allowed to have more than 500 active orders.", REJECTED),
    (110066, "Trading is currently not allowed.", REJECTED),
    (110072, "OrderLinkedID is duplicate", UNKNOWN),
    (110074, "This contract is not live", REJECTED),
    (110079, "The order is processing and can not be operated, please try again later", UNKNOWN),
    (110092, "expect Rising, but trigger_price[XXXXX] <= current[XXXXX]??laste", REJECTED),
    (110093, "expect Falling, but trigger_price[XXXXX] >= current[XXXXX]??last", REJECTED),
    (110094, "Order notional value below the lower limit", REJECTED),
    (-1, "request expired: o@0, now[] diff[]", UNKNOWN),
    (429, "The trading service is experiencing a high server load.", UNKNOWN),
    (170007, "Timeout waiting for response from backend server.", UNKNOWN),
    (170146, "Order creation timeout", UNKNOWN),
    (999999, "A code nobody has seen before.", UNKNOWN),
]


@pytest.mark.parametrize("request_", [entry(), hard_stop()])
async def test_every_documented_code_says_what_may_be_done_next(
    bybit_wire: BybitWire, bybit_factory: ExperimentalFactory, request_: OrderRequest
) -> None:
    told: dict[int, type[GatewayError]] = {}
    for code, message, _ in DOCUMENTED:
        bybit_wire.answer(CREATE, refusal(code, message))
        with pytest.raises(GatewayError) as refused:
            await another_account(bybit_factory).submit_order(sent_now(request_))
        assert refused.value.code == str(code)
        told[code] = type(refused.value)

    assert told == {code: error for code, _, error in DOCUMENTED}
    assert len(bybit_wire.changes) == len(DOCUMENTED)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("", 200, UNKNOWN),
        ('{"retCode":0,"retMsg":"OK","result":{"orderId":"132', 200, UNKNOWN),
        ("<html>ok</html>", 200, UNKNOWN),
        ("[]", 200, UNKNOWN),
        (bybit.result(), 200, UNKNOWN),
        (bybit.result(orderId="", orderLinkId="phx1"), 200, UNKNOWN),
        (bybit.result(orderId="1", orderLinkId="somebody-elses"), 200, UNKNOWN),
        ("<html>bad gateway</html>", 502, UNKNOWN),
        ("Service Unavailable.", 503, UNKNOWN),
        ("<html>timeout</html>", 504, UNKNOWN),
        (refusal(10016, "Server error."), 500, UNKNOWN),
        ("<html>forbidden</html>", 403, UNAVAILABLE),
        ("<html>slow down</html>", 429, LATER),
        (DROP, 200, UNKNOWN),
    ],
)
async def test_an_answer_that_names_no_order_of_ours_is_unknown(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, body: Any, status: int, error: type[GatewayError]
) -> None:
    bybit_wire.answer(CREATE, (lambda _: DROP) if body is DROP else body, status)

    with pytest.raises(GatewayError) as failed:
        await bybit_gateway.submit_order(sent_now(entry()))

    assert type(failed.value) is error
    assert len(bybit_wire.changes) == 1


# -- looking up ------------------------------------------------------------------------------------------


def listed_at(*places: tuple[str, Any]) -> Callable[[Asked], Any]:
    """Answers a lookup by where the order is: among the open ones ("0") or the ended ones ("1")."""
    return lambda asked: rows(*[row for place, row in places if place == asked.query["openOnly"]])


async def test_an_order_is_looked_up_by_its_client_id_among_the_open_ones_first(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    open_one = bybit.order(orderStatus="PartiallyFilled", cumExecQty="0.005", avgPrice="70000.05")
    bybit_wire.answer(REALTIME, listed_at(("0", open_one)))

    report = await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert (report.status, report.filled_quantity) == (ReportStatus.PARTIALLY_FILLED, Decimal("0.005"))
    assert report.average_price == Decimal("70000.05")
    (asked,) = bybit_wire.asked_for(REALTIME)
    assert asked.query == {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "phx1", "openOnly": "0"}


async def test_an_ended_order_is_found_among_the_recent_and_in_the_history(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    ended = bybit.order(orderStatus="Filled", cumExecQty="0.013", avgPrice="70000.1")
    bybit_wire.answer(REALTIME, listed_at(("1", ended)))
    recent = await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False)
    bybit_wire.answer(REALTIME, rows())
    bybit_wire.answer(HISTORY, rows(ended))
    old = await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False)

    assert recent is not None
    assert recent == old
    assert (recent.status, recent.filled_quantity) == (ReportStatus.FILLED, Decimal("0.013"))


@pytest.mark.parametrize("is_conditional", [False, True])
async def test_an_order_that_is_nowhere_is_one_look_without_it(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, is_conditional: bool
) -> None:
    bybit_wire.answer(REALTIME, rows())
    bybit_wire.answer(HISTORY, rows())

    assert await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=is_conditional) is None

    looks = [asked.call for asked in bybit_wire.asked if asked.path.startswith("/v5/order/")]
    assert looks == [REALTIME, REALTIME, HISTORY]


@pytest.mark.parametrize("is_conditional", [False, True])
async def test_a_lookup_answered_with_another_order_is_no_answer(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, is_conditional: bool
) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.stop(orderLinkId="another", orderStatus="Filled")))

    with pytest.raises(ReadFailed) as failed:
        await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=is_conditional)

    assert failed.value.code == "OTHER_ORDER"


@pytest.mark.parametrize(
    "answer",
    [refusal(10016, "Server error."), refusal(10006), bybit.result(), bybit.result(list=None), "", "<html>"],
)
async def test_a_lookup_that_fails_is_never_an_absence(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, answer: Any
) -> None:
    bybit_wire.answer(REALTIME, rows())
    bybit_wire.answer(HISTORY, answer)

    with pytest.raises(ReadFailed):
        await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False)


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (bybit.order(orderStatus="Cancelled", timeInForce="IOC", cancelType="UNKNOWN"), ReportStatus.EXPIRED),
        (bybit.order(orderStatus="Cancelled", orderType="Market"), ReportStatus.EXPIRED),
        (bybit.order(orderStatus="Cancelled", cancelType="CancelByUser"), ReportStatus.CANCELLED),
        (bybit.order(orderStatus="Rejected", rejectReason="EC_NoEnoughQtyToFill"), ReportStatus.REJECTED),
    ],
)
async def test_what_an_immediate_order_left_unfilled_has_expired(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, row: Any, status: ReportStatus
) -> None:
    bybit_wire.answer(REALTIME, rows(row))

    report = await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert report.status is status


async def test_a_waiting_stop_is_conditional_and_no_ordinary_order(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.stop()))

    report = await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.is_conditional, report.close_position) == (ReportStatus.NEW, True, True)
    assert (report.trigger_price, report.side) == (Decimal(69000), OrderSide.SELL)
    assert await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=False) is None


async def test_a_fired_stop_is_the_same_order_in_both_stores(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.stop(orderStatus="Filled", cumExecQty="0.013", avgPrice="68990")))

    fired = await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=True)
    became = await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=False)

    assert fired is not None
    assert became is not None
    assert (fired.status, fired.triggered_order_id) == (ReportStatus.TRIGGERED, became.exchange_order_id)
    assert (became.status, became.average_price) == (ReportStatus.FILLED, Decimal(68990))


@pytest.mark.parametrize(
    ("status", "told"), [("Deactivated", ReportStatus.CANCELLED), ("Rejected", ReportStatus.REJECTED)]
)
async def test_a_stop_that_never_fired_is_told_so(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, status: str, told: ReportStatus
) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.stop(orderStatus=status)))

    report = await bybit_gateway.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.triggered_order_id) == (told, None)


async def test_an_ordinary_order_is_no_stop(bybit_wire: BybitWire, bybit_gateway: BybitGateway) -> None:
    bybit_wire.answer(REALTIME, rows(bybit.order()))

    assert await bybit_gateway.fetch_order(BTC, "phx1", is_conditional=True) is None


async def test_the_open_orders_of_each_store_are_listed_over_all_pages(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    pages = {
        # The page's own example: given encoded, and to be given back as it is.
        None: rows(bybit.order(), bybit.stop(), cursor="page_args%3Dfd4300ae%26symbol%3D6%26"),
        "page_args=fd4300ae&symbol=6&": rows(
            bybit.stop(orderLinkId="phxstop2"), bybit.stop(orderStatus="New"), cursor="third"
        ),
        "third": rows(cursor="third"),
    }
    bybit_wire.answer(REALTIME, lambda asked: pages[asked.query.get("cursor")])

    ordinary = await bybit_gateway.fetch_open_orders(is_conditional=False)
    conditional = await bybit_gateway.fetch_open_orders(BTC, is_conditional=True)

    assert [report.client_order_id for report in ordinary] == ["phx1", "phxstop1"]
    assert [report.client_order_id for report in conditional] == ["phxstop1", "phxstop2"]
    everywhere, *_, here = (asked.query for asked in bybit_wire.asked_for(REALTIME))
    assert everywhere == {"category": "linear", "settleCoin": "USDT", "openOnly": "0", "limit": "50"}
    assert (here["symbol"], here["orderFilter"]) == ("BTCUSDT", "StopOrder")


async def test_who_ordered_an_execution_is_told_by_its_order(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(REALTIME, listed_at(("1", bybit.order(orderLinkId="phx9", orderId="8c065341"))))

    assert await bybit_gateway.fetch_client_order_id(BTC, "8c065341") == "phx9"

    assert bybit_wire.asked_for(REALTIME)[0].query["orderId"] == "8c065341"


# -- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_conditional", [False, True])
async def test_an_order_is_cancelled_by_its_client_id_in_either_store(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, is_conditional: bool
) -> None:
    assert await bybit_gateway.cancel_order(BTC, "phx1", is_conditional=is_conditional)

    (asked,) = bybit_wire.asked_for(CANCEL)
    assert asked.body == {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "phx1"}


@pytest.mark.parametrize("code", [110001, 110008, 110010, 110079])
async def test_what_is_no_longer_open_cannot_be_cancelled(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, code: int
) -> None:
    bybit_wire.answer(CANCEL, refusal(code))

    assert not await bybit_gateway.cancel_order(BTC, "phx1", is_conditional=False)


async def test_a_cancel_without_an_answer_is_no_cancel(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(CANCEL, refusal(10000, "Server Timeout"))

    with pytest.raises(OutcomeUnknown):
        await bybit_gateway.cancel_order(BTC, "phx1", is_conditional=False)
