"""Orders over the wire: what is sent, what comes back, and what can never be taken for a refusal."""

import asyncio
import tracemalloc
from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.ccxt_gateway import CcxtGateway
from exchange.clients import GatedClient, clone
from exchange.credentials import Credentials
from exchange.errors import (
    GatewayError,
    OrderRejected,
    OutcomeUnknown,
    ReadFailed,
    Throttled,
    VenueUnavailable,
)
from exchange.factory import GatewayFactory
from exchange.futures_gateway import FuturesGateway
from exchange.port import Market, OrderReport, OrderRequest, OrderSide, OrderType, ReportStatus
from exchange.spot_gateway import SpotGateway
from exchange.tests.conftest import DROP, Asked, RecordedVenue
from exchange.tests.orders import BTC, entry, hard_stop
from exchange.tests.recorded import algo, placed, spot_placed


@pytest.fixture
def futures(factory: GatewayFactory, keys: Credentials) -> FuturesGateway:
    return factory.for_account(keys, Market.FUTURES)


@pytest.fixture
def spot(factory: GatewayFactory, keys: Credentials) -> SpotGateway:
    return factory.for_account(keys, Market.SPOT)


async def test_an_entry_is_sent_with_the_stored_timestamp_and_exactly_as_decided(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/order", placed())

    report = await futures.submit_order(entry())

    (asked,) = venue.asked_for("POST /fapi/v1/order")
    asked.params.pop("signature")
    assert asked.params == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "IOC",
        "quantity": "0.013",
        "price": "70000.1",
        "newClientOrderId": "phx1",
        "newOrderRespType": "RESULT",
        "timestamp": "1789000000000",
        "recvWindow": "5000",
    }
    assert (report.status, report.filled_quantity) == (ReportStatus.FILLED, Decimal("0.013"))
    assert report.average_price is None  # the placement does not tell; a price is never made up


@pytest.mark.parametrize(
    "request_",
    [
        entry(),
        entry(quantity=Decimal("0.010"), price=Decimal(70000), position_side="LONG"),
        entry(type=OrderType.MARKET, side=OrderSide.SELL, price=None, reduce_only=True),
        entry(type=OrderType.MARKET, side=OrderSide.SELL, price=None, position_side="SHORT"),
    ],
)
async def test_an_ordinary_order_is_word_for_word_what_ccxt_would_send(
    venue: RecordedVenue, futures: FuturesGateway, request_: OrderRequest
) -> None:
    venue.answer("POST /fapi/v1/order", placed())

    await futures.submit_order(request_)
    await CcxtGateway._place(futures, await futures._ready(), request_)

    ours, theirs = ({**asked.params, "signature": ""} for asked in venue.asked_for("POST /fapi/v1/order"))
    assert ours == theirs


@given(
    st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none() | st.lists(st.text()))
)
@example({"quantity": "0.013", "reduceOnly": True, "timestamp": 1789000000000})
@example({"newClientOrderId": "a&b=c d+é"})
def test_parameters_are_written_as_ccxt_writes_them(params: dict[str, Any]) -> None:
    assert GatedClient.urlencode(params) == ccxt.Exchange.urlencode(params)


async def test_a_hard_stop_is_on_mark_price_unprotected_and_without_a_quantity(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/algoOrder", algo())

    report = await futures.submit_order(hard_stop())

    (asked,) = venue.asked_for("POST /fapi/v1/algoOrder")
    asked.params.pop("signature")
    assert asked.params == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "STOP_MARKET",
        "algoType": "CONDITIONAL",
        "triggerPrice": "69000",
        "closePosition": "true",
        "workingType": "MARK_PRICE",
        "priceProtect": "false",
        "clientAlgoId": "phxstop1",
        "newOrderRespType": "RESULT",
        "timestamp": "1789000000000",
        "recvWindow": "5000",
    }
    assert (report.is_conditional, report.close_position) == (True, True)
    assert report.trigger_price == Decimal(69000)


