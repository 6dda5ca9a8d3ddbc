from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import sleep
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from pytest_django import Settings

from accounts.models import Account
from accounts.services.breakers import is_open, note_rejection
from accounts.services.registry import create_account
from accounts.services.verification import verify_account
from exchange.port import Market, OrderSide
from tests.processes import PaperExchange
from trading.domain.limits import Limits
from trading.domain.states import OrderPurpose, OrderStatus, PositionStatus
from trading.models import Allocation, Decision, Fill, Income, Order, Position
from trading.services import audits, automatic_halts
from trading.services.balances import read_incomes, write_balances
from trading.services.exposure import Exposure, _Rows, day_start, exposures
from trading.tests.services.journey import WALLET, fit_accounts, now, set_columns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]

SYMBOL = "ATOM/USDT:USDT"


def exposure_of(account: Account, marks: dict[str, Decimal] | None = None) -> Exposure:
    limits: dict[int, Limits] = {account.pk: settings.LIMITS}
    return exposures([account], limits, marks or {}, now())[account.pk]


def a_long(account: Account, *, stop_price: str | None, opened_at: datetime | None = None) -> Position:
    return Position.objects.create(
        account=account,
        market=Market.FUTURES,
        symbol=SYMBOL,
        base="ATOM",
        is_long=True,
        leverage=2,
        quantity=Decimal(100),
        initial_quantity=Decimal(100),
        entry_price=Decimal(10),
        stop_price=None if stop_price is None else Decimal(stop_price),
        opened_at=opened_at or now() - timedelta(hours=1),
    )


def an_entry(account: Account, status: OrderStatus, **columns: object) -> Order:
    decision = Decision.objects.create(status="OPEN", decided_at=now())
    share = Allocation.objects.create(decision=decision, account=account)
    values: dict[str, object] = {
        "client_order_id": f"entry{share.pk}",
        "account": account,
        "allocation": share,
        "purpose": OrderPurpose.ENTRY,
        "market": Market.FUTURES,
        "symbol": SYMBOL,
        "base": "ATOM",
        "side": OrderSide.SELL,
        "type": "limit_ioc",
        "status": status,
        "created_at": now(),
        "reserved_margin": Decimal(40),
        "reserved_risk": Decimal(7),
        "reserved_notional": Decimal(100),
    }
    return Order.objects.create(**{**values, **columns})


def a_fill(account: Account, *, filled_at: datetime, **columns: object) -> Fill:
    values: dict[str, object] = {
        "account": account,
        "market": Market.FUTURES,
        "symbol": SYMBOL,
        "trade_id": uuid4().hex,
        "exchange_order_id": "1",
        "side": OrderSide.BUY,
        "price": Decimal(10),
        "quantity": Decimal(100),
        "fee": Decimal("0.5"),
        "fee_asset": "USDT",
        "filled_at": filled_at,
    }
    return Fill.objects.create(**{**values, **columns})


def test_the_risk_of_a_position_is_its_loss_at_the_stop_with_both_fees_and_slippage() -> None:
    (account,) = fit_accounts(1)
    a_long(account, stop_price="9.9")
    per_unit = Decimal("0.1") + Decimal("0.0005") * Decimal("19.9") + Decimal("0.0005") * Decimal("9.9")
    assert exposure_of(account).risk() == 100 * per_unit


def test_a_stop_in_profit_is_no_negative_risk() -> None:
    (account,) = fit_accounts(1)
    a_long(account, stop_price="11")
    assert exposure_of(account).risk() == 0


def test_a_position_without_a_stop_risks_its_whole_margin() -> None:
    (account,) = fit_accounts(1)
    a_long(account, stop_price=None)
    assert exposure_of(account).risk() == Decimal(500)


def test_notional_and_profit_are_at_the_mark() -> None:
    (account,) = fit_accounts(1)
    a_long(account, stop_price="9.9")
    exposure = exposure_of(account, {SYMBOL: Decimal(12)})
    assert exposure.notional() == exposure.notional("ATOM") == Decimal(1200)
    assert exposure.wallets[Market.FUTURES].unrealized == Decimal(200)
    assert exposure.notional("BTC") == 0


