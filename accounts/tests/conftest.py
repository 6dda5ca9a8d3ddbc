from collections.abc import Iterator

import pytest
from pytest_django import Settings

from accounts.services.gateways import close_gateways

ROOM = 100_000
"""Weight a minute, beyond what all tests use: the exchange tells each of them the count of all."""


@pytest.fixture
def connections(settings: Settings) -> Iterator[None]:
    """The gateways of this process, closed when the test is over."""
    settings.WEIGHT_LIMIT_PER_MINUTE = ROOM
    yield
    close_gateways()
