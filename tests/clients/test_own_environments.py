"""The clients that need an environment of their own, where `make conformance` has made it."""

import pytest

from tests.clients import conformance

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]


@pytest.mark.parametrize("client", ["python_binance", "official_sdk"])
def test_an_unmodified_client_passes_all_its_checks(client: str) -> None:
    if not conformance.is_made(client):
        pytest.skip(f"no environment of {client}: `make conformance CLIENTS={client}` makes it")
    result = conformance.prove(client, seconds=150)
    assert (result.failed, result.problem) == ([], "")
    assert len(result.passed) > 10


@pytest.mark.parametrize("client", conformance.PACKAGES)
def test_each_client_is_pinned_with_all_it_needs(client: str) -> None:
    lines = (conformance.HERE / client / "requirements.txt").read_text().splitlines()
    assert conformance.pinned(client)
    assert [line for line in lines if line.count("==") != 1] == []