async def test_a_working_stop_carries_its_quantity_and_reduce_only(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/algoOrder", algo(closePosition=False, reduceOnly=True, quantity="0.013"))

    await futures.submit_order(hard_stop(close_position=False, quantity=Decimal("0.013"), reduce_only=True))

    (asked,) = venue.asked_for("POST /fapi/v1/algoOrder")
    assert (asked.params["quantity"], asked.params["reduceOnly"]) == ("0.013", "true")
    assert "closePosition" not in asked.params


async def test_in_hedge_mode_the_side_closes_and_no_reduce_only_is_sent(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/order", placed(positionSide="LONG"))

    report = await futures.submit_order(
        entry(type=OrderType.MARKET, price=None, reduce_only=True, position_side="LONG", side=OrderSide.SELL)
    )

    (asked,) = venue.asked_for("POST /fapi/v1/order")
    assert asked.params["positionSide"] == "LONG"
    assert "reduceOnly" not in asked.params
    assert report.position_side == "LONG"


async def test_a_spot_stop_is_a_stop_limit_and_a_spot_market_order_a_quantity(
    venue: RecordedVenue, spot: SpotGateway
) -> None:
    def echo_spot(asked: Asked) -> dict[str, object]:
        return spot_placed(clientOrderId=asked.params["newClientOrderId"])

    venue.answer("POST /api/v3/order", echo_spot)
    bought = await spot.submit_order(
        entry(symbol="BTC/USDT", type=OrderType.MARKET, quantity=Decimal("0.001"), reduce_only=True)
    )
    await spot.submit_order(
        hard_stop(
            symbol="BTC/USDT",
            type=OrderType.STOP_LIMIT,
            close_position=False,
            quantity=Decimal("0.001"),
            price=Decimal(66930),
        )
    )

    market, stop = venue.asked_for("POST /api/v3/order")
    assert (market.params["type"], market.params["quantity"]) == ("MARKET", "0.001")
    assert not {"quoteOrderQty", "reduceOnly", "price"} & market.params.keys()
    assert bought.average_price == Decimal(70001)
    wanted = {"type": "STOP_LOSS_LIMIT", "stopPrice": "69000", "price": "66930", "timeInForce": "GTC"}
    assert wanted.items() <= stop.params.items()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (entry(quantity=Decimal("0.0135")), "LOCAL_PRECISION"),
        (entry(quantity=Decimal("0.0001")), "LOCAL_PRECISION"),
        (entry(price=Decimal("70000.15")), "LOCAL_PRECISION"),
        (hard_stop(trigger_price=Decimal("69000.05")), "LOCAL_PRECISION"),
        (entry(symbol="DOGE/USDT:USDT"), "LOCAL_SYMBOL"),
        (entry(symbol="BTC/USDT"), "LOCAL_SYMBOL"),
        (entry(price=None), "LOCAL_REFUSED"),
    ],
)
async def test_what_would_be_changed_on_the_way_never_leaves(
    venue: RecordedVenue, futures: FuturesGateway, request_: OrderRequest, code: str
) -> None:
    venue.answer("POST /fapi/v1/order", placed())

    with pytest.raises(OrderRejected) as refused:
        await futures.submit_order(request_)

    assert refused.value.code == code
    assert not [asked for asked in venue.asked if asked.method == "POST"]


@pytest.mark.parametrize(
    "body", ["", '{"orderId":283194212,"cli', "<html>ok</html>", "{}", "[]", '{"orderId":null}']
)
@pytest.mark.parametrize("request_", [entry(), hard_stop()])
async def test_an_answer_without_an_order_id_is_unknown(
    venue: RecordedVenue, futures: FuturesGateway, body: str, request_: OrderRequest
) -> None:
    venue.answer("POST /fapi/v1/order", body)
    venue.answer("POST /fapi/v1/algoOrder", body)

    with pytest.raises(OutcomeUnknown):
        await futures.submit_order(request_)

    assert len([asked for asked in venue.asked if asked.method == "POST"]) == 1


