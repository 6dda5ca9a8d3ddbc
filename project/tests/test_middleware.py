import pytest
from django.test import Client

from project.middleware import policy_for


def test_an_answer_carries_the_id_of_its_request(client: Client) -> None:
    assert (
        client.get("/health", headers={"X-Request-ID": "trace-0001"}).headers["X-Request-ID"] == "trace-0001"
    )


@pytest.mark.parametrize("given", ["", "short", 'x"\n{"event":"forged"}', "a" * 65])
def test_an_id_that_could_forge_a_log_is_replaced(client: Client, given: str) -> None:
    answered = client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert answered != given
    assert len(answered) == 32


@pytest.mark.parametrize("path", ["/desk/", "/api/bot/signals", "/health", "/"])
def test_our_own_pages_run_nothing_inline_and_nothing_of_others(path: str) -> None:
    policy = policy_for(path)
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


def test_every_answer_tells_the_browser_what_it_may_do(client: Client) -> None:
    headers = client.get("/health").headers
    assert headers["Content-Security-Policy"] == policy_for("/health")
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
