"""Which halt reaches whom, and when the desk stops itself."""

from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.utils import timezone

from accounts.models import Account, AccountGroup
from accounts.services.limits import effective_limits, set_override
from alerts.models import Alert
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.autohalt import HaltCode
from trading.domain.states import CloseReason, HaltLevel, OrderStatus, PositionStatus
from trading.models import Decision, Halt
from trading.models.operations import HaltScope
from trading.services import automatic_halts, emergency, equity, halts, market
from trading.services.exposure import exposures
from trading.tests import rows
from trading.tests.rows import NOON, SYMBOL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]

NUMBERS = count(1)
TODAY = {"balances_at": NOON, "day_started_at": NOON.replace(hour=0), "spot_wallet": 0, "spot_available": 0}


def accounts_of(number: int, **values: Any) -> list[Account]:
    made = [rows.account(f"halting {next(NUMBERS)}") for _ in range(number)]
    for account in made:
        Account.objects.filter(pk=account.pk).update(**values)
        account.refresh_from_db()
    return made


def check(
    accounts: list[Account], *, marks_age_seconds: float | None = 1.0, after_seconds: float = 0
) -> list[str]:
    """One look of the rules: the codes of what was raised, with their scopes."""
    now = NOON + timedelta(seconds=after_seconds)
    limits = {account.pk: settings.LIMITS for account in accounts}
    at_stake = exposures(accounts, limits, {}, now)
    raised = automatic_halts.check(accounts, limits, at_stake, marks_age_seconds, now)
    return sorted(f"{halt.scope} {halt.code}" for halt in raised)


def stopped_out(account: Account, decision: Decision, minutes_ago: float = 1, **values: Any) -> None:
    told: dict[str, Any] = {
        "status": PositionStatus.CLOSED,
        "close_reason": CloseReason.STOP_LOSS,
        "quantity": 0,
        "realized_profit": Decimal(-20),
        "fees": Decimal(1),
        "closed_at": NOON - timedelta(minutes=minutes_ago),
    }
    rows.position(account, allocation=rows.allocation(decision, account), **told | values)


def decisions_of(number: int) -> list[Decision]:
    return [rows.decision(rows.signal(uuid4().hex)) for _ in range(number)]


# ── what a halt reaches ──────────────────────────────────────────────────────
def halt(
    scope: HaltScope, target: str = "", level: HaltLevel = HaltLevel.HALT_ENTRIES, **values: Any
) -> Halt:
    return Halt.objects.create(
        scope=scope,
        target=target,
        level=level,
        reason="because",
        raised_by="a test",
        raised_at=NOON,
        **values,
    )


@pytest.mark.parametrize(
    ("scope", "target", "reached"),
    [
        (HaltScope.DESK, "", True),
        (HaltScope.GROUP, "calm", True),
        (HaltScope.GROUP, "wild", False),
        (HaltScope.ACCOUNT, "alpha", True),
        (HaltScope.ACCOUNT, "beta", False),
        (HaltScope.SYMBOL, SYMBOL, True),
        (HaltScope.SYMBOL, "ETH/USDT:USDT", False),
    ],
)
def test_a_halt_reaches_its_scope_and_nothing_else(scope: HaltScope, target: str, reached: bool) -> None:
    account = rows.account("alpha", group=AccountGroup.objects.create(name="calm"))
    halt(scope, target)
    assert halts.standing(NOON).blocks_entry(account, SYMBOL) is reached


def test_a_symbols_halt_reaches_its_coin_on_every_market() -> None:
    account = rows.account()
    reach = halts.read_reach("symbol:BTCUSDT")
    halt(HaltScope.SYMBOL, reach.target, result={"symbols": list(reach.symbols)})
    board = halts.standing(NOON)
    assert board.blocks_entry(account, "BTC/USDT")
    assert board.blocks_entry(account, "BTC/USDT:USDT")
    assert not board.blocks_entry(account, "ETH/USDT:USDT")


@pytest.mark.parametrize(
    "written",
    ["BTC", "btc", "BTCUSDT", "btcusdt", "BTC-USDT", "BTC/USDT", "BTC/USDT:USDT", "BINANCE:BTCUSDT.P"],
)
def test_a_symbol_is_stopped_however_a_signal_may_spell_it(written: str) -> None:
    reach = halts.read_reach(f"symbol:{written}")
    assert (reach.target, set(reach.symbols)) == ("BTC/USDT:USDT", {"BTC/USDT:USDT", "BTC/USDT"})


