"""Every row of the venue's error tables, through the real ccxt classes, gives the one safe next step."""

import json
import socket
from typing import Any, cast

import aiohttp
import ccxt.async_support as ccxt
import pytest

from exchange.clients import Pool, client_class
from exchange.errors import (
    GatewayError,
    OrderNotPlaced,
    OrderRejected,
    OutcomeUnknown,
    ReadFailed,
    Throttled,
    VenueUnavailable,
)
from exchange.outcomes import ALREADY_SET, Answer, classify, classify_read, is_already_set, is_not_open
from exchange.port import Market

UNKNOWN, REJECTED, LATER, UNAVAILABLE = OutcomeUnknown, OrderRejected, Throttled, VenueUnavailable

# (code, HTTP status, message, outcome): the table of codes.
CODES = [
    (-1000, 400, "An unknown error occured while processing the request.", UNKNOWN),
    (-1000, 503, "Unknown error, please check your request or try again later.", UNKNOWN),
    (-1001, 503, "Internal error; unable to process your request. Please try again.", UNKNOWN),
    (-1002, 401, "You are not authorized to execute this request.", REJECTED),
    (-1003, 429, "Too many requests; current limit of IP is 2400 requests per minute.", LATER),
    (-1003, 418, "Way too many requests; IP banned until 1700000060000.", LATER),
    (-1003, 400, "Too many requests. Please try again later.", LATER),
    (
        -1006,
        400,
        "An unexpected response was received from the message bus. Execution status unknown.",
        UNKNOWN,
    ),
    (-1007, 408, "Timeout waiting for response from backend server. Send status unknown.", UNKNOWN),
    (-1007, 503, "Timeout waiting for response from backend server. Send status unknown.", UNKNOWN),
    (-1008, 503, "Request throttled by system-level protection. Please try again.", LATER),
    *[(code, 400, "Refused.", REJECTED) for code in (-1010, -1013, -1014, -1020)],
    (-1016, 503, "This service is no longer available.", UNAVAILABLE),
    (-1015, 400, "Too many new orders; current limit is 300 orders per TEN_SECONDS.", LATER),
    (-1015, 429, "Too many new orders; current limit is 300 orders per TEN_SECONDS.", LATER),
    (-1021, 400, "Timestamp for this request is outside of the recvWindow.", LATER),
    (-1021, 400, "Timestamp for this request was 1000ms ahead of the server's time.", LATER),
    (-1022, 400, "Signature for this request is not valid.", REJECTED),
    (-1099, 401, "Not found, authenticated, or authorized.", REJECTED),
    (-1109, 400, "Invalid account.", REJECTED),
    *[
        (code, 400, "Illegal parameter.", REJECTED)
        for code in (
            *range(-1106, -1099),
            -1111,
            *range(-1118, -1114),
            -1120,
            -1121,
            -1122,
            -1128,
            -1130,
            -1136,
        )
    ],
    (-2010, 400, "Account has insufficient balance for requested action.", REJECTED),
    (-2010, 400, "Duplicate order sent.", UNKNOWN),
    (-2010, 400, "NEW_ORDER_REJECTED", REJECTED),
    (-2010, 400, "Order would trigger immediately.", REJECTED),
    (-2011, 400, "Unknown order sent.", UNKNOWN),
    (-2013, 400, "Order does not exist.", UNKNOWN),
    (-2014, 401, "API-key format invalid.", REJECTED),
    (-2015, 401, "Invalid API-key, IP, or permissions for action.", REJECTED),
    (-2017, 400, "API Keys are locked on this account.", REJECTED),
    (-2018, 400, "Balance is insufficient.", REJECTED),
    (-2019, 400, "Margin is insufficient.", REJECTED),
    (-2020, 400, "Unable to fill.", REJECTED),
    (-2021, 400, "Order would immediately trigger.", REJECTED),
    (-2022, 400, "ReduceOnly Order is rejected.", REJECTED),
    (-2023, 400, "User in liquidation mode now.", REJECTED),
    (-2024, 400, "Position is not sufficient.", REJECTED),
    *[(code, 400, "Limit reached.", REJECTED) for code in (-2025, -2026, -2027, -2028)],
    *[
        (code, 400, "Filter failure.", REJECTED)
        for code in (*range(-4007, -4000), *range(-4016, -4012), -4023, -4024, -4028)
    ],
    (-4045, 400, "Reach max stop order limit.", REJECTED),
    (-4046, 400, "No need to change margin type.", REJECTED),
    (-4047, 400, "Margin type cannot be changed if there exists open orders.", REJECTED),
    (-4048, 400, "Margin type cannot be changed if there exists position.", REJECTED),
    (-4050, 400, "Cross balance insufficient.", REJECTED),
    (-4051, 400, "Isolated balance insufficient.", REJECTED),
    (-4059, 400, "No need to change position side.", REJECTED),
    (-4060, 400, "Invalid position side.", REJECTED),
    (-4061, 400, "Order's position side does not match user's setting.", REJECTED),
    (-4062, 400, "Invalid or improper reduceOnly value.", REJECTED),
    (-4067, 400, "Position side cannot be changed if there exists open orders.", REJECTED),
    (-4068, 400, "Position side cannot be changed if there exists position.", REJECTED),
    *[(code, 400, "Restricted.", REJECTED) for code in (-4087, -4088, -4400, -4401, -4402)],
    (-4109, 400, "This account is inactive.", REJECTED),
    (-4116, 400, "ClientOrderId is duplicated.", UNKNOWN),
    (-4117, 400, "Stop order is in triggering process. Please try again later.", UNKNOWN),
    (-4118, 400, "ReduceOnly Order Failed. Please check your existing position and open orders", REJECTED),
    (-4120, 400, "Order type not supported for this endpoint. Please use the Algo Order API.", REJECTED),
    (-4130, 400, "An open stop or take profit order with GTE and closePosition is existing.", REJECTED),
    (-4131, 400, "The counterparty's best price does not meet the PERCENT_PRICE filter limit", REJECTED),
    *[(code, 400, "Improper parameter.", REJECTED) for code in (-4137, -4138, -4139)],
    (-4140, 400, "Invalid symbol status for opening position", REJECTED),
    (-4141, 400, "Symbol is closed", REJECTED),
    (-4142, 400, "REJECT: take profit or stop order will be triggered immediately", REJECTED),
    (-4161, 400, "Leverage reduction is not supported in Isolated Margin Mode with open positions", REJECTED),
    (-4164, 400, "Order's notional must be no smaller than 50 (unless you choose reduce only)", REJECTED),
    (-4171, 400, "Multi-assets mode already set.", REJECTED),
    *[(code, 400, "Cooling-off.", REJECTED) for code in (-4192, -4202, -4203)],
    (-4531, 400, "Position mode is being synchronised.", REJECTED),
    (
        -5021,
        400,
        "Due to the order could not be filled immediately, the FOK order has been rejected.",
        REJECTED,
    ),
    (
        -5022,
        400,
        "Due to the order could not be executed as maker, the Post Only order is rejected.",
        REJECTED,
    ),
    (-5027, 400, "No need to modify the order.", REJECTED),
    (-5028, 400, "The requested timestamp is outside the recvWindow of the matching engine", LATER),
    (-5041, 400, "No depth matches this BBO order", REJECTED),
]

