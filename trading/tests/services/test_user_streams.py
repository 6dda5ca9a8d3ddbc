"""What many accounts' streams tell at once is a few pieces of work, in order, and none of it is forgotten."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.db import DataError, OperationalError

from accounts.models import Account
from exchange.port import Market
from exchange.stream_events import StreamDown
from trading.services import streams, user_streams
from trading.services.bells import Bells
from trading.services.streams import Told
from trading.services.user_streams import UserStreams, Work
from trading.services.watchers import Membership

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def told(number: int) -> Told:
    return Told(number, Market.FUTURES, StreamDown(NOW, "closed"))


def test_what_comes_while_a_piece_waits_is_one_piece_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[Work] = []
    applied: list[list[int]] = []

    def keep(batch: Any, _now: datetime) -> Bells:
        applied.append([one.account_id for one in batch])
        if len(applied) == 1:
            listener._tell(told(-1))  # while the first piece is being done
        return Bells()

    monkeypatch.setattr(streams, "apply", keep)
    listener = UserStreams(posted.append, Membership("alone"))
    numbers = list(range(user_streams.MOST_AT_ONCE + 2))
    for number in numbers:
        listener._tell(told(number))
    assert len(posted) == 1
    for work in posted:  # grows while it is worked off
        work(NOW)
    assert [number for batch in applied for number in batch] == [*numbers, -1]
    assert max(len(batch) for batch in applied) == user_streams.MOST_AT_ONCE
    assert len(posted) == 2


def test_what_the_database_could_not_take_is_told_again_before_anybody_counts_as_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posted: list[Work] = []
    applied: list[int] = []
    alive: list[int] = []
    is_away = True

    def apply(batch: Any, _now: datetime) -> Bells:
        if is_away:
            raise OperationalError("the server closed the connection")
        applied.extend(one.account_id for one in batch)
        return Bells()

    monkeypatch.setattr(streams, "apply", apply)
    monkeypatch.setattr(streams, "note_alive", lambda ids, _now: alive.extend(ids))
    listener = UserStreams(posted.append, Membership("alone"))
    for number in (1, 2):
        listener._tell(told(number))
    pieces: list[Work] = [*posted, partial(listener._note_alive, [1, 2])]
    for work in pieces:
        with pytest.raises(OperationalError):
            work(NOW)
    assert alive == []
    is_away = False
    listener._tell(told(3))
    listener._note_alive([1, 2], NOW)
    assert (applied, alive) == ([1, 2, 3], [1, 2])


def test_an_event_that_no_row_can_take_leaves_its_accounts_in_doubt_and_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doubted: list[int] = []

    def apply(_batch: Any, _now: datetime) -> Bells:
        raise DataError("numeric field overflow")

    monkeypatch.setattr(streams, "apply", apply)
    monkeypatch.setattr(streams, "doubt", doubted.extend)
    listener = UserStreams(lambda _work: None, Membership("alone"))
    listener._tell(told(1))
    with pytest.raises(DataError):
        listener._apply_told(NOW)
    assert doubted == [1]
    assert not listener._told


class Broken:
    """A stream that fails in a way nobody foresaw."""

    async def events(self) -> AsyncGenerator[StreamDown]:
        yield StreamDown(NOW, "first")
        raise RuntimeError("never seen before")


class Endless:
    """A stream that says nothing."""

    async def events(self) -> AsyncGenerator[StreamDown]:
        await asyncio.get_running_loop().create_future()
        yield StreamDown(NOW, "never")


async def listened(
    made: list[Any], rounds: list[dict[int, Account]], monkeypatch: pytest.MonkeyPatch
) -> list[Any]:
    """Whose streams were opened while the accounts were read so, each round in turn."""
    opened: list[Any] = []

    def open_stream(account: Account, _market: Market) -> Any:
        opened.append(account.key_fingerprint)
        return made[len(opened) - 1]

    monkeypatch.setattr(user_streams, "user_stream_for", open_stream)
    listener = UserStreams(lambda _work: None, Membership("alone"))
    for accounts in rounds:
        listener._listen_to(accounts)
        await asyncio.sleep(0.01)
    listener._listen_to({})
    return opened


def test_an_account_whose_keys_are_replaced_is_listened_to_by_the_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = Account(pk=1, key_fingerprint="old"), Account(pk=1, key_fingerprint="new")
    rounds = [{1: before}, {1: before}, {1: after}]
    assert asyncio.run(listened([Endless(), Endless()], rounds, monkeypatch)) == ["old", "new"]


def test_a_stream_that_broke_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(pk=1, key_fingerprint="same")
    rounds = [{1: account}, {1: account}, {1: account}]
    assert asyncio.run(listened([Broken(), Endless()], rounds, monkeypatch)) == ["same", "same"]