def test_the_hardest_halt_that_reaches_counts() -> None:
    account = rows.account("alpha")
    halt(HaltScope.DESK)
    halt(HaltScope.ACCOUNT, "alpha", HaltLevel.FLATTEN)
    board = halts.standing(NOON)
    assert board.level_for(account, SYMBOL) == HaltLevel.FLATTEN
    assert board.desk_level == HaltLevel.HALT_ENTRIES


def test_a_resumed_halt_stops_nothing() -> None:
    halt(HaltScope.DESK, resumed_at=NOON)
    assert not halts.standing(NOON).blocks_entry(rows.account(), SYMBOL)


# ── accounts that stop themselves ────────────────────────────────────────────
def test_a_day_lost_to_its_limit_halts_that_account_alone() -> None:
    losing, calm = accounts_of(2, day_baseline_equity=10_000, **TODAY)
    more = accounts_of(4, day_baseline_equity=10_000, **TODAY)
    limit = settings.LIMITS.daily_loss
    Account.objects.filter(pk=losing.pk).update(wallet_balance=10_000 * (1 - limit))
    losing.refresh_from_db()
    assert check([losing, calm, *more]) == ["account DAILY_LOSS"]
    board = halts.standing(NOON)
    assert board.blocks_entry(losing, SYMBOL)
    assert not board.blocks_entry(calm, SYMBOL)
    assert check([losing, calm, *more]) == [], "raised once"


def test_a_loss_on_spot_counts_in_the_day() -> None:
    on_spot = {"spot_wallet": 9_500, "spot_available": 9_500, "wallet_balance": 0, "day_baseline_equity": 0}
    losing, calm, *rest = accounts_of(6, **TODAY | on_spot)
    decision, *_ = decisions_of(1)
    sold: dict[str, Any] = {
        "market": Market.SPOT,
        "symbol": "BTC/USDT",
        "opened_at": NOON,
        "fees": Decimal(0),
    }
    stopped_out(losing, decision, realized_profit=Decimal(-500), **sold)
    stopped_out(calm, decision, realized_profit=Decimal(-499), **sold)
    assert check([losing, calm, *rest]) == ["account DAILY_LOSS"]
    assert halts.standing(NOON).blocks_entry(losing, SYMBOL)


def test_a_fall_from_the_peak_halts_the_account() -> None:
    fallen, *rest = accounts_of(6, day_baseline_equity=8_500, **TODAY, wallet_balance=8_500)
    Account.objects.filter(pk=fallen.pk).update(peak_equity=10_000)
    fallen.refresh_from_db()
    assert check([fallen, *rest]) == ["account DRAWDOWN"]


def test_a_fall_on_spot_counts_in_the_drawdown() -> None:
    fallen, calm, *rest = accounts_of(
        6, day_baseline_equity=9_000, peak_equity=10_000, **TODAY, wallet_balance=9_000
    )
    decision, *_ = decisions_of(1)
    sold: dict[str, Any] = {
        "market": Market.SPOT,
        "symbol": "BTC/USDT",
        "opened_at": NOON,
        "fees": Decimal(10),
    }
    stopped_out(fallen, decision, realized_profit=Decimal(-490), **sold)
    stopped_out(calm, decision, realized_profit=Decimal(-480), **sold)
    for account in (fallen, calm):
        set_override(account, "daily_loss", "50", "olga")
    limits = {one.pk: effective_limits(one).limits for one in [fallen, calm, *rest]}
    at_stake = exposures([fallen, calm, *rest], limits, {}, NOON)
    raised = automatic_halts.check([fallen, calm, *rest], limits, at_stake, 1.0, NOON)
    assert [(halt.code, halt.target) for halt in raised] == [(HaltCode.DRAWDOWN, fallen.name)]


def changed(account: Account, **values: Any) -> None:
    Account.objects.filter(pk=account.pk).update(**values)
    account.refresh_from_db()


