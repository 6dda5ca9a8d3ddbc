"""The watcher's book beside the rows: what differs twice is told, what was missed is followed."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from alerts.models import Alert
from exchange.marks import MarkBoard
from exchange.port import MarkPrice
from tests.processes import PaperExchange
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Position
from trading.services import watch_check
from trading.services.bells import Bells
from trading.services.price_watch import PriceWatch
from trading.services.valkey import valkey
from trading.services.watch_check import DIFFERED_KEY, DIGEST_KEY, check
from trading.services.watchers import Membership
from trading.tests.services.holding import MARK, enter, fresh, hold, pinned_mark
from trading.tests.services.journey import BTC, WEATHER, now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    valkey().delete(DIGEST_KEY, DIFFERED_KEY)
    with pinned_mark(paper_exchange):
        yield paper_exchange
    publish(str(MARK))


@pytest.fixture
def watch() -> PriceWatch:
    membership = Membership("alone")
    membership.look(hears_marks=True)
    return PriceWatch(membership, lambda _: None)


def publish(price: object) -> None:
    MarkBoard(valkey()).publish([MarkPrice(BTC, type(MARK)(str(price)), now())])


def tell(watch: PriceWatch) -> None:
    """What a watcher that has loaded tells each second."""
    watch.watcher.refresh()
    watch.once_a_second(now())


def test_what_is_watched_as_the_rows_say_is_no_alarm(watch: PriceWatch) -> None:
    hold()
    for _ in range(2):
        tell(watch)
        assert check(now()) == Bells()
    assert not Alert.objects.filter(code__startswith="WATCHER_").exists()


def test_a_difference_is_told_when_it_lasts_and_its_end_too(watch: PriceWatch) -> None:
    position = hold()
    tell(watch)
    Position.objects.filter(pk=position.pk).update(updated_at=timezone.now() - timedelta(hours=1))
    assert watch_check.compare(now()) == []
    assert not Alert.objects.filter(code="WATCHER_DIFFERS").exists()
    tell(watch)
    assert watch_check.compare(now()) == [f"{BTC} LONG"]
    alert = Alert.objects.get(code="WATCHER_DIFFERS")
    assert f"{BTC} LONG: 1 watched, 1 open" in alert.message
    watch.watcher.load()
    tell(watch)
    assert watch_check.compare(now()) == []
    alert.refresh_from_db()
    assert alert.cleared_at is not None


def test_a_position_that_is_not_watched_differs(watch: PriceWatch) -> None:
    position = hold()
    tell(watch)
    watch.watcher._book.remove(position.pk)
    watch.once_a_second(now())
    assert [watch_check.compare(now()) for _ in range(2)] == [[], [f"{BTC} LONG"]]


def test_a_watcher_that_does_not_tell_is_an_alarm_while_anything_is_open(watch: PriceWatch) -> None:
    check(now())
    assert not Alert.objects.filter(code="WATCHER_BEHIND").exists()
    hold()
    check(now())
    alert = Alert.objects.get(code="WATCHER_BEHIND")
    tell(watch)
    old = json.loads(valkey().get(DIGEST_KEY) or b"{}")
    old["read_at"] = (timezone.now() - timedelta(seconds=11)).isoformat()
    valkey().set(DIGEST_KEY, json.dumps(old))
    check(now())
    alert.refresh_from_db()
    assert alert.cleared_at is None
    tell(watch)
    check(now())
    alert.refresh_from_db()
    assert alert.cleared_at is not None


def test_a_stop_behind_the_mark_is_followed_without_any_watcher() -> None:
    position = enter()
    publish(position.stop_price)
    assert check(now()).positions == [position.pk]
    assert fresh(position).closing_for == CloseReason.STOP_LOSS
    assert check(now()) == Bells()
    assert position.events.filter(code="EXIT_WANTED").count() == 1


def test_a_price_of_before_a_stop_was_moved_past_it_closes_nothing() -> None:
    """A target was taken and the stop raised; on the board is still the price from before both."""
    position = enter()
    publish(position.stop_price)
    Position.objects.filter(pk=position.pk).update(updated_at=now() + timedelta(milliseconds=1))
    assert check(now()) == Bells()
    assert fresh(position).closing_for == ""


def test_nothing_is_followed_by_an_old_mark_or_where_nothing_is_open() -> None:
    position = enter()
    old = now() - timedelta(seconds=6)
    valkey().delete("desk:marks:futures")
    MarkBoard(valkey()).publish([MarkPrice(BTC, position.stop_price or MARK, old)])
    assert check(now()) == Bells()
    assert fresh(position).closing_for == ""
    Position.objects.filter(pk=position.pk).update(status=PositionStatus.CLOSED)
    publish(position.stop_price)
    assert check(now()) == Bells()
