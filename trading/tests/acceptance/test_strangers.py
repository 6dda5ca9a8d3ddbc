"""What others do to an account: their orders, their settings, what the exchange takes. Each is told."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.models import Account, SymbolSetting
from accounts.services.gateways import gateway_for
from exchange.loop import IoLoop
from exchange.port import Market, OrderRequest, OrderSide, OrderType
from exchange.stream_events import ConfigEvent, OrderEvent
from trading.models import ForeignOrder, Position
from trading.services import streams
from trading.services.streams import Told
from trading.tests.acceptance.desk import BTC, ETH, PublicDesk, now
from trading.tests.services.holding import stops_there, stranger


@pytest.fixture
def account(desk: PublicDesk) -> Account:
    """The one account of the desk."""
    return Account.objects.get(name=desk.add_account())


def read_anew(desk: PublicDesk) -> None:
    """A monitor's tick that reads every account."""
    Account.objects.update(audited_at=None)
    desk.monitor()


def a_resting_stop(account: Account, name: str = "byhand0000000042") -> OrderRequest:
    """A stranger's own stop far below the mark."""
    request = OrderRequest(
        client_order_id=name,
        symbol=BTC,
        side=OrderSide.SELL,
        type=OrderType.STOP_MARKET,
        quantity=Decimal("0.005"),
        trigger_price=Decimal(80_000),
        timestamp_ms=int(now().timestamp() * 1000),
    )
    IoLoop.current().run(gateway_for(account, Market.FUTURES).submit_order(request), 10)
    return request


def test_a_strangers_resting_order_closes_its_coin_to_entries_until_it_is_gone(
    desk: PublicDesk, account: Account
) -> None:
    desk.open_one()
    order = a_resting_stop(account)
    read_anew(desk)
    assert [one["message"] for one in desk.alerts("FOREIGN")] == [
        "BTC/USDT:USDT: an open order that is not ours. (byhand0000000042)"
    ]
    desk.post(f"close-position/{desk.position(account.name)['id']}")
    share = desk.share(side="SHORT")
    assert (share["outcome"], share["code"], share["client_order_id"]) == ("DENIED", "ORDER_PENDING", None)
    assert [one.client_order_id for one in stops_there(account)] == [order.client_order_id]  # never touched
    cancel = gateway_for(account, Market.FUTURES).cancel_order(
        BTC, order.client_order_id, is_conditional=True
    )
    assert IoLoop.current().run(cancel, 10)
    read_anew(desk)
    assert (ForeignOrder.objects.count(), desk.alerts("FOREIGN")) == (0, [])
    assert desk.share(side="SHORT", score="0.82")["outcome"] == "FILLED"


def test_a_stream_tells_of_a_strangers_order_at_once_and_of_its_end(
    desk: PublicDesk, account: Account
) -> None:
    gateway = gateway_for(account, Market.FUTURES)
    request = a_resting_stop(account)
    report = IoLoop.current().run(gateway.fetch_order(BTC, request.client_order_id, is_conditional=True), 10)
    assert report is not None
    ordinary = replace(report, is_conditional=False, symbol=ETH)
    streams.apply([Told(account.pk, Market.FUTURES, OrderEvent(ordinary, None, now()))], now())
    assert desk.share(ETH)["code"] == "ORDER_PENDING"
    ended = replace(ordinary, status=type(report.status).CANCELLED)
    streams.apply([Told(account.pk, Market.FUTURES, OrderEvent(ended, None, now()))], now())
    assert not ForeignOrder.objects.exists()


def test_our_own_orders_are_never_taken_for_a_strangers(desk: PublicDesk, account: Account) -> None:
    opened = desk.open_one()
    desk.move(BTC, opened["plan"]["targets"][0]["price"])
    read_anew(desk)
    assert not ForeignOrder.objects.exists()
    assert desk.alerts("FOREIGN") == []


def test_a_leverage_raised_by_hand_is_followed_told_and_the_stop_kept_before_the_liquidation(
    desk: PublicDesk, account: Account
) -> None:
    before = desk.open_one()
    IoLoop.current().run(gateway_for(account, Market.FUTURES).set_leverage(BTC, 100), 10)
    event = ConfigEvent(at=now(), symbol=BTC, leverage=100)
    streams.apply([Told(account.pk, Market.FUTURES, event)], now())
    desk.monitor()
    after = desk.position(account.name)
    assert (before["leverage"], after["leverage"]) == (3, 100)
    # Isolated at 100x and 0.4 %: liquidation 0.602 % away, so the stop at 0.8 of it.
    assert Decimal(after["plan"]["stop_pct"]) <= Decimal("0.4820")
    assert Decimal(after["stop_price"]) > Decimal(before["stop_price"])
    assert after["plan"]["hard_stop_price"] == before["plan"]["hard_stop_price"]
    assert (after["status"], after["protection"]) == ("OPEN", "VERIFIED")
    (told,) = desk.alerts("SETTINGS_CHANGED")
    assert "100x isolated, asked for were 3x isolated" in told["message"]
    desk.post(f"close-position/{after['id']}")
    desk.monitor()
    assert desk.alerts("SETTINGS_CHANGED") == []


