"""What the pages say, in every state of the desk."""

import re
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from accounts.models import Account, AccountGroup, LimitOverride
from accounts.services.breakers import note_rejection
from accounts.services.limits import set_override
from exchange import heartbeat
from tests.processes import Valkey
from trading.domain.states import DecisionStatus, PositionStatus
from trading.models import Decision, Halt, Order, Position
from trading.tests import rows
from trading.tests.busy_desk import fill_desk

pytestmark = pytest.mark.django_db


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", response.content.decode()))


def test_an_empty_desk_says_so_everywhere(operator: Client, redis: Redis) -> None:
    page = text_of(operator, "/desk/")

    for sentence in (
        "PAPER",
        "No open position.",
        "No decision yet.",
        "Nothing needs a person.",
        "No source is active",
        "Nothing was closed yet.",
        "Reading the curve…",
    ):
        assert sentence in page


def test_a_busy_desk_shows_figures_with_their_units(operator: Client, redis: Redis) -> None:
    fill_desk(redis)

    page = text_of(operator, "/desk/")

    assert "12 FILLED, 1 DENIED: MARGIN of 13" in page
    assert "first 187 · median 222 · p99 264 · last 264 ms" in page
    assert "slippage +4.52, worst +5.07 bps" in page
    assert "score 0.81, performance 0.50, market 0.63, reward 0.31" in page
    position = page[page.index("paper-0012 LONG") :]
    figures = ["97 650.2", "97 911.7", "+0.27 %", "+0.80 %", "+0.09 %", "+8.89", "96 704.9"]
    assert " ".join(figures) + " +1.23 % VERIFIED" in position
    assert "+106.69" in page  # 12 x 0.034 x (97,911.7 - 97,650.2)
    assert "ACKED" in page
    assert "demonstration" in page
    assert "silent: no 15 min candle closed beyond its range" in page
    assert "QUALITY" in page


def test_a_staged_decision_says_that_its_canaries_are_out(operator: Client, redis: Redis) -> None:
    made = fill_desk(redis, accounts=2)
    Decision.objects.filter(pk=made.pk).update(is_staged=True, status="OPEN")
    Account.objects.filter(name="paper-0001").update(is_canary=True)

    assert "under way, canaries first" in text_of(operator, "/desk/")
    page = text_of(operator, f"/desk/decisions/{made.uuid}/")
    assert "staged: canaries" in page
    assert "paper-0001 canary" in page

    Decision.objects.filter(pk=made.pk).update(wave=2)
    assert "canaries first" not in text_of(operator, "/desk/")
    assert "staged: all" in text_of(operator, f"/desk/decisions/{made.uuid}/")


def test_the_least_protected_position_comes_first(operator: Client, redis: Redis) -> None:
    fill_desk(redis)

    page = text_of(operator, "/desk/live/")

    assert page.index("ACKED") < page.index("VERIFIED")


def test_old_marks_are_greyed_and_said(operator: Client, redis: Redis) -> None:
    fill_desk(redis)
    redis.delete(heartbeat.MARKS)

    body = operator.get("/desk/live/").content.decode()

    assert 'class="card wide is-stale"' in body
    assert "There are no marks" in body
    assert "silent" in body


def test_halts_and_bent_rules_stand_in_the_band(
    operator: Client, redis: Redis, settings: pytest.FixtureRequest
) -> None:
    settings.GATE_OFF = frozenset({"TREND_AGAINST"})  # type: ignore[attr-defined]
    Halt.objects.create(
        scope="account",
        target="alpha",
        level="FLATTEN",
        reason="drill",
        raised_by="olga",
        raised_at=rows.NOON,
    )

    page = text_of(operator, "/desk/")

    assert "Gate rules off: TREND_AGAINST" in page
    assert "FLATTEN account alpha: drill by olga" in page


def test_a_lost_broker_is_said_and_the_page_stands(operator: Client, valkey: Valkey) -> None:
    rows.position(rows.account())
    valkey.stop()
    try:
        page = text_of(operator, "/desk/")
    finally:
        valkey.start()

    assert "The broker does not answer" in page
    assert "VERIFIED" in page


