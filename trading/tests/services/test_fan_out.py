from decimal import Decimal

import pytest
from pytest_django import Settings

from accounts.models import Account
from accounts.services.symbol_settings import ensure_symbol_settings_of
from tests.processes import PaperExchange
from trading.domain.states import DecisionStatus
from trading.models import Decision, Order
from trading.services import execution
from trading.services.allocation import allocate, offer
from trading.services.decisions import settle
from trading.services.selection import request
from trading.tests.services.journey import BTC, WEATHER, a_signal, fit_accounts, now, set_columns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def carried_out(decision: Decision) -> Decision:
    """Allocate, send, look up what is unclear, offer on and settle, as the workers would."""
    bells = allocate(decision.pk, now())
    for _ in range(5):
        sent, offered = bells.entries, bells.allocations
        bells.entries, bells.allocations = [], []
        if sent:
            bells.add(execution.submit(sent, now()))
        if bells.resolve:
            bells.add(execution.resolve(bells.resolve, now()))
        if offered:
            bells.add(offer(offered, now()))
    settle([decision.pk], now())
    decision.refresh_from_db()
    return decision


def placed_by(paper_exchange: PaperExchange, account: Account) -> list[dict[str, str]]:
    rows = paper_exchange.ledger()
    return [row for row in rows if row["account"] == account.name and row["kind"] == "PLACED"]


def test_one_signal_is_one_order_an_account_and_the_exchange_has_exactly_those(
    paper_exchange: PaperExchange,
) -> None:
    accounts = fit_accounts(3)
    ensure_symbol_settings_of(accounts, [BTC], now())
    decision = carried_out(request(a_signal(), now()))
    assert decision.status == DecisionStatus.COMPLETE
    for share in decision.allocations.select_related("account"):
        assert share.outcome == "FILLED"
        order = Order.objects.get(allocation=share)
        placed = placed_by(paper_exchange, share.account)
        assert [row["client_order_id"] for row in placed] == [order.client_order_id]
        assert share.average_price is not None
        assert decision.cap_price is not None
        assert share.average_price <= decision.cap_price
        assert share.filled_quantity == order.quantity


def test_what_the_gate_denies_never_reaches_the_exchange(paper_exchange: PaperExchange) -> None:
    accounts = fit_accounts(2)
    for account in accounts:
        set_columns(account, available_balance=Decimal(0), spot_available=Decimal(0))
    decision = carried_out(request(a_signal(), now()))
    assert decision.status == DecisionStatus.COMPLETE
    assert {(share.outcome, share.code) for share in decision.allocations.all()} == {("DENIED", "MARGIN")}
    assert [placed_by(paper_exchange, account) for account in accounts] == [[], []]