async def test_an_answer_about_another_order_is_unknown(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/order", placed(clientOrderId="somebody-elses"))

    with pytest.raises(OutcomeUnknown) as other:
        await futures.submit_order(entry())

    assert other.value.code == "OTHER_ORDER"


@pytest.mark.parametrize(
    ("status", "number", "error"),
    [
        (400, -2019, OrderRejected),
        (400, -4164, OrderRejected),
        (400, -2021, OrderRejected),
        (400, -4116, OutcomeUnknown),
        (408, -1007, OutcomeUnknown),
        (503, -1008, Throttled),
        (400, -1021, Throttled),
        (429, -1003, Throttled),
        (400, -7777, OutcomeUnknown),
    ],
)
async def test_a_refusal_is_told_by_its_code_and_never_asked_twice(
    venue: RecordedVenue, futures: FuturesGateway, status: int, number: int, error: type[GatewayError]
) -> None:
    venue.refuse("POST /fapi/v1/order", number, status=status)

    with pytest.raises(error) as refused:
        await futures.submit_order(entry())

    assert (type(refused.value), refused.value.code) == (error, str(number))
    assert len(venue.asked_for("POST /fapi/v1/order")) == 1


async def test_insufficient_spot_balance_is_a_refusal_although_ccxt_drops_its_code(
    venue: RecordedVenue, spot: SpotGateway
) -> None:
    venue.refuse("POST /api/v3/order", -2010, "Account has insufficient balance for requested action.")

    with pytest.raises(OrderRejected) as refused:
        await spot.submit_order(entry(symbol="BTC/USDT", quantity=Decimal("0.001")))

    assert refused.value.code == "-2010"


async def test_a_redirect_is_never_followed_with_a_key(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.answer("POST /fapi/v1/order", "", 307, {"Location": "/elsewhere"})

    with pytest.raises(OutcomeUnknown):
        await futures.submit_order(entry())

    assert venue.asked_for("POST /elsewhere") == []


async def test_a_connection_cut_after_the_request_is_unknown(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/order", DROP)

    with pytest.raises(OutcomeUnknown) as cut:
        await futures.submit_order(entry())

    assert cut.value.code == "CONNECTION_LOST"


async def test_a_refused_connection_left_no_order(
    venue: RecordedVenue, factory: GatewayFactory, futures: FuturesGateway
) -> None:
    venue.answer("POST /fapi/v1/order", placed())
    template = await factory._connections[Market.FUTURES].template()
    template.urls["api"]["fapiPrivate"] = "http://127.0.0.1:9/fapi/v1"

    with pytest.raises(VenueUnavailable) as refused:
        await futures.submit_order(entry())

    assert refused.value.code == "CONNECTION_REFUSED"


async def test_a_market_table_that_cannot_be_read_sends_nothing(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("GET /fapi/v1/exchangeInfo", "nonsense", 500)

    with pytest.raises(OrderRejected) as refused:
        await futures.submit_order(entry())

    assert refused.value.code == "LOCAL_NOT_READY"
    assert not [asked for asked in venue.asked if asked.method == "POST"]


async def test_a_thousand_clones_never_cross_their_keys(venue: RecordedVenue) -> None:
    """Key and client id arrive together, on both markets at once, whatever the order of the answers."""
    factory = GatewayFactory("paper", base_url=venue.url)

    async def answer_late(asked: Asked) -> dict[str, object]:
        await asyncio.sleep(hash(asked.key) % 7 / 1000)
        return placed(clientOrderId=asked.params["newClientOrderId"])

    async def answer_spot(asked: Asked) -> dict[str, object]:
        await asyncio.sleep(hash(asked.key) % 5 / 1000)
        return spot_placed(clientOrderId=asked.params["newClientOrderId"])

    venue.answer("POST /fapi/v1/order", answer_late)
    venue.answer("POST /api/v3/order", answer_spot)
    names = [f"paper-{number:04}" for number in range(500)]

    async def send(name: str, market: Market) -> OrderReport:
        gateway = factory.for_account(Credentials(name, f"secret-of-{name}"), market)
        symbol = BTC if market is Market.FUTURES else "BTC/USDT"
        return await gateway.submit_order(
            entry(client_order_id=f"{market}{name}", symbol=symbol, quantity=Decimal("0.013"))
        )

    reports = await asyncio.gather(*(send(name, market) for name in names for market in Market))
    await factory.close()

    sent = [(asked.params["newClientOrderId"], asked.key) for asked in venue.asked if asked.method == "POST"]
    assert sorted(sent) == sorted((f"{market}{name}", name) for name in names for market in Market)
    assert [report.client_order_id for report in reports] == [f"{m}{n}" for n in names for m in Market]


async def test_a_clone_keeps_nothing_that_is_bound_to_its_template(
    venue: RecordedVenue, factory: GatewayFactory, keys: Credentials
) -> None:
    template = await factory._connections[Market.FUTURES].template()
    bound = [name for name, value in vars(template).items() if getattr(value, "__self__", None) is template]

    assert bound == []


async def test_a_clone_costs_little(venue: RecordedVenue, factory: GatewayFactory, keys: Credentials) -> None:
    template = await factory._connections[Market.FUTURES].template()

    tracemalloc.start()
    clones = [clone(template, Credentials(f"key-{number}", "secret")) for number in range(50)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken / len(clones) < 6_000  # 8,000 with every function of ccxt in each
    assert clones[0].safeString({"a": 1}, "a") == template.safeString({"a": 1}, "a") == "1"


# -- cancel and lookup -----------------------------------------------------------------------------------


async def test_a_cancel_goes_to_the_store_the_order_rests_in(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("DELETE /fapi/v1/order", placed(status="CANCELED"))
    venue.answer(
        "DELETE /fapi/v1/algoOrder", {"algoId": 1, "clientAlgoId": "s", "code": "200", "msg": "success"}
    )

    assert await futures.cancel_order(BTC, "phx1", is_conditional=False) is True
    assert await futures.cancel_order(BTC, "phxstop1", is_conditional=True) is True

    (ordinary,) = venue.asked_for("DELETE /fapi/v1/order")
    (conditional,) = venue.asked_for("DELETE /fapi/v1/algoOrder")
    assert ordinary.params["origClientOrderId"] == "phx1"
    assert conditional.params["clientAlgoId"] == "phxstop1"


@pytest.mark.parametrize("number", [-2011, -4117])
async def test_a_cancel_of_what_is_gone_or_firing_is_false_not_an_error(
    venue: RecordedVenue, futures: FuturesGateway, number: int
) -> None:
    venue.refuse("DELETE /fapi/v1/algoOrder", number)

    assert await futures.cancel_order(BTC, "phxstop1", is_conditional=True) is False


async def test_a_cancel_whose_answer_is_lost_is_unknown(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("DELETE /fapi/v1/order", DROP)

    with pytest.raises(OutcomeUnknown):
        await futures.cancel_order(BTC, "phx1", is_conditional=False)


@pytest.mark.parametrize("answer", ['{"orderId": 1, "clientOr', "", {}, {"code": "200", "msg": "success"}])
@pytest.mark.parametrize("is_conditional", [False, True])
async def test_a_cancel_whose_answer_names_no_order_is_unknown(
    venue: RecordedVenue, futures: FuturesGateway, answer: object, is_conditional: bool
) -> None:
    venue.answer("DELETE /fapi/v1/algoOrder" if is_conditional else "DELETE /fapi/v1/order", answer)

    with pytest.raises(OutcomeUnknown) as raised:
        await futures.cancel_order(BTC, "phx1", is_conditional=is_conditional)

    assert raised.value.code == "NO_ORDER_ID"


async def test_a_missing_order_is_none_and_a_failed_read_is_not(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.refuse("GET /fapi/v1/order", -2013)
    assert await futures.fetch_order(BTC, "phx1", is_conditional=False) is None

    venue.refuse("GET /fapi/v1/order", -1007, status=408)
    with pytest.raises(ReadFailed):
        await futures.fetch_order(BTC, "phx1", is_conditional=False)


async def test_a_found_order_tells_its_average_price(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.answer("GET /fapi/v1/order", placed(avgPrice="69999.93846", cumQuote="909.99"))

    report = await futures.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert (report.average_price, report.exchange_order_id) == (Decimal("69999.93846"), "283194212")


async def test_an_expired_order_keeps_what_it_filled(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.answer("GET /fapi/v1/order", placed(status="EXPIRED", executedQty="0.005", avgPrice="70000.0"))

    report = await futures.fetch_order(BTC, "phx1", is_conditional=False)

    assert report is not None
    assert (report.status, report.filled_quantity) == (ReportStatus.EXPIRED, Decimal("0.005"))


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("NEW", ReportStatus.NEW),
        ("TRIGGERING", ReportStatus.TRIGGERED),
        ("TRIGGERED", ReportStatus.TRIGGERED),
        ("FINISHED", ReportStatus.TRIGGERED),
        ("CANCELED", ReportStatus.CANCELLED),
        ("EXPIRED", ReportStatus.EXPIRED),
        ("REJECTED", ReportStatus.REJECTED),
    ],
)
async def test_the_conditional_store_tells_its_own_states(
    venue: RecordedVenue, futures: FuturesGateway, status: str, told: ReportStatus
) -> None:
    venue.answer("GET /fapi/v1/algoOrder", algo(algoStatus=status, actualOrderId="", actualQty="0.0"))

    report = await futures.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.triggered_order_id) == (told, None)


async def test_a_fired_stop_names_the_ordinary_order_it_became(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    fired = algo(algoStatus="FINISHED", actualOrderId="777", actualQty="0.013", actualPrice="68990.5")
    venue.answer("GET /fapi/v1/algoOrder", fired)

    report = await futures.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.triggered_order_id) == (ReportStatus.TRIGGERED, "777")
    assert (report.filled_quantity, report.average_price) == (Decimal("0.013"), Decimal("68990.5"))


async def test_a_stop_the_query_misses_is_found_in_the_list(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.refuse("GET /fapi/v1/algoOrder", -2013)
    venue.answer("GET /fapi/v1/openAlgoOrders", [algo(clientAlgoId="other"), algo()])

    report = await futures.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.client_order_id, report.status) == ("phxstop1", ReportStatus.NEW)


async def test_a_stop_gone_from_its_store_is_found_as_the_ordinary_order_it_became(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.refuse("GET /fapi/v1/algoOrder", -2013)
    venue.answer("GET /fapi/v1/openAlgoOrders", [])
    venue.answer(
        "GET /fapi/v1/order", placed(clientOrderId="phxstop1", orderId=777, side="SELL", avgPrice="68990.5")
    )

    report = await futures.fetch_order(BTC, "phxstop1", is_conditional=True)

    assert report is not None
    assert (report.status, report.is_conditional, report.triggered_order_id) == (
        ReportStatus.TRIGGERED,
        True,
        "777",
    )


async def test_a_stop_in_no_store_is_none(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.refuse("GET /fapi/v1/algoOrder", -2013)
    venue.answer("GET /fapi/v1/openAlgoOrders", [])
    venue.refuse("GET /fapi/v1/order", -2013)

    assert await futures.fetch_order(BTC, "phxstop1", is_conditional=True) is None


async def test_open_orders_are_listed_store_by_store(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.answer("GET /fapi/v1/openOrders", [placed(status="NEW", executedQty="0")])
    venue.answer("GET /fapi/v1/openAlgoOrders", [algo(actualOrderId="", isActivated=False)])

    (ordinary,) = await futures.fetch_open_orders(is_conditional=False)
    (conditional,) = await futures.fetch_open_orders(BTC, is_conditional=True)

    assert (ordinary.symbol, ordinary.is_conditional) == (BTC, False)
    assert (conditional.symbol, conditional.is_conditional) == (BTC, True)


async def test_on_spot_both_kinds_are_told_apart_by_type(venue: RecordedVenue, spot: SpotGateway) -> None:
    limit = spot_placed(status="NEW", type="LIMIT", executedQty="0", clientOrderId="a")
    stop = spot_placed(
        status="NEW", type="STOP_LOSS_LIMIT", executedQty="0", clientOrderId="b", stopPrice="69000"
    )
    venue.answer("GET /api/v3/openOrders", [limit, stop])

    (ordinary,) = await spot.fetch_open_orders(is_conditional=False)
    (conditional,) = await spot.fetch_open_orders(is_conditional=True)

    assert (ordinary.client_order_id, conditional.client_order_id) == ("a", "b")
    assert conditional.trigger_price == Decimal(69000)


@pytest.mark.parametrize("body", ["", '[{"orderId":1', "{}", '[{"orderId":1}]', "null"])
async def test_an_unreadable_list_is_a_failed_read_never_an_empty_one(
    venue: RecordedVenue, futures: FuturesGateway, body: str
) -> None:
    venue.answer("GET /fapi/v1/openOrders", body)

    with pytest.raises(ReadFailed):
        await futures.fetch_open_orders(is_conditional=False)
