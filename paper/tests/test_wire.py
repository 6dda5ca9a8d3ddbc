"""What the wire says, byte by byte where clients depend on it."""

import hashlib
import hmac
import json
import time

import pytest

from paper.tests.wire import Wire

PLACEMENT_FIELDS = {
    "orderId", "symbol", "status", "clientOrderId", "price", "origQty", "executedQty", "cumQty",
    "timeInForce", "type", "reduceOnly", "closePosition", "side", "positionSide", "stopPrice",
    "workingType", "priceProtect", "origType", "priceMatch", "selfTradePreventionMode", "goodTillDate",
    "updateTime",
}  # fmt: skip


def test_an_unknown_path_is_said_so(server: Wire) -> None:
    answer = server.send("GET", "/fapi/v1/nothing")
    assert (answer.status, answer.json) == (
        404,
        {"code": -5000, "msg": "Path /fapi/v1/nothing is invalid"},
    )


def test_a_new_key_is_funded_on_first_use(server: Wire) -> None:
    account = server.signed("wire-new", "GET", "/fapi/v3/account").json
    assert (account["totalWalletBalance"], account["availableBalance"]) == (
        "10000.00000000",
        "10000.00000000",
    )
    assert account["assets"][0]["updateTime"] > 0
    rows = server.ledger("wire-new")
    assert [(row["kind"], row["market"], row["money"]) for row in rows] == [
        ("DEPOSIT", "futures", "10000"),
        ("DEPOSIT", "spot", "10000"),
    ]


def test_requests_without_a_right_signature_open_nothing(server: Wire) -> None:
    path = "/fapi/v3/account"
    assert server.send("GET", path).code == -2014
    assert server.signed("wire-bad", "GET", path, secret="other").code == -1022
    late = int(time.time() * 1000) - 5100
    assert server.signed("wire-bad", "GET", path, timestamp=late).code == -1021
    assert server.signed("wire-bad", "GET", path, timestamp=late, recvWindow=10000).status == 200
    early = int(time.time() * 1000) + 3000
    assert server.signed("wire-bad2", "GET", path, timestamp=early).code == -1021
    assert server.signed("wire-bad2", "GET", path, timestamp="").code == -1102
    assert server.ledger("wire-bad2") == []


