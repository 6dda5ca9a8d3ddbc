"""Hedge mode and cross margin, each through a whole journey: entry, stop, harvest, close."""

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account, SymbolSetting
from accounts.services.gateways import gateway_for
from exchange.loop import IoLoop
from exchange.port import Market, OrderRequest, OrderSide, OrderType
from trading.models import Order, Position
from trading.tests.acceptance.desk import BTC, ETH, PublicDesk, now
from trading.tests.services.holding import at_exchange, held_there, stops_there


def placed(desk: PublicDesk, account: str) -> list[dict[str, Any]]:
    """What the exchange took of an account's ordinary orders, oldest first."""
    rows = desk.exchange.ledger()
    return [row for row in rows if row["account"] == account and row["kind"] == "PLACED"]


def past_the_desk(account: str, side: OrderSide, position_side: str, quantity: str) -> None:
    """A market order of somebody else's on the account."""
    request = OrderRequest(
        client_order_id=f"byhand{position_side}{now().microsecond}",
        symbol=BTC,
        side=side,
        type=OrderType.MARKET,
        quantity=Decimal(quantity),
        position_side=position_side,
        timestamp_ms=int(now().timestamp() * 1000),
    )
    at_exchange(Position.objects.select_related("account").filter(account__name=account)[0], request)


@pytest.mark.parametrize("side", ["LONG", "SHORT"])
def test_a_hedge_account_lives_a_whole_journey_on_its_own_side(desk: PublicDesk, side: str) -> None:
    name = desk.add_account(position_mode="hedge")
    account = Account.objects.get(name=name)
    assert account.is_hedge_mode
    opened = desk.open_one(BTC, side)
    assert (opened["side"], opened["protection"]) == (side, "VERIFIED")
    (there,) = held_there(account)
    assert (there.position_side, there.is_long) == (side, side == "LONG")
    (stop,) = stops_there(account)
    assert (stop.position_side, stop.close_position) == (side, True)
    desk.move(BTC, opened["plan"]["targets"][0]["price"])
    harvested = desk.position(name)
    assert harvested["quantity"] != opened["quantity"]
    assert [leg["reason"] for leg in harvested["legs"]] == ["TAKE_PROFIT_1"]
    assert harvested["stop_price"] == opened["plan"]["break_even_price"]
    assert {one.position_side for one in stops_there(account)} == {side}
    assert len(stops_there(account)) == 2  # the hard one and the one at break-even
    desk.post(f"close-position/{opened['id']}")
    closed = desk.position(name)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "MANUAL")
    assert (held_there(account), stops_there(account)) == ([], [])
    # Position side and reduce-only together are refused (-1106), and without a side -4061.
    assert {order.position_side for order in Order.objects.all()} == {side}
    assert not Order.objects.filter(reduce_only=True).exists()
    assert not Order.objects.filter(status="REJECTED").exists()


def test_a_hedged_positions_stop_closes_it_at_the_exchange(desk: PublicDesk) -> None:
    name = desk.add_account(position_mode="hedge")
    opened = desk.open_one()
    desk.move(BTC, Decimal(opened["stop_price"]) - 20)
    Account.objects.update(audited_at=None)
    desk.monitor()
    closed = desk.position(name)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "STOP_LOSS")
    assert held_there(Account.objects.get(name=name)) == []


def test_a_strangers_other_side_is_another_position_and_leaves_ours_alone(desk: PublicDesk) -> None:
    name = desk.add_account(position_mode="hedge")
    ours = desk.open_one()
    past_the_desk(name, OrderSide.SELL, "SHORT", "0.005")
    Account.objects.update(audited_at=None)
    desk.monitor()
    after = desk.position(name)
    told = {one["side"]: one for one in desk.get("positions", account=name, status="OPEN")["items"]}
    assert (told["LONG"]["quantity"], told["LONG"]["is_foreign"]) == (ours["quantity"], False)
    assert (told["SHORT"]["quantity"], told["SHORT"]["is_foreign"]) == ("0.005", True)
    assert after["legs"] == []
    desk.post(f"close-position/{ours['id']}")
    (left,) = held_there(Account.objects.get(name=name))
    assert (left.position_side, left.quantity) == ("SHORT", Decimal("0.005"))


def test_a_hedged_position_closed_by_hand_is_booked_by_its_side(desk: PublicDesk) -> None:
    name = desk.add_account(position_mode="hedge")
    ours = desk.open_one()
    past_the_desk(name, OrderSide.SELL, "LONG", ours["quantity"])
    Account.objects.update(audited_at=None)
    desk.monitor()
    closed = desk.position(name)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "FOREIGN")
    assert stops_there(Account.objects.get(name=name)) == []


def test_two_closers_of_a_hedged_position_send_one_exit(desk: PublicDesk) -> None:
    name = desk.add_account(position_mode="hedge")
    ours = desk.open_one()
    desk.post(f"close-position/{ours['id']}")
    desk.post("emergency-stop", scope=f"account:{name}", level="FLATTEN", reason="a drill")
    exits = [row for row in placed(desk, name) if row["store"] != "conditional"][1:]
    assert len(exits) == 1
    assert desk.position(name)["close_reason"] == "MANUAL"


def test_a_cross_margin_account_lives_a_whole_journey(desk: PublicDesk) -> None:
    name = desk.add_account(margin_mode="cross")
    opened = desk.open_one()
    setting = SymbolSetting.objects.get(account__name=name, symbol=BTC)
    assert (setting.is_isolated, setting.leverage) == (False, 3)
    account = Account.objects.get(name=name)
    (there,) = held_there(account)
    assert there.isolated_margin is None
    desk.move(BTC, opened["plan"]["targets"][0]["price"])
    assert [leg["reason"] for leg in desk.position(name)["legs"]] == ["TAKE_PROFIT_1"]
    desk.post(f"close-position/{opened['id']}")
    assert (held_there(account), stops_there(account)) == ([], [])


def test_an_isolated_symbol_of_a_cross_account_enters_nothing(desk: PublicDesk) -> None:
    name = desk.add_account(margin_mode="cross")
    gateway = gateway_for(Account.objects.get(name=name), Market.FUTURES)
    IoLoop.current().run(gateway.set_isolated_margin(ETH), 10)
    refused = {
        "kind": "http",
        "endpoint": "POST /fapi/v1/marginType",
        "status": 400,
        "code": -4047,
        "count": 0,
    }
    desk.exchange.add_fault(account=name, message="Margin type cannot be changed.", **refused)
    share = desk.share(ETH)
    assert (share["outcome"], share["code"], share["client_order_id"]) == ("DENIED", "SETTINGS", None)
    assert share["detail"]["asked_margin_mode"] == "cross"


def test_modes_are_not_changed_under_an_open_position(desk: PublicDesk) -> None:
    name = desk.add_account()
    desk.open_one()
    told = desk.named(name)
    answer = desk.client.patch(
        f"/api/bot/multi-account/api-keys/{told['id']}",
        {"position_mode": "hedge"},
        content_type="application/json",
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "HAS_POSITION")
    assert desk.named(name)["position_mode"] == "one-way"
    venue = {"name": "okx one", "exchange": "okx", "api_key": "k", "api_secret": "s", "passphrase": "p"}
    refused = desk.client.post(
        "/api/bot/multi-account/api-keys", {**venue, "margin_mode": "cross"}, content_type="application/json"
    )
    assert refused.status_code == 422
