"""What is wanted of a position: who may ask for what beside what is wanted already."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.processes import PaperExchange
from trading.domain.states import CloseReason
from trading.services.intents import intend_close
from trading.tests.services.holding import codes_of, enter, fresh, pinned_mark
from trading.tests.services.journey import WEATHER, now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


@pytest.mark.parametrize("asked", [CloseReason.MANUAL, CloseReason.FLATTEN, CloseReason.SIGNAL])
def test_a_close_somebody_asked_for_takes_the_place_of_a_stop_out_that_may_be_taken_back(
    asked: CloseReason,
) -> None:
    position = enter()
    assert intend_close(position.pk, reason=CloseReason.STOP_LOSS, now=now())
    assert intend_close(position.pk, reason=asked, now=now())
    assert fresh(position).closing_for == asked
    assert codes_of(position).count("EXIT_WANTED") == 2


def test_a_stop_out_takes_the_place_of_nothing() -> None:
    position = enter()
    assert intend_close(position.pk, reason=CloseReason.MANUAL, now=now())
    assert not intend_close(position.pk, reason=CloseReason.STOP_LOSS, now=now())
    assert not intend_close(position.pk, reason=CloseReason.FLATTEN, now=now())
    assert fresh(position).closing_for == CloseReason.MANUAL