def test_the_signature_covers_query_and_body_joined_without_a_separator(server: Wire) -> None:
    query = f"symbol=BTCUSDT&timestamp={int(time.time() * 1000)}"
    body = "side=BUY&type=MARKET&quantity=0.01"
    signature = hmac.new(b"wire-mix", (query + body).encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": "wire-mix"}
    answer = server.send("POST", f"/fapi/v1/order?{query}", f"{body}&signature={signature}", headers)
    assert (answer.status, answer.json["status"], answer.json["executedQty"]) == (200, "NEW", "0.000")
    assert len(server.signed("wire-mix", "GET", "/fapi/v1/userTrades", symbol="BTCUSDT").json) == 1


def test_the_placement_answer_has_no_average_price_and_the_lookup_has(server: Wire) -> None:
    placed = server.market("wire-place", "BUY", "0.01", newClientOrderId="one").json
    assert set(placed) == PLACEMENT_FIELDS
    assert (placed["status"], placed["executedQty"], placed["price"]) == ("FILLED", "0.010", "0.00")
    assert (placed["orderId"].__class__, placed["reduceOnly"], placed["goodTillDate"]) == (int, False, 0)
    found = server.signed(
        "wire-place", "GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="one"
    ).json
    assert (found["avgPrice"], found["cumQuote"]) == ("100005.00", "1000.05000000")
    assert found["orderId"] == placed["orderId"]


def test_conditional_types_are_refused_on_the_ordinary_endpoint(server: Wire) -> None:
    answer = server.signed(
        "wire-4120",
        "POST",
        "/fapi/v1/order",
        symbol="BTCUSDT",
        side="SELL",
        type="STOP_MARKET",
        quantity="0.01",
        stopPrice="90000",
    )
    assert (answer.status, answer.code) == (400, -4120)
    assert [row["kind"] for row in server.ledger("wire-4120")] == ["DEPOSIT", "DEPOSIT"]


def test_conditional_orders_live_in_a_store_of_their_own(server: Wire) -> None:
    key = "wire-algo"
    server.market(key, "BUY", "0.01")
    placed = server.stop_order(key, "95000", clientAlgoId="guard").json
    assert (placed["algoStatus"], placed["triggerPrice"], placed["closePosition"]) == (
        "NEW",
        "95000.00",
        True,
    )
    assert placed["icebergQuantity"] is None
    assert server.signed(key, "GET", "/fapi/v1/openOrders", symbol="BTCUSDT").json == []
    listed = server.signed(key, "GET", "/fapi/v1/openAlgoOrders").json
    assert [(row["clientAlgoId"], row["actualOrderId"]) for row in listed] == [("guard", "")]
    assert server.stop_order(key, "94000").code == -4130
    cancelled = server.signed(key, "DELETE", "/fapi/v1/algoOrder", clientAlgoId="guard").json
    assert (cancelled["code"], cancelled["algoId"]) == ("200", placed["algoId"])
    assert server.signed(key, "DELETE", "/fapi/v1/algoOrder", clientAlgoId="guard").code == -2011


def test_a_fired_stop_is_found_in_both_stores_by_one_id(server: Wire) -> None:
    key = "wire-fired"
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "99000", clientAlgoId="guard")
    server.pin("BTCUSDT", "98000")
    found = server.signed(key, "GET", "/fapi/v1/algoOrder", clientAlgoId="guard").json
    assert (found["algoStatus"], found["actualQty"], found["actualPrice"]) == (
        "FINISHED",
        "0.010",
        "97995.10",
    )
    child = server.signed(key, "GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="guard").json
    assert (str(child["orderId"]), child["status"]) == (found["actualOrderId"], "FILLED")
    assert server.signed(key, "GET", "/fapi/v3/positionRisk").json == []


def test_booleans_are_read_in_any_spelling(server: Wire) -> None:
    key = "wire-bool"
    server.market(key, "BUY", "0.01")
    assert server.market(key, "SELL", "0.01", reduceOnly="TRUE").json["reduceOnly"] is True
    assert server.market(key, "SELL", "0.01", reduceOnly="True").code == -2022


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NOPEUSDT"}, -1121),
        ({"side": "HOLD"}, -1117),
        ({"type": "ICEBERG"}, -1116),
        ({"quantity": "NaN"}, -1100),
        ({"quantity": "1e3"}, -1100),
        ({"quantity": ""}, -1102),
        ({"type": "LIMIT", "price": "100000"}, -1102),
        ({"type": "LIMIT", "price": "100000", "timeInForce": "NOW"}, -1115),
        ({"positionSide": "LONG"}, -4061),
        ({"newClientOrderId": "no spaces"}, -4015),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"newOrderRespType": "NOVEL"}, -1136),
        ({"closePosition": "true"}, -4136),
        ({"priceMatch": "OPPONENT"}, -5038),
        ({"type": "LIMIT", "timeInForce": "GTC", "priceMatch": "NEIGHBOUR"}, -5037),
        ({"selfTradePreventionMode": "HOPE"}, -5039),
    ],
)
def test_bad_input_has_its_code_and_no_effect(server: Wire, params: dict[str, str], code: int) -> None:
    given = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"} | params
    answer = server.signed("wire-input", "POST", "/fapi/v1/order", **given)
    assert (answer.status, answer.code) == (400, code)
    assert [row["kind"] for row in server.ledger("wire-input")] == ["DEPOSIT", "DEPOSIT"]


def test_weights_and_order_counts_are_in_the_headers(server: Wire) -> None:
    answer = server.market("wire-count", "BUY", "0.01")
    assert answer.headers["x-mbx-order-count-10s"] == "1"
    assert answer.headers["x-mbx-order-count-1m"] == "1"
    before = int(server.send("GET", "/fapi/v1/ticker/24hr?symbol=BTCUSDT").headers["x-mbx-used-weight-1m"])
    after = int(server.send("GET", "/fapi/v1/ticker/24hr").headers["x-mbx-used-weight-1m"])
    assert after - before in {40, 40 - before}  # the minute may have turned between the two


