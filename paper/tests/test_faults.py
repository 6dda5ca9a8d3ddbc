import json
import re
import time
from http.client import RemoteDisconnected

import pytest

from paper.engine.refusals import MESSAGES
from paper.tests.wire import Wire

ORDER = "POST /fapi/v1/order"


def fills(server: Wire, key: str) -> int:
    return sum(row["kind"] == "FILL" for row in server.ledger(key))


@pytest.mark.parametrize("applied", [True, False])
def test_an_error_answer_hides_whether_the_order_happened(server: Wire, applied: bool) -> None:
    key = f"fault-http-{applied}"
    rule = {"kind": "http", "endpoint": ORDER, "account": key, "apply": applied, "status": 503, "code": -1000}
    server.admin("POST", "/paper/faults", **rule)
    answer = server.market(key, "BUY", "0.01", newClientOrderId="one")
    assert (answer.status, answer.code) == (503, -1000)
    assert fills(server, key) == int(applied)
    assert server.market(key, "BUY", "0.01").status == 200


def test_a_closed_socket_leaves_the_order_behind(server: Wire) -> None:
    server.admin("POST", "/paper/faults", kind="close_socket", endpoint=ORDER, account="fault-socket")
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        server.market("fault-socket", "BUY", "0.01")
    assert fills(server, "fault-socket") == 1


def test_a_body_can_be_cut_short_or_empty(server: Wire) -> None:
    rules = [
        {"kind": kind, "endpoint": ORDER, "account": "fault-body"} for kind in ("truncate_body", "empty_body")
    ]
    server.admin("POST", "/paper/faults", rules=rules)
    cut = server.market("fault-body", "BUY", "0.01")
    assert (cut.status, cut.text.startswith('{"orderId"'), cut.text.endswith("}")) == (200, True, False)
    assert server.market("fault-body", "BUY", "0.01").text == ""
    assert fills(server, "fault-body") == 2


def test_a_fresh_order_can_be_hidden_from_lookups(server: Wire) -> None:
    key = "fault-lookup"
    server.admin("POST", "/paper/faults", kind="lookup_not_found", account=key, seconds=30, count=2)
    server.market(key, "BUY", "0.01", newClientOrderId="one")
    asked = {"symbol": "BTCUSDT", "origClientOrderId": "one"}
    codes = [server.signed(key, "GET", "/fapi/v1/order", **asked).json.get("code") for _ in range(3)]
    assert codes == [-2013, -2013, None]


def test_a_fill_can_come_late(server: Wire) -> None:
    key = "fault-late"
    server.admin("POST", "/paper/faults", kind="late_fill", account=key, seconds=2)
    placed = server.market(key, "BUY", "0.01", newClientOrderId="one").json
    assert (placed["status"], fills(server, key)) == ("NEW", 0)
    server.pin("BTCUSDT", None)  # the feed moves, and with it what was held back
    end = time.monotonic() + 20
    while not fills(server, key) and time.monotonic() < end:
        time.sleep(0.05)
    assert fills(server, key) == 1


def test_an_order_can_fill_partly_and_expire(server: Wire) -> None:
    server.admin("POST", "/paper/faults", kind="partial", account="fault-part", fraction="0.4")
    placed = server.market("fault-part", "BUY", "0.1").json
    assert (placed["status"], placed["executedQty"]) == ("EXPIRED", "0.040")


def test_a_trigger_can_be_refused(server: Wire) -> None:
    key = "fault-trigger"
    server.admin("POST", "/paper/faults", kind="reject_trigger", account=key)
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "99000", clientAlgoId="guard")
    server.pin("BTCUSDT", "98000")
    found = server.signed(key, "GET", "/fapi/v1/algoOrder", clientAlgoId="guard").json
    assert (found["algoStatus"], found["actualOrderId"]) == ("REJECTED", "")
    assert len(server.signed(key, "GET", "/fapi/v3/positionRisk").json) == 1