@pytest.mark.parametrize(
    "status",
    [
        OrderStatus.PENDING,
        OrderStatus.CLAIMED,
        OrderStatus.SUBMITTED,
        OrderStatus.UNKNOWN,
        OrderStatus.ACKNOWLEDGED,
    ],
)
def test_an_entry_that_may_still_become_a_position_keeps_its_reservation(status: OrderStatus) -> None:
    (account,) = fit_accounts(1)
    an_entry(account, status)
    exposure = exposure_of(account)
    assert exposure.wallets[Market.FUTURES].available == WALLET - 40
    assert exposure.risk() == exposure.risk(is_long=False) == Decimal(7)
    assert exposure.risk(is_long=True) == 0
    assert exposure.notional("ATOM") == Decimal(100)
    assert [entry.is_unknown for entry in exposure.in_flight] == [status == OrderStatus.UNKNOWN]
    assert exposure.entries_today == 1


@pytest.mark.parametrize("status", [OrderStatus.REJECTED, OrderStatus.CANCELLED, OrderStatus.EXPIRED])
def test_an_entry_that_ended_without_a_fill_reserves_and_counts_nothing(status: OrderStatus) -> None:
    (account,) = fit_accounts(1)
    an_entry(account, status)
    exposure = exposure_of(account)
    assert exposure.wallets[Market.FUTURES].available == WALLET
    assert [exposure.risk(), exposure.entries_today] == [0, 0]


def test_a_filled_entry_counts_for_its_day_only() -> None:
    (account,) = fit_accounts(1)
    an_entry(account, OrderStatus.FILLED, filled_quantity=Decimal(1))
    an_entry(
        account,
        OrderStatus.FILLED,
        filled_quantity=Decimal(1),
        created_at=day_start(account, now()) - timedelta(seconds=1),
    )
    assert exposure_of(account).entries_today == 1


def test_what_happened_since_the_balance_was_read_is_carried_forward() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, balances_at=now() - timedelta(seconds=20))
    a_long(account, stop_price="9.9", opened_at=now() - timedelta(seconds=5))
    a_fill(account, filled_at=now() - timedelta(seconds=5))
    wallet = exposure_of(account).wallets[Market.FUTURES]
    assert wallet.wallet == WALLET - Decimal("0.5")
    assert wallet.available == WALLET - Decimal("0.5") - Decimal(500)


def test_a_position_as_old_as_two_clocks_may_differ_before_the_reading_still_takes_its_margin() -> None:
    """The exchange says when it filled and we when we read: the money read may be that of before."""
    (account,) = fit_accounts(1)
    read_at = now() - timedelta(seconds=20)
    set_columns(account, balances_at=read_at)
    a_long(account, stop_price="9.9", opened_at=read_at - timedelta(milliseconds=900))
    assert exposure_of(account).wallets[Market.FUTURES].available == WALLET - Decimal(500)


def test_a_position_the_reading_surely_knows_of_takes_its_margin_once() -> None:
    (account,) = fit_accounts(1)
    read_at = now() - timedelta(seconds=20)
    set_columns(account, balances_at=read_at)
    a_long(account, stop_price="9.9", opened_at=read_at - timedelta(seconds=2))
    assert exposure_of(account).wallets[Market.FUTURES].available == WALLET


@pytest.mark.parametrize(
    ("market", "symbol", "fee_asset", "cost"),
    [
        (Market.FUTURES, "BTC/USDT:USDT", "BNB", "0"),
        (Market.FUTURES, "BNB/USDT:USDT", "BNB", "0"),
        (Market.SPOT, "BTC/USDT", "BNB", "0"),
        (Market.SPOT, "BTC/USDT", "BTC", "720"),
        (Market.SPOT, "BTC/USDT", "USDT", "0.008"),
    ],
)
def test_a_fee_in_another_coin_is_no_money_of_the_wallet_and_never_that_much_of_the_traded_one(
    market: Market, symbol: str, fee_asset: str, cost: str
) -> None:
    (account,) = fit_accounts(1)
    set_columns(account, balances_at=now() - timedelta(seconds=20))
    a_fill(
        account,
        filled_at=now() - timedelta(seconds=5),
        market=market,
        symbol=symbol,
        price=Decimal(90_000),
        fee=Decimal("0.008"),
        fee_asset=fee_asset,
    )
    exposure = exposure_of(account)
    assert exposure.wallets[market].wallet == WALLET - Decimal(cost)
    if market is Market.FUTURES:
        assert exposure.day_profit == 0, "or a fee in BNB halts the account for its day's loss"