def test_a_batch_counts_as_five_orders_of_ten_seconds_and_spot_counts_apart(server: Wire) -> None:
    key, order = (
        "wire-count-batch",
        {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"},
    )
    batch = json.dumps([order])
    told = [
        server.signed(key, "POST", "/fapi/v1/batchOrders", batchOrders=batch).headers,
        server.signed(key, "POST", "/api/v3/order", **order).headers,
        server.signed(key, "POST", "/fapi/v1/order", **order).headers,
    ]
    assert [row["x-mbx-order-count-1m"] for row in told] == ["1", "1", "2"]
    assert [row["x-mbx-order-count-10s"] for row in told][:2] == ["5", "1"]


def test_klines_end_with_the_candle_that_is_forming(server: Wire) -> None:
    rows = server.send("GET", "/fapi/v1/klines?symbol=ADAUSDT&interval=1h&limit=250").json
    assert (len(rows), len(rows[0])) == (250, 12)
    assert rows[-1][6] > time.time() * 1000 > rows[-2][6]
    assert server.send("GET", "/fapi/v1/klines?symbol=ADAUSDT&interval=1s").code == -1120


def test_income_is_the_profit_fees_and_transfers_of_the_ledger(server: Wire) -> None:
    key = "wire-income"
    server.market(key, "BUY", "0.1")
    server.market(key, "SELL", "0.1")
    rows = server.signed(key, "GET", "/fapi/v1/income").json
    assert [(row["incomeType"], row["income"]) for row in rows] == [
        ("TRANSFER", "10000.00000000"),
        ("COMMISSION", "-5.00025000"),
        ("REALIZED_PNL", "-1.00000000"),
        ("COMMISSION", "-4.99975000"),
    ]
    wallet = server.signed(key, "GET", "/fapi/v3/balance").json[0]["balance"]
    assert wallet == "9989.00000000"


def test_permissions_are_what_administration_says(server: Wire) -> None:
    server.admin("POST", "/paper/account", key="wire-perms", permissions={"enableWithdrawals": True})
    found = server.signed("wire-perms", "GET", "/sapi/v1/account/apiRestrictions").json
    assert (found["enableWithdrawals"], found["enableFutures"]) == (True, True)
    server.admin("POST", "/paper/account", key="wire-perms", revoked=True)
    answer = server.signed("wire-perms", "GET", "/fapi/v3/account")
    assert (answer.status, answer.code) == (401, -2015)


def test_a_registered_secret_replaces_the_key(server: Wire) -> None:
    server.admin("POST", "/paper/account", key="wire-secret", secret="s3cret", deposit="250")
    assert server.signed("wire-secret", "GET", "/fapi/v3/balance").code == -1022
    rows = server.signed("wire-secret", "GET", "/fapi/v3/balance", secret="s3cret").json
    assert rows[0]["balance"] == "250.00000000"


def test_administration_needs_its_secret(server: Wire) -> None:
    answer = server.send("POST", "/paper/mark", '{"symbol": "BTCUSDT", "price": "1"}')
    assert answer.status == 401
    assert server.send("GET", "/fapi/v1/premiumIndex?symbol=BTCUSDT").json["markPrice"] == "100000.00000000"


def test_the_status_page_shows_accounts_positions_prices_requests_and_faults(server: Wire) -> None:
    server.market("wire-page", "BUY", "0.01")
    fault = {"kind": "delay", "account": "<script>", "endpoint": "GET /fapi/v1/time", "count": 7}
    server.admin("POST", "/paper/faults", **fault)
    page = server.send("GET", "/").text
    for shown in (
        "<td>wire-page</td>",
        "<td>wire-page BTCUSDT BOTH</td>",
        "<td>BTCUSDT</td><td>100000.00</td>",
        "<dt>requests a second</dt>",
        "<td>POST /fapi/v1/order</td>",
        "<td>127.0.0.1</td>",
        "<td>delay</td><td>GET /fapi/v1/time</td><td>&lt;script&gt;</td><td>*</td><td>0 of 7</td>",
    ):
        assert shown in page
    assert "<script" not in page
    assert "://" not in page


def test_a_delete_may_carry_its_parameters_in_the_body(server: Wire) -> None:
    key = "wire-delete"
    resting = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "99000"}
    placed = server.signed(key, "POST", "/fapi/v1/order", symbol="BTCUSDT", **resting).json
    body = f"symbol=BTCUSDT&orderId={placed['orderId']}&timestamp={int(time.time() * 1000)}"
    signature = hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": key}
    answer = server.send("DELETE", "/fapi/v1/order", f"{body}&signature={signature}", headers)
    assert (answer.status, answer.json["status"]) == (200, "CANCELED")