# Section 5 of the contract.
CODES = """
-1000 -1001 -1002 -1003 -1006 -1007 -1008 -1010 -1013 -1014 -1015 -1016 -1020 -1021 -1022 -1099 -1100
-1101 -1102 -1103 -1104 -1105 -1106 -1109 -1111 -1115 -1116 -1117 -1118 -1120 -1121 -1122 -1125 -1128
-1130 -1136 -2010 -2011 -2013 -2014 -2015 -2017 -2018 -2019 -2020 -2021 -2022 -2023 -2024 -2025 -2026
-2027 -2028 -4001 -4002 -4003 -4004 -4005 -4006 -4007 -4013 -4014 -4015 -4016 -4023 -4024 -4028 -4045
-4046 -4047 -4048 -4050 -4051 -4059 -4060 -4061 -4062 -4067 -4068 -4087 -4088 -4109 -4116 -4117 -4118
-4120 -4130 -4131 -4137 -4138 -4139 -4140 -4141 -4142 -4161 -4164 -4171 -4192 -4202 -4203 -4400 -4401
-4402 -4531 -5021 -5022 -5027 -5028 -5041
"""
BAD_RULES: list[tuple[object, str]] = [
    ({"kind": "gremlin"}, "unknown kind: 'gremlin'"),
    ({"kind": ["http"]}, "unknown kind: ['http']"),
    ({"endpoint": ORDER}, "kind is missing"),
    ({"kind": "http", "endpoint": "POST /fapi/v1/ordr"}, "unknown endpoint: 'POST /fapi/v1/ordr'"),
    ({"kind": "http", "endpoint": 7}, "unknown endpoint: 7"),
    ({"kind": "http", "probability": 1.1}, "probability is not within 0..1: 1.1"),
    ({"kind": "http", "probability": -0.1}, "probability is not within 0..1: -0.1"),
    ({"kind": "http", "probability": True}, "probability is not within 0..1: True"),
    ({"kind": "http", "count": -1}, "count is not a whole number from 0 on: -1"),
    ({"kind": "http", "count": "3"}, "count is not a whole number from 0 on: '3'"),
    ({"kind": "http", "colour": "red"}, "unknown field 'colour'"),
    ({"kind": "http", "hits": 3}, "unknown field 'hits'"),
    ({"kind": "http", "status": 7}, "status is not within 200..599: 7"),
    ({"kind": "http", "code": -98765}, "code -98765 has no text of its own: give a message"),
    ({"kind": "http", "apply": "yes"}, "apply is neither true nor false: 'yes'"),
    ({"kind": "http", "account": 3}, "account is no name: 3"),
    ({"kind": "delay", "seconds": -1}, "seconds is negative: -1"),
    ({"kind": "delay", "seconds": "soon"}, "seconds is not a number: 'soon'"),
    ({"kind": "partial", "fraction": "1.5"}, "fraction is not within 0..1: '1.5'"),
    ({"kind": "partial", "fraction": "\u0661"}, "fraction is not within 0..1: '\u0661'"),
    ({"kind": "mismatch", "symbol": "BTCUSDT", "margin_type": "X"}, "unknown margin_type: 'X'"),
    ({"kind": "mismatch", "margin_type": []}, "unknown margin_type: []"),
    ({"kind": "mismatch", "dual": True}, "mismatch needs a symbol"),
    ({"rules": "http"}, "rules is not a list"),
    ({"rules": [7]}, "a rule is a JSON object, not 7"),
    ({"rules": [], "kind": "http"}, "unknown field 'rules'"),
]


@pytest.mark.parametrize(("rule", "complaint"), BAD_RULES, ids=[said for _, said in BAD_RULES])
def test_a_rule_that_means_nothing_is_refused_by_name(server: Wire, rule: object, complaint: str) -> None:
    answer = server.send("POST", "/paper/faults", json.dumps(rule), {"X-Paper-Secret": server.secret})
    assert (answer.status, answer.json) == (400, {"error": complaint})
    assert server.admin("GET", "/paper/faults") == []


def test_rules_come_all_or_none(server: Wire) -> None:
    good, act = {"kind": "http", "endpoint": "GET /fapi/v1/ping"}, {"kind": "expire_listen_key"}
    listening = {"X-MBX-APIKEY": "fault-listener"}
    server.send("POST", "/fapi/v1/listenKey", headers=listening)
    rules = json.dumps({"rules": [good, act, {"kind": "gremlin"}]})
    answer = server.send("POST", "/paper/faults", rules, {"X-Paper-Secret": server.secret})
    assert (answer.status, server.admin("GET", "/paper/faults")) == (400, [])
    assert server.send("GET", "/fapi/v1/ping").status == 200
    assert server.send("PUT", "/fapi/v1/listenKey", headers=listening).status == 200


