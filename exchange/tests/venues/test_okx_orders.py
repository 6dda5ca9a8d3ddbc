"""Orders at OKX over the wire: contracts sent, base units told, and refusals dressed as successes."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from exchange.errors import (
    GatewayError,
    OrderRejected,
    OutcomeUnknown,
    ReadFailed,
    Throttled,
    VenueUnavailable,
)
from exchange.factory import ExperimentalFactory
from exchange.okx_gateway import OkxGateway
from exchange.port import OrderRequest, OrderSide, OrderType, ReportStatus
from exchange.tests.orders import BTC, entry, hard_stop
from exchange.tests.venues import okx
from exchange.tests.venues.okx import OkxWire, order_refusal, refusal, rows
from exchange.tests.venues.wire import DROP, Asked, another_account, sent_now

PLACE, PLACE_ALGO = "POST /api/v5/trade/batch-orders", "POST /api/v5/trade/order-algo"
CANCEL, CANCEL_ALGO = "POST /api/v5/trade/cancel-order", "POST /api/v5/trade/cancel-algos"
ORDER, ALGO = "GET /api/v5/trade/order", "GET /api/v5/trade/order-algo"
PENDING, ALGO_PENDING = "GET /api/v5/trade/orders-pending", "GET /api/v5/trade/orders-algo-pending"
ABSENT = refusal("51603", "Order does not exist")


def signed_at_ms(asked: Asked) -> int:
    return round(datetime.fromisoformat(asked.headers["OK-ACCESS-TIMESTAMP"]).timestamp() * 1000)


async def test_an_entry_is_sent_in_contracts_with_the_stored_time_and_a_deadline(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    request = sent_now(entry(), late_ms=3_000)

    report = await okx_gateway.submit_order(request)

    (asked,) = okx_wire.asked_for(PLACE)
    assert asked.body == [
        {
            "instId": "BTC-USDT-SWAP",
            "tdMode": "isolated",
            "side": "buy",
            "ordType": "ioc",
            "sz": "1.3",
            "px": "70000.1",
            "clOrdId": "phx1",
        }
    ]
    assert signed_at_ms(asked) == request.timestamp_ms
    assert asked.headers["expTime"] == str(request.timestamp_ms + 5_000)
    assert okx_wire.changes == [asked]
    assert (report.status, report.quantity, report.filled_quantity) == (
        ReportStatus.NEW,
        Decimal("0.013"),
        Decimal(0),
    )
    assert (report.client_order_id, report.exchange_order_id) == ("phx1", "12345689")


async def test_a_hard_stop_closes_all_by_the_mark_and_is_signed_as_old_as_its_window_leaves(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    request = sent_now(hard_stop())

    report = await okx_gateway.submit_order(request)

    (asked,) = okx_wire.asked_for(PLACE_ALGO)
    assert asked.body == {
        "instId": "BTC-USDT-SWAP",
        "tdMode": "isolated",
        "side": "sell",
        "ordType": "conditional",
        "slTriggerPx": "69000",
        "slTriggerPxType": "mark",
        "slOrdPx": "-1",
        "closeFraction": "1",
        "reduceOnly": True,
        "clOrdId": "phxstop1",
        "algoClOrdId": "phxstop1",
    }
    # No deadline is documented for this endpoint: a signature lives 30 s, and 25 of them are over already.
    assert signed_at_ms(asked) == request.timestamp_ms - 25_000
    assert "expTime" not in asked.headers
    assert (report.is_conditional, report.close_position) == (True, True)
    assert report.exchange_order_id == "1836487817828872192"


async def test_a_working_stop_and_a_stop_limit_carry_their_contracts(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    working = hard_stop(close_position=False, reduce_only=True, quantity=Decimal("0.013"))
    await okx_gateway.submit_order(sent_now(working))
    limit = hard_stop(
        type=OrderType.STOP_LIMIT, close_position=False, quantity=Decimal("0.013"), price=Decimal(68900)
    )
    await okx_gateway.submit_order(sent_now(limit))

    first, second = okx_wire.asked_for(PLACE_ALGO)
    assert (first.body["sz"], first.body["slOrdPx"], first.body["reduceOnly"]) == ("1.3", "-1", True)
    assert "closeFraction" not in first.body
    assert (second.body["sz"], second.body["slOrdPx"]) == ("1.3", "68900")


async def test_an_exit_at_market_reduces_only_and_in_hedge_mode_closes_its_side(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    close = {"type": OrderType.MARKET, "price": None, "side": OrderSide.SELL, "reduce_only": True}
    await okx_gateway.submit_order(sent_now(entry(**close)))
    await okx_gateway.submit_order(sent_now(entry(**close, position_side="LONG")))

    (one_way,), (hedge,) = (asked.body for asked in okx_wire.asked_for(PLACE))
    assert (one_way["ordType"], one_way["reduceOnly"]) == ("market", True)
    assert "px" not in one_way
    assert hedge["posSide"] == "long"
    assert "reduceOnly" not in hedge


@pytest.mark.parametrize(
    ("symbol", "quantity", "contracts"),
    [
        (BTC, "0.0001", "0.01"),
        (BTC, "12", "1200"),
        ("ETH/USDT:USDT", "0.05", "0.5"),
        ("SHIB/USDT:USDT", "2500000", "2.5"),
    ],
)
async def test_a_quantity_in_base_units_becomes_contracts_of_the_symbols_own_size(
    okx_wire: OkxWire, okx_gateway: OkxGateway, symbol: str, quantity: str, contracts: str
) -> None:
    order = entry(symbol=symbol, quantity=Decimal(quantity), price=Decimal("0.1"))

    report = await okx_gateway.submit_order(sent_now(order))

    ((sent,),) = (asked.body for asked in okx_wire.asked_for(PLACE))
    assert sent["sz"] == contracts
    assert report.quantity == Decimal(quantity)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (entry(quantity=Decimal("0.00013")), "LOCAL_PRECISION"),
        (entry(quantity=Decimal("0.00001")), "LOCAL_PRECISION"),
        (entry(symbol="SHIB/USDT:USDT", quantity=Decimal(50_000), price=Decimal("0.1")), "LOCAL_PRECISION"),
        (entry(price=Decimal("70000.15")), "LOCAL_PRECISION"),
        (hard_stop(trigger_price=Decimal("69000.05")), "LOCAL_PRECISION"),
        (entry(symbol="DOGE/USDT:USDT"), "LOCAL_SYMBOL"),
        (entry(client_order_id="p" * 33), "LOCAL_CLIENT_ID"),
        (entry(client_order_id="phx-1"), "LOCAL_CLIENT_ID"),
    ],
)
async def test_what_is_no_whole_lot_of_contracts_never_leaves(
    okx_wire: OkxWire, okx_gateway: OkxGateway, request_: OrderRequest, code: str
) -> None:
    with pytest.raises(OrderRejected) as refused:
        await okx_gateway.submit_order(sent_now(request_))

    assert refused.value.code == code
    assert okx_wire.changes == []


@pytest.mark.parametrize(
    ("request_", "call", "code"), [(entry(), PLACE, "50036"), (hard_stop(), PLACE_ALGO, "50102")]
)
async def test_the_venue_refuses_an_order_that_wakes_up_too_late(
    okx_wire: OkxWire, okx_gateway: OkxGateway, request_: OrderRequest, call: str, code: str
) -> None:
    taken: list[Asked] = []
    okx_wire.answer(call, taken.append)

    with pytest.raises(Throttled) as refused:
        await okx_gateway.submit_order(sent_now(request_, late_ms=5_500))
    assert refused.value.code == code
    with pytest.raises(Throttled):
        await okx_gateway.submit_order(sent_now(request_, late_ms=45_000))

    assert taken == []


UNKNOWN, REJECTED, LATER, UNAVAILABLE = OutcomeUnknown, OrderRejected, Throttled, VenueUnavailable

# www.okx.com/docs-v5/en/#error-code. A code of the whole request, with its documented HTTP status.
REQUEST_CODES = [
    ("50001", 503, "Service temporarily unavailable. Please try again later.", UNKNOWN),
    ("50002", 400, "JSON syntax error", REJECTED),
    (
        "50004",
        400,
        "API endpoint request timeout. (does not mean that the request was successful...)",
        UNKNOWN,
    ),
    ("50005", 410, "API endpoint is inactive or unavailable.", UNKNOWN),
    ("50011", 429, "Too Many Requests", LATER),
    ("50013", 429, "Systems are busy. Please try again later.", UNKNOWN),
    ("50026", 500, "System error. Try again later", UNKNOWN),
    ("50036", 200, "The expTime can't be earlier than the current system time.", LATER),
    ("50037", 200, "Order expired.", LATER),
    ("50061", 200, "You've reached the maximum order rate limit for this account.", LATER),
    ("50101", 401, "APIKey does not match current environment.", REJECTED),
    ("50102", 401, "Timestamp request expired.", LATER),
    ("50105", 401, 'Request header "OK-ACCESS-PASSPHRASE" incorrect.', REJECTED),
    ("50110", 401, "Your IP is not included in your API key's IP whitelist.", REJECTED),
    ("50111", 401, "Invalid OK-ACCESS-KEY.", REJECTED),
    ("50113", 401, "Invalid signature.", REJECTED),
    ("50120", 200, "This API key doesn't have permission to use this function", REJECTED),
    ("51149", 500, "Order timed out. Please try again.", UNKNOWN),
    ("1", 200, "Operation failed.", UNKNOWN),
    ("59999", 200, "A code nobody has seen before.", UNKNOWN),
]
# The order's own code, beside an outer code of 1 or, on the conditional store, of 0.
ORDER_CODES = [
    ("50042", "Repeated request", UNKNOWN),
    ("51000", "Parameter instId error", REJECTED),
    ("51001", "Instrument ID does not exist", REJECTED),
    ("51006", "Order price is not within the price limit", REJECTED),
    ("51008", "Order failed. Insufficient margin in account", REJECTED),
    ("51010", "You can't complete this request under your current account mode.", REJECTED),
    ("51011", "Duplicate order ID", UNKNOWN),
    ("51016", "Client order ID already exists.", UNKNOWN),
    ("51020", "Your order should meet or exceed the minimum order amount.", REJECTED),
    ("51022", "Contract suspended", REJECTED),
    ("51112", "Close order size exceeds available size for this position.", REJECTED),
    ("51119", "Order placement failed due to insufficient balance.", REJECTED),
    ("51121", "Order quantity must be a multiple of the lot size.", REJECTED),
    ("51131", "Insufficient balance", REJECTED),
    ("51149", "Order timed out. Please try again.", UNKNOWN),
    ("51169", "Order failed because you don't have any positions in this direction.", REJECTED),
    ("51261", "Each user can hold up to so many pending stop orders", REJECTED),
    ("51278", "SL trigger price cannot be lower than the last price.", REJECTED),
    ("51280", "SL trigger price cannot be higher than the last price.", REJECTED),
    ("51329", "closeFraction is only available in NET mode", REJECTED),
    ("51999", "A code nobody has seen before.", UNKNOWN),
]


@pytest.mark.parametrize("request_", [entry(), hard_stop()])
async def test_every_documented_code_of_a_request_says_what_may_be_done_next(
    okx_wire: OkxWire, okx_factory: ExperimentalFactory, request_: OrderRequest
) -> None:
    told = {}
    for code, status, message, _ in REQUEST_CODES:
        okx_wire.answer(PLACE, refusal(code, message), status)
        okx_wire.answer(PLACE_ALGO, refusal(code, message), status)
        with pytest.raises(GatewayError) as refused:
            await another_account(okx_factory).submit_order(sent_now(request_))
        told[refused.value.code] = type(refused.value)

    assert told == {code: error for code, _, _, error in REQUEST_CODES}
    assert len(okx_wire.changes) == len(REQUEST_CODES)


@pytest.mark.parametrize("outer", ["1", "2", "0"])
@pytest.mark.parametrize("request_", [entry(), hard_stop()])
async def test_a_refused_order_is_told_by_its_own_code_whatever_the_outer_one_says(
    okx_wire: OkxWire, okx_factory: ExperimentalFactory, request_: OrderRequest, outer: str
) -> None:
    told = {}
    for code, _, _ in ORDER_CODES:
        answer = order_refusal(code, outer, algoId="", algoClOrdId="phxstop1")
        okx_wire.answer(PLACE, answer)
        okx_wire.answer(PLACE_ALGO, answer)
        with pytest.raises(GatewayError) as refused:
            await another_account(okx_factory).submit_order(sent_now(request_))
        told[refused.value.code] = type(refused.value)

    assert told == {code: error for code, _, error in ORDER_CODES}
    assert len(okx_wire.changes) == len(ORDER_CODES)


async def test_a_stop_that_timed_out_with_an_id_is_unknown_and_not_placed(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    named = order_refusal("51149", "0", algoId="3796251408639365120", algoClOrdId="phxstop1")
    okx_wire.answer(PLACE_ALGO, named)

    with pytest.raises(OutcomeUnknown) as unknown:
        await okx_gateway.submit_order(sent_now(hard_stop()))

    assert unknown.value.code == "51149"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("", 200, UNKNOWN),
        ('{"code":"0","data":[{"ordId":"123', 200, UNKNOWN),
        ("<html>ok</html>", 200, UNKNOWN),
        (rows(), 200, UNKNOWN),
        (rows({"clOrdId": "phx1", "ordId": "", "sCode": "0"}), 200, UNKNOWN),
        (rows({"clOrdId": "somebodyelses", "ordId": "1", "sCode": "0"}), 200, UNKNOWN),
        ("<html>bad gateway</html>", 502, UNKNOWN),
        ("Service Unavailable.", 503, UNKNOWN),
        ("<html>forbidden</html>", 403, UNAVAILABLE),
        ({"code": 404, "data": {}, "msg": "Not Found"}, 404, UNAVAILABLE),
        ("<html>slow down</html>", 429, LATER),
        (DROP, 200, UNKNOWN),
    ],
)
async def test_an_answer_that_names_no_order_of_ours_is_unknown(
    okx_wire: OkxWire, okx_gateway: OkxGateway, body: Any, status: int, error: type[GatewayError]
) -> None:
    okx_wire.answer(PLACE, (lambda _: DROP) if body is DROP else body, status)

    with pytest.raises(GatewayError) as failed:
        await okx_gateway.submit_order(sent_now(entry()))

    assert type(failed.value) is error
    assert len(okx_wire.changes) == 1


# -- looking up ------------------------------------------------------------------------------------------


async def test_an_order_is_looked_up_by_its_client_id_and_told_in_base_units(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(ORDER, rows(okx.order()))

    report = await okx_gateway.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert (report.status, report.quantity, report.filled_quantity) == (
        ReportStatus.FILLED,
        Decimal("0.013"),
        Decimal("0.013"),
    )
    assert report.average_price == Decimal("70000.1")
    (asked,) = okx_wire.asked_for(ORDER)
    assert asked.query == {"instId": "BTC-USDT-SWAP", "clOrdId": "phx1"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "live", "ordType": "limit"}, ReportStatus.NEW),
        ({"state": "partially_filled", "ordType": "limit"}, ReportStatus.PARTIALLY_FILLED),
        ({"state": "canceled", "cancelSource": "14"}, ReportStatus.EXPIRED),
        ({"state": "canceled", "cancelSource": "1"}, ReportStatus.CANCELLED),
        ({"state": "canceled", "ordType": "limit", "cancelSource": "0"}, ReportStatus.CANCELLED),
        ({"state": "mmp_canceled", "ordType": "limit"}, ReportStatus.CANCELLED),
    ],
)
async def test_what_an_immediate_order_left_unfilled_has_expired(
    okx_wire: OkxWire, okx_gateway: OkxGateway, changes: dict[str, str], status: ReportStatus
) -> None:
    okx_wire.answer(ORDER, rows(okx.order(**changes)))

    report = await okx_gateway.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert report.status is status


async def test_an_order_that_is_nowhere_was_looked_for_in_both_stores(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(ORDER, ABSENT)
    okx_wire.answer(ALGO, ABSENT)

    assert await okx_gateway.fetch_order(BTC, "phx1", is_conditional=False) is None
    assert await okx_gateway.fetch_order(BTC, "phx1", is_conditional=True) is None

    looks = [asked.call for asked in okx_wire.asked if asked.path.startswith("/api/v5/trade/")]
    assert looks == [ORDER, ALGO, ALGO]


@pytest.mark.parametrize("is_conditional", [False, True])
async def test_a_lookup_answered_with_another_order_is_no_answer(
    okx_wire: OkxWire, okx_gateway: OkxGateway, is_conditional: bool
) -> None:
    okx_wire.answer(ORDER, rows(okx.order(clOrdId="another")))
    okx_wire.answer(ALGO, rows(okx.algo(algoClOrdId="another")))

    with pytest.raises(ReadFailed) as failed:
        await okx_gateway.fetch_order(BTC, "phxstop1", is_conditional=is_conditional)

    assert failed.value.code == "OTHER_ORDER"


@pytest.mark.parametrize(
    "answer",
    [
        refusal("50001"),
        refusal("50011"),
        {"code": "0", "msg": ""},
        {"data": []},
        "",
        "<html>",
        rows({"a": 1}),
    ],
)
@pytest.mark.parametrize("is_conditional", [False, True])
async def test_a_lookup_that_fails_is_never_an_absence(
    okx_wire: OkxWire, okx_gateway: OkxGateway, answer: Any, is_conditional: bool
) -> None:
    okx_wire.answer(ORDER, answer)
    okx_wire.answer(ALGO, answer)

    with pytest.raises(ReadFailed):
        await okx_gateway.fetch_order(BTC, "phx1", is_conditional=is_conditional)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("live", ReportStatus.NEW),
        ("pause", ReportStatus.NEW),
        ("effective", ReportStatus.TRIGGERED),
        ("canceled", ReportStatus.CANCELLED),
        ("order_failed", ReportStatus.REJECTED),
    ],
)
async def test_a_stop_is_told_by_the_conditional_store(
    okx_wire: OkxWire, okx_gateway: OkxGateway, state: str, status: ReportStatus
) -> None:
    okx_wire.answer(ALGO, rows(okx.algo(state=state)))

    report = await okx_gateway.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.trigger_price, report.close_position) == (status, Decimal(69000), True)
    assert (report.client_order_id, report.reduce_only) == ("phxstop1", True)
    assert okx_wire.asked_for(ALGO)[0].query == {"algoClOrdId": "phxstop1"}


async def test_the_order_a_stop_became_is_found_through_the_stop(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    fired = okx.algo(state="effective", ordIdList=["680800019749904384"], actualSz="1.3")
    child = okx.order(clOrdId="", algoClOrdId="phxstop1", ordType="market", side="sell", avgPx="68990")
    okx_wire.answer(ALGO, rows(fired))
    okx_wire.answer(ORDER, lambda asked: rows(child) if "ordId" in asked.query else ABSENT)

    stop = await okx_gateway.fetch_order(BTC, "phxstop1", is_conditional=True)
    became = await okx_gateway.fetch_order(BTC, "phxstop1", is_conditional=False)

    assert stop is not None
    assert became is not None
    assert (stop.status, stop.triggered_order_id) == (ReportStatus.TRIGGERED, became.exchange_order_id)
    assert (became.client_order_id, became.status) == ("phxstop1", ReportStatus.FILLED)
    assert (became.average_price, became.filled_quantity) == (Decimal(68990), Decimal("0.013"))
    assert await okx_gateway.fetch_client_order_id(BTC, "680800019749904384") == "phxstop1"


async def test_a_stop_that_still_waits_is_no_ordinary_order(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(ORDER, ABSENT)
    okx_wire.answer(ALGO, rows(okx.algo()))

    assert await okx_gateway.fetch_order(BTC, "phxstop1", is_conditional=False) is None


async def test_the_open_orders_of_each_store_are_listed_over_all_pages_and_kinds(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    def pending(asked: Asked) -> Any:
        if asked.query.get("after") == "99":
            return rows(
                okx.order(clOrdId="last", state="live"), okx.order(instId="BTC-USD-SWAP", state="live")
            )
        return rows(*[okx.order(clOrdId=f"phx{n}", ordId=str(n), state="live") for n in range(100)])

    kinds = {"conditional": okx.algo(), "trigger": okx.algo(algoClOrdId="", slTriggerPx="", triggerPx="3000")}
    okx_wire.answer(PENDING, pending)
    okx_wire.answer(ALGO_PENDING, lambda asked: rows(*filter(None, [kinds.get(asked.query["ordType"])])))

    ordinary = await okx_gateway.fetch_open_orders(is_conditional=False)
    ours, strangers = await okx_gateway.fetch_open_orders(BTC, is_conditional=True)

    assert len(ordinary) == 101
    assert ordinary[-1].client_order_id == "last"
    assert (ours.client_order_id, ours.trigger_price) == ("phxstop1", Decimal(69000))
    assert (strangers.client_order_id, strangers.trigger_price) == ("", Decimal(3000))
    asked = {one.query["ordType"] for one in okx_wire.asked_for(ALGO_PENDING)}
    assert asked == {"conditional", "oco", "trigger", "move_order_stop"}


# -- cancelling ------------------------------------------------------------------------------------------


async def test_an_order_is_cancelled_by_its_client_id_in_its_store(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    assert await okx_gateway.cancel_order(BTC, "phx1", is_conditional=False)
    assert await okx_gateway.cancel_order(BTC, "phxstop1", is_conditional=True)

    assert okx_wire.asked_for(CANCEL)[0].body == {"instId": "BTC-USDT-SWAP", "clOrdId": "phx1"}
    assert okx_wire.asked_for(CANCEL_ALGO)[0].body == [{"instId": "BTC-USDT-SWAP", "algoClOrdId": "phxstop1"}]


@pytest.mark.parametrize("outer", ["1", "0"])
@pytest.mark.parametrize("code", ["51400", "51401", "51402", "51410", "51603"])
async def test_what_is_no_longer_open_cannot_be_cancelled(
    okx_wire: OkxWire, okx_gateway: OkxGateway, code: str, outer: str
) -> None:
    okx_wire.answer(CANCEL, order_refusal(code, outer))
    okx_wire.answer(CANCEL_ALGO, order_refusal(code, outer))

    assert not await okx_gateway.cancel_order(BTC, "phx1", is_conditional=False)
    assert not await okx_gateway.cancel_order(BTC, "phx1", is_conditional=True)


async def test_a_refused_cancel_is_no_cancel(okx_wire: OkxWire, okx_gateway: OkxGateway) -> None:
    okx_wire.answer(CANCEL_ALGO, order_refusal("51000", "0"))

    with pytest.raises(OrderRejected) as refused:
        await okx_gateway.cancel_order(BTC, "phxstop1", is_conditional=True)

    assert refused.value.code == "51000"
