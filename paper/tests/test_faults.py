import time
from http.client import RemoteDisconnected

import pytest

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
    server.admin("POST", "/paper/faults", kind="late_fill", account=key, seconds=0.5)
    placed = server.market(key, "BUY", "0.01", newClientOrderId="one").json
    assert (placed["status"], fills(server, key)) == ("NEW", 0)
    server.pin("BTCUSDT", None)  # the feed moves, and with it what was held back
    end = time.monotonic() + 5
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


def test_a_rule_that_names_nothing_known_is_refused(server: Wire) -> None:
    headers = {"X-Paper-Secret": server.secret}
    answer = server.send("POST", "/paper/faults", '{"kind": "gremlin"}', headers)
    assert (answer.status, answer.json) == (400, {"error": "unknown kind 'gremlin'"})
    assert server.admin("GET", "/paper/faults") == []


def test_rules_count_their_hits(server: Wire) -> None:
    server.admin(
        "POST", "/paper/faults", kind="http", endpoint="GET /fapi/v1/ping", status=502, body="<html>"
    )
    assert [server.send("GET", "/fapi/v1/ping").status for _ in range(2)] == [502, 200]
    assert [rule["hits"] for rule in server.admin("GET", "/paper/faults")] == [1]