def test_an_unread_account_does_not_load_the_fills_of_the_others() -> None:
    unread, read = fit_accounts(2)
    set_columns(unread, balances_at=now() - timedelta(days=3))
    own = a_fill(unread, filled_at=now() - timedelta(days=2))
    a_fill(unread, filled_at=now() - timedelta(days=4))
    a_fill(read, filled_at=now() - timedelta(hours=1))
    loaded = _Rows.load([unread, read], now()).fills
    assert {pk: [fill.filled_at for fill in fills] for pk, fills in loaded.items()} == {
        unread.pk: [own.filled_at]
    }


def test_a_fill_counts_though_a_newer_reading_was_written_since_its_account_was_loaded() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, balances_at=now() - timedelta(seconds=20))
    a_fill(account, filled_at=now() - timedelta(seconds=10))
    Account.objects.filter(pk=account.pk).update(balances_at=now())
    assert exposure_of(account).wallets[Market.FUTURES].wallet == WALLET - Decimal("0.5")


def test_the_day_counts_from_the_accounts_own_midnight() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, time_zone="America/New_York")
    assert day_start(account, datetime(2026, 1, 15, 3, 0, tzinfo=UTC)) == datetime(
        2026, 1, 14, 5, 0, tzinfo=UTC
    )


def test_a_transfer_is_no_profit_of_the_day() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, wallet_balance=WALLET + 500, day_baseline_equity=WALLET)
    assert exposure_of(account).day_profit == Decimal(500)
    Income.objects.create(
        account=account, income_id="1", kind="TRANSFER", asset="USDT", quantity=Decimal(450), at=now()
    )
    assert exposure_of(account).day_profit == Decimal(50)


def test_a_transfer_from_before_the_baseline_is_in_it_already() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, day_started_at=now(), wallet_balance=WALLET + 10)
    before = now() - timedelta(seconds=5)
    Income.objects.create(
        account=account, income_id="1", kind="TRANSFER", asset="USDT", quantity=Decimal(450), at=before
    )
    assert exposure_of(account).day_profit == Decimal(10)


def test_yesterdays_baseline_is_none_for_today() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, day_started_at=day_start(account, now()) - timedelta(seconds=1))
    assert exposure_of(account).day_profit is None


def test_without_a_baseline_the_day_is_unknown_and_not_zero() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, day_baseline_equity=None)
    assert exposure_of(account).day_profit is None


def test_spot_coins_belong_to_the_spot_equity() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, spot_wallet=Decimal(9000), spot_available=Decimal(9000))
    position = a_long(account, stop_price="9.9")
    Position.objects.filter(pk=position.pk).update(market=Market.SPOT, leverage=1, symbol="ATOM/USDT")
    wallet = exposure_of(account, {"ATOM/USDT": Decimal(11)}).wallets[Market.SPOT]
    assert [wallet.wallet, wallet.unrealized, wallet.available] == [10_000, 100, 9000]


# ── the day on spot ──────────────────────────────────────────────────────────
def a_coin(account: Account, *, opened_at: datetime | None = None, **columns: Any) -> Position:
    """A spot position, 100 ATOM bought at 10."""
    position = a_long(account, stop_price="9.9", opened_at=opened_at or now())
    values = {"market": Market.SPOT, "leverage": 1, "symbol": "ATOM/USDT", **columns}
    Position.objects.filter(pk=position.pk).update(**values)
    return position


def sold(**columns: Any) -> dict[str, Any]:
    return {"status": PositionStatus.CLOSED, "closed_at": now(), "quantity": Decimal(0), **columns}


def test_the_day_is_what_futures_and_spot_made_together() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, wallet_balance=WALLET + 50, spot_wallet=WALLET - 1300, spot_available=WALLET - 1300)
    a_coin(account, **sold(realized_profit=Decimal(-299), fees=Decimal(1)))
    a_coin(account, opened_at=now() - timedelta(seconds=1))
    exposure = exposure_of(account, {"ATOM/USDT": Decimal("9.5")})
    assert exposure.day_profit == 50 - 300 - 50
    assert exposure.day_baseline == WALLET, "spot money that lies idle lets a day lose no more"