def test_a_decision_page_holds_the_whole_ledger(operator: Client, redis: Redis) -> None:
    made = fill_desk(redis)

    page = text_of(operator, f"/desk/decisions/{made.uuid}/")

    assert page.count("paper-00") == 13
    assert "187 · 222 p99 264 · last 264" in page
    assert "+4.52 worst +5.07" in page
    assert "from the decision’s record to the exchange’s acknowledgement" in page
    assert "start order of turn 17" in page
    assert "primary futures DENIED MARGIN" in page
    assert "secondary spot DENIED MIN_NOTIONAL" in page
    assert "needed 120, available 36.2" in page
    assert "Not computable, counted 0: market.liquidity" in page
    assert "DUPLICATE" in page


@pytest.mark.parametrize("status", PositionStatus)
def test_a_position_page_tells_its_life(operator: Client, redis: Redis, status: PositionStatus) -> None:
    fill_desk(redis)
    position = Position.objects.filter(status=status).first()
    assert position is not None

    page = text_of(operator, f"/desk/positions/{position.uuid}/")

    assert position.account.name in page
    assert ("OPENED" in page) == (status == PositionStatus.OPEN)
    assert ("99 100.7" in page) == (status == PositionStatus.OPEN)
    assert ("Net profit" in page) == (status == PositionStatus.CLOSED)


def test_a_position_page_draws_its_price_levels_and_stops(operator: Client, redis: Redis) -> None:
    fill_desk(redis, accounts=2)
    position = Position.objects.filter(status=PositionStatus.OPEN).first()
    assert position is not None
    told = {"stop_price": "96704.9", "unknown": "divergence"}
    position.events.create(at=position.opened_at, code="PLANNED", detail=told)
    position.events.create(
        at=position.opened_at + timedelta(seconds=1), code="VERIFIED", detail={"unprotected_seconds": "0.4"}
    )
    rows.entry(position.allocation, "a-stop", purpose="HARD_STOP", trigger_price=Decimal("96704.9"))  # type: ignore[arg-type]
    Order.objects.filter(client_order_id="a-stop").update(
        position=position, is_seen=True, close_position=True
    )

    body = operator.get(f"/desk/positions/{position.uuid}/").content.decode()
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))

    assert [body.count(f'class="price-chart {box}"') for box in ("wide", "narrow")] == [1, 1]
    assert body.count('class="stop-path"') == 2
    assert body.count('class="fill in"') == 2
    for words in ("TP1 98 700.1", "TP2 99 100.7", "Entry 97 650.2", "Exit plan made", "Hard 96 704.9"):
        assert words in page
    assert "Stop seen at the exchange" in page
    assert "closes all" in page


def test_the_curve_is_read_as_seconds_and_values(operator: Client, redis: Redis) -> None:
    fill_desk(redis, accounts=2)

    points = operator.get("/desk/equity/").json()["points"]

    assert len(points) == 120
    assert points == sorted(points, key=lambda point: point["time"])


