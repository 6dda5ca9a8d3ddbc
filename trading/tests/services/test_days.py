"""An account's day: derived from rows, in its own zone, and equal to what the exchange's ledger says."""

from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.conf import settings
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.models import Account
from accounts.services.gateways import gateway_for
from exchange.loop import IoLoop
from exchange.port import Market, OrderRequest, OrderSide, OrderType
from tests.processes import PaperExchange
from trading.models import Fill, Income
from trading.services.days import Day, read_days
from trading.services.fills import record_fills
from trading.tests import rows
from trading.tests.rows import NOON, SYMBOL
from trading.tests.services.journey import BTC, fit_accounts, now

pytestmark = [pytest.mark.django_db]


def a_fill(account: Account, **values: Any) -> None:
    told: dict[str, Any] = {
        "market": Market.FUTURES,
        "symbol": SYMBOL,
        "trade_id": str(Fill.objects.count() + 1),
        "exchange_order_id": "1",
        "side": OrderSide.SELL,
        "price": Decimal(100),
        "quantity": Decimal(1),
        "fee_asset": "USDT",
        "filled_at": NOON,
    }
    Fill.objects.create(account=account, **told | values)


def day_of(account: Account) -> Day:
    return read_days([account], NOON)[account.pk]


def test_a_day_is_summed_from_executions_and_funding_each_by_its_sign() -> None:
    account = rows.account()
    a_fill(account, realized_profit=Decimal(30), fee=Decimal("0.4"))
    a_fill(account, realized_profit=Decimal(-12), fee=Decimal("0.5"))
    a_fill(account, realized_profit=Decimal(0), fee=Decimal("0.1"), fee_asset="BNB")
    Income.objects.create(
        account=account, income_id="1", kind="FUNDING_FEE", asset="USDT", quantity=Decimal("-0.3"), at=NOON
    )
    day = day_of(account)
    assert (day.profit, day.loss, day.fees, day.funding) == (
        Decimal(30),
        Decimal(12),
        Decimal("0.9"),
        Decimal("-0.3"),
    )
    assert day.net == Decimal("16.8")


def test_a_day_begins_at_the_accounts_own_midnight() -> None:
    here, there = rows.account("here"), rows.account("there", time_zone="Pacific/Auckland")
    for account in (here, there):
        a_fill(account, realized_profit=Decimal(7), filled_at=NOON - timedelta(hours=11, minutes=30))
        a_fill(account, realized_profit=Decimal(2), filled_at=NOON)
    found = read_days([here, there], NOON)
    assert [found[one.pk].profit for one in (here, there)] == [9, 2]
    assert found[there.pk].since == NOON - timedelta(hours=1)


def test_trades_are_decisions_entered_and_endings_are_net() -> None:
    account = rows.account()
    for number in range(2):
        share = rows.allocation(rows.decision(), account)
        rows.entry(share, f"day-{number}")
    rows.entry(rows.allocation(rows.decision(), account), "day-none", filled_quantity=0)
    told: dict[str, Any] = {"status": "CLOSED", "quantity": 0, "closed_at": NOON}
    rows.position(account, realized_profit=Decimal(5), fees=Decimal(6), **told)
    rows.position(account, realized_profit=Decimal(5), fees=Decimal(4), **told)
    day = day_of(account)
    assert (day.trades, day.wins, day.losses) == (2, 1, 1)


def test_a_coin_sold_today_counts_whole() -> None:
    account = rows.account()
    told: dict[str, Any] = {"status": "CLOSED", "quantity": 0, "closed_at": NOON, "market": Market.SPOT}
    rows.position(account, realized_profit=Decimal(-5), fees=Decimal(1), symbol="BTC/USDT", **told)
    assert day_of(account).net == -6


TRADES = st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(-30, 30)), min_size=1, max_size=6)


def trade(paper: PaperExchange, account: Account, trades: list[tuple[bool, int, int]]) -> None:
    """Market orders at marks that jump, then every execution of them recorded as ours."""
    gateway, named = gateway_for(account, Market.FUTURES), Random(len(trades))
    for number, (is_buy, thousandths, move) in enumerate(trades):
        paper.set_mark("BTCUSDT", str(95_000 + 100 * move))
        order = OrderRequest(
            client_order_id=f"day{account.pk}n{number}r{named.randrange(10**9)}",
            symbol=BTC,
            side=OrderSide.BUY if is_buy else OrderSide.SELL,
            type=OrderType.MARKET,
            quantity=Decimal(thousandths) / 1000,
            timestamp_ms=int(now().timestamp() * 1000),
        )
        IoLoop.current().run(gateway.submit_order(order), 10)
    fills = IoLoop.current().run(gateway.fetch_fills(BTC, since=now() - timedelta(minutes=5)), 10)
    record_fills(account, Market.FUTURES, fills, now())


def moved_at_the_exchange(paper: PaperExchange, account: Account) -> Decimal:
    """What the wallet moved by, by the ledger alone."""
    mine = [row for row in paper.ledger() if row["account"] == account.name and row["kind"] != "DEPOSIT"]
    return sum((Decimal(row["money"]) for row in mine), Decimal(0))


@seed(7)
@hypothesis_settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(trades=TRADES)
def test_whatever_is_traded_the_day_equals_the_exchanges_ledger(
    faults: PaperExchange, trades: list[tuple[bool, int, int]]
) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    trade(faults, account, trades)
    moved = moved_at_the_exchange(faults, account)
    assert read_days([account], settings.CLOCK.now())[account.pk].net == moved
