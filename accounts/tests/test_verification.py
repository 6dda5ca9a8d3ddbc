import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings
from redis import Redis

from accounts.errors import AccountUnusable, CredentialError
from accounts.models import Account, Health, SymbolSetting
from accounts.services.breakers import is_open, note_rejection
from accounts.services.gateways import gateway_for
from accounts.services.registry import create_account, replace_keys, sync_environment_accounts
from accounts.services.symbol_settings import ensure_symbol_settings, ensure_symbol_settings_of
from accounts.services.verification import POSTPONED, due_accounts, verify_account
from accounts.tasks import verify_account as verify_account_task
from accounts.tasks import verify_accounts
from accounts.tests.test_registry import Told
from alerts.models import Alert, Severity
from exchange.budget import RateBudget
from exchange.bybit_gateway import BybitGateway
from exchange.errors import OrderRejected
from exchange.loop import IoLoop
from exchange.port import Market
from tests.processes import PaperExchange, wait_until

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
MONEY_ASKED_AT = NOW + timedelta(seconds=2)
NUMBERS = count(1)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("connections", "redis")]


@pytest.fixture
def make_account(paper_exchange: PaperExchange) -> Callable[..., Account]:
    """Accounts the paper exchange has never seen, with what it is told of them."""

    def make(executors: tuple[Market, ...] = (Market.FUTURES, Market.SPOT), **told: object) -> Account:
        key = f"verified-{next(NUMBERS):04d}"
        if told:
            paper_exchange.post("/paper/account", key=key, **told)
        return create_account(key, key, key, executors=executors)

    return make


class StillClock:
    """A clock of the desk that has moved on by the time the money is asked for."""

    def now(self) -> datetime:
        return MONEY_ASKED_AT


def health(account: Account) -> tuple[str, str]:
    account.refresh_from_db()
    return account.health, account.health_code


def test_a_verified_account_is_healthy_with_its_money_and_clock_as_the_exchange_says(
    make_account: Callable[..., Account], settings: Settings
) -> None:
    settings.CLOCK = StillClock()
    account = make_account()
    verdict = verify_account(account, NOW)
    assert verdict.is_fit, verdict
    account.refresh_from_db()
    assert (account.health, account.verified_at, account.fresh_at) == (Health.HEALTHY, NOW, NOW)
    assert account.wallet_balance == account.available_balance == Decimal(10_000)
    assert (account.unrealized_profit, account.balances_at) == (Decimal(0), MONEY_ASKED_AT)
    assert account.spot_wallet is not None
    assert account.spot_wallet > 0
    assert abs(account.clock_offset_ms) < 1000
    assert account.exchange_account_id != ""
    assert not Alert.objects.exists()


def test_an_account_of_a_venue_the_desk_no_longer_names_cannot_enter_and_keeps_its_way_out(
    settings: Settings, paper_exchange: PaperExchange
) -> None:
    settings.EXPERIMENTAL_VENUES = frozenset({"bybit"})
    account = create_account("untried", "untried-key", "untried-secret", exchange="bybit")
    settings.EXPERIMENTAL_VENUES = frozenset()

    verdict = verify_account(account, NOW)

    assert verdict.code == "EXPERIMENTAL_EXCHANGE"
    assert health(account) == (Health.UNHEALTHY, "EXPERIMENTAL_EXCHANGE")
    assert isinstance(gateway_for(account, Market.FUTURES), BybitGateway)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"dual": True}, "HEDGE_MODE"),
        ({"multi_assets": True}, "MULTI_ASSETS"),
        ({"permissions": {"enableWithdrawals": True}}, "KEY_CAN_WITHDRAW"),
        ({"permissions": {"enableFutures": False}}, "NO_TRADE_PERMISSION"),
        ({"permissions": {"enablePortfolioMarginTrading": True}}, "PORTFOLIO_MARGIN"),
    ],
)
def test_an_account_set_otherwise_is_unhealthy_until_it_is_put_right(
    make_account: Callable[..., Account], paper_exchange: PaperExchange, told: dict[str, object], code: str
) -> None:
    account = make_account(**told)
    held = {"status": 400, "code": -4068, "account": account.name}  # a position in the way of one-way mode
    paper_exchange.add_fault(kind="http", endpoint="POST /fapi/v1/positionSide/dual", **held)
    verify_account(account, NOW)
    paper_exchange.delete("/paper/faults")
    assert health(account) == (Health.UNHEALTHY, code)
    assert Alert.objects.get(cleared_at=None, code="ACCOUNT_UNHEALTHY").account == account.name
    right = {
        "dual": False,
        "multi_assets": False,
        "permissions": {
            "enableWithdrawals": False,
            "enableFutures": True,
            "enablePortfolioMarginTrading": False,
        },
    }
    paper_exchange.post("/paper/account", key=account.name, **right)
    verify_account(account, NOW)
    assert health(account) == (Health.HEALTHY, "")
    assert not Alert.objects.filter(cleared_at=None, code="ACCOUNT_UNHEALTHY").exists()


