"""TradingView's alerts: taken in once, refused without a signal, answered so that it sends them again."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from redis.exceptions import ConnectionError as ValkeyAway

from alerts.models import Alert
from exchange.errors import ReadFailed
from tests.processes import PaperExchange
from trading.api import webhooks as route
from trading.models import Signal, SignalSource, Webhook
from trading.models.signals import SignalStatus
from trading.services import market, webhooks
from trading.services.webhooks import Opened, WebhookRefused, create_webhook, revoke_webhook
from trading.tasks import act_on_signals

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange", "redis")]

THEIRS, STRANGER = "52.89.214.238", "203.0.113.9"
FLAT = {"action": "sell", "previous_position": "long", "position": "flat"}
TURNED = {"action": "sell", "previous_position": "long", "position": "short"}


def open_one(name: str = "momentum", **narrowed: Any) -> Opened:
    source, _ = SignalSource.objects.get_or_create(name="momentum 1h")
    return create_webhook(name, source, "olga", **narrowed)


@pytest.fixture
def opened(db: None, paper_exchange: PaperExchange) -> Opened:
    return open_one()


def moment(ago: timedelta = timedelta()) -> str:
    """As TradingView writes {{timenow}}."""
    return f"{datetime.now(UTC) - ago:%Y-%m-%dT%H:%M:%SZ}"


def alert(opened: Opened, **changes: Any) -> dict[str, Any]:
    """The message of the page that shows a new webhook, filled in; a span of time is so long ago."""
    told = {
        "token": opened.token,
        "ticker": "BINANCE:BTCUSDT.P",
        "action": "buy",
        "position": "long",
        "previous_position": "flat",
        "price": "100",
        "time": moment(),
        "score": "0.8",
        "stop_percent": "2",
        "take_profit_percent": "6",
    }
    said = {name: value for name, value in (told | changes).items() if value is not ...}
    return {name: moment(value) if isinstance(value, timedelta) else value for name, value in said.items()}


def post(
    opened: Opened,
    body: dict[str, Any] | str,
    *,
    content_type: str = "application/json",
    sender: str = THEIRS,
    path_id: str = "",
    **headers: str,
) -> Any:
    return Client(headers=headers).post(
        f"/api/bot/webhooks/tradingview/{path_id or opened.path_id}",
        body if isinstance(body, str) else json.dumps(body),
        content_type=content_type,
        REMOTE_ADDR=sender,
    )


def waiting(redis: Redis) -> list[str]:
    """The tasks that were rung for exits."""
    return [json.loads(one)["headers"]["task"] for one in redis.lrange("desk:exits", 0, -1)]


# ── what is taken ────────────────────────────────────────────────────────────
def test_an_alert_becomes_a_signal_of_the_webhooks_source(opened: Opened) -> None:
    response = post(opened, alert(opened))

    assert response.status_code == 202
    signal = Signal.objects.get()
    assert response.json()["id"] == str(signal.uuid)
    assert (signal.source.name, signal.symbol, signal.side) == ("momentum 1h", "BTC/USDT:USDT", "LONG")
    prices = (signal.entry_price, signal.stop_price, signal.take_profit_price)
    assert prices == (Decimal(100), Decimal(98), Decimal(106))
    assert (float(signal.score), signal.status) == (0.8, SignalStatus.OPEN)
    assert Webhook.objects.get().last_used_at is not None


@pytest.mark.parametrize("ticker", ["BTCUSDT.P", "BINANCE:BTCUSDT.P", "binance:btcusdt.p", "BTCUSDT"])
def test_a_perpetual_is_known_by_the_tickers_of_tradingview(opened: Opened, ticker: str) -> None:
    assert post(opened, alert(opened, ticker=ticker)).status_code == 202
    assert Signal.objects.get().symbol == "BTC/USDT:USDT"


def test_an_alert_may_come_as_plain_text_in_either_way_of_writing(opened: Opened) -> None:
    lines = "\n".join(f"{name} = {value}" for name, value in alert(opened, ticker="ETHUSDT.P").items())

    assert post(opened, json.dumps(alert(opened)), content_type="text/plain").status_code == 202
    assert post(opened, lines, content_type="text/plain; charset=utf-8").status_code == 202
    assert set(Signal.objects.values_list("symbol", flat=True)) == {"BTC/USDT:USDT", "ETH/USDT:USDT"}


def test_a_price_without_quotation_marks_keeps_every_digit(opened: Opened) -> None:
    body = json.dumps(alert(opened)).replace('"price": "100"', '"price": 100.123456789012')

    assert post(opened, body).status_code == 202
    assert str(Signal.objects.get().entry_price) == "100.123456789012"


def test_a_short_has_its_stop_above(opened: Opened) -> None:
    post(opened, alert(opened, action="sell", position="short"))

    signal = Signal.objects.get()
    assert (signal.side, signal.stop_price, signal.take_profit_price) == ("SHORT", Decimal(102), Decimal(94))


def test_the_same_alert_again_is_the_same_signal(opened: Opened, redis: Redis) -> None:
    said = alert(opened)

    first, again = post(opened, said), post(opened, said)

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert Signal.objects.count() == 1


def test_the_same_words_at_another_time_are_another_signal(opened: Opened) -> None:
    post(opened, alert(opened, time=timedelta(seconds=20)))
    post(opened, alert(opened, time=timedelta(seconds=10)))

    assert Signal.objects.count() == 2


def test_an_id_makes_one_signal_of_what_fires_twice(opened: Opened) -> None:
    first = post(opened, alert(opened, id="bar 12:00", time=timedelta(seconds=20), price="100"))
    again = post(opened, alert(opened, id="bar 12:00", time=timedelta(seconds=10), price="101"))

    assert (first.status_code, again.status_code) == (202, 200)
    assert Signal.objects.get().external_id == "bar 12:00"


@pytest.mark.parametrize("changed", [{"ticker": "ETHUSDT.P"}, {"action": "short"}, {}], ids=str)
def test_an_id_that_names_another_signal_is_refused_aloud(opened: Opened, changed: dict[str, str]) -> None:
    post(opened, alert(opened, id="Long", action="long", time=timedelta(seconds=60)))
    Signal.objects.update(created_at=timezone.now() - timedelta(seconds=180))

    response = post(opened, alert(opened, **({"id": "Long", "action": "long"} | changed)))

    assert (response.status_code, response.json()["error"]["code"]) == (422, "ID_TAKEN")
    assert Signal.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_alert_sent_eight_times_at_once_is_one_signal(opened: Opened) -> None:
    said, answers = alert(opened), []

    def send() -> None:
        try:
            answers.append(post(opened, said))
        finally:
            connection.close()

    threads = [Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert {answer.json()["id"] for answer in answers} == {str(Signal.objects.get().uuid)}


# ── closing ──────────────────────────────────────────────────────────────────
def test_a_close_is_stored_and_left_to_the_worker_of_exits(opened: Opened, redis: Redis) -> None:
    response = post(opened, alert(opened, **FLAT))

    closing = Signal.objects.get()
    assert (response.status_code, closing.action, closing.status) == (202, "close", SignalStatus.OPEN)
    assert waiting(redis) == ["trading.tasks.act_on_signals"]
    act_on_signals([closing.pk])
    closing.refresh_from_db()
    assert closing.status == SignalStatus.DONE


def test_nothing_that_only_an_entry_needs_keeps_a_close_out(opened: Opened) -> None:
    odd = {"score": "na", "stop_percent": "NaN", "price": "", "previous_position": "", "contracts": "1"}

    response = post(opened, alert(opened, **(FLAT | odd)))

    assert (response.status_code, Signal.objects.get().action) == (202, "close")


def test_a_narrowed_webhook_closes_everything_its_source_opened(db: None) -> None:
    opened = open_one(symbols="ETHUSDT.P", side="SHORT", max_age_seconds=10)

    assert post(opened, alert(opened, **FLAT, time=timedelta(seconds=60))).status_code == 202
    assert Signal.objects.get().action == "close"


def test_a_strategy_that_turns_round_closes_before_it_opens(opened: Opened, redis: Redis) -> None:
    said = alert(opened, **TURNED)

    first, again = post(opened, said), post(opened, said)

    closing, opening = Signal.objects.order_by("pk")
    assert (closing.action, closing.side) == ("close", "LONG")
    assert (opening.action, opening.side) == ("open", "SHORT")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert (first.json()["id"], first.json()["closing_id"]) == (str(opening.uuid), str(closing.uuid))
    act_on_signals([closing.pk])
    opening.refresh_from_db()
    assert opening.status == SignalStatus.OPEN


def test_a_turn_whose_entry_is_refused_still_closes(opened: Opened, redis: Redis) -> None:
    response = post(opened, alert(opened, **TURNED, stop_percent=...))

    assert (response.status_code, response.json()["error"]["code"]) == (422, "MISSING")
    assert [signal.action for signal in Signal.objects.all()] == ["close"]
    assert waiting(redis) == ["trading.tasks.act_on_signals"]


# ── what is refused ──────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"ticker": "BYBIT:BTCUSDT.P"}, "UNKNOWN_SYMBOL", "BYBIT:BTCUSDT.P"),
        ({"ticker": "NASDAQ:AAPL"}, "UNKNOWN_SYMBOL", "NASDAQ:AAPL"),
        ({"ticker": "{{ticker}}"}, "UNKNOWN_SYMBOL", "{{ticker}}"),
        ({"ticker": ...}, "UNKNOWN_SYMBOL", ""),
        ({"action": "hold"}, "ACTION", "hold"),
        ({"position": ...}, "POSITION", "position"),
        ({"action": "sell"}, "PARTIAL", "sell"),
        ({"time": ...}, "TIME", "{{timenow}}"),
        ({"time": "{{timenow}}"}, "TIME", "{{timenow}}"),
        ({"time": "2026-11-20T12:00:00"}, "TIME", "time zone"),
        ({"time": timedelta(seconds=180)}, "STALE", "created"),
        ({"time": "2099-01-01T00:00:00Z"}, "FUTURE", "created"),
        ({"score": ...}, "SCORE", "score"),
        ({"score": "1.2"}, "SCORE", "1.2"),
        ({"stop_percent": ...}, "MISSING", "stop_price"),
        ({"stop_price": "98"}, "TWICE", "stop"),
        ({"stop_percent": ..., "stop_price": "101"}, "STOP_WRONG_SIDE", "101"),
        ({"stop_percent": ..., "stop_price": "NaN"}, "NOT_A_NUMBER", "NaN"),
        ({"take_profit_percent": ..., "take_profit_price": "99"}, "TARGET_WRONG_SIDE", "99"),
        ({"price": "1e30"}, "NOT_A_NUMBER", "1e30"),
        ({"price": "-5"}, "NEGATIVE", "-5"),
        ({"quantity": "1000"}, "UNKNOWN_FIELD", "quantity"),
        ({"stop_prise": "98"}, "UNKNOWN_FIELD", "stop_prise"),
        ({"id": "x" * 101}, "EXTERNAL_ID", "100"),
    ],
    ids=str,
)
def test_an_alert_that_is_not_understood_is_refused_by_name_and_told(
    opened: Opened, redis: Redis, changes: dict[str, Any], code: str, named: str
) -> None:
    response = post(opened, alert(opened, **changes))

    told = response.json()["error"]
    assert (response.status_code, told["code"]) == (422, code)
    assert named in told["message"]
    assert not Signal.objects.exists()
    assert not redis.exists("desk:exits", "desk:monitor")
    kept, warned = Webhook.objects.get(), Alert.objects.get()
    assert (kept.refused_count, kept.refused_why.split(":")[0]) == (1, code)
    assert (warned.code, warned.cause) == ("WEBHOOK_REFUSED", f"webhook:{kept.pk}")


def test_the_next_alert_that_is_taken_ends_the_warning(opened: Opened) -> None:
    post(opened, alert(opened, time=timedelta(seconds=20)))
    post(opened, alert(opened, score="2"))
    assert Alert.objects.get().cleared_at is None
    post(opened, alert(opened))

    assert Alert.objects.get().cleared_at is not None


@pytest.mark.parametrize(
    ("narrowed", "changes"),
    [
        ({"symbols": "ETHUSDT.P SOLUSDT"}, {}),
        ({"side": "SHORT"}, {}),
        ({"max_age_seconds": 10}, {"time": timedelta(seconds=60)}),
    ],
    ids=str,
)
def test_a_webhook_enters_only_what_it_was_made_for(
    db: None, narrowed: dict[str, Any], changes: dict[str, str]
) -> None:
    opened = open_one(**narrowed)

    response = post(opened, alert(opened, **changes))

    assert response.status_code == 422
    assert response.json()["error"]["code"] in {"NOT_ALLOWED", "STALE"}
    assert not Signal.objects.exists()


def test_a_paused_source_enters_nothing(opened: Opened) -> None:
    SignalSource.objects.update(is_active=False)

    response = post(opened, alert(opened))

    assert (response.status_code, response.json()["error"]["code"]) == (422, "SOURCE_PAUSED")
    assert not Signal.objects.exists()


def test_beyond_its_alerts_a_minute_a_webhook_closes_and_enters_nothing(
    opened: Opened, settings: Settings
) -> None:
    settings.TRADINGVIEW_ALERTS_PER_MINUTE = 1
    post(opened, alert(opened))

    refused = post(opened, alert(opened, ticker="ETHUSDT.P"))
    closed = post(opened, alert(opened, **FLAT))

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY")
    assert closed.status_code == 202
    assert sorted(Signal.objects.values_list("action", flat=True)) == ["close", "open"]


# ── who is let in ────────────────────────────────────────────────────────────
def test_every_way_of_not_being_let_in_has_one_answer(opened: Opened) -> None:
    other, revoked = open_one("other"), open_one("revoked")
    revoke_webhook(revoked.webhook, timezone.now())
    refused = [
        post(opened, alert(opened, token="pht_guessed")),
        post(opened, alert(opened, token=...)),
        post(opened, alert(opened, token="")),
        post(opened, alert(opened, token=None)),
        post(opened, alert(opened, token=other.token)),
        post(opened, alert(opened), path_id="guessed"),
        post(opened, alert(opened), path_id=other.path_id),
        post(revoked, alert(revoked)),
        post(opened, alert(opened), sender=STRANGER),
        post(opened, "no alert"),
        post(opened, ""),
        post(opened, "[" * 16_000),
        post(opened, '{"token": "' + opened.token + '", "action": {"buy": 1}}'),
        post(opened, json.dumps(alert(opened))[:-1] + ', "action": "sell"}'),
        post(opened, b"\xff\xfe".decode("latin-1")),
    ]

    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.content for answer in refused}) == 1
    assert not Signal.objects.exists()
    assert post(opened, alert(opened)).status_code == 202


@pytest.mark.parametrize(
    ("proxies", "remote", "forwarded", "is_let_in"),
    [
        (0, THEIRS, "", True),
        (0, STRANGER, THEIRS, False),
        (0, THEIRS, STRANGER, True),
        (1, "10.0.0.2", THEIRS, True),
        (1, "10.0.0.2", f"{STRANGER}, {THEIRS}", True),
        (1, "10.0.0.2", f"{THEIRS}, {STRANGER}", False),
        (1, "10.0.0.2", "", False),
        (1, THEIRS, "", False),
        (2, "10.0.0.2", f"{THEIRS}, 10.0.0.1", True),
        (2, "10.0.0.2", f"{THEIRS}, {STRANGER}, 10.0.0.1", False),
        (2, "10.0.0.2", THEIRS, False),
        (1, "10.0.0.2", "unknown", False),
        (1, "10.0.0.2", f"::ffff:{THEIRS}", True),
        (0, "", THEIRS, False),
    ],
)
def test_a_sender_is_known_behind_our_own_proxies_and_by_nothing_it_says_itself(
    opened: Opened, settings: Settings, proxies: int, remote: str, forwarded: str, is_let_in: bool
) -> None:
    settings.TRUSTED_PROXIES = proxies

    response = post(opened, alert(opened), sender=remote, **{"X-Forwarded-For": forwarded})

    assert response.status_code == (202 if is_let_in else 401)
    assert Signal.objects.exists() == is_let_in


def test_where_https_is_on_an_alert_by_http_is_not_taken(opened: Opened, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    assert post(opened, alert(opened)).status_code == 301
    assert not Signal.objects.exists()
    assert post(opened, alert(opened), **{"X-Forwarded-Proto": "https"}).status_code == 202


def test_a_refused_attempt_is_kept_with_its_webhook_and_nothing_of_a_stranger(opened: Opened) -> None:
    post(opened, alert(opened), path_id="guessed", sender=STRANGER)
    assert not Alert.objects.exists()

    post(opened, alert(opened), sender=STRANGER)

    kept = Webhook.objects.get()
    assert (kept.refused_count, kept.refused_why) == (1, f"SENDER: not accepted from {STRANGER}")
    assert kept.last_used_at is None
    assert Alert.objects.get().code == "WEBHOOK_REFUSED"


def test_the_token_opens_nothing_else(opened: Opened) -> None:
    client = Client(headers={"Authorization": f"Bearer {opened.token}"}, REMOTE_ADDR=THEIRS)

    assert client.get("/api/bot/signals").status_code == 401
    body = {
        "source": "momentum 1h",
        "external_id": "1",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "action": "close",
    }
    assert client.post("/api/bot/signals", body, content_type="application/json").status_code == 401
    assert post(opened, alert(opened, source="another")).status_code == 422
    assert not Signal.objects.exists()


def test_a_body_beyond_sixteen_kilobytes_is_refused(opened: Opened) -> None:
    response = post(opened, alert(opened, comment="x" * 16_384))

    assert (response.status_code, response.json()["error"]["code"]) == (413, "TOO_LARGE")
    assert not Signal.objects.exists()


def test_path_and_token_are_stored_as_hashes_only(opened: Opened) -> None:
    kept = str(vars(Webhook.objects.get()))

    assert len(opened.path_id) == 43
    assert opened.path_id not in kept
    assert opened.token not in kept


def test_a_webhook_is_made_for_symbols_that_are_listed(db: None) -> None:
    assert open_one(symbols="btcusdt.p, ETH/USDT").webhook.symbols == "BTC/USDT:USDT ETH/USDT:USDT"
    with pytest.raises(WebhookRefused, match="NOPEUSDT"):
        open_one("wrong", symbols="NOPEUSDT")
    with pytest.raises(WebhookRefused, match="exists"):
        open_one()
    assert Webhook.objects.count() == 1


# ── when it has to be sent again ─────────────────────────────────────────────
def fail(error: Exception) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> Any:
        raise error

    return failing


def test_a_database_that_is_away_is_503(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "intake", fail(OperationalError("away")))

    assert post(opened, alert(opened)).status_code == 503
    assert not Signal.objects.exists()
    monkeypatch.undo()
    assert post(opened, alert(opened)).status_code == 202


def test_a_database_that_is_away_before_anybody_is_known_is_503(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "find_webhook", fail(OperationalError("away")))

    assert post(opened, alert(opened)).status_code == 503
    assert not Signal.objects.exists()


def test_without_valkey_nothing_is_entered_a_close_is_kept_and_both_are_503(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, closing = alert(opened), alert(opened, **FLAT)
    monkeypatch.setattr(webhooks, "valkey", fail(ValkeyAway("away")))

    assert post(opened, entry).status_code == 503
    assert not Signal.objects.exists()
    assert post(opened, closing).status_code == 503
    assert Signal.objects.get().action == "close"
    monkeypatch.undo()
    assert (post(opened, entry).status_code, post(opened, closing).status_code) == (202, 200)


def test_a_close_is_stored_before_valkey_is_waited_for(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []

    def hang() -> Any:
        stored.append(Signal.objects.filter(action="close").count())
        raise ValkeyAway("silent")

    monkeypatch.setattr(webhooks, "valkey", hang)

    assert post(opened, alert(opened, **TURNED)).status_code == 503
    assert stored == [1]
    assert not Signal.objects.filter(action="open").exists()


def test_a_market_table_that_was_never_read_is_503(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "unified_symbol", fail(ReadFailed("TIMEOUT")))

    response = post(opened, alert(opened))

    assert (response.status_code, response.json()["error"]["code"]) == (503, "MARKET_UNREAD")
    assert not Signal.objects.exists()


def test_a_bell_that_does_not_ring_costs_no_close(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "ring", lambda _: None)

    assert post(opened, alert(opened, **FLAT)).status_code == 202
    assert Signal.objects.get().status == SignalStatus.OPEN