def test_buying_coins_is_no_loss() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, spot_wallet=WALLET - 1000, spot_available=WALLET - 1000)
    a_coin(account, opened_at=now() - timedelta(seconds=1))
    exposure = exposure_of(account, {"ATOM/USDT": Decimal(10)})
    assert [exposure.day_profit, exposure.day_baseline] == [0, WALLET]


def test_money_moved_to_spot_is_no_profit_there() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, wallet_balance=WALLET - 500, spot_wallet=WALLET + 500)
    Income.objects.create(
        account=account, income_id="1", kind="TRANSFER", asset="USDT", quantity=Decimal(-500), at=now()
    )
    assert exposure_of(account).day_profit == 0


@pytest.mark.parametrize(("mark", "counted"), [("9", -100), ("11", 0)])
def test_coins_held_over_midnight_count_their_loss_and_no_profit(mark: str, counted: int) -> None:
    (account,) = fit_accounts(1)
    before = day_start(account, now()) - timedelta(seconds=1)
    a_coin(account, opened_at=before)
    gone = sold(realized_profit=Decimal(-77), closed_at=before)
    a_coin(account, opened_at=before - timedelta(hours=1), **gone)
    assert exposure_of(account, {"ATOM/USDT": Decimal(mark)}).day_profit == counted


def test_an_account_that_only_trades_spot_has_the_day_of_its_spot() -> None:
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    set_columns(account, wallet_balance=Decimal(70), available_balance=Decimal(70), spot_wallet=WALLET - 20)
    a_coin(account, **sold(realized_profit=Decimal(-20)))
    exposure = exposure_of(account)
    assert [exposure.day_profit, exposure.day_baseline] == [-20, WALLET]


@pytest.mark.parametrize("column", ["wallet_balance", "spot_wallet"])
def test_a_part_that_was_never_read_leaves_the_day_unknown(column: str) -> None:
    (account,) = fit_accounts(1)
    set_columns(account, **{column: None})
    exposure = exposure_of(account)
    assert (exposure.day_profit, exposure.day_baseline) == (None, None)


# ── money that comes and goes ────────────────────────────────────────────────
INCOMES = "GET /fapi/v1/income"


def moved(paper: PaperExchange, account: Account, quantity: int) -> None:
    """A deposit at the exchange, a withdrawal when negative, apart from what opened the account there."""
    sleep(2)
    set_columns(account, balances_at=now(), day_started_at=now() - timedelta(seconds=1))
    paper.post("/paper/account", key=account.name, deposit=str(quantity))


def read(account: Account, *, gained: str = "0", after_seconds: float = 30) -> datetime:
    """Write what the exchange says of the account's money, as if it had gained some by trading as well."""
    at = now() + timedelta(seconds=after_seconds)
    picture = audits.read([account], {}, at)[account.pk]
    assert picture.balance is not None
    balance = replace(picture.balance, wallet=picture.balance.wallet + Decimal(gained))
    write_balances([account], {account.pk: replace(picture, balance=balance, money_asked_at=at)})
    account.refresh_from_db()
    return at


def halted(account: Account) -> list[str]:
    limits: dict[int, Limits] = {account.pk: settings.LIMITS}
    at_stake = {account.pk: exposure_of(account)}
    raised = automatic_halts.check([account], limits, at_stake, 1.0, now())
    return [halt.code for halt in raised if halt.target == account.name]


def an_account_read() -> Account:
    """One with 10,000 at the exchange too, on futures alone, last read a little ago."""
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    read(account)
    set_columns(account, balances_at=now(), day_started_at=now())
    assert account.wallet_balance == WALLET
    return account


def test_a_withdrawal_is_no_loss_before_its_income_row(faults: PaperExchange) -> None:
    account = an_account_read()
    moved(faults, account, -600)
    faults.add_fault(kind="http", endpoint=INCOMES, account=account.name, status=500, count=0)
    read(account)
    assert [exposure_of(account).day_profit, halted(account)] == [0, []]
    assert account.fresh_at is None, "nothing is entered on an account whose money is in doubt"
    faults.delete("/paper/faults")
    at = read(account)
    assert [account.wallet_balance, account.fresh_at] == [WALLET - 600, at]
    assert [exposure_of(account).day_profit, halted(account)] == [0, []]


