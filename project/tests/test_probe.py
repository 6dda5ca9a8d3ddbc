import pytest
from redis import Redis

from exchange import heartbeat
from project.probe import main
from tests.processes import ReservedPort


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["beat"], heartbeat.BEAT),
        (["watcher", "watcher_2"], heartbeat.watcher_key("watcher_2")),
        (["worker", "orders"], heartbeat.worker_key("orders", 7)),
    ],
)
def test_a_part_is_alive_while_its_sign_is_young(redis: Redis, words: list[str], key: str) -> None:
    assert main(words) == 1
    heartbeat.beat(redis, key)
    assert main(words) == 0
    redis.set(key, "1000.0")
    assert main(words) == 1


def test_a_server_that_does_not_answer_is_not_alive() -> None:
    port = ReservedPort()
    number = port.release()
    assert main(["http", f"http://127.0.0.1:{number}/health"]) == 1


@pytest.mark.parametrize("words", [[], ["worker"], ["worker", "orderz"], ["watcher"], ["anything"]])
def test_a_question_that_is_none_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "python -m project.probe" in capsys.readouterr().err