def test_a_resumed_drawdown_starts_from_where_it_was_resumed() -> None:
    fallen, *rest = accounts_of(6, day_baseline_equity=8_500, **TODAY, wallet_balance=8_500)
    changed(fallen, peak_equity=10_000)
    assert check([fallen, *rest]) == ["account DRAWDOWN"]
    assert check([fallen, *rest]) == []
    emergency.resume(f"account:{fallen.name}", "looked at", "a test", NOON)
    fallen.refresh_from_db()
    assert check([fallen, *rest]) == []
    equity.record(NOON)
    fallen.refresh_from_db()
    assert fallen.peak_equity == 8_500


def test_a_day_that_was_resumed_is_halted_again_the_next_day_only() -> None:
    losing, *rest = accounts_of(6, day_baseline_equity=10_000, **TODAY)
    changed(losing, wallet_balance=9_000)
    assert check([losing, *rest]) == ["account DAILY_LOSS"]
    emergency.resume(f"account:{losing.name}", "looked at", "a test", NOON)
    assert check([losing, *rest], after_seconds=60) == []
    changed(losing, balances_at=NOON + timedelta(days=1), day_started_at=NOON + timedelta(hours=12))
    assert check([losing, *rest], after_seconds=86_400) == ["account DAILY_LOSS"]


def test_three_stop_outs_within_an_hour_halt_the_account_and_a_resume_starts_the_count_again() -> None:
    account, *rest = accounts_of(6)
    one, two, three = decisions_of(3)
    stopped_out(account, one, minutes_ago=59)
    stopped_out(account, two, minutes_ago=40)
    assert check([account, *rest]) == []
    stopped_out(account, three, minutes_ago=30)
    assert check([account, *rest]) == ["account STOP_OUTS"]
    emergency.resume(f"account:{account.name}", "looked at", "a test", NOON)
    assert check([account, *rest]) == []


def test_a_window_of_five_hours_counts_five_hours() -> None:
    account, *rest = accounts_of(6)
    set_override(account, "account_stop_out_minutes", "300", "olga")
    for decision, minutes in zip(decisions_of(3), (280, 200, 30), strict=True):
        stopped_out(account, decision, minutes_ago=minutes)
    limits = {one.pk: found.limits for one in [account, *rest] for found in [effective_limits(one)]}
    at_stake = exposures([account, *rest], limits, {}, NOON)
    raised = automatic_halts.check([account, *rest], limits, at_stake, 1.0, NOON)
    assert [halt.code for halt in raised] == [HaltCode.STOP_OUTS]


def test_a_stop_that_took_a_profit_is_no_stop_out() -> None:
    account, *rest = accounts_of(6)
    for decision in decisions_of(3):
        stopped_out(account, decision, realized_profit=Decimal(5))
    assert check([account, *rest]) == []


# ── the desk stops itself ────────────────────────────────────────────────────
def test_one_decision_stopped_out_everywhere_is_one_stop_out_for_the_desk() -> None:
    accounts = accounts_of(12)
    (decision,) = decisions_of(1)
    for account in accounts:
        stopped_out(account, decision)
    assert check(accounts) == []


def test_three_decisions_stopped_out_in_a_quarter_of_an_hour_halt_the_desk() -> None:
    accounts = accounts_of(12)
    for account, decision, minutes in zip(accounts, decisions_of(3), (1, 7, 16), strict=False):
        stopped_out(account, decision, minutes_ago=minutes)
    assert check(accounts) == [], "the third was longer ago"
    stopped_out(accounts[5], decisions_of(1)[0], minutes_ago=14)
    assert check(accounts) == ["desk STOP_OUTS"]
    assert halts.standing(NOON).blocks_entry(accounts[11], SYMBOL)


def test_a_quarter_of_its_accounts_halted_halts_the_desk() -> None:
    accounts = accounts_of(8)
    halt(HaltScope.ACCOUNT, accounts[0].name)
    assert check(accounts) == []
    halt(HaltScope.ACCOUNT, accounts[1].name)
    assert check(accounts) == ["desk HALTED_ACCOUNTS"]