def test_a_post_may_carry_everything_in_the_query(server: Wire) -> None:
    key = "wire-query"
    query = f"symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01&timestamp={int(time.time() * 1000)}"
    signature = hmac.new(key.encode(), query.encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": key, "Content-Type": "application/json;charset=utf-8"}
    answer = server.send("POST", f"/fapi/v1/order?{query}&signature={signature}", headers=headers)
    assert (answer.status, answer.json["executedQty"]) == (200, "0.000")
    assert sum(row["kind"] == "FILL" for row in server.ledger(key)) == 1


def test_a_batch_is_signed_unencoded_and_each_order_answers_for_itself(server: Wire) -> None:
    key = "wire-batch"
    good = '{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"0.01","newOrderRespType":"RESULT"}'
    bad = good.replace('"0.01"', '"0.0001"')
    body = f"batchOrders=[{good},{bad}]&timestamp={int(time.time() * 1000)}"
    signature = hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": key}
    answer = server.send("POST", "/fapi/v1/batchOrders", f"{body}&signature={signature}", headers).json
    assert (answer[0]["status"], answer[1]["code"]) == ("FILLED", -1111)


def test_v2_lists_every_symbol_with_leverage_and_margin_type(server: Wire) -> None:
    rows = server.signed("wire-v2", "GET", "/fapi/v2/positionRisk").json
    assert {row["symbol"] for row in rows} >= {"BTCUSDT", "ADAUSDT"}
    assert {(row["leverage"], row["marginType"]) for row in rows} == {("20", "cross")}
    account = server.signed("wire-v2", "GET", "/fapi/v2/account").json
    assert (account["canTrade"], account["tradeGroupId"], len(account["positions"])) == (True, -1, len(rows))


def test_an_oversized_or_garbled_request_is_answered_and_harms_nobody(server: Wire) -> None:
    assert server.send("POST", "/fapi/v1/order", "x" * 2_000_000).status == 413
    assert server.send("POST", "/fapi/v1/order", "%ff%%%&=&&").code == -2014
    assert server.send("GET", "/fapi/v1/order?%ff%fe=%00").code == -2014
    assert server.send("GET", "/fapi/v1/ping").json == {}


@pytest.mark.parametrize(
    ("match", "side", "price"),
    [("OPPONENT", "BUY", "100005.00"), ("QUEUE", "BUY", "99995.00"), ("QUEUE_5", "SELL", "100055.10")],
)
def test_a_price_can_be_taken_from_the_book(server: Wire, match: str, side: str, price: str) -> None:
    words = {"side": side, "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "priceMatch": match}
    key, path = f"wire-{match}", "/fapi/v1/order"
    assert server.signed(key, "POST", path, symbol="BTCUSDT", price="1", **words).code == -1106
    placed = server.signed(key, "POST", path, symbol="BTCUSDT", **words).json
    assert (placed["price"], placed["priceMatch"]) == (price, match)


def test_a_changed_order_tells_how_often(server: Wire) -> None:
    key, path = "wire-modify", "/fapi/v1/order"
    words = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01"}
    resting = words | {"type": "LIMIT", "timeInForce": "GTC", "price": "99000"}
    number = server.signed(key, "POST", path, **resting).json["orderId"]
    told = [
        server.signed(key, "PUT", path, orderId=number, price=price, **words).json for price in (98000, 97000)
    ]
    assert [row["modifyId"] for row in told] == [1, 2]
    assert server.signed(key, "PUT", path, orderId=number, price="97000", **words).code == -5027
    halved = {"symbol": "BTCUSDT", "orderId": number, "quantity": "0.02", "price": "97000"}
    assert server.signed(key, "PUT", path, **halved).code == -1102


@pytest.mark.parametrize(
    "path",
    [
        "/fapi/v1/openOrders",
        "/fapi/v1/allOrders",
        "/fapi/v1/openAlgoOrders",
        "/fapi/v1/allAlgoOrders",
        "/fapi/v2/positionRisk",
        "/fapi/v3/positionRisk",
        "/fapi/v1/income",
        "/fapi/v1/symbolConfig",
        "/fapi/v1/leverageBracket",
        "/fapi/v1/userTrades",
    ],
)
def test_a_list_of_a_symbol_that_does_not_exist_is_not_empty_but_refused(server: Wire, path: str) -> None:
    answer = server.signed("wire-nowhere", "GET", path, symbol="NOPEUSDT")
    assert (answer.status, answer.code) == (400, -1121)
    assert server.signed("wire-nowhere", "GET", path, symbol="BTCUSDT").status == 200
