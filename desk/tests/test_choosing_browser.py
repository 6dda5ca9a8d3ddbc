"""The pages about choosing in a real browser, over a desk that trades against the paper exchange."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from desk.tests.test_browser import CHROMIUM, DESKTOP, PHONE, aside, visit
from exchange.port import Market
from tests.processes import PaperExchange
from trading.services.selection import select
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    a_position,
    a_signal,
    fit_accounts,
    now,
    set_columns,
)

__all__ = ["aside"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium here"),
]


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_about_choosing_fit_and_tell_their_figures(
    live_server: LiveServer,
    operator: Client,
    redis: Redis,
    paper_exchange: PaperExchange,
    settings: Settings,
    aside: ThreadPoolExecutor,
    tmp_path: Path,
    viewport: tuple[int, int],
) -> None:
    settings.WEIGHT_LIMIT_PER_MINUTE = 0
    poor, rich = fit_accounts(2, BTC, ETH, SOL, executors=(Market.FUTURES, Market.SPOT))
    set_columns(poor, available_balance=Decimal(900))
    for account in (poor, rich):
        a_position(account, ETH, quantity="0.5")
        a_position(account, SOL, is_long=False, quantity="20")
    for symbol, side, score in (
        (BTC, "LONG", "0.91"),
        (BTC, "LONG", "0.7"),
        (SOL, "SHORT", "0.8"),
        (ETH, "LONG", "0.3"),
    ):
        a_signal(symbol, side, score=score)
    select(now())
    a_signal(BTC, "SHORT", score="0.77")
    session = operator.cookies["desk_session"].value

    for name, path, told in (
        ("choices", "choices/", "Every look for a signal"),
        ("market", "market/", "closed 1 h candles"),
        ("exposure", "exposure/", "How they move together"),
        ("why", f"accounts/{poor.uuid}/why/", "POSITION_OPEN"),
    ):
        url, shot = f"{live_server.url}/desk/{path}", tmp_path / f"{name}.png"
        found = aside.submit(visit, url, session, viewport, "light", shot).result()
        assert found.complaints == []
        assert found.overflow_px == 0
        assert told in found.text
