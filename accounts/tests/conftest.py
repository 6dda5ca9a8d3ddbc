from collections.abc import Iterator

import pytest

from accounts.services.gateways import close_gateways


@pytest.fixture
def connections() -> Iterator[None]:
    """The gateways of this process, closed when the test is over."""
    yield
    close_gateways()