def test_a_leverage_lowered_by_hand_never_loosens_the_stop(desk: PublicDesk, account: Account) -> None:
    before = desk.open_one()
    SymbolSetting.objects.filter(account=account).update(leverage=1)
    desk.monitor()
    after = desk.position(account.name)
    assert after["leverage"] == 1
    assert Decimal(after["stop_price"]) >= Decimal(before["stop_price"])


def test_a_margin_mode_that_is_not_as_asked_is_told_from_the_position_itself(
    desk: PublicDesk, account: Account
) -> None:
    desk.open_one()
    # What the row says was read before somebody changed it: the open position shows the truth.
    Account.objects.update(margin_mode="cross")
    SymbolSetting.objects.filter(account=account, symbol=BTC).update(is_isolated=False)
    read_anew(desk)
    assert SymbolSetting.objects.get(account=account, symbol=BTC).is_isolated
    (told,) = desk.alerts("SETTINGS_CHANGED")
    assert "3x isolated, asked for were 3x cross" in told["message"]


def test_a_part_that_the_exchange_took_is_named_and_told(desk: PublicDesk, account: Account) -> None:
    desk.open_one()
    row = Position.objects.select_related("account").get()
    half = (row.quantity / 2).quantize(Decimal("0.001"))
    taken = replace(stranger(row, OrderSide.SELL, half), client_order_id="adl_autoclose")
    IoLoop.current().run(gateway_for(account, Market.FUTURES).submit_order(taken), 10)
    read_anew(desk)
    after = desk.position(account.name)
    assert (after["status"], Decimal(after["quantity"])) == ("OPEN", row.quantity - half)
    assert [leg["reason"] for leg in after["legs"]] == ["ADL"]
    assert desk.alerts("ADL")
    desk.monitor()
    assert after["protection"] == "VERIFIED"


def test_ten_seconds_without_a_verified_stop_are_told_by_the_monitor_whoever_was_to_protect(
    desk: PublicDesk, account: Account
) -> None:
    desk.open_one()
    Position.objects.update(protection="ACKED", unprotected_since=now() - timedelta(seconds=12))
    desk.monitor()
    (told,) = desk.alerts("NO_VERIFIED_STOP")
    assert "1 without a verified stop, the longest for 12 s" in told["message"]
    assert 12 <= desk.get("status")["longest_unprotected_seconds"] < 60
    Position.objects.update(protection="VERIFIED", unprotected_since=None)
    desk.monitor()
    assert desk.alerts("NO_VERIFIED_STOP") == []
    assert desk.get("status")["longest_unprotected_seconds"] is None


@pytest.mark.parametrize("is_included", [False, True], ids=["named", "included"])
def test_a_flatten_closes_a_strangers_position_only_when_it_is_told_to(
    desk: PublicDesk, account: Account, *, is_included: bool
) -> None:
    desk.open_one()
    bought = stranger(Position(account=account, symbol=ETH, is_long=True), OrderSide.BUY, Decimal("0.5"))
    IoLoop.current().run(gateway_for(account, Market.FUTURES).submit_order(bought), 10)
    read_anew(desk)
    assert desk.position(account.name, ETH)["is_foreign"]

    asked = {"level": "FLATTEN", "reason": "a drill", "includes_foreign": is_included}
    desk.post("emergency-stop", scope=f"account:{account.name}", **asked)
    desk.monitor()
    (halt,) = (one for one in desk.get("emergency-stop")["items"] if one["level"] == "FLATTEN")
    proof = halt["result"]["accounts"][account.name]
    assert proof["is_flat"]
    assert [one["symbol"] for one in proof["foreign"]] == ([] if is_included else [ETH])
    left = {"status": "CLOSED", "quantity": "0"} if is_included else {"status": "OPEN", "quantity": "0.5"}
    assert Decimal(desk.position(account.name, ETH)["quantity"]) == Decimal(left["quantity"])
    assert desk.position(account.name, ETH)["status"] == left["status"]
    assert desk.position(account.name)["status"] == "CLOSED"
