"""A venue is halted by how it answers everybody, and only its own accounts are held back."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from accounts.models import Account
from exchange.venue_answers import AnswerCount, read_answers
from trading.models import Halt
from trading.services import emergency, halts, venue_halts
from trading.tests import rows
from trading.tests.rows import NOON, SYMBOL

pytestmark = pytest.mark.django_db


@pytest.fixture
def accounts(db: None) -> list[Account]:
    rows.account("here")
    there = rows.account("there")
    Account.objects.filter(pk=there.pk).update(exchange="bybit")
    return list(Account.objects.order_by("name"))


def answered(redis: Redis, *told: tuple[int, str], venue: str = "binance", again: int = 1) -> None:
    """As the clients of a process tell its answers."""

    async def note() -> None:
        count = AnswerCount(redis, venue)
        for status, code in told * again:
            count.note(status, code)
        assert count._flushing is not None
        await count._flushing

    asyncio.run(note())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.venue_answers.FLUSH_SECONDS", 0.0)


def check(accounts: list[Account], after: timedelta = timedelta(0)) -> list[str]:
    return [f"{halt.target} {halt.code}" for halt in venue_halts.check(accounts, NOON + after)]


OK: tuple[int, str] = (200, "")


@pytest.mark.parametrize(
    ("told", "again", "raised"),
    [
        ((OK,), 30, []),
        ((OK, OK, OK, OK, (503, "")), 6, []),
        ((OK, OK, OK, (503, "")), 6, ["binance VENUE_ERRORS"]),
        ((OK, OK, OK, (503, "")), 4, []),
        ((OK, (400, "-1016")), 1, ["binance VENUE_MAINTENANCE"]),
        ((OK, (418, "-1003")), 1, ["binance VENUE_BANNED"]),
        (((429, "-1003"), (400, "-2019")), 20, []),
    ],
)
def test_a_venue_is_halted_by_its_answers_once(
    redis: Redis, accounts: list[Account], told: Any, again: int, raised: list[str]
) -> None:
    answered(redis, *told, again=again)
    assert check(accounts) == raised
    assert check(accounts) == []
    board = halts.standing(NOON)
    assert [board.blocks_entry(account, SYMBOL) for account in accounts] == [bool(raised), False]


def test_what_several_processes_saw_is_counted_together(redis: Redis) -> None:
    for status in (200, 503, 418):
        answered(redis, (status, ""), again=5)
    seen = read_answers(redis, "binance", 30)
    assert (seen.total, seen.server_errors, seen.bans, seen.maintenance) == (15, 5, 5, 0)
    assert read_answers(redis, "bybit", 30).total == 0


def test_errors_and_maintenance_wait_for_an_explicit_resume(redis: Redis, accounts: list[Account]) -> None:
    answered(redis, (503, "-1016"), again=20)
    assert check(accounts) == ["binance VENUE_MAINTENANCE", "binance VENUE_ERRORS"]
    redis.flushdb()
    check(accounts, timedelta(hours=1))
    assert Halt.objects.filter(resumed_at=None).count() == 2
    assert emergency.resume("venue:binance", "it is back", "a test", NOON) == 2
    assert not halts.standing(NOON).blocks_entry(accounts[0], SYMBOL)


def test_a_ban_is_over_when_every_account_with_positions_was_read_again(
    redis: Redis, accounts: list[Account]
) -> None:
    rows.position(accounts[0])
    answered(redis, (418, "-1003"))
    assert check(accounts) == ["binance VENUE_BANNED"]
    redis.flushdb()
    check(accounts, timedelta(seconds=130))
    assert Halt.objects.get().resumed_at is None, "nobody has read the account that holds a position"
    Account.objects.filter(pk=accounts[0].pk).update(audited_at=NOON + timedelta(seconds=131))
    check(accounts, timedelta(seconds=140))
    halt = Halt.objects.get()
    assert (halt.resumed_at, halt.resumed_by) == (NOON + timedelta(seconds=140), "desk")


def test_a_venues_halt_is_raised_and_flattened_by_an_operator_like_any_other(accounts: list[Account]) -> None:
    ours, theirs = rows.position(accounts[0]), rows.position(accounts[1])
    halt, bells = emergency.raise_halt("venue:binance", "FLATTEN", "because", "a test", NOON)
    assert bells.positions == [ours.pk]
    assert [one.name for one in emergency.accounts_in(halt)] == ["here"]
    theirs.refresh_from_db()
    assert theirs.closing_for == ""
    with pytest.raises(halts.ScopeUnknown):
        emergency.raise_halt("venue:kraken", "HALT_ENTRIES", "because", "a test", NOON)


def test_without_a_broker_no_venue_is_halted(
    accounts: list[Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(venue_halts, "valkey", lambda: away)
    assert check(accounts) == []
    assert settings.LIMITS.venue_error_answers == 20
