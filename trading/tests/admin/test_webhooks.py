"""Webhooks in the admin: made there, their secrets shown once, ended at once."""

import html
import re
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.test import Client

from tests.processes import PaperExchange
from trading.models import Signal, SignalSource, Webhook
from trading.services.webhooks import create_webhook

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange", "redis")]

LIST = "/admin/trading/webhook/"
FILLED = {
    "{{exchange}}": "BINANCE",
    "{{ticker}}": "BTCUSDT.P",
    "{{strategy.order.action}}": "buy",
    "{{strategy.market_position}}": "long",
    "{{strategy.prev_market_position}}": "flat",
    "{{close}}": "86000.5",
}


@pytest.fixture
def owner(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def made(owner: Client, paper_exchange: PaperExchange, **changes: str) -> tuple[str, list[str]]:
    """The address and the messages that the answer shows."""
    source, _ = SignalSource.objects.get_or_create(name="momentum 1h")
    body = {"name": "momentum", "source": source.pk, "symbols": "", "side": "", "max_age_seconds": "120"}
    answer = owner.post(f"{LIST}add/", body | changes)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    shown = re.findall(r"<pre[^>]*>(.*?)</pre>", answer.content.decode(), re.DOTALL)
    blocks = [html.unescape(block) for block in shown]
    return blocks[0], blocks[1:]


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_shown_once_can_be_pasted_into_tradingview(
    owner: Client, paper_exchange: PaperExchange, which: int
) -> None:
    address, messages = made(owner, paper_exchange)
    filled = messages[which].replace("{{timenow}}", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    for name, value in FILLED.items():
        filled = filled.replace(name, value)

    path = re.sub(r"^https?://[^/]+", "", address)
    answer = Client().post(path, filled, content_type="application/json", REMOTE_ADDR="34.212.75.30")

    assert answer.status_code == 202
    signal = Signal.objects.get()
    assert (signal.source.name, signal.symbol, signal.side) == ("momentum 1h", "BTC/USDT:USDT", "LONG")


def test_the_secrets_are_shown_in_that_answer_and_nowhere_else(
    owner: Client, paper_exchange: PaperExchange
) -> None:
    address, messages = made(owner, paper_exchange)
    found = re.search(r'"token": "(pht_[\w-]{43})"', messages[0])
    assert found is not None
    secrets = [found[1], address.split("/")[-1]]

    row = Webhook.objects.get()
    pages = [LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/history/", "/admin/"]
    told = "".join(owner.get(page).content.decode() for page in pages)
    kept = str([session.get_decoded() for session in Session.objects.all()]) + str(owner.cookies)
    assert row.created_by == "olga"
    assert not [secret for secret in secrets if secret in told + kept]
    assert row.token_hash not in told


def test_a_webhook_for_what_nobody_lists_is_not_made(owner: Client, paper_exchange: PaperExchange) -> None:
    source = SignalSource.objects.create(name="momentum 1h")
    body = {"name": "momentum", "source": source.pk, "symbols": "NOPEUSDT", "max_age_seconds": "120"}

    answer = owner.post(f"{LIST}add/", body)

    assert "NOPEUSDT" in answer.content.decode()
    assert not Webhook.objects.exists()


def test_what_a_webhook_may_enter_is_changed_and_its_source_and_secrets_are_not(
    owner: Client, paper_exchange: PaperExchange
) -> None:
    made(owner, paper_exchange)
    before = Webhook.objects.get()
    other = SignalSource.objects.create(name="other")
    body = {
        "name": "momentum",
        "source": other.pk,
        "symbols": "ethusdt.p",
        "side": "SHORT",
        "max_age_seconds": "60",
        "path_hash": "0" * 64,
        "token_hash": "0" * 64,
    }

    owner.post(f"{LIST}{before.pk}/change/", body)

    after = Webhook.objects.get()
    assert (after.symbols, after.side, after.max_age_seconds) == ("ETH/USDT:USDT", "SHORT", 60)
    assert (after.source, after.path_hash, after.token_hash) == (
        before.source,
        before.path_hash,
        before.token_hash,
    )


def test_a_revoked_webhook_takes_nothing_and_stays_to_be_seen(
    owner: Client, paper_exchange: PaperExchange
) -> None:
    address, messages = made(owner, paper_exchange)
    row = Webhook.objects.get()

    owner.post(LIST, {"action": "revoke_selected", "_selected_action": [row.pk]})

    answer = Client().post(address, messages[0], content_type="application/json", REMOTE_ADDR="34.212.75.30")
    assert answer.status_code == 401
    assert not Signal.objects.exists()
    assert "revoked" in owner.get(LIST).content.decode()
    assert owner.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_viewer_neither_makes_nor_ends_one(db: None, paper_exchange: PaperExchange) -> None:
    opened = create_webhook("momentum", SignalSource.objects.create(name="momentum 1h"), "olga")
    viewer = User.objects.create_user("vera", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)

    assert client.get(LIST).status_code == 200
    assert client.get(f"{LIST}add/").status_code == 403
    client.post(LIST, {"action": "revoke_selected", "_selected_action": [opened.webhook.pk]})
    assert Webhook.objects.get().revoked_at is None
