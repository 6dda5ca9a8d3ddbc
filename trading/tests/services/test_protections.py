"""Protections on the desk: who is held back by whose trades, and that nothing is ordered then."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.models import Account, AccountGroup
from exchange.port import Market
from tests.processes import PaperExchange
from trading import tasks
from trading.domain.protections import (
    CooldownAfterLoss,
    LowPerformingSymbol,
    MaximumDrawdown,
    Protection,
    Scope,
    StopOutGuard,
)
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Order
from trading.services import protections
from trading.services.selection import request
from trading.tests import rows
from trading.tests.services.journey import BTC, ETH, WEATHER, a_signal, fit_accounts, now, set_columns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture
def accounts() -> list[Account]:
    """Two of one group and one of none."""
    made, group = fit_accounts(3, BTC, ETH), AccountGroup.objects.create(name=f"calm {uuid4().hex[:8]}")
    for account in made[:2]:
        set_columns(account, group=group)
    return made


def closed(account: Account, net: str, *, minutes_ago: float = 5, symbol: str = BTC, **values: Any) -> None:
    told: dict[str, Any] = {
        "symbol": symbol,
        "base": symbol.partition("/")[0],
        "status": PositionStatus.CLOSED,
        "close_reason": CloseReason.STOP_LOSS,
        "quantity": 0,
        "realized_profit": Decimal(net),
        "fees": Decimal(0),
        "opened_at": now() - timedelta(hours=2),
        "closed_at": now() - timedelta(minutes=minutes_ago),
    }
    rows.position(account, **told | values)


def held_back(accounts: Sequence[Account], symbol: str = BTC) -> list[bool]:
    found = protections.vetoes(accounts, symbol, now())
    return [account.pk in found for account in accounts]


COOLDOWN = CooldownAfterLoss(Scope.ACCOUNT, minutes=15)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope.ACCOUNT, [True, False, False]),
        (Scope.GROUP, [True, True, False]),
        (Scope.DESK, [True, True, True]),
    ],
)
@pytest.mark.parametrize("kind", [CooldownAfterLoss, StopOutGuard, LowPerformingSymbol, MaximumDrawdown])
def test_a_protection_holds_back_its_scope_and_nobody_else(
    accounts: list[Account], settings: Settings, kind: Any, scope: Scope, expected: list[bool]
) -> None:
    numbers: dict[Any, dict[str, Any]] = {
        StopOutGuard: {"stop_outs": 1},
        LowPerformingSymbol: {"trades": 1},
        MaximumDrawdown: {"most": Decimal("0.01")},
    }
    settings.PROTECTIONS = (kind(scope, **numbers.get(kind, {})),)
    closed(accounts[0], "-5000")
    assert held_back(accounts) == expected


def test_an_account_without_a_group_stands_alone(accounts: list[Account], settings: Settings) -> None:
    settings.PROTECTIONS = (CooldownAfterLoss(Scope.GROUP),)
    closed(accounts[2], "-50")
    assert held_back(accounts) == [False, False, True]


def test_a_low_performing_symbol_leaves_the_others_open(accounts: list[Account], settings: Settings) -> None:
    settings.PROTECTIONS = (LowPerformingSymbol(Scope.DESK, trades=1),)
    closed(accounts[0], "-50", symbol=ETH)
    assert held_back(accounts, ETH) == [True, True, True]
    assert held_back(accounts, BTC) == [False, False, False]


@pytest.mark.parametrize(("spot_wallet", "held"), [("10000", "0"), ("0", "100")])
def test_the_drawdown_of_who_trades_spot_alone_is_of_its_spot_money_and_coins(
    settings: Settings, spot_wallet: str, held: str
) -> None:
    settings.PROTECTIONS = (MaximumDrawdown(Scope.ACCOUNT, most=Decimal("0.01")),)
    accounts = fit_accounts(1, executors=(Market.SPOT,))
    set_columns(accounts[0], spot_wallet=Decimal(spot_wallet))
    spot: dict[str, Any] = {"market": Market.SPOT, "symbol": "BTC/USDT"}
    rows.position(
        accounts[0], **spot, quantity=Decimal(held), entry_price=Decimal(100), opened_at=now(), leverage=1
    )
    closed(accounts[0], "-50", **spot)
    assert held_back(accounts) == [False]
    closed(accounts[0], "-60", **spot)
    assert held_back(accounts) == [True]


def test_no_protection_asks_the_database_nothing_and_many_accounts_no_more_than_one(
    accounts: list[Account], settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    settings.PROTECTIONS = ()
    with django_assert_num_queries(0):
        held_back(accounts)
    settings.PROTECTIONS = (COOLDOWN, StopOutGuard(Scope.DESK), LowPerformingSymbol(Scope.GROUP))
    for chosen in (accounts[:1], accounts):
        with django_assert_num_queries(2):
            held_back(chosen)


@pytest.fixture
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


RULES: list[Protection] = [
    COOLDOWN,
    StopOutGuard(Scope.ACCOUNT, stop_outs=1),
    LowPerformingSymbol(Scope.ACCOUNT, trades=1),
    MaximumDrawdown(Scope.ACCOUNT, most=Decimal("0.01")),
]


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_who_is_held_back_is_denied_with_the_reason_and_nothing_reaches_the_exchange(
    accounts: list[Account], settings: Settings, paper_exchange: PaperExchange, rule: Protection
) -> None:
    settings.PROTECTIONS = (rule,)
    closed(accounts[0], "-500", opened_at=now() - timedelta(days=3))
    decision = request(a_signal(), now())
    tasks.decide([decision.pk])
    shares = {share.account_id: share for share in decision.allocations.all()}
    refused = shares[accounts[0].pk]
    assert (refused.outcome, refused.code) == ("DENIED", "HALTED")
    assert refused.detail["scope"].startswith(f"{rule.name} account: ")
    assert [shares[one.pk].outcome for one in accounts[1:]] == ["PENDING", "PENDING"]
    assert not Order.objects.filter(account=accounts[0]).exists()
    mine = [row for row in paper_exchange.ledger() if row["account"] == accounts[0].name]
    assert [row for row in mine if row["kind"] != "DEPOSIT"] == []


@pytest.mark.usefixtures("calm")
def test_a_protection_holds_no_exit_back(accounts: list[Account], settings: Settings) -> None:
    settings.PROTECTIONS = (COOLDOWN,)
    closed(accounts[0], "-500")
    held = rows.position(accounts[0], symbol=ETH, base="ETH", opened_at=now())
    tasks.attend_positions([held.pk])
    assert Order.objects.filter(position=held).exists(), "its stop was ordered"