@pytest.mark.parametrize("age", [None, 5.1])
def test_a_stale_mark_stream_halts_the_desk_and_fresh_marks_resume_it_with_its_alert(
    age: float | None,
) -> None:
    accounts = accounts_of(2)
    assert check(accounts, marks_age_seconds=age) == ["desk STREAM_STALE"]
    raised = Halt.objects.get()
    cause = f"halt:{raised.pk}"
    assert Alert.objects.get(cause=cause).cleared_at is None
    assert check(accounts, marks_age_seconds=age) == []
    check(accounts, marks_age_seconds=0.5, after_seconds=10)
    raised.refresh_from_db()
    assert (raised.resumed_at, raised.resumed_by) == (NOON + timedelta(seconds=10), "desk")
    assert Alert.objects.get(cause=cause).cleared_at is not None
    assert not halts.standing(NOON).blocks_entry(accounts[0], SYMBOL)


def test_fresh_marks_resume_no_other_halt() -> None:
    accounts = accounts_of(2)
    standing = halt(HaltScope.DESK, code=HaltCode.STOP_OUTS, is_automatic=True)
    check(accounts)
    standing.refresh_from_db()
    assert standing.resumed_at is None


@pytest.mark.parametrize(("seconds", "accounts", "raised"), [(61, 3, True), (59, 3, False), (61, 2, False)])
def test_outcomes_unknown_for_a_minute_on_three_accounts_halt_the_desk(
    seconds: int, accounts: int, raised: bool
) -> None:
    made = accounts_of(6)
    (decision,) = decisions_of(1)
    since = timezone.now() - timedelta(seconds=seconds)
    for account in made[:accounts]:
        share = rows.allocation(decision, account)
        rows.entry(share, uuid4().hex, status=OrderStatus.UNKNOWN, unknown_since=since)
    assert check(made) == (["desk OUTCOMES_UNKNOWN"] if raised else [])


def test_an_automatic_halt_stops_entries_and_closes_nothing() -> None:
    accounts = accounts_of(2)
    held = rows.position(accounts[0])
    check(accounts, marks_age_seconds=None)
    held.refresh_from_db()
    raised = Halt.objects.get()
    assert (raised.level, raised.is_automatic, raised.raised_by) == ("HALT_ENTRIES", True, "desk")
    assert (held.status, held.closing_for) == (PositionStatus.OPEN, "")


def test_a_symbol_is_halted_by_our_own_rows_when_the_market_tables_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(_: Market) -> None:
        raise ReadFailed("TIMEOUT", "the exchange is silent")

    account = rows.account("silent")
    rows.entry(rows.allocation(rows.decision(), account), "silent-1")
    monkeypatch.setattr(market, "instruments", silent)
    for spelling in (SYMBOL, "BTC", "BTCUSDT"):
        assert halts.read_reach(f"symbol:{spelling}").target == SYMBOL
    with pytest.raises(halts.ScopeUnknown):
        halts.read_reach("symbol:NOPEUSDT")


def test_a_renamed_account_or_group_stays_halted_and_can_be_resumed() -> None:
    (account,) = accounts_of(1)
    account.group = AccountGroup.objects.create(name="before")
    account.save()
    emergency.raise_halt(f"account:{account.name}", "HALT_ENTRIES", "because", "a test", NOON)
    emergency.raise_halt("group:before", "HALT_ENTRIES", "because", "a test", NOON)
    account.name, account.group.name = "after", "afterwards"
    account.save(update_fields=["name"])
    account.group.save()
    board = halts.standing(NOON)
    assert [halts.covers(halt, account, SYMBOL) for halt in board.halts] == [True, True]
    assert emergency.resume("account:after", "done", "a test", NOON) == 1
    assert emergency.resume("group:afterwards", "done", "a test", NOON) == 1


@pytest.mark.parametrize(
    ("scope", "target"), [(HaltScope.GROUP, "removed since"), (HaltScope.SYMBOL, "GONE/USDT:USDT")]
)
def test_a_halt_of_what_is_no_longer_here_can_be_resumed_by_its_own_name(
    scope: HaltScope, target: str
) -> None:
    standing, other = halt(scope, target), halt(HaltScope.DESK)
    assert emergency.resume(f"{scope}:{target}", "nobody is left to halt", "a test", NOON) == 1
    for one in (standing, other):
        one.refresh_from_db()
    assert [standing.resumed_at, other.resumed_at] == [NOON, None]
