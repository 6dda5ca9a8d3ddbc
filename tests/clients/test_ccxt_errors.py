"""Each failure of the exchange gives ccxt the class that production would give it.

ccxt chooses its error table by address; `with_production_errors` gives it production's. The first table is
what the engine refuses by itself, the second what it answers when told to fail: code for code.
"""

from collections.abc import Callable
from typing import Any

import ccxt
import pytest

from tests.clients.ccxt_clients import ASYNC, BTC, USDM, Client, Kind, with_production_errors
from tests.processes import PaperExchange

Connect = Callable[[Kind], Client]
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
LIMIT = ORDER | {"type": "LIMIT", "price": "90000", "timeInForce": "GTC"}
STOP = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP_MARKET",
    "algoType": "CONDITIONAL",
    "triggerPrice": "98000",
    "quantity": "0.01",
}
REFUSED = (
    (-1102, ccxt.BadRequest, {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"}),
    (-1106, ccxt.BadRequest, ORDER | {"stopPrice": "98000"}),
    (-1111, ccxt.BadRequest, ORDER | {"quantity": "0.0101"}),
    (-1115, ccxt.BadRequest, LIMIT | {"timeInForce": "GTX1"}),
    (-1116, ccxt.BadRequest, ORDER | {"type": "MARKETS"}),
    (-1117, ccxt.BadRequest, ORDER | {"side": "LONG"}),
    (-1121, ccxt.BadSymbol, ORDER | {"symbol": "NONEUSDT"}),
    (-1136, ccxt.BadRequest, ORDER | {"newOrderRespType": "NONE"}),
    (-2019, ccxt.InsufficientFunds, ORDER | {"quantity": "100"}),
    (-2022, ccxt.InvalidOrder, ORDER | {"reduceOnly": "true"}),
    (-4003, ccxt.BadRequest, ORDER | {"quantity": "0"}),
    (-4005, ccxt.BadRequest, ORDER | {"quantity": "5000"}),
    (-4014, ccxt.BadRequest, LIMIT | {"price": "90000.05"}),
    (-4015, ccxt.BadRequest, ORDER | {"newClientOrderId": "x" * 37}),
    (-4016, ccxt.BadRequest, LIMIT | {"price": "200000"}),
    (-4024, ccxt.BadRequest, LIMIT | {"side": "SELL", "price": "50000"}),
    (-4061, ccxt.OperationRejected, ORDER | {"positionSide": "LONG"}),
    (-4120, ccxt.InvalidOrder, ORDER | {"type": "STOP_MARKET", "stopPrice": "98000"}),
    (-4164, ccxt.InvalidOrder, LIMIT | {"quantity": "0.001", "price": "40000"}),
    (-5021, ccxt.OrderNotFillable, LIMIT | {"timeInForce": "FOK"}),
    (-5022, ccxt.OrderNotFillable, LIMIT | {"timeInForce": "GTX", "price": "100100"}),
)
REFUSED_CONDITIONAL = (
    (-2021, ccxt.OrderImmediatelyFillable, STOP | {"triggerPrice": "101000"}),
    (-4137, ccxt.BadRequest, STOP | {"closePosition": "true"}),
)
UNKNOWN = "Unknown error, please check your request or try again later."
ANSWERED = (
    (400, -1000, UNKNOWN, ccxt.OperationFailed),
    (503, -1000, UNKNOWN, ccxt.OperationFailed),
    (503, -1001, "Internal error; unable to process your request. Please try again.", ccxt.OperationFailed),
    (401, -1002, "You are not authorized to execute this request.", ccxt.AuthenticationError),
    (400, -1003, "Too many requests; current limit is 2400.", ccxt.RateLimitExceeded),
    (429, -1003, "Too many requests; current limit is 2400.", ccxt.DDoSProtection),
    (418, -1003, "Way too many requests; IP banned until 1.", ccxt.DDoSProtection),
    (400, -1006, "An unexpected response was received from the message bus.", ccxt.OperationFailed),
    (503, -1007, "Timeout waiting for response from backend server.", ccxt.RequestTimeout),
    (408, -1007, "Timeout waiting for response from backend server.", ccxt.RequestTimeout),
    (503, -1008, "Request throttled by system-level protection.", ccxt.OperationFailed),
    (400, -1010, "ERROR_MSG_RECEIVED.", ccxt.OperationFailed),
    (400, -1013, "Invalid message.", ccxt.BadRequest),
    (400, -1014, "Unsupported order combination.", ccxt.InvalidOrder),
    (400, -1015, "Too many new orders; current limit is 300.", ccxt.RateLimitExceeded),
    (400, -1016, "This service is no longer available.", ccxt.BadRequest),
    (400, -1020, "This operation is not supported.", ccxt.BadRequest),
    (400, -1021, "Timestamp for this request is outside of the recvWindow.", ccxt.InvalidNonce),
    (400, -1022, "Signature for this request is not valid.", ccxt.AuthenticationError),
    (400, -1099, "Not found, authenticated, or authorized.", ccxt.AuthenticationError),
    (400, -1100, "Illegal characters found in a parameter.", ccxt.BadRequest),
    (400, -1101, "Too many parameters sent for this endpoint.", ccxt.BadRequest),
    (400, -1103, "An unknown parameter was sent.", ccxt.BadRequest),
    (400, -1104, "Not all sent parameters were read.", ccxt.BadRequest),
    (400, -1105, "Parameter was empty.", ccxt.BadRequest),
    (400, -1109, "Invalid account.", ccxt.PermissionDenied),
    (400, -1118, "New client order ID was empty.", ccxt.BadRequest),
    (400, -1120, "Invalid interval.", ccxt.BadRequest),
    (400, -1122, "Invalid symbol status.", ccxt.BadRequest),
    (400, -1125, "This listenKey does not exist.", ccxt.AuthenticationError),
    (400, -1128, "Combination of optional parameters invalid.", ccxt.BadRequest),
    (400, -1130, "Data sent for a parameter is not valid.", ccxt.BadRequest),
    (400, -2010, "NEW_ORDER_REJECTED", ccxt.InvalidOrder),
    (400, -2010, "Account has insufficient balance for requested action.", ccxt.InsufficientFunds),
    (400, -2011, "Unknown order sent.", ccxt.OrderNotFound),
    (400, -2013, "Order does not exist.", ccxt.OrderNotFound),
    (401, -2014, "API-key format invalid.", ccxt.AuthenticationError),
    (401, -2015, "Invalid API-key, IP, or permissions for action.", ccxt.AuthenticationError),
    (400, -2017, "API Keys are locked on this account.", ccxt.PermissionDenied),
    (400, -2018, "Balance is insufficient.", ccxt.InsufficientFunds),
    (400, -2020, "Unable to fill.", ccxt.OperationFailed),
    (400, -2023, "User in liquidation mode now.", ccxt.OperationFailed),
    (400, -2024, "Position is not sufficient.", ccxt.InsufficientFunds),
    (400, -2025, "Reach max open order limit.", ccxt.OperationRejected),
    (400, -2026, "This OrderType is not supported when reduceOnly.", ccxt.InvalidOrder),
    (400, -2027, "Exceeded the maximum allowable position.", ccxt.OperationRejected),
    (400, -2028, "Leverage is smaller than permitted.", ccxt.OperationRejected),
    (400, -4028, "Leverage 200 is not valid", ccxt.BadRequest),
    (400, -4045, "Reach max stop order limit.", ccxt.OperationRejected),
    (400, -4046, "No need to change margin type.", ccxt.MarginModeAlreadySet),
    (400, -4047, "Margin type cannot be changed if there exists open orders.", ccxt.OperationRejected),
    (400, -4048, "Margin type cannot be changed if there exists position.", ccxt.OperationRejected),
    (400, -4050, "Cross balance insufficient.", ccxt.InsufficientFunds),
    (400, -4051, "Isolated balance insufficient.", ccxt.InsufficientFunds),
    (400, -4059, "No need to change position side.", ccxt.OperationRejected),
    (400, -4060, "Invalid position side.", ccxt.BadRequest),
    (400, -4062, "Invalid or improper reduceOnly value.", ccxt.BadRequest),
    (400, -4067, "Position side cannot be changed if there exists open orders.", ccxt.OperationRejected),
    (400, -4068, "Position side cannot be changed if there exists position.", ccxt.OperationRejected),
    (400, -4087, "User can only place reduce only order.", ccxt.PermissionDenied),
    (400, -4088, "User can not place order currently.", ccxt.PermissionDenied),
    (400, -4109, "This account is inactive.", ccxt.ExchangeError),
    (400, -4116, "ClientOrderId is duplicated.", ccxt.InvalidOrder),
    (400, -4117, "Stop order is in triggering process. Please try again later.", ccxt.OperationRejected),
    (400, -4118, "ReduceOnly Order Failed.", ccxt.OperationRejected),
    (400, -4131, "The counterparty's best price does not meet the filter.", ccxt.OperationRejected),
    (400, -4138, "Reduce only must be true.", ccxt.BadRequest),
    (400, -4139, "Order type can not be market.", ccxt.BadRequest),
    (400, -4140, "Invalid symbol status for opening position", ccxt.BadRequest),
    (400, -4141, "Symbol is closed", ccxt.OperationRejected),
    (400, -4142, "Order will be triggered immediately", ccxt.OrderImmediatelyFillable),
    (400, -4161, "Leverage reduction is not supported.", ccxt.ExchangeError),
    (400, -4171, "No need to change multi-assets mode.", ccxt.OperationRejected),
    (400, -4192, "Trade forbidden due to Cooling-off Period.", ccxt.PermissionDenied),
    (400, -4202, "Adjust leverage failed.", ccxt.PermissionDenied),
    (400, -4203, "Adjust leverage failed.", ccxt.PermissionDenied),
    (400, -4400, "Futures trading quantitative rules violated.", ccxt.PermissionDenied),
    (400, -4401, "Futures trading risk control rules.", ccxt.PermissionDenied),
    (400, -4402, "Dear user, please deposit.", ccxt.PermissionDenied),
    (400, -4531, "Position mode is being synchronised.", ccxt.OperationRejected),
    (400, -5027, "No need to modify the order.", ccxt.OperationRejected),
    (400, -5028, "Timestamp is outside of the ME recvWindow.", ccxt.BadRequest),
    (400, -5041, "No depth matches this BBO order.", ccxt.OperationFailed),
)
WITHOUT_CODE = (
    (403, "<html>forbidden</html>", ccxt.ExchangeNotAvailable),
    (404, "<html>not found</html>", ccxt.ExchangeNotAvailable),
    (408, "timeout", ccxt.RequestTimeout),
    (418, "teapot", ccxt.DDoSProtection),
    (429, "slow down", ccxt.DDoSProtection),
    (451, "not here", ccxt.ExchangeNotAvailable),
    (500, "<html>error</html>", ccxt.ExchangeNotAvailable),
    (502, "<html>bad gateway</html>", ccxt.ExchangeNotAvailable),
    (503, UNKNOWN, ccxt.ExchangeNotAvailable),
    (503, "Service Unavailable.", ccxt.ExchangeNotAvailable),
    (504, "<html>gateway timeout</html>", ccxt.RequestTimeout),
)


def code_of(error: BaseException) -> str:
    """The number in ccxt's text."""
    return str(error).partition('"code":')[2].partition(",")[0].strip()


async def expect_refusal(call: Any, params: dict[str, str], code: int, expected: type[Exception]) -> None:
    with pytest.raises(ccxt.BaseError) as refused:
        await call(params)
    assert (code_of(refused.value), refused.type) == (str(code), expected)


@pytest.mark.parametrize(("code", "expected", "params"), REFUSED, ids=[str(row[0]) for row in REFUSED])
async def test_what_the_engine_refuses_is_not_placed(
    paper: PaperExchange,
    connect: Connect,
    code: int,
    expected: type[Exception],
    params: dict[str, str],
) -> None:
    client = with_production_errors(connect(USDM))
    before = len(paper.ledger())
    await expect_refusal(client.fapiPrivatePostOrder, params, code, expected)
    placed = [row for row in paper.ledger()[before:] if row["kind"] == "PLACED"]
    assert placed == []


@pytest.mark.parametrize(
    ("code", "expected", "params"), REFUSED_CONDITIONAL, ids=[str(row[0]) for row in REFUSED_CONDITIONAL]
)
async def test_a_refused_stop_is_in_neither_store(
    connect: Connect, code: int, expected: type[Exception], params: dict[str, str]
) -> None:
    client = with_production_errors(connect(USDM))
    await client.create_order(BTC, "market", "buy", 0.05)
    await expect_refusal(client.fapiPrivatePostAlgoOrder, params, code, expected)
    assert await client.fetch_open_orders(BTC, params={"trigger": True}) == []
    assert await client.fetch_open_orders(BTC) == []


async def test_an_open_client_id_is_refused_a_second_time_in_each_store(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    await client.fapiPrivatePostOrder(LIMIT | {"newClientOrderId": "once"})
    again = LIMIT | {"newClientOrderId": "once"}
    await expect_refusal(client.fapiPrivatePostOrder, again, -4116, ccxt.InvalidOrder)
    await client.fapiPrivatePostAlgoOrder(STOP | {"clientAlgoId": "guard"})
    again = STOP | {"clientAlgoId": "guard"}
    await expect_refusal(client.fapiPrivatePostAlgoOrder, again, -4116, ccxt.InvalidOrder)
    assert len(await client.fetch_open_orders(BTC)) == 1
    assert len(await client.fetch_open_orders(BTC, params={"trigger": True})) == 1


async def test_one_close_position_stop_a_direction(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    await client.create_order(BTC, "market", "buy", 0.05)
    stop = {k: v for k, v in STOP.items() if k != "quantity"} | {"closePosition": "true"}
    await client.fapiPrivatePostAlgoOrder(stop)
    with pytest.raises(ccxt.BaseError, match="-4130"):
        await client.fapiPrivatePostAlgoOrder(stop | {"triggerPrice": "97000"})


async def test_resting_reduce_only_orders_may_not_exceed_the_position(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    await client.create_order(BTC, "market", "buy", 0.01)
    target = LIMIT | {"side": "SELL", "price": "104000", "reduceOnly": "true"}
    await client.fapiPrivatePostOrder(target)
    await expect_refusal(client.fapiPrivatePostOrder, target, -4118, ccxt.OperationRejected)
    assert len(await client.fetch_open_orders(BTC)) == 1


async def test_settings_refuse_what_is_so_already_or_stands_in_the_way(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    dual = client.fapiPrivatePostPositionSideDual
    await expect_refusal(dual, {"dualSidePosition": "false"}, -4059, ccxt.OperationRejected)
    crossed = {"symbol": "BTCUSDT", "marginType": "CROSSED"}
    margin = client.fapiPrivatePostMarginType
    await expect_refusal(margin, crossed, -4046, ccxt.MarginModeAlreadySet)
    leverage = {"symbol": "BTCUSDT", "leverage": "200"}
    await expect_refusal(client.fapiPrivatePostLeverage, leverage, -4028, ccxt.BadRequest)
    await client.fapiPrivatePostOrder(LIMIT)
    await expect_refusal(dual, {"dualSidePosition": "true"}, -4067, ccxt.OperationRejected)
    isolated = crossed | {"marginType": "ISOLATED"}
    await expect_refusal(margin, isolated, -4047, ccxt.OperationRejected)
    await client.fapiPrivateDeleteAllOpenOrders({"symbol": "BTCUSDT"})
    await client.fapiPrivatePostOrder(ORDER)
    await expect_refusal(dual, {"dualSidePosition": "true"}, -4068, ccxt.OperationRejected)
    await expect_refusal(margin, isolated, -4048, ccxt.OperationRejected)


async def test_isolated_leverage_is_not_lowered_under_a_position(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    await client.set_margin_mode("isolated", BTC)
    await client.set_leverage(10, BTC)
    await client.fapiPrivatePostOrder(ORDER)
    lower = {"symbol": "BTCUSDT", "leverage": "5"}
    await expect_refusal(client.fapiPrivatePostLeverage, lower, -4161, ccxt.ExchangeError)
    assert (await client.fetch_leverage(BTC))["longLeverage"] == 10


async def test_a_symbol_may_be_closed_or_only_for_closing(paper: PaperExchange, connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    try:
        paper.post("/paper/symbol", symbol="BTCUSDT", status="REDUCE_ONLY")
        await expect_refusal(client.fapiPrivatePostOrder, ORDER, -4140, ccxt.BadRequest)
        paper.post("/paper/symbol", symbol="BTCUSDT", status="SETTLING")
        await expect_refusal(client.fapiPrivatePostOrder, ORDER, -4141, ccxt.OperationRejected)
    finally:
        paper.post("/paper/symbol", symbol="BTCUSDT", status="TRADING")
    assert await client.fetch_positions([BTC]) == []


async def test_an_unknown_order_is_neither_found_nor_cancelled_nor_changed(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    absent = {"symbol": "BTCUSDT", "origClientOrderId": "never"}
    await expect_refusal(client.fapiPrivateGetOrder, absent, -2013, ccxt.OrderNotFound)
    await expect_refusal(client.fapiPrivateDeleteOrder, absent, -2011, ccxt.OrderNotFound)
    absent = {"clientAlgoId": "never"}
    await expect_refusal(client.fapiPrivateGetAlgoOrder, absent, -2013, ccxt.OrderNotFound)
    await expect_refusal(client.fapiPrivateDeleteAlgoOrder, absent, -2011, ccxt.OrderNotFound)
    placed = await client.fapiPrivatePostOrder(LIMIT)
    same = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"]}
    same |= {"quantity": "0.01", "price": "90000"}
    await expect_refusal(client.fapiPrivatePutOrder, same, -5027, ccxt.OperationRejected)


async def test_a_request_must_be_signed_in_time_with_the_right_secret(connect: Connect) -> None:
    client = with_production_errors(connect(USDM))
    await client.fetch_balance()
    now_ms = client.raw.milliseconds()
    await expect_refusal(
        client.fapiPrivatePostOrder, ORDER | {"timestamp": str(now_ms - 60_000)}, -1021, ccxt.InvalidNonce
    )
    await expect_refusal(
        client.fapiPrivatePostOrder, ORDER | {"timestamp": str(now_ms + 5_000)}, -1021, ccxt.InvalidNonce
    )
    client.raw.secret = "another"
    await expect_refusal(client.fapiPrivatePostOrder, ORDER, -1022, ccxt.AuthenticationError)
    client.raw.secret = client.raw.apiKey
    assert await client.fetch_positions([BTC]) == []


@pytest.mark.parametrize("kind", ASYNC, ids=str)
async def test_every_code_of_the_contract_gives_the_class_of_production(
    paper: PaperExchange, connect: Connect, kind: Kind
) -> None:
    client = with_production_errors(connect(kind))
    key, wrong = client.raw.apiKey, []
    await client.fetch_balance()
    for status, code, message, expected in ANSWERED:
        paper.add_fault(kind="http", account=key, status=status, code=code, message=message)
        with pytest.raises(ccxt.BaseError) as refused:
            await client.fapiPrivatePostOrder(ORDER)
        assert message in str(refused.value)
        if refused.type is not expected:
            wrong.append((status, code, refused.type.__name__, expected.__name__))
    assert wrong == []
    assert await client.fetch_positions([BTC]) == []


async def test_an_answer_without_a_code_gives_the_class_of_its_status(
    paper: PaperExchange, connect: Connect
) -> None:
    client = with_production_errors(connect(USDM))
    for status, body, expected in WITHOUT_CODE:
        paper.add_fault(kind="http", account=client.raw.apiKey, status=status, body=body)
        with pytest.raises(ccxt.BaseError) as refused:
            await client.fapiPrivatePostOrder(ORDER)
        assert (status, refused.type) == (status, expected)


@pytest.mark.parametrize("fault", ["truncate_body", "empty_body"])
async def test_half_an_answer_raises_nothing_and_names_no_order(
    paper: PaperExchange, connect: Connect, fault: str
) -> None:
    client = with_production_errors(connect(USDM))
    await client.load_markets()
    paper.add_fault(kind=fault, account=client.raw.apiKey, endpoint="POST /fapi/v1/order")
    placed = await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "half"})
    assert (placed["id"], placed["status"]) == (None, None)
    assert (await client.fetch_order(None, BTC, {"clientOrderId": "half"}))["filled"] == 0.01


async def test_a_connection_that_closes_after_the_order_leaves_it_placed(
    paper: PaperExchange, connect: Connect
) -> None:
    client = with_production_errors(connect(USDM))
    await client.load_markets()
    paper.add_fault(kind="close_socket", account=client.raw.apiKey, endpoint="POST /fapi/v1/order")
    with pytest.raises(ccxt.ExchangeNotAvailable):
        await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "cut"})
    assert (await client.fetch_order(None, BTC, {"clientOrderId": "cut"}))["filled"] == 0.01