# (HTTP status, body, outcome, code): the table of answers without a usable code.
PLAIN = [
    (403, "<html>Web application firewall</html>", UNAVAILABLE, "HTTP_403"),
    (404, "<html>Not found</html>", UNAVAILABLE, "HTTP_404"),
    (405, "<html>Method not allowed</html>", UNAVAILABLE, "HTTP_405"),
    (451, "Service unavailable from a restricted location", UNAVAILABLE, "HTTP_451"),
    (408, "", UNKNOWN, "HTTP_408"),
    (418, "", LATER, "HTTP_418"),
    (429, "", LATER, "HTTP_429"),
    (400, "<html>Bad request</html>", UNKNOWN, "HTTP_400"),
    (500, "Internal Server Error", UNKNOWN, "HTTP_500"),
    (502, "<html>Bad gateway</html>", UNKNOWN, "HTTP_502"),
    (503, "Unknown error, please check your request or try again later.", UNKNOWN, "HTTP_503"),
    (503, "Service Unavailable.", UNAVAILABLE, "HTTP_503"),
    (503, "Internal error; unable to process your request. Please try again.", UNKNOWN, "HTTP_503"),
    (503, '{"code":0,"msg":"Service Unavailable."}', UNAVAILABLE, "HTTP_503"),
    (504, "<html>Gateway timeout</html>", UNKNOWN, "HTTP_504"),
]

ADDRESSES = [
    "https://fapi.binance.com/fapi/v1/order",
    "http://127.0.0.1:18080/fapi/v1/order",
    "http://127.0.0.1:18080/api/v3/order",
]


def raised_by_ccxt(client: Any, url: str, status: int, body: str) -> Exception:
    """What ccxt makes of an answer, exactly as its `fetch` would."""
    try:
        response = json.loads(body)
    except ValueError:
        response = None
    try:
        client.handle_errors(status, "Reason", url, "POST", {}, body, response, {}, "")
        client.handle_http_status_code(status, "Reason", url, "POST", body)
    except ccxt.BaseError as exc:
        return cast("Exception", exc)
    raise AssertionError("ccxt raised nothing")


@pytest.fixture(scope="module", params=["plain ccxt", "our client"])
def client(request: pytest.FixtureRequest) -> Any:
    make = ccxt.binanceusdm if request.param == "plain ccxt" else client_class("binanceusdm")
    made = make({"enableRateLimit": False})
    made.used_weight_header = "X-MBX-USED-WEIGHT-1M"
    made.pools = {market: Pool(None, {}) for market in Market}
    return made


@pytest.mark.parametrize("url", ADDRESSES)
@pytest.mark.parametrize(("code", "status", "message", "outcome"), CODES)
def test_every_code_has_one_outcome_at_every_address(
    client: Any, url: str, code: int, status: int, message: str, outcome: type[GatewayError]
) -> None:
    error = classify(raised_by_ccxt(client, url, status, json.dumps({"code": code, "msg": message})))

    assert (type(error), error.code) == (outcome, str(code))