def test_an_account_in_hedge_mode_is_brought_to_one_way_and_read_back(
    make_account: Callable[..., Account],
) -> None:
    account = make_account(dual=True)
    assert verify_account(account, NOW).is_fit
    account.refresh_from_db()
    assert not account.is_hedge_mode


def test_an_account_that_wants_hedge_mode_is_brought_there_and_unhealthy_until_it_is(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    account.position_mode = "hedge"
    account.save()
    held = {"status": 400, "code": -4068, "account": account.name}  # a position in the way of the change
    paper_exchange.add_fault(kind="http", endpoint="POST /fapi/v1/positionSide/dual", **held)
    verify_account(account, NOW)
    paper_exchange.delete("/paper/faults")
    assert (health(account), account.is_hedge_mode) == ((Health.UNHEALTHY, "ONE_WAY_MODE"), False)
    assert verify_account(account, NOW).is_fit
    account.refresh_from_db()
    assert account.is_hedge_mode


def test_a_spot_account_has_a_day_from_its_first_verification_on(
    make_account: Callable[..., Account], settings: Settings
) -> None:
    settings.CLOCK = StillClock()
    account = make_account((Market.SPOT,))
    assert verify_account(account, NOW).is_fit
    account.refresh_from_db()
    assert (account.day_started_at, account.day_baseline_equity) == (MONEY_ASKED_AT, Decimal(0))


def test_already_in_one_way_mode_is_no_error_and_the_read_back_decides(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account(dual=True)
    already = {"kind": "http", "status": 400, "code": -4059, "account": account.name, "count": 0}
    paper_exchange.add_fault(endpoint="POST /fapi/v1/positionSide/dual", **already)
    verify_account(account, NOW)
    paper_exchange.delete("/paper/faults")
    assert health(account) == (Health.UNHEALTHY, "HEDGE_MODE")


def test_a_verification_reads_every_symbols_settings_at_once_and_writes_what_changed(
    make_account: Callable[..., Account],
) -> None:
    account = make_account()
    verify_account(account, NOW)
    rows = SymbolSetting.objects.filter(account=account)
    assert rows.count() > 30
    assert set(rows.values_list("leverage", "is_isolated", "read_at")) == {(20, False, NOW)}

    ensure_symbol_settings(account, [BTC], NOW)
    SymbolSetting.objects.filter(account=account, symbol=BTC).update(leverage=9)
    for hours in (1, 2):
        verify_account(account, NOW + timedelta(hours=hours))
    assert rows.get(symbol=BTC).leverage == account.leverage
    assert rows.get(symbol=BTC).read_at == NOW + timedelta(hours=1)
    assert rows.get(symbol=ETH).read_at == NOW
    verify_account(account, NOW + timedelta(hours=12))
    assert rows.get(symbol=ETH).read_at == NOW + timedelta(hours=12)


def test_settings_that_cannot_be_read_are_a_reason_against_the_account(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    rule = {"kind": "http", "status": 500, "code": -1000, "account": account.name, "count": 0}
    paper_exchange.add_fault(endpoint="GET /fapi/v1/symbolConfig", **rule)
    verify_account(account, NOW)
    paper_exchange.delete("/paper/faults")
    assert health(account) == (Health.UNHEALTHY, "-1000")
    assert not SymbolSetting.objects.exists()


def test_a_key_that_can_withdraw_is_a_critical_alert(make_account: Callable[..., Account]) -> None:
    verify_account(make_account(permissions={"enableWithdrawals": True}), NOW)
    assert Alert.objects.get().severity == Severity.CRITICAL


def test_a_change_of_what_the_key_may_do_is_told(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account(permissions={"ipRestrict": True})
    verify_account(account, NOW)
    paper_exchange.post("/paper/account", key=account.name, permissions={"ipRestrict": False})
    verify_account(account, NOW)
    assert Alert.objects.get().message.endswith("from SAFE to NO_IP_LIMIT.")


def test_a_revoked_key_is_a_credential_error_and_new_keys_end_it(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    verify_account(account, NOW)
    note_rejection(account, BTC, "-2015", NOW)
    paper_exchange.post("/paper/account", key=account.name, revoked=True)
    verify_account(account, NOW)
    assert health(account) == (Health.CREDENTIAL_ERROR, "-2015")
    assert Alert.objects.get(code="ACCOUNT_CREDENTIAL_ERROR").severity == Severity.CRITICAL
    assert account.wallet_balance == Decimal(10_000)
    paper_exchange.post("/paper/account", key=account.name, revoked=False)
    verify_account(account, NOW)
    assert health(account) == (Health.HEALTHY, "")
    assert not is_open(account, BTC, NOW)


def test_the_right_secret_for_the_same_key_is_used_at_once(make_account: Callable[..., Account]) -> None:
    account = make_account()
    replace_keys(account, account.name, "not the secret"[:3])
    verify_account(account, NOW)
    assert health(account) == (Health.CREDENTIAL_ERROR, "-1022")
    replace_keys(account, account.name, account.name)
    verify_account(account, NOW)
    assert health(account) == (Health.HEALTHY, "")


def test_a_read_that_fails_is_a_reason_against_the_account_and_changes_no_money(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    verify_account(account, NOW)
    Account.objects.update(wallet_balance=Decimal(7), balances_at=NOW)
    rule = {"kind": "http", "status": 500, "code": -1000, "account": account.name, "count": 0}
    paper_exchange.add_fault(endpoint="GET /fapi/v3/account", **rule)
    try:
        verify_account(account, NOW + timedelta(hours=1))
    finally:
        paper_exchange.delete("/paper/faults")
    assert health(account) == (Health.UNHEALTHY, "-1000")
    assert (account.wallet_balance, account.fresh_at, account.balances_at) == (Decimal(7), NOW, NOW)


def test_a_used_up_rate_budget_says_nothing_about_the_account(
    make_account: Callable[..., Account], redis: Redis
) -> None:
    account = make_account()
    verify_account(account, NOW)
    asyncio.run(RateBudget(redis, "binance-futures").note_retry_after(30))
    assert verify_account(account, NOW + timedelta(hours=2)) == POSTPONED
    assert health(account) == (Health.HEALTHY, "")
    assert account.verified_at == NOW


def test_processes_seen_from_another_address_have_a_budget_of_their_own(
    make_account: Callable[..., Account], redis: Redis, settings: Settings
) -> None:
    settings.EGRESS = "office"
    asyncio.run(RateBudget(redis, "binance-futures").note_retry_after(30))
    assert verify_account(make_account(), NOW).is_fit
    asyncio.run(RateBudget(redis, "binance-futures", "office").note_retry_after(30))
    assert verify_account(make_account(), NOW) == POSTPONED


def test_one_real_account_is_never_two_active_rows(make_account: Callable[..., Account]) -> None:
    first, second = make_account(), make_account()
    verify_account(second, NOW)
    second.refresh_from_db()
    real = second.exchange_account_id
    Account.objects.filter(pk=second.pk).update(exchange_account_id="")
    Account.objects.filter(pk=first.pk).update(exchange_account_id=real)
    second.refresh_from_db()
    verify_account(second, NOW)
    assert health(second) == (Health.UNHEALTHY, "SAME_ACCOUNT")
    assert first.name in second.health_message
    assert second.exchange_account_id == ""


def test_keys_of_another_real_account_are_noticed(make_account: Callable[..., Account]) -> None:
    account = make_account()
    verify_account(account, NOW)
    replace_keys(account, f"{account.name}-other", f"{account.name}-other")
    verify_account(account, NOW)
    assert health(account) == (Health.UNHEALTHY, "OTHER_ACCOUNT")


def test_an_account_of_another_mode_is_never_spoken_for(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    Account.objects.update(mode="live")
    account.refresh_from_db()
    asked = paper_exchange.get("/paper/status")["requests"]
    with pytest.raises(AccountUnusable, match="MODE_DIFFERS"):
        gateway_for(account, Market.FUTURES)
    verify_account(account, NOW)
    assert health(account) == (Health.UNHEALTHY, "MODE_DIFFERS")
    assert paper_exchange.get("/paper/status")["requests"] <= asked + 1


def test_an_account_without_an_enabled_executor_cannot_enter(make_account: Callable[..., Account]) -> None:
    account = make_account()
    account.executors.update(is_enabled=False)
    verify_account(account, NOW)
    assert health(account) == (Health.UNHEALTHY, "NO_EXECUTOR")


def test_a_spot_account_is_verified_on_spot_alone(make_account: Callable[..., Account]) -> None:
    account = make_account(executors=(Market.SPOT,), permissions={"enableFutures": False})
    verify_account(account, NOW)
    assert health(account) == (Health.HEALTHY, "")
    assert (account.wallet_balance, account.spot_wallet is not None) == (None, True)


def test_ciphertext_swapped_between_rows_fails_closed(make_account: Callable[..., Account]) -> None:
    first, second = make_account(), make_account()
    Account.objects.filter(pk=second.pk).update(api_secret_ciphertext=first.api_secret_ciphertext)
    second.refresh_from_db()
    with pytest.raises(CredentialError, match="SEALED_OTHERWISE") as refused:
        gateway_for(second, Market.FUTURES)
    assert isinstance(refused.value, OrderRejected)
    assert health(second) == (Health.CREDENTIAL_ERROR, "SEALED_OTHERWISE")
    assert Alert.objects.get().severity == Severity.CRITICAL
    assert health(first) == (Health.UNVERIFIED, "")


def test_a_restored_database_without_its_private_key_is_a_credential_error_and_no_crash(
    make_account: Callable[..., Account], settings: Settings
) -> None:
    account = make_account()
    settings.HPKE_PRIVATE_KEY = "yOEd4QnXYwCDLcSnFsoNjhPJJWJqvEvSYq3WBXjXT2o="
    assert verify_account(account, NOW).code == "UNKNOWN_KEY_ID"
    assert health(account) == (Health.CREDENTIAL_ERROR, "UNKNOWN_KEY_ID")


def test_a_process_without_the_private_key_opens_nothing_and_blames_nobody(
    make_account: Callable[..., Account], settings: Settings
) -> None:
    account = make_account()
    settings.HPKE_PRIVATE_KEY = ""
    with pytest.raises(AccountUnusable, match="CREDENTIALS_ELSEWHERE"):
        gateway_for(account, Market.FUTURES)
    assert verify_account(account, NOW).code == "CREDENTIALS_ELSEWHERE"
    assert health(account) == (Health.UNVERIFIED, "")
    assert not Alert.objects.exists()


def test_an_environment_account_trades_with_the_keys_of_the_environment(
    paper_exchange: PaperExchange, settings: Settings
) -> None:
    told = Told(api_key="told-by-environment", api_secret="told-by-environment")
    settings.ENVIRONMENT_ACCOUNTS = (told,)
    sync_environment_accounts(NOW)
    account = Account.objects.get()
    assert verify_account(account, NOW).is_fit
    account.refresh_from_db()
    assert account.api_secret_ciphertext is None


@pytest.mark.parametrize(
    ("told", "code"),
    [((), "ENVIRONMENT_GONE"), ((Told(api_key="another-key", api_secret="another-key"),), "KEY_DIFFERS")],
)
def test_an_environment_account_that_is_told_otherwise_fails_closed(
    settings: Settings, told: tuple[Told, ...], code: str
) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    settings.ENVIRONMENT_ACCOUNTS = told
    with pytest.raises(CredentialError, match=code):
        gateway_for(Account.objects.get(), Market.FUTURES)
    assert health(Account.objects.get()) == (Health.CREDENTIAL_ERROR, code)


def test_two_accounts_have_gateways_of_their_own_and_one_account_one(
    make_account: Callable[..., Account],
) -> None:
    first, second = make_account(), make_account()
    gateway = gateway_for(first, Market.FUTURES)
    assert gateway is gateway_for(first, Market.FUTURES)
    assert (
        len({id(gateway), id(gateway_for(first, Market.SPOT)), id(gateway_for(second, Market.FUTURES))}) == 3
    )


def test_symbols_are_brought_to_isolated_margin_and_the_leverage_asked_for(
    make_account: Callable[..., Account],
) -> None:
    account = make_account()
    Account.objects.update(leverage=7)
    account.refresh_from_db()
    read = ensure_symbol_settings(account, [BTC, ETH], NOW)
    assert {symbol: (found.leverage, found.is_isolated) for symbol, found in read.items()} == {
        BTC: (7, True),
        ETH: (7, True),
    }
    stored = SymbolSetting.objects.filter(account=account).values_list(
        "symbol", "leverage", "is_isolated", "read_at"
    )
    assert sorted(stored) == [(BTC, 7, True, NOW), (ETH, 7, True, NOW)]
    ensure_symbol_settings(account, [BTC], NOW + timedelta(minutes=1))
    assert SymbolSetting.objects.get(account=account, symbol=BTC).read_at == NOW + timedelta(minutes=1)


def test_a_refused_leverage_is_stored_as_the_exchange_reads_it_back(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    rule = {"kind": "http", "status": 400, "code": -4028, "message": "Leverage 3 is not valid", "count": 0}
    paper_exchange.add_fault(endpoint="POST /fapi/v1/leverage", account=account.name, **rule)
    try:
        read = ensure_symbol_settings(account, [BTC], NOW)
    finally:
        paper_exchange.delete("/paper/faults")
    assert read[BTC].leverage != 3
    assert SymbolSetting.objects.get().leverage == read[BTC].leverage


@pytest.mark.parametrize("code", [-4046, -4047])
def test_whatever_is_answered_to_a_margin_mode_the_read_back_decides(
    make_account: Callable[..., Account], paper_exchange: PaperExchange, code: int
) -> None:
    account = make_account()
    rule = {"kind": "http", "status": 400, "code": code, "account": account.name, "count": 0}
    paper_exchange.add_fault(endpoint="POST /fapi/v1/marginType", **rule)
    read = ensure_symbol_settings(account, [BTC], NOW)
    paper_exchange.delete("/paper/faults")
    assert (read[BTC].leverage, read[BTC].is_isolated) == (account.leverage, False)
    assert not SymbolSetting.objects.get().is_isolated


def test_only_what_is_not_as_asked_is_asked_for(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()

    def set_so_far() -> int:
        rows = paper_exchange.ledger()
        return sum(row["account"] == account.name and row["kind"] == "SETTING" for row in rows)

    ensure_symbol_settings(account, [BTC], NOW)
    assert set_so_far() == 2
    Account.objects.update(leverage=7)
    account.refresh_from_db()
    ensure_symbol_settings(account, [BTC], NOW)
    assert set_so_far() == 3


def test_what_a_verification_read_is_not_read_again_before_it_is_changed(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    verify_account(account, NOW)
    asked = weight_used(paper_exchange)
    ensure_symbol_settings_of([account], [BTC], NOW)
    assert weight_used(paper_exchange) - asked == 1 + 1 + 5, "two changes and the read-back"
    assert SymbolSetting.objects.get(account=account, symbol=BTC).leverage == account.leverage


def weight_used(paper_exchange: PaperExchange) -> int:
    """By the exchange's own count, since it began."""
    minutes = paper_exchange.get("/paper/weights")
    return sum(minute["used"] for minute in minutes if "spot" not in minute["address"])


def test_a_change_held_back_for_its_speed_stops_the_changes_after_it_and_stores_nothing(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    account = make_account()
    rule = {"kind": "http", "status": 429, "code": -1003, "account": account.name, "retry_after": 1}
    paper_exchange.add_fault(endpoint="POST /fapi/v1/marginType", **rule)
    assert ensure_symbol_settings_of([account], [BTC, ETH], NOW) == {}
    assert not SymbolSetting.objects.exists()
    rows = paper_exchange.ledger()
    assert not [row for row in rows if row["account"] == account.name and row["kind"] == "SETTING"]


def test_settings_of_many_accounts_are_read_together_and_a_failed_read_leaves_its_account_out(
    make_account: Callable[..., Account], paper_exchange: PaperExchange
) -> None:
    accounts = [make_account(), make_account(), make_account(revoked=True)]
    found = ensure_symbol_settings_of(accounts, [BTC, "NOPE/USDT:USDT"], NOW)
    assert found.keys() == {accounts[0].pk, accounts[1].pk}
    assert [list(symbols) for symbols in found.values()] == [[BTC], [BTC]]
    assert SymbolSetting.objects.count() == 2


def test_the_never_verified_come_first_and_the_healthy_only_after_an_hour(
    make_account: Callable[..., Account],
) -> None:
    fresh, stale, unfit, never, archived = (make_account() for _ in range(5))
    rows = (
        (fresh, Health.HEALTHY, timedelta(minutes=59)),
        (stale, Health.HEALTHY, timedelta(hours=1)),
        (unfit, Health.UNHEALTHY, timedelta(minutes=1)),
    )
    for account, state, age in rows:
        Account.objects.filter(pk=account.pk).update(health=state, verified_at=NOW - age)
    Account.objects.filter(pk=archived.pk).update(archived_at=NOW)
    assert set(due_accounts(NOW)) == {never, stale, unfit}


def test_a_tick_rings_for_the_due_and_a_message_that_comes_twice_asks_once(
    make_account: Callable[..., Account], redis: Redis, paper_exchange: PaperExchange
) -> None:
    account = make_account()
    verify_accounts()
    waiting = [bytes(key) for key in redis.scan_iter("desk:*") if redis.type(key) == b"list"]
    assert [redis.llen(queue) for queue in waiting] == [1]
    verify_account_task(account.pk)
    assert health(account) == (Health.HEALTHY, "")
    asked = paper_exchange.get("/paper/status")["requests"]
    verify_account_task(account.pk)
    assert paper_exchange.get("/paper/status")["requests"] <= asked + 1


def test_the_doctor_prints_a_line_for_each_part_and_account(
    make_account: Callable[..., Account], capsys: pytest.CaptureFixture[str]
) -> None:
    account = make_account()
    call_command("doctor")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "ok   settings",
        "ok   database",
        "ok   broker",
        "ok   exchange futures",
        "ok   exchange spot",
        f"ok   {account.name}",
    ]


def test_the_doctor_fails_when_one_account_is_not_well(
    make_account: Callable[..., Account], capsys: pytest.CaptureFixture[str]
) -> None:
    account, _ = make_account(multi_assets=True), make_account()
    with pytest.raises(CommandError, match="1 not well"):
        call_command("doctor")
    assert f"FAIL {account.name}: MULTI_ASSETS" in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
def test_keys_that_do_not_open_on_the_io_loop_mark_the_account_from_elsewhere(
    make_account: Callable[..., Account],
) -> None:
    account = make_account()
    Account.objects.update(api_key_ciphertext=b"not a ciphertext")
    account.refresh_from_db()

    async def reach() -> object:
        return gateway_for(account, Market.FUTURES)

    (answer,) = IoLoop.current().run_all([reach()], 5)
    assert isinstance(answer, CredentialError)
    wait_until(lambda: health(account) == (Health.CREDENTIAL_ERROR, "SEALED_OTHERWISE"), "the mark")
    wait_until(Alert.objects.filter(code="ACCOUNT_CREDENTIAL_ERROR").exists, "the alert")
