"""What many accounts' streams tell at once is a few pieces of work, in order, and none of it is forgotten."""

from datetime import UTC, datetime
from typing import Any

import pytest

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