def test_the_board_asks_the_same_number_of_questions_for_any_number_of_accounts(
    operator: Client, redis: Redis, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    fill_desk(redis, accounts=30)
    operator.get("/desk/live/")

    with django_assert_max_num_queries(20):  # type: ignore[operator]
        operator.get("/desk/live/")


def test_pages_are_for_operators(operator: Client, db: None) -> None:
    stranger = Client()
    for path in (
        "/desk/",
        "/desk/live/",
        "/desk/equity/",
        "/desk/stop/",
        f"/desk/decisions/{uuid4()}/",
        f"/desk/positions/{uuid4()}/",
    ):
        assert stranger.get(path)["Location"].startswith("/admin/login/")
    polled = stranger.get("/desk/live/", headers={"HX-Request": "true"})
    assert (polled.status_code, polled["HX-Refresh"]) == (401, "true")

    viewer = Client()
    viewer.force_login(User.objects.create_user("vera"))
    assert viewer.get("/desk/").status_code == 403
    assert operator.get(f"/desk/decisions/{uuid4()}/").status_code == 404


def test_nothing_on_a_page_is_inline(operator: Client, redis: Redis) -> None:
    made = fill_desk(redis, accounts=2)
    position = Position.objects.filter(status=PositionStatus.OPEN).first()
    assert position is not None

    for path in (
        "/desk/",
        "/desk/stop/",
        f"/desk/decisions/{made.uuid}/",
        f"/desk/positions/{position.uuid}/",
    ):
        response = operator.get(path)
        body = response.content.decode()
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=", body)
        assert "unsafe" not in response["Content-Security-Policy"]


def test_what_a_sender_wrote_is_shown_and_never_run(operator: Client, redis: Redis) -> None:
    made = fill_desk(redis, accounts=1)
    assert made.signal is not None
    made.signal.source.name = "<script>alert(1)</script>"
    made.signal.source.save()
    made.reason = '"><img src=x onerror=alert(1)>'
    made.decided_at += timedelta(seconds=1)
    made.save()

    for path in ("/desk/", f"/desk/decisions/{made.uuid}/"):
        body = operator.get(path).content.decode()
        assert "<script>alert" not in body
        assert "<img src=x" not in body


def test_many_halts_are_counted_the_widest_named_and_open_circuits_told(
    operator: Client, redis: Redis
) -> None:
    told = {"level": "HALT_ENTRIES", "reason": "drill", "raised_by": "olga", "raised_at": rows.NOON}
    for number in range(30):
        Halt.objects.create(scope="account", target=f"halted-{number:02d}", **told)
    Halt.objects.create(scope="venue", target="binance", **told)
    note_rejection(rows.account(), "BTC/USDT:USDT", "-2015", settings.CLOCK.now())
    page = text_of(operator, "/desk/")

    assert "venue binance: drill" in page
    assert page.count("halted-") == 7
    assert "and 23 more halts" in page
    assert "Circuits open 1: the exchange keeps refusing these entries" in page


def test_an_account_shows_its_day_its_circuits_and_where_each_limit_comes_from(
    operator: Client, redis: Redis
) -> None:
    account = rows.account("alpha", group=AccountGroup.objects.create(name="calm"), peak_equity=12_500)
    set_override(account.group, "max_positions", "3", "olga")
    set_override(account, "risk_per_trade", "0.5", "oleg")
    note_rejection(account, "BTC/USDT:USDT", "-2015", settings.CLOCK.now())

    page = text_of(operator, f"/desk/accounts/{account.uuid}/")

    assert "alpha calm HEALTHY" in page
    assert "every symbol open -2015 × 1, until" in page
    assert "max_positions group 3" in page
    assert "risk_per_trade account 0.5 %" in page.replace("\u202f", " ")
    assert "risk_per_trade – → 0.5 oleg" in page
    assert "max_volatility 15 % setting" in page.replace("\u202f", " ")
    assert "0 won, 0 lost" in page


def test_an_account_whose_limits_contradict_says_so(operator: Client, redis: Redis) -> None:
    account = rows.account("alpha")
    LimitOverride.objects.create(account=account, name="daily_loss", value="1")
    assert "No entries: daily_loss is under 3 x risk_per_trade" in text_of(
        operator, f"/desk/accounts/{account.uuid}/"
    )


def test_a_look_that_chose_nothing_does_not_wait_for_accounts(operator: Client, redis: Redis) -> None:
    none = Decision.objects.create(status=DecisionStatus.NONE, reason="NO_CANDIDATES", decided_at=rows.NOON)
    page = operator.get(f"/desk/decisions/{none.uuid}/").content.decode()
    assert "no account was asked" in page
    assert "not allocated yet" not in page


@pytest.mark.parametrize("before", ["9" * 5000, "-1", "x", "٣"])
def test_a_place_in_the_list_of_choices_that_nobody_gave_is_no_error(
    operator: Client, redis: Redis, before: str
) -> None:
    assert operator.get("/desk/choices/", {"before": before}).status_code == 200


def test_a_monitor_may_ask_for_the_head_of_a_page(operator: Client, redis: Redis) -> None:
    assert [operator.head(path).status_code for path in ("/desk/", "/desk/choices/", "/desk/stop/")] == [
        200
    ] * 3