def test_what_a_new_account_is_opened_with_is_in_its_baseline_however_long_the_verification_took(
    paper_exchange: PaperExchange,
) -> None:
    account = create_account(name := f"t-{uuid4().hex[:12]}", name, name, executors=(Market.FUTURES,))
    verify_account(account, now() - timedelta(seconds=10))
    set_columns(account, audited_at=now())
    assert read_incomes([account], now().replace(minute=30)) == 1
    assert exposure_of(account).day_profit == 0


def test_a_deposit_of_the_tick_that_begins_a_day_is_in_its_baseline(faults: PaperExchange) -> None:
    account = an_account_read()
    yesterday = now() - timedelta(days=1)
    set_columns(account, day_started_at=yesterday, balances_at=yesterday)
    begun = now() - timedelta(seconds=10)
    faults.post("/paper/account", key=account.name, deposit="600")
    write_balances([account], audits.read([account], {}, begun))
    account.refresh_from_db()
    read_incomes([account], now().replace(minute=30))
    assert [account.day_baseline_equity, exposure_of(account).day_profit] == [WALLET + 600, 0]


def test_incomes_that_cannot_be_read_hold_up_nobody_elses(faults: PaperExchange, settings: Settings) -> None:
    settings.WEIGHT_LIMIT_PER_MINUTE = 2400
    accounts = fit_accounts(5, executors=(Market.FUTURES,))
    for silent in accounts[:2]:
        faults.add_fault(kind="http", endpoint=INCOMES, account=silent.name, status=500, count=0)
    after_the_hour = now().replace(minute=30)
    for tick in range(5):
        read_incomes([*Account.objects.order_by("pk")], after_the_hour + timedelta(seconds=10 * tick))
    read_until = [one.income_read_at is not None for one in Account.objects.order_by("pk")]
    assert read_until == [False, False, True, True, True]


def test_a_deposit_hides_no_loss_before_its_income_row(faults: PaperExchange) -> None:
    account = an_account_read()
    moved(faults, account, 500)
    faults.add_fault(kind="http", endpoint=INCOMES, account=account.name, status=500, count=0)
    a_fill(account, filled_at=now() + timedelta(seconds=20), realized_profit=Decimal(-500), fee=0)
    read(account, gained="-500")
    assert exposure_of(account).day_profit == -500
    assert account.fresh_at is None
    faults.delete("/paper/faults")
    at = read(account, gained="-500")
    assert [account.wallet_balance, account.fresh_at] == [WALLET, at]
    assert exposure_of(account).day_profit == -500
    assert halted(account) == ["DAILY_LOSS"]


def test_what_fills_explain_asks_for_no_incomes(faults: PaperExchange) -> None:
    account = an_account_read()
    faults.add_fault(kind="http", endpoint=INCOMES, account=account.name, status=500, count=0)
    a_fill(account, filled_at=now() + timedelta(seconds=20), realized_profit=Decimal(-300), fee=2)
    at = read(account, gained="-302")
    assert [account.wallet_balance, account.fresh_at] == [WALLET - 302, at]
    assert not Income.objects.exists()


def test_a_movement_the_exchange_never_lists_is_taken_as_it_is_after_a_while(faults: PaperExchange) -> None:
    account = an_account_read()
    faults.add_fault(kind="http", endpoint=INCOMES, account=account.name, status=500, count=0)
    read(account, gained="-600", after_seconds=299)
    assert account.wallet_balance == WALLET
    read(account, gained="-600", after_seconds=302)
    assert account.wallet_balance == WALLET - 600
    assert exposure_of(account).day_profit == -600


def test_a_transfer_of_another_asset_is_none_of_the_wallet_that_is_read() -> None:
    account = an_account_read()
    Income.objects.create(
        account=account, income_id="1", kind="TRANSFER", asset="BNB", quantity=Decimal(10), at=now()
    )
    assert exposure_of(account).day_profit == 0


def test_money_that_comes_closes_the_circuit_that_the_want_of_it_opened(faults: PaperExchange) -> None:
    account = an_account_read()
    for _ in range(3):
        note_rejection(account, "BTC/USDT:USDT", "-2019", now())
    faults.post("/paper/account", key=account.name, deposit="50")
    read(account)
    assert is_open(account, "BTC/USDT:USDT", now()), "less than a hundredth is the market's doing"
    faults.post("/paper/account", key=account.name, deposit="600")
    read(account, after_seconds=400)
    assert not is_open(account, "BTC/USDT:USDT", now())
