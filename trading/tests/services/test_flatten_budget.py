"""A flatten of more accounts than one minute's request weight has room for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.test import override_settings
from pytest_django import Settings

from accounts.services.gateways import close_gateways
from tests.processes import PaperExchange
from trading.domain.states import OrderPurpose, OrderStatus
from trading.models import Order, Position
from trading.services import emergency, execution
from trading.services.allocation import allocate
from trading.services.bells import Bells
from trading.services.selection import request
from trading.tasks import see_through
from trading.tests.services.holding import answer
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

ACCOUNTS, CHUNK = 25, 5
ROOM = 220
"""What the exchange allows a minute: less than nine for each account, and reading one's positions costs 5."""


@contextmanager
def exchange_of(place: Path, room: int) -> Iterator[PaperExchange]:
    """The exchange whose state lies there; it and the desk count to this weight a minute."""
    paper = PaperExchange(place, "--weight-limit", str(room))
    paper.start()
    close_gateways()
    try:
        with override_settings(PAPER_EXCHANGE_URL=paper.url, WEIGHT_LIMIT_PER_MINUTE=room):
            yield paper
    finally:
        close_gateways()
        paper.stop()


@pytest.fixture
def held(tmp_path: Path, settings: Settings) -> Iterator[list[Position]]:
    """A position of every account, at an exchange that has since begun to count."""
    settings.GATE_OFF = WEATHER
    with exchange_of(tmp_path, 0):
        fit_accounts(ACCOUNTS)
        decision = request(a_signal(), now())
        answer(execution.submit(allocate(decision.pk, now()).entries, now()))
    held = list(Position.objects.all())
    assert len(held) == ACCOUNTS
    with exchange_of(tmp_path, ROOM):
        yield held


def test_a_flatten_of_more_accounts_than_the_minute_holds_sends_every_exit(held: list[Position]) -> None:
    exits = Order.objects.filter(purpose=OrderPurpose.EXIT)
    halt, bells = emergency.raise_halt("desk", "FLATTEN", "because", "a test", now())
    seen: set[tuple[str, str]] = set()
    for start in range(0, ACCOUNTS, CHUNK):
        see_through(Bells(positions=bells.positions[start : start + CHUNK]))
        emergency.prove_flat(halt, now())
        seen |= set(exits.values_list("status", "code"))
    assert seen == {(OrderStatus.FILLED, "")}
    assert exits.count() == len(held)