TEXTS = [
    (500, -1000, "An unknown error occured while processing the request."),
    (503, -1000, "Unknown error, please check your request or try again later."),
    (503, -1001, "Internal error; unable to process your request. Please try again."),
    (429, -1003, "Too many requests; current limit is 2400 requests per minute. Please use the websocket"),
    (418, -1003, "Way too many requests; IP banned until 1"),
    (
        408,
        -1007,
        "Timeout waiting for response from backend server. Send status unknown; execution status unk",
    ),
    (
        503,
        -1008,
        "Request throttled by system-level protection. Reduce-only/close-position orders are exempt.",
    ),
    (429, -1015, "Too many new orders; current limit is 300 orders per 10 SECOND."),
    (400, -1021, "Timestamp for this request is outside of the recvWindow."),
    (401, -2015, "Invalid API-key, IP, or permissions for action."),
    (400, -2019, "Margin is insufficient."),
    (400, -4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit"),
]


@pytest.mark.parametrize(("status", "code", "text"), TEXTS)
def test_a_code_brings_the_exchanges_own_text(server: Wire, status: int, code: int, text: str) -> None:
    key = f"fault-text-{status}-{abs(code)}"
    server.admin("POST", "/paper/faults", kind="http", account=key, status=status, code=code)
    answer = server.market(key, "BUY", "0.01")
    assert (answer.status, answer.code, answer.json["msg"][: len(text)]) == (status, code, text)


def test_every_code_of_the_contract_has_a_text() -> None:
    told = {int(code) for code in re.findall(r"-\d{4}", CODES)}
    assert told - set(MESSAGES) == set()


def test_a_message_of_ones_own_is_said_instead(server: Wire) -> None:
    key = "fault-own-text"
    server.admin("POST", "/paper/faults", kind="http", account=key, status=400, code=-98765, message="mine")
    assert server.market(key, "BUY", "0.01").json == {"code": -98765, "msg": "mine"}


def test_rules_count_their_hits(server: Wire) -> None:
    server.admin(
        "POST", "/paper/faults", kind="http", endpoint="GET /fapi/v1/ping", status=502, body="<html>"
    )
    assert [server.send("GET", "/fapi/v1/ping").status for _ in range(2)] == [502, 200]
    assert [rule["hits"] for rule in server.admin("GET", "/paper/faults")] == [1]


def test_a_rule_keeps_its_label_and_its_hits_when_it_is_spent(server: Wire) -> None:
    server.admin("DELETE", "/paper/faults")
    refused = {"kind": "http", "endpoint": ORDER, "account": "fault-label", "status": 503, "code": -1000}
    server.admin("POST", "/paper/faults", **refused, label="first", apply=True)
    assert server.market("fault-label", "BUY", "0.01").status == 503
    server.admin("POST", "/paper/faults", **refused, label="second")
    told = [(rule["label"], rule["apply"], rule["hits"]) for rule in server.admin("GET", "/paper/faults")]
    assert told == [("first", True, 1), ("second", None, 0)]
    server.admin("DELETE", "/paper/faults")
    assert server.admin("GET", "/paper/faults") == []


def test_refusals_are_counted_by_endpoint_and_code(server: Wire) -> None:
    before = server.admin("GET", "/paper/status")["refusals"].get(f"{ORDER} -1021", 0)
    server.admin("POST", "/paper/faults", kind="clock_skew", endpoint=ORDER, account="fault-late", seconds=45)
    assert server.market("fault-late", "BUY", "0.01").json["code"] == -1021
    assert server.admin("GET", "/paper/status")["refusals"][f"{ORDER} -1021"] == before + 1


def test_the_rules_of_one_symbol_are_called_off_and_their_hits_stay_told(server: Wire) -> None:
    server.admin("DELETE", "/paper/faults")
    rule = {"kind": "http", "endpoint": ORDER, "account": "fault-off", "count": 2}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        server.admin("POST", "/paper/faults", **rule, symbol=symbol)
    assert server.market("fault-off", "BUY", "0.01").status == 503
    assert server.admin("DELETE", "/paper/faults?symbol=BTCUSDT") == {"rules": 1}
    assert server.market("fault-off", "BUY", "0.01").status == 200
    told = [(one["symbol"], one["hits"]) for one in server.admin("GET", "/paper/faults")]
    assert told == [("BTCUSDT", 1), ("ETHUSDT", 0)]
    server.admin("DELETE", "/paper/faults")
