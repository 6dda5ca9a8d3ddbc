import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pytest_django import Settings

from alerts.models import Alert, Severity
from alerts.services import clear_alert, raise_alert
from alerts.services.delivery import LINES_A_MESSAGE, channel_of, deliver_due, retry_after

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(seconds=1)

pytestmark = [
    pytest.mark.django_db,
    # apprise asks for a module that later Pythons no longer have, and does without it there.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]


@dataclass
class Webhook:
    """A channel of its own: a local web server that keeps what it was sent."""

    url: str = ""
    answer: int = 200
    messages: list[str] = field(default_factory=list)


@pytest.fixture
def webhook(settings: Settings) -> Iterator[Webhook]:
    channel = Webhook()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            channel.messages.append(json.loads(body)["message"])
            self.send_response(channel.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    channel.url = f"json://127.0.0.1:{server.server_port}/telegram-token-canary"
    settings.ALERT_URLS = [channel.url]
    yield channel
    server.shutdown()
    thread.join()
    server.server_close()


def raise_one(cause: str = "unprotected:1", severity: Severity = Severity.CRITICAL) -> Alert:
    return raise_alert(
        cause, severity, "UNPROTECTED", "No stop.", now=NOW, account="alpha", symbol="BTC/USDT:USDT"
    )


def test_an_alert_is_told_once_however_often_its_cause_returns(webhook: Webhook) -> None:
    raise_one()
    assert deliver_due(NOW) == 1
    raise_one()
    assert deliver_due(SOON) == 0
    assert webhook.messages == ["CRITICAL UNPROTECTED alpha BTC/USDT:USDT: No stop."]


def test_the_end_of_what_was_told_is_told_too(webhook: Webhook) -> None:
    raise_one()
    deliver_due(NOW)
    clear_alert("unprotected:1", SOON)
    assert deliver_due(SOON) == 1
    assert webhook.messages[1] == "over: CRITICAL UNPROTECTED alpha BTC/USDT:USDT: No stop."
    assert deliver_due(SOON + timedelta(seconds=1)) == 0


def test_a_storm_of_causes_is_one_message_with_the_gravest_first(webhook: Webhook) -> None:
    for number in range(LINES_A_MESSAGE + 10):
        raise_one(f"drift:{number}", Severity.WARNING)
    raise_one("unprotected:9", Severity.CRITICAL)
    assert deliver_due(NOW) == LINES_A_MESSAGE
    assert len(webhook.messages) == 1
    lines = webhook.messages[0].splitlines()
    assert len(lines) == LINES_A_MESSAGE
    assert lines[0].startswith("CRITICAL")
    assert deliver_due(SOON) == 11


def test_a_failing_channel_is_tried_again_later_and_is_an_alert_itself(webhook: Webhook) -> None:
    webhook.answer = 500
    alert = raise_one()
    assert deliver_due(NOW) == 0
    assert Alert.objects.get(cause="alert-channel:1").code == "ALERT_CHANNEL_FAILED"
    alert.refresh_from_db()
    assert (alert.delivered_at, alert.next_delivery_at) == (None, NOW + timedelta(seconds=15))
    sent = len(webhook.messages)
    Alert.objects.filter(cause="alert-channel:1").update(next_delivery_at=NOW + timedelta(hours=1))
    assert deliver_due(NOW + timedelta(seconds=14)) == 0
    assert len(webhook.messages) == sent
    webhook.answer = 200
    assert deliver_due(NOW + timedelta(seconds=15)) == 1
    assert Alert.objects.get(cause="alert-channel:1").cleared_at is not None


def test_one_working_channel_is_enough_and_is_not_repeated(webhook: Webhook, settings: Settings) -> None:
    settings.ALERT_URLS = ["json://127.0.0.1:1/", webhook.url]
    raise_one()
    assert deliver_due(NOW) == 1
    assert len(webhook.messages) == 1
    assert Alert.objects.get(cause="alert-channel:1").count == 1
    assert not Alert.objects.filter(cause="alert-channel:2").exists()


def test_a_channel_address_never_reaches_a_row_or_a_log(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook.answer = 500
    raise_one()
    deliver_due(NOW)
    stored = json.dumps(list(Alert.objects.values()), default=str)
    assert "ALERT_CHANNEL_FAILED" in stored
    printed = capsys.readouterr()
    assert "telegram-token-canary" not in stored + caplog.text + printed.out + printed.err


def test_without_channels_nothing_is_marked_as_told(settings: Settings) -> None:
    settings.ALERT_URLS = []
    alert = raise_one()
    assert deliver_due(NOW) == 0
    alert.refresh_from_db()
    assert (alert.delivered_at, alert.delivery_attempts) == (None, 0)


def test_what_is_older_than_a_day_is_no_longer_told(webhook: Webhook) -> None:
    raise_one()
    assert deliver_due(NOW + timedelta(hours=25)) == 0
    assert webhook.messages == []


def test_the_wait_doubles_up_to_an_hour() -> None:
    waits = [retry_after(attempts).total_seconds() for attempts in (1, 2, 3, 8, 9, 400)]
    assert waits == [15, 30, 60, 1920, 3600, 3600]


def test_a_message_longer_than_a_channel_takes_goes_in_parts() -> None:
    channel = channel_of("discord://0123456789/token-of-a-channel")
    assert channel is not None
    (discord,) = list(channel)
    line = "CRITICAL UNPROTECTED alpha BTC/USDT:USDT: " + "x" * 90
    parts = discord._apply_overflow(body="\n".join([line] * LINES_A_MESSAGE), title="Phalanx")
    assert len(parts) > 1
    assert all(len(part["body"]) <= discord.body_maxlen for part in parts)


def test_an_address_that_names_no_channel_is_none() -> None:
    assert channel_of("no-such-channel://somewhere") is None