@pytest.mark.parametrize("url", ADDRESSES)
@pytest.mark.parametrize(("status", "body", "outcome", "code"), PLAIN)
def test_every_answer_without_a_code_has_one_outcome(
    client: Any, url: str, status: int, body: str, outcome: type[GatewayError], code: str
) -> None:
    error = classify(raised_by_ccxt(client, url, status, body))

    assert (type(error), error.code) == (outcome, code)


def test_a_number_of_the_wall_in_front_says_less_than_its_status() -> None:
    refused = ccxt.ExchangeError("binance blocked")
    refused.answer = Answer(403, '{"code":-9876,"msg":"Blocked."}')
    error = classify(refused)

    assert (type(error), error.code) == (VenueUnavailable, "HTTP_403")


def test_a_code_nobody_has_seen_before_is_unknown(client: Any) -> None:
    error = classify(raised_by_ccxt(client, ADDRESSES[0], 400, '{"code":-9876,"msg":"New in 2027."}'))

    assert (type(error), error.code) == (OutcomeUnknown, "-9876")


def caused(exc: Exception, cause: BaseException) -> Exception:
    exc.__cause__ = cause
    return exc


def test_a_connection_that_was_never_made_left_no_order() -> None:
    key = aiohttp.client_reqrep.ConnectionKey("127.0.0.1", 1, False, True, None, None, None)
    refused = aiohttp.ClientConnectorError(key, ConnectionRefusedError(111, "refused"))
    error = classify(caused(ccxt.ExchangeNotAvailable("binanceusdm POST https://x/y"), refused))

    assert (type(error), error.code) == (VenueUnavailable, "CONNECTION_REFUSED")


def test_a_name_that_does_not_resolve_left_no_order() -> None:
    error = classify(caused(ccxt.ExchangeNotAvailable("binanceusdm POST https://x/y"), socket.gaierror()))

    assert (type(error), error.code) == (VenueUnavailable, "CONNECTION_REFUSED")


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (
            caused(ccxt.ExchangeNotAvailable("x POST https://x/y"), aiohttp.ServerDisconnectedError()),
            "CONNECTION_LOST",
        ),
        (caused(ccxt.RequestTimeout("x POST https://x/y"), TimeoutError()), "TIMEOUT"),
        (TimeoutError(), "TIMEOUT"),
        (ccxt.ExchangeError("x"), "UNREADABLE"),
        (AttributeError("'str' object has no attribute 'get'"), "UNREADABLE"),
    ],
)
def test_everything_else_on_the_way_may_have_left_an_order(exc: Exception, code: str) -> None:
    error = classify(exc)

    assert (type(error), error.code) == (OutcomeUnknown, code)


def test_a_ban_tells_how_long_it_lasts(client: Any) -> None:
    body = '{"code":-1003,"msg":"Way too many requests; IP banned until 1700000060000."}'
    error = classify(raised_by_ccxt(client, ADDRESSES[0], 418, body), now_ms=1_700_000_000_000)

    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == 60.0


def test_retry_after_is_kept_from_the_headers() -> None:
    client = client_class("binanceusdm")({"enableRateLimit": False})
    with pytest.raises(ccxt.DDoSProtection) as caught:
        client.handle_errors(429, "Too many", ADDRESSES[1], "POST", {"Retry-After": "7"}, "{}", {}, {}, "")

    error = classify(caught.value)
    assert isinstance(error, Throttled)
    assert error.retry_after_seconds == 7.0


def test_a_message_never_carries_the_signed_address() -> None:
    address = "http://127.0.0.1:1/fapi/v1/order?symbol=BTCUSDT&signature=" + "a1" * 32
    error = classify(ccxt.RequestTimeout(f"binanceusdm GET {address}"))

    assert "signature=" not in error.message
    assert "a1a1" not in error.message


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = Throttled("BUDGET", "held back", 3.0)

    assert classify(ours) is ours


def test_a_failed_read_is_never_taken_for_a_refusal() -> None:
    error = classify_read(ccxt.ExchangeError('binanceusdm {"code":-2019,"msg":"Margin is insufficient."}'))

    assert (type(error), error.code) == (ReadFailed, "-2019")


@pytest.mark.parametrize("code", sorted(ALREADY_SET))
def test_already_so_is_told_apart_from_refused(code: str) -> None:
    assert is_already_set(OrderRejected(code))
    assert not is_already_set(OrderRejected("-4028"))


@pytest.mark.parametrize("code", ["-2011", "-2013", "-4117"])
def test_a_cancel_of_nothing_open_is_told_apart(code: str) -> None:
    assert is_not_open(GatewayError(code))
    assert not is_not_open(GatewayError("-1003"))


def test_only_a_certain_refusal_lets_another_executor_try() -> None:
    assert {
        cls for cls in (OrderRejected, VenueUnavailable, Throttled) if issubclass(cls, OrderNotPlaced)
    } == {
        OrderRejected,
        VenueUnavailable,
        Throttled,
    }
    assert not issubclass(OutcomeUnknown, OrderNotPlaced)
