"""The watcher's process: marks published with their age, bells rung once, an end that is clean."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from pytest_django import Settings

from alerts.models import Alert
from exchange import heartbeat
from exchange.marks import MarkBoard
from exchange.port import MarkPrice
from tests.processes import ROOT, PaperExchange, Process, Valkey, wait_until
from trading.management.commands.watch_prices import Inbox
from trading.services import price_watch
from trading.services.bells import Bells
from trading.services.price_watch import PriceWatch
from trading.services.valkey import valkey as connected
from trading.services.watchers import Membership
from trading.tests.services.holding import fresh, hold, pinned_mark
from trading.tests.services.journey import BTC, WEATHER, now

pytestmark = pytest.mark.django_db

ADA = "ADA/USDT:USDT"


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, valkey: Valkey, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The stopwatch of the watcher, moved by hand."""
    seconds = [1_000.0]
    monkeypatch.setattr(price_watch, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def rung() -> list[Bells]:
    """What the watch of a test has rung."""
    return []


@pytest.fixture
def watch(rung: list[Bells]) -> PriceWatch:
    """A watch that leads, alone; nothing is loaded."""
    membership = Membership("alone")
    membership.look(hears_marks=True)
    assert membership.leads
    return PriceWatch(membership, rung.append)


def load(watch: PriceWatch) -> None:
    """As the process does between marks."""
    while not watch.watcher.is_loaded:
        watch.go_on(now())


def test_a_batch_is_published_and_followed(watch: PriceWatch, rung: list[Bells]) -> None:
    position = hold()
    first = Decimal(position.plan["levels"][0]["price"])
    load(watch)
    watch.on_marks([MarkPrice(BTC, first, now())], now(), is_streamed=True)
    assert [bells.positions for bells in rung if bells] == [[position.pk]]
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"
    assert MarkBoard(connected()).read([BTC])[BTC].mark_price == first
    MarkBoard(connected()).publish([MarkPrice(BTC, Decimal(100_000), now() + timedelta(milliseconds=1))])


def test_what_a_stream_brings_later_than_the_poll_before_it_closes_nothing(
    watch: PriceWatch, rung: list[Bells]
) -> None:
    """The stream hung, the mark was polled and a target taken; then the stream brings what it had kept."""
    position = hold()
    second, before = Decimal(position.plan["levels"][1]["price"]), now()
    load(watch)
    watch.on_marks([MarkPrice(BTC, Decimal(100_000), before)], before, is_streamed=True)
    watch.on_marks([MarkPrice(BTC, second, before + timedelta(seconds=3))], now(), is_streamed=False)
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_2"
    load(watch)
    watch.on_marks([MarkPrice(BTC, Decimal(100_000), before)], now(), is_streamed=True)
    assert fresh(position).closing_for == ""
    assert not position.events.filter(code="STOP_CROSSED").exists()


def test_a_silent_stream_is_told_once_and_its_return_too(moments: list[float], watch: PriceWatch) -> None:
    moments[0] += 5
    watch.once_a_second(now())
    assert not Alert.objects.filter(code="STREAM_STALE").exists()
    for _ in range(3):
        moments[0] += 1
        watch.once_a_second(now())
        watch.on_marks([MarkPrice(ADA, Decimal("0.5"), now())], now(), is_streamed=False)
    alert = Alert.objects.get(code="STREAM_STALE")
    assert (alert.count, alert.cleared_at) == (1, None)
    watch.on_marks([MarkPrice(ADA, Decimal("0.5"), now())], now(), is_streamed=True)
    watch.once_a_second(now())
    alert.refresh_from_db()
    assert alert.cleared_at is not None


def test_what_is_due_rings_and_not_again_while_its_bell_is_on_the_way(
    moments: list[float], watch: PriceWatch, rung: list[Bells]
) -> None:
    position = hold()
    due_at = fresh(position).check_at
    assert due_at is not None
    for moment, waits in ((due_at - timedelta(seconds=1), 0), (due_at, 0), (due_at, 1), (due_at, 3)):
        moments[0] += waits
        watch.once_a_second(moment)
    assert [bells.positions for bells in rung] == [[], [position.pk], [], [position.pk]]


@pytest.mark.whole_system
def test_the_process_beats_publishes_every_mark_and_ends_clean(
    exchange: PaperExchange, tmp_path: Path
) -> None:
    connected().delete(heartbeat.watcher_key("watcher_2"), heartbeat.MARKS)
    place = {"VAR_DIR": str(tmp_path / "var"), "DATABASE_URL": "", "PAPER_EXCHANGE_URL": exchange.url}
    env = {**os.environ, **place}
    manage = [sys.executable, str(ROOT / "manage.py")]
    subprocess.run([*manage, "migrate", "-v0"], env=env, check=True, timeout=60)
    process = Process("watcher", [*manage, "watch_prices", "--name", "watcher_2"], tmp_path, env)
    process.start()
    try:
        wait_until(lambda: heartbeat.age_seconds(connected(), heartbeat.MARKS) is not None, "marks", 60)
        wait_until(lambda: "watcher_2" in heartbeat.watcher_ages_seconds(connected()), "a beat", 5)
        marks = MarkBoard(connected()).read()
        assert len(marks) > 10
        assert process.is_running
        assert "Traceback" not in process.output
    finally:
        process.stop()
    assert process._popen is not None
    assert process._popen.returncode == 0, process.output[-2000:]


def test_who_stands_by_neither_publishes_nor_acts_until_it_leads(
    watch: PriceWatch, rung: list[Bells]
) -> None:
    position = hold()
    second = PriceWatch(Membership("second"), rung.append)
    second.membership.look(hears_marks=True)
    price = Decimal(position.plan["levels"][0]["price"])
    second.begin(now())
    second.on_marks([MarkPrice(BTC, price, now())], now(), is_streamed=True)
    second.once_a_second(now() + timedelta(hours=1))
    assert rung == []
    assert MarkBoard(connected()).read([BTC])[BTC].mark_price != price
    assert fresh(position).reduction == {}
    watch.membership.leave()
    second.membership.look(hears_marks=True)
    second.go_on(now())
    assert [bells.positions for bells in rung] == [[position.pk]]
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"


def test_marks_that_a_pause_left_in_the_socket_are_not_followed(
    moments: list[float], watch: PriceWatch, rung: list[Bells]
) -> None:
    position = hold()
    price = Decimal(position.plan["levels"][0]["price"])
    at = now()
    load(watch)
    watch.on_marks([MarkPrice(BTC, Decimal(100_000), at)], at, is_streamed=True)
    moments[0] += 45
    late = at + timedelta(seconds=1)
    watch.on_marks([MarkPrice(BTC, price, late)], late, is_streamed=True)
    assert fresh(position).reduction == {}
    assert not any(rung)
    moments[0] += 1
    in_time = at + timedelta(seconds=46)
    watch.on_marks([MarkPrice(BTC, price, in_time)], in_time, is_streamed=True)
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"


def test_marks_that_stay_late_are_followed_after_ten_seconds(moments: list[float], watch: PriceWatch) -> None:
    at = now()
    watch.on_marks([MarkPrice(BTC, Decimal(100_000), at)], at, is_streamed=True)
    moments[0] += 60  # the exchange's clock was put back by a minute
    seen = []
    for second in range(13):
        moments[0] += 1
        moment = at + timedelta(seconds=second)
        watch.on_marks([MarkPrice(BTC, Decimal(100_000), moment)], moment, is_streamed=True)
        seen.append(watch.hears_marks())
    assert (seen[0], seen[-1]) == (False, True)


def test_marks_never_wait_behind_what_accounts_tell() -> None:
    inbox = Inbox()
    done: list[str] = []
    for rank, name in ((1, "account 1"), (1, "account 2"), (0, "marks")):
        inbox.post(rank, partial(_note, done, name))
    for _ in range(3):
        piece = inbox.next()
        assert piece is not None
        piece(now())
    assert done == ["marks", "account 1", "account 2"]
    assert inbox.next() is None


def _note(done: list[str], name: str, _: datetime) -> Bells:
    done.append(name)
    return Bells()
