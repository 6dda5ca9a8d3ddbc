"""The journey as an outside observer sees it: a signal over HTTP, and everything after by the desk itself."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.trading_desk import MARKS, TradingDesk
from trading.models import Position

pytestmark = [pytest.mark.whole_system, pytest.mark.timeout(180)]

ACCOUNTS = 20


@pytest.fixture(scope="module")
def desk(open_desk: Callable[[int], TradingDesk]) -> TradingDesk:
    return open_desk(ACCOUNTS)


def enter(desk: TradingDesk, coin: str, side: str = "LONG") -> list[dict[str, Any]]:
    """Have a signal executed; its positions once every one is verified."""
    ledger = desk.wait_complete(desk.execute(coin, side))
    assert ledger["counts"] == {"FILLED": ACCOUNTS}, denials(ledger)
    return desk.wait_verified(coin, ACCOUNTS)


def denials(ledger: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(one["outcome"], one["code"], one["detail"]) for one in ledger["allocations"] if one["code"]]


def first_target(position: dict[str, Any]) -> Decimal:
    """The price of the first target, which is the desk's own and rests nowhere."""
    plan = Position.objects.get(uuid=position["id"]).plan
    return Decimal(plan["levels"][0]["price"])


def reasons(desk: TradingDesk, coin: str) -> set[str]:
    return {position["close_reason"] for position in desk.positions(coin, "CLOSED")}


def test_a_signal_becomes_a_complete_ledger_and_a_verified_position_on_every_account(
    desk: TradingDesk,
) -> None:
    ledger = desk.wait_complete(desk.execute("BTC"))
    assert ledger["counts"] == {"FILLED": ACCOUNTS}, denials(ledger)
    assert ledger["latency_ms"]["last"] >= ledger["latency_ms"]["first"] >= 0
    shares = ledger["allocations"]
    assert sorted(share["account"] for share in shares) == sorted(desk.names)
    placed = {row["account"]: row["client_order_id"] for row in ordinary(desk, "BTC")}
    assert {share["account"]: share["client_order_id"] for share in shares} == placed
    cap = Decimal(ledger["cap_price"])
    assert all(Decimal(share["average_price"]) <= cap for share in shares)

    held = desk.held_there("BTC")
    for position in desk.wait_verified("BTC", ACCOUNTS):
        assert Decimal(position["quantity"]) == held[position["account"]]
        assert Decimal(position["stop_price"]) < Decimal(MARKS["BTC"])
        assert Decimal(position["unprotected_seconds"]) < 10
    assert desk.stops_there("BTC") == dict.fromkeys(desk.names, 1)

    # Up to the first target: a third is harvested, the stop goes to break-even and is seen there.
    target = max(first_target(position) for position in desk.positions("BTC"))
    desk.pin({"BTC": str(target)})
    desk.wait_for(lambda: len(harvested(desk)) == ACCOUNTS, "every first target")
    desk.wait_for(lambda: set(desk.stops_there("BTC").values()) == {2}, "every working stop")
    for position in desk.wait_verified("BTC", ACCOUNTS):
        assert Decimal(position["stop_price"]) > Decimal(position["entry_price"])

    # And back: the stop at the exchange takes the rest, with nothing lost.
    desk.pin({"BTC": MARKS["BTC"]})
    desk.wait_flat("BTC")
    assert reasons(desk, "BTC") == {"BREAK_EVEN"}
    desk.wait_quiet()
    desk.assert_nothing_doubled_lost_or_unexplained()


def ordinary(desk: TradingDesk, coin: str) -> list[dict[str, Any]]:
    return [row for row in desk.ledger("PLACED", coin) if row["store"] == "ordinary"]


def harvested(desk: TradingDesk) -> list[dict[str, Any]]:
    open_ones = desk.positions("BTC")
    return [one for one in open_ones if Decimal(one["quantity"]) < Decimal(one["initial_quantity"])]


def test_shorts_through_their_stop_are_closed_by_the_exchange_with_a_small_loss(desk: TradingDesk) -> None:
    held = enter(desk, "ETH", "SHORT")
    stop = max(Decimal(position["stop_price"]) for position in held)
    desk.pin({"ETH": f"{stop * Decimal('1.0005'):.2f}"})
    desk.wait_flat("ETH")
    closed = desk.positions("ETH", "CLOSED")
    assert {position["close_reason"] for position in closed} == {"STOP_LOSS"}
    assert all(Decimal(position["realized_profit"]) < 0 for position in closed)
    desk.wait_quiet()
    desk.assert_nothing_doubled_lost_or_unexplained()


def test_a_close_signal_closes_what_its_source_opened(desk: TradingDesk) -> None:
    enter(desk, "SOL")
    desk.send_signal("SOL", action="close")
    desk.wait_flat("SOL")
    assert reasons(desk, "SOL") == {"SIGNAL"}
    desk.wait_quiet()
    desk.assert_nothing_doubled_lost_or_unexplained()


def test_one_position_closed_by_hand_and_all_others_flattened_to_proof(desk: TradingDesk) -> None:
    chosen, *_ = enter(desk, "XRP")
    status, _ = desk.post(f"/api/bot/close-position/{chosen['id']}")
    assert status == 202
    desk.wait_for(lambda: chosen["account"] not in desk.held_there("XRP"), "the chosen account to be flat")
    assert len(desk.held_there("XRP")) == ACCOUNTS - 1

    status, halt = desk.post("/api/bot/emergency-stop", scope="desk", level="FLATTEN", reason="a drill")
    assert status == 202, halt
    desk.wait_flat("XRP")
    desk.wait_for(lambda: is_proven(desk), "every account proven flat")
    (standing,) = desk.get("/api/bot/emergency-stop")[1]["items"]
    results = standing["result"]["accounts"]
    assert sorted(results) == sorted(desk.names)
    assert all(result["is_flat"] and result["residuals"] == [] for result in results.values())
    assert reasons(desk, "XRP") == {"MANUAL", "FLATTEN"}

    # While it stands nothing enters; after an explicit resume it would.
    refused = desk.wait_complete(desk.execute("XRP"))
    assert refused["counts"] == {"DENIED": ACCOUNTS}
    assert {share["code"] for share in refused["allocations"]} == {"HALTED"}
    assert desk.post("/api/bot/resume", scope="desk", reason="drill over")[1]["items"] == []
    desk.wait_quiet()
    desk.assert_nothing_doubled_lost_or_unexplained()


def is_proven(desk: TradingDesk) -> bool:
    return all("flat_at" in halt["result"] for halt in desk.get("/api/bot/emergency-stop")[1]["items"])
