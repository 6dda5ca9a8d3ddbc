"""Leverage and margin mode, asked for and read back before anybody wants to trade."""

from datetime import timedelta
from typing import Any

import pytest

from accounts.models import Account, Mode, SymbolSetting
from exchange.port import Market
from tests.processes import PaperExchange
from trading.services import preparing
from trading.services.allocation import allocate
from trading.services.selection import request
from trading.tests.services.journey import BTC, ETH, SOL, a_position, a_signal, fit_accounts, now, set_columns
from trading.tests.services.sending import told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]


def an_account(**columns: Any) -> Account:
    """A fit account whose symbols nobody has read yet."""
    (account,) = fit_accounts(1)
    SymbolSetting.objects.filter(account=account).delete()
    set_columns(account, **columns)
    return account


def settings_of(account: Account) -> dict[str, tuple[int, bool]]:
    return {
        row.symbol: (row.leverage, row.is_isolated) for row in SymbolSetting.objects.filter(account=account)
    }


def test_a_symbol_is_brought_to_isolated_margin_and_the_leverage_asked_for_and_read_back() -> None:
    account = an_account(leverage=4)
    assert preparing.prepare_symbols([BTC], now()) == 1
    assert settings_of(account) == {BTC: (4, True)}


def test_what_was_read_back_as_asked_is_not_asked_again_within_a_day(paper_exchange: PaperExchange) -> None:
    account = an_account()
    preparing.prepare_symbols([BTC], now())
    asked = told_of(paper_exchange, account, "SETTING")
    assert preparing.prepare_symbols([BTC], now()) == 0
    assert preparing.missing([account], [BTC], now() + timedelta(hours=25)) == {account.pk: [BTC]}
    assert told_of(paper_exchange, account, "SETTING") == asked


def test_another_leverage_asked_for_is_prepared_anew() -> None:
    account = an_account(leverage=3)
    preparing.prepare_symbols([BTC], now())
    set_columns(account, leverage=2)
    assert preparing.missing([account], [BTC], now()) == {account.pk: [BTC]}
    preparing.prepare_symbols([BTC], now())
    assert settings_of(account) == {BTC: (2, True)}


def test_a_symbol_with_an_open_position_is_left_as_it_is() -> None:
    account = an_account()
    a_position(account, ETH)
    assert preparing.missing([account], [BTC, ETH], now()) == {account.pk: [BTC]}


def test_what_open_signals_ask_for_comes_first() -> None:
    account = an_account()
    a_signal(SOL)
    preparing.prepare([account], now())
    assert SOL in settings_of(account)
    assert len(settings_of(account)) == preparing.SYMBOLS_A_TICK


@pytest.mark.parametrize(
    "columns", [{"is_enabled": False}, {"health": "UNHEALTHY"}, {"mode": Mode.TESTNET}], ids=str
)
def test_an_account_that_may_not_trade_is_not_touched(
    paper_exchange: PaperExchange, columns: dict[str, Any]
) -> None:
    account = an_account(**columns)
    assert preparing.prepare([account], now()) == 0
    assert settings_of(account) == {}
    assert told_of(paper_exchange, account, "SETTING") == []


def test_an_account_that_trades_spot_alone_has_no_leverage_to_set(paper_exchange: PaperExchange) -> None:
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    assert preparing.prepare([account], now()) == 0
    assert told_of(paper_exchange, account, "SETTING") == []


def test_settings_that_could_not_be_read_are_not_stored(paper_exchange: PaperExchange) -> None:
    account = an_account()
    paper_exchange.add_fault(
        kind="http", endpoint="GET /fapi/v1/symbolConfig", account=account.name, status=500, count=0
    )
    assert preparing.prepare_symbols([BTC], now()) == 0
    assert settings_of(account) == {}


def test_a_decision_made_at_once_finds_its_symbol_prepared_and_a_decided_one_asks_nobody() -> None:
    account = an_account()
    decision = request(a_signal(), now())
    assert preparing.prepare_decision(decision.pk, now()) == 1
    assert settings_of(account) == {BTC: (account.leverage, True)}
    allocate(decision.pk, now())
    SymbolSetting.objects.filter(account=account).delete()
    assert preparing.prepare_decision(decision.pk, now()) == 0


def test_a_decision_asks_only_the_accounts_whose_symbol_is_neither_as_asked_nor_held(
    paper_exchange: PaperExchange,
) -> None:
    lacking, other_leverage, old, ready, holding = accounts = fit_accounts(5)
    SymbolSetting.objects.filter(account__in=[lacking, holding]).delete()
    SymbolSetting.objects.filter(account=other_leverage).update(leverage=other_leverage.leverage + 1)
    SymbolSetting.objects.filter(account=old).update(read_at=now() - timedelta(hours=25))
    a_position(holding, BTC)
    assert preparing.prepare_decision(request(a_signal(BTC), now()).pk, now()) == 3
    asked = [one for one in accounts if told_of(paper_exchange, one, "SETTING")]
    assert asked == [lacking, other_leverage, old]
    assert settings_of(holding) == {}
    assert settings_of(ready)[BTC] == settings_of(lacking)[BTC] == (ready.leverage, True)


def test_a_decision_does_not_wait_for_more_accounts_than_its_seconds_have_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "ACCOUNTS_AT_ONCE", 1)
    accounts = [an_account(), an_account()]
    assert preparing.prepare_decision(request(a_signal(), now()).pk, now()) == 0
    assert [settings_of(account) for account in accounts] == [{}, {}]
