"""The desk in a real browser: no sideways scrolling, no refused script or style, alive on its own."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, Page, Request, sync_playwright
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from trading.domain.states import PositionStatus
from trading.models import Decision, Position
from trading.tests.busy_desk import fill_desk

CHROMIUM = Path("/usr/bin/chromium")
DESKTOP, PHONE = (1440, 900), (390, 844)
LONGEST_SECONDS = 20.0
SETTLING_MS = 300
"""For what a page complains of late."""

BEYOND_THEIR_CHART = """() => Math.max(0, ...[...document.querySelectorAll(".price-chart text")].map(
    (text) => text.getBoundingClientRect().right - text.ownerSVGElement.getBoundingClientRect().right))"""
"""How far the longest word of a chart reaches out of it, into the edge of its card."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium here"),
]


@dataclass
class Visit:
    """What a browser found on a page."""

    complaints: list[str] = field(default_factory=list)
    overflow_px: int = 0
    words_beyond_px: float = 0
    polls: int = 0
    has_curve: bool = False
    text: str = ""


def visit(
    url: str, session: str, viewport: tuple[int, int], scheme: str, shot: Path, polls: int = 0
) -> Visit:
    """Open a page as the signed-in operator, let it load, and watch it for so many polls."""
    found = Visit()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            page = _page(browser, url, session, viewport, scheme)
            page.on("console", lambda message: _note(found, message))
            page.on("pageerror", lambda error: found.complaints.append(str(error)))
            page.on("requestfinished", lambda request: _count(found, url, request))
            page.goto(url)
            page.wait_for_load_state("networkidle")
            until = time.monotonic() + LONGEST_SECONDS
            while found.polls < polls and time.monotonic() < until:
                page.wait_for_timeout(100)
            page.wait_for_timeout(SETTLING_MS)
            found.overflow_px = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            found.words_beyond_px = page.evaluate(BEYOND_THEIR_CHART)
            found.has_curve = page.locator("#equity canvas").count() > 0
            found.text = page.inner_text("main")
            page.screenshot(path=shot, full_page=True)
        finally:
            browser.close()
    return found


def _page(browser: Browser, url: str, session: str, viewport: tuple[int, int], scheme: Any) -> Page:
    width, height = viewport
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, is_mobile=width < height
    )
    context.add_cookies([{"name": "desk_session", "value": session, "url": url}])
    return context.new_page()


def _note(found: Visit, message: Any) -> None:
    if message.type in {"error", "warning"}:
        found.complaints.append(message.text)


def _count(found: Visit, url: str, request: Request) -> None:
    """Count what the page asks for again by itself: the desk's figures, or a row's page as a whole."""
    is_own = request.url == url and request.resource_type != "document"
    found.polls += is_own or request.url.endswith("/desk/live/")


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """A thread of its own for the browser: its event loop must not be Django's thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_desk_lives_and_fits(
    live_server: LiveServer,
    operator: Client,
    redis: Redis,
    aside: ThreadPoolExecutor,
    tmp_path: Path,
    viewport: tuple[int, int],
    scheme: str,
) -> None:
    fill_desk(redis)
    session = operator.cookies["desk_session"].value

    found = aside.submit(
        visit, f"{live_server.url}/desk/", session, viewport, scheme, tmp_path / "desk.png", 2
    ).result()

    assert found.complaints == []
    assert found.overflow_px == 0
    assert found.polls >= 2
    assert found.has_curve
    assert "12 FILLED, 1 DENIED: MARGIN" in found.text


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_of_one_row_fit(
    live_server: LiveServer,
    operator: Client,
    redis: Redis,
    aside: ThreadPoolExecutor,
    tmp_path: Path,
    viewport: tuple[int, int],
) -> None:
    made: Decision = fill_desk(redis)
    position = Position.objects.filter(status=PositionStatus.OPEN).first()
    assert position is not None
    session = operator.cookies["desk_session"].value

    # A decision that is complete stays as it is; an open position is asked for again.
    for name, row, polls in (("decisions", made.uuid, 0), ("positions", position.uuid, 1)):
        url = f"{live_server.url}/desk/{name}/{row}/"
        shot = tmp_path / f"{name}.png"
        found = aside.submit(visit, url, session, viewport, "light", shot, polls).result()
        assert found.polls >= polls
        assert found.complaints == []
        assert (found.overflow_px, found.words_beyond_px) == (0, 0)


def test_the_empty_desk_fits_a_phone(
    live_server: LiveServer, operator: Client, redis: Redis, aside: ThreadPoolExecutor, tmp_path: Path
) -> None:
    session = operator.cookies["desk_session"].value

    found = aside.submit(
        visit, f"{live_server.url}/desk/", session, PHONE, "dark", tmp_path / "empty.png", 1
    ).result()

    assert found.complaints == []
    assert found.overflow_px == 0
    assert "The curve begins with the second reading" in found.text


def test_a_desk_that_does_not_answer_is_said_and_greyed(
    live_server: LiveServer, operator: Client, redis: Redis, aside: ThreadPoolExecutor
) -> None:
    fill_desk(redis)
    session = operator.cookies["desk_session"].value

    assert aside.submit(_lose_the_desk, f"{live_server.url}/desk/", session).result() == (False, True, False)


def _lose_the_desk(url: str, session: str) -> tuple[bool, bool, bool]:
    """Whether the page says that the desk is lost: before, while and after no poll is answered."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            page = _page(browser, url, session, DESKTOP, "light")
            page.goto(url)
            before = page.is_visible("#lost")
            page.route("**/desk/live/", lambda route: route.abort())
            page.wait_for_selector("body.is-lost #lost", timeout=10_000)
            meanwhile = page.is_visible("#lost")
            page.unroute("**/desk/live/")
            page.wait_for_selector("#lost", state="hidden", timeout=10_000)
            return before, meanwhile, page.is_visible("#lost")
        finally:
            browser.close()


def test_on_a_phone_what_needs_a_person_is_above_the_positions(
    live_server: LiveServer, operator: Client, redis: Redis, aside: ThreadPoolExecutor
) -> None:
    fill_desk(redis)
    session = operator.cookies["desk_session"].value
    titles = ("alerts-title", "positions-title", "decisions-title", "closes-title")
    tops = aside.submit(_tops, f"{live_server.url}/desk/", session, titles).result()
    assert tops == sorted(tops)


def _tops(url: str, session: str, ids: Sequence[str]) -> list[float]:
    """How far down a phone's page each of these begins."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            page = _page(browser, url, session, PHONE, "light")
            page.goto(url)
            boxes = [page.locator(f"#{one}").bounding_box() for one in ids]
            return [box["y"] for box in boxes if box is not None]
        finally:
            browser.close()
