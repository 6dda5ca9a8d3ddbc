"""The oracle of the chaos tests can fail: without the claim one order is two, and it says so."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings
from redis import Redis

from accounts.models import Account
from tests.processes import PaperExchange
from tests.trading_desk import LedgerRow, entered_more_than_once, placed_more_than_once
from trading.models import Order
from trading.services import execution
from trading.services.execution import claiming, sending
from trading.services.reconciliation import reconcile
from trading.tests.services.holding import pinned_mark
from trading.tests.services.journey import WEATHER, fit_accounts, now
from trading.tests.services.sending import a_decision, a_share, an_entry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings, redis: Redis) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange


def ledger_of(exchange: PaperExchange, account: Account, kind: str = "") -> list[LedgerRow]:
    rows = [row for row in exchange.ledger() if row["account"] == account.name]
    return [row for row in rows if not kind or row["kind"] == kind]


def test_one_entry_rung_twice_is_one_placement(exchange: PaperExchange) -> None:
    order = an_entry()
    for _ in range(2):
        execution.submit([order.pk], now())
    assert len(ledger_of(exchange, order.account, "PLACED")) == 1
    assert placed_more_than_once(ledger_of(exchange, order.account, "PLACED")) == []


def test_without_the_claim_the_same_entry_is_placed_twice_and_the_oracle_tells(
    exchange: PaperExchange,
) -> None:
    order = an_entry()
    (sent,) = claiming.mark_submitted(claiming.claim([order.pk]), now())
    for _ in range(2):  # what two workers would do that do not claim
        sending.send_all([sent])
    assert len(ledger_of(exchange, order.account, "FILL")) >= 2
    assert placed_more_than_once(ledger_of(exchange, order.account, "PLACED")) == [order.client_order_id]
    kinds = {difference.kind for difference in reconcile(ledger_of(exchange, order.account))}
    assert kinds  # fills that no row of ours has


def test_a_share_entered_by_two_attempts_is_told_too(exchange: PaperExchange) -> None:
    account = fit_accounts(1)[0]
    share = a_share(a_decision(), account)
    first = an_entry(account, share=share)
    execution.submit([first.pk], now())
    second = an_entry(account, share=share, attempt=2)
    execution.submit([second.pk], now())
    assert Order.objects.filter(status="FILLED").count() == 2
    assert entered_more_than_once(ledger_of(exchange, account, "FILL")) == [(account.name, "BTCUSDT")]
