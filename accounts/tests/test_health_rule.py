from dataclasses import replace
from decimal import Decimal

import pytest

from accounts.domain.health import Failure, Permissions, Reading, Terms, judge, permissions_of
from exchange.port import AccountSettings, BalanceReport, KeyPermissions, Market

SAFE = KeyPermissions(can_withdraw=False, is_ip_restricted=True, can_trade_futures=True, can_trade_spot=True)
ONE_WAY = AccountSettings(is_hedge_mode=False, is_multi_assets=False, exchange_account_id="77")
WELL = Reading(
    balance=BalanceReport("USDT", Decimal(100), Decimal(0), Decimal(100)),
    spot_balance=BalanceReport("USDT", Decimal(50), Decimal(0), Decimal(50)),
    positions=(),
    settings=ONE_WAY,
    permissions=SAFE,
    clock_offset_ms=12,
)
BOTH = Terms(markets=frozenset(Market), is_paper=False, known_account_id="77")
SILENT = KeyPermissions(None, None, None, None)


def test_an_account_with_nothing_against_it_is_fit() -> None:
    assert judge(WELL, BOTH).is_fit


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"clock_offset_ms": 1001}, "CLOCK"),
        ({"clock_offset_ms": -1001}, "CLOCK"),
        ({"settings": replace(ONE_WAY, is_hedge_mode=True)}, "HEDGE_MODE"),
        ({"settings": replace(ONE_WAY, is_multi_assets=True)}, "MULTI_ASSETS"),
        ({"settings": replace(ONE_WAY, exchange_account_id="78")}, "OTHER_ACCOUNT"),
        ({"permissions": replace(SAFE, can_withdraw=True)}, "KEY_CAN_WITHDRAW"),
        ({"permissions": replace(SAFE, can_trade_futures=False)}, "NO_TRADE_PERMISSION"),
        ({"permissions": replace(SAFE, can_trade_spot=False)}, "NO_TRADE_PERMISSION"),
        ({"permissions": replace(SAFE, has_portfolio_margin=True)}, "PORTFOLIO_MARGIN"),
        ({"permissions": SILENT}, "PERMISSIONS_UNKNOWN"),
        ({"failures": {"balance": Failure("TIMEOUT", "")}}, "TIMEOUT"),
        ({"failures": {"permissions": Failure("-2015", "")}, "permissions": None}, "PERMISSIONS_UNKNOWN"),
    ],
)
def test_each_reason_against_an_account_has_its_code(changed: dict[str, object], code: str) -> None:
    verdict = judge(replace(WELL, **changed), BOTH)  # type: ignore[arg-type]  # a table of fields
    assert (verdict.code, verdict.blames_keys) == (code, False)


@pytest.mark.parametrize("offset_ms", [-1000, 0, 1000])
def test_a_clock_within_a_second_is_fine(offset_ms: int) -> None:
    assert judge(replace(WELL, clock_offset_ms=offset_ms), BOTH).is_fit


@pytest.mark.parametrize("code", ["-2014", "-2015", "-1022"])
def test_refused_keys_are_to_blame_themselves(code: str) -> None:
    verdict = judge(replace(WELL, failures={"balance": Failure(code, "Invalid API-key.")}), BOTH)
    assert (verdict.code, verdict.blames_keys) == (code, True)


def test_rights_nobody_tells_are_accepted_by_an_operator_or_on_paper_only() -> None:
    silent = replace(WELL, permissions=SILENT)
    assert judge(silent, replace(BOTH, are_unknown_permissions_accepted=True)).is_fit
    assert judge(silent, replace(BOTH, is_paper=True)).is_fit
    withdrawing = replace(WELL, permissions=replace(SAFE, can_withdraw=True))
    assert (
        judge(withdrawing, replace(BOTH, is_paper=True, are_unknown_permissions_accepted=True)).code
        == "KEY_CAN_WITHDRAW"
    )


def test_a_right_that_no_executor_needs_is_not_asked_for() -> None:
    futures_only = replace(WELL, permissions=replace(SAFE, can_trade_spot=False))
    assert judge(futures_only, replace(BOTH, markets=frozenset({Market.FUTURES}))).is_fit


def test_another_row_for_the_same_real_account_is_named() -> None:
    verdict = judge(WELL, replace(BOTH, twin="alpha"))
    assert (verdict.code, "alpha" in verdict.message) == ("SAME_ACCOUNT", True)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (SAFE, Permissions.SAFE),
        (replace(SAFE, can_withdraw=True), Permissions.UNSAFE),
        (replace(SAFE, is_ip_restricted=False), Permissions.NO_IP_LIMIT),
        (replace(SAFE, is_ip_restricted=None), Permissions.NO_IP_LIMIT),
        (SILENT, Permissions.UNKNOWN),
        (None, Permissions.UNKNOWN),
    ],
)
def test_what_a_key_may_do_has_four_states(told: KeyPermissions | None, state: Permissions) -> None:
    assert permissions_of(told) is state


@pytest.mark.parametrize("code", ["BUDGET", "STOPPED", "HTTP_429"])
def test_our_own_speed_limit_says_nothing_about_an_account(code: str) -> None:
    assert replace(WELL, failures={"balance": Failure(code, "")}).is_postponed


def test_an_unreachable_exchange_is_no_speed_limit() -> None:
    assert not replace(WELL, failures={"balance": Failure("CONNECTION_REFUSED", "")}).is_postponed
