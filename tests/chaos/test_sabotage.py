"""The oracle can fail: it tells of each safeguard taken out, and with all in place the same events are clean.

The safeguards are taken out of real programs by settings of the tests; the product has no switch for it.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from django.db.models import QuerySet

from project.celery import app
from tests.chaos import oracle
from tests.chaos.oracle import Verdict
from tests.chaos.sabotage import ABSENCE, CLAIM, LOOKUP, SWEEPER
from tests.trading_desk import MARKS, TradingDesk
from trading.models import Allocation, Order, Signal

pytestmark = [pytest.mark.whole_system, pytest.mark.drill, pytest.mark.timeout(300)]

ACCOUNTS = 10
PLACE = "POST /fapi/v1/order"
PATIENCE_SECONDS = 90.0
SWEEPS_MISSED_SECONDS = 12.0
"""Two sweeps, and the three seconds after which the first of them would have rung."""


@pytest.fixture(scope="module")
def taken_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the safeguard that is out; not there while all are in place."""
    return tmp_path_factory.mktemp("sabotage") / "taken-out"


@pytest.fixture(scope="module")
def desk(open_desk: Callable[..., TradingDesk], taken_out: Path) -> TradingDesk:
    settings = "tests.chaos.sabotage.settings"
    return open_desk(
        ACCOUNTS,
        DJANGO_SETTINGS_MODULE=settings,
        SABOTAGE=str(taken_out),
        LIMIT_SIZING_MODEL="fixed_notional",
        LIMIT_FIXED_NOTIONAL="300",
        LIMIT_MAX_POSITIONS="20",
    )


@pytest.fixture(autouse=True)
def all_in_place_afterwards(desk: TradingDesk, taken_out: Path) -> Iterator[None]:
    desk.wait_ready()
    yield
    taken_out.unlink(missing_ok=True)
    desk.exchange.delete("/paper/faults")


# ── what happens ─────────────────────────────────────────────────────────────


def rung_again_on_the_way(desk: TradingDesk, coin: str) -> str:
    """Every entry's message comes a second and a third time while the first is being sent."""
    desk.exchange.add_fault(kind="delay", endpoint=PLACE, symbol=f"{coin}USDT", count=0, seconds=0.7)
    decision_id = desk.execute(coin)
    if not wait_on_their_way(desk, decision_id):
        return decision_id
    for _ in range(2):
        ids = list(entries_of(decision_id).values_list("pk", flat=True))
        app.send_task("trading.tasks.submit_entries", (ids,), queue="orders")
    return decision_id


def answers_lost(desk: TradingDesk, coin: str) -> str:
    """Three entries are placed and their answers lost."""
    lose_answers(desk, coin)
    return desk.execute(coin)


def answers_lost_and_lookups_behind(desk: TradingDesk, coin: str) -> str:
    """Three entries are placed, their answers lost, and no lookup finds them for four seconds.

    Their streams are silent: otherwise these tell of the orders before anybody has to look.
    """
    lose_answers(desk, coin)
    for name in desk.names[:3]:
        desk.exchange.add_fault(kind="hide_event", account=name, count=0)
        desk.exchange.add_fault(kind="lookup_not_found", account=name, count=0, seconds=4)
    return desk.execute(coin)


def bell_lost(desk: TradingDesk, coin: str) -> str:
    """The broker forgets that a decision was made."""
    worker, valkey = desk.programs.process("worker_orders"), desk.programs.valkey
    worker.pause()
    decision_id = desk.execute(coin)
    valkey.kill()
    valkey.forget()
    worker.resume()
    valkey.start()
    return decision_id


def lose_answers(desk: TradingDesk, coin: str) -> None:
    for name in desk.names[:3]:
        lost = {"status": 504, "code": -1000, "apply": True, "account": name, "symbol": f"{coin}USDT"}
        desk.exchange.add_fault(kind="http", endpoint=PLACE, **lost)


# ── and what the oracle says ─────────────────────────────────────────────────


def test_with_every_safeguard_the_same_events_leave_nothing_wrong(desk: TradingDesk) -> None:
    for event in (rung_again_on_the_way, answers_lost, answers_lost_and_lookups_behind):
        _, decision_id = entered(desk, event)
        desk.wait_complete(decision_id, PATIENCE_SECONDS)
    desk.wait_complete(bell_lost(desk, "XRP"), PATIENCE_SECONDS)
    wait_clean(desk)


def test_without_the_sweeper_a_lost_bell_leaves_a_decision_open_and_with_it_it_heals(
    desk: TradingDesk, taken_out: Path
) -> None:
    taken_out.write_text(SWEEPER)
    decision_id = bell_lost(desk, "BNB")
    time.sleep(SWEEPS_MISSED_SECONDS)
    assert judged(desk).incomplete == [f"decision {decision_id} is open"]
    taken_out.unlink()
    wait_clean(desk)


def test_without_the_claim_an_order_rung_again_is_placed_again(desk: TradingDesk, taken_out: Path) -> None:
    before = judged(desk)
    taken_out.write_text(CLAIM)
    _, decision_id = entered(desk, rung_again_on_the_way)
    wait_doubled(desk, decision_id, before)


def test_without_the_lookup_an_order_whose_answer_was_lost_is_placed_again(
    desk: TradingDesk, taken_out: Path
) -> None:
    before = judged(desk)
    taken_out.write_text(LOOKUP)
    _, decision_id = entered(desk, answers_lost)
    wait_doubled(desk, decision_id, before)


def test_without_the_absence_rule_a_share_is_entered_by_two_attempts(
    desk: TradingDesk, taken_out: Path
) -> None:
    before = judged(desk)
    taken_out.write_text(ABSENCE)
    coin, _ = entered(desk, answers_lost_and_lookups_behind)

    def are_entered_twice() -> bool:
        new = set(judged(desk).doubled) - set(before.doubled)
        return bool({f"{name} {coin}USDT entered twice" for name in desk.names[:3]} & new)

    desk.wait_for(are_entered_twice, "the oracle to tell of it", PATIENCE_SECONDS)


# ── steps ────────────────────────────────────────────────────────────────────


def entered(desk: TradingDesk, event: Callable[[TradingDesk, str], str]) -> tuple[str, str]:
    """Let it happen on a free coin; on the next where a busy machine kept the gate from its figures."""
    while True:
        coin = next(coin for coin in MARKS if not Signal.objects.filter(symbol=f"{coin}/USDT:USDT").exists())
        decision_id = event(desk, coin)
        desk.wait_for(partial(is_offered, decision_id), "the accounts' shares")
        if entries_of(decision_id).filter(attempt=1).count() == ACCOUNTS:
            return coin, decision_id


def is_offered(decision_id: str) -> bool:
    return Allocation.objects.filter(decision__uuid=decision_id).count() == ACCOUNTS


def judged(desk: TradingDesk) -> Verdict:
    return oracle.judge(desk.exchange, desk.names)


def wait_clean(desk: TradingDesk) -> None:
    desk.wait_quiet(PATIENCE_SECONDS)
    desk.wait_for(lambda: judged(desk).is_clean, "a clean verdict", PATIENCE_SECONDS)


def wait_doubled(desk: TradingDesk, decision_id: str, before: Verdict) -> None:
    """Wait until the oracle says of entries of this decision that they were placed twice."""

    def is_told() -> bool:
        names = set(entries_of(decision_id).values_list("client_order_id", flat=True))
        new = set(judged(desk).doubled) - set(before.doubled)
        return bool({f"{name} placed twice" for name in names} & new)

    desk.wait_for(is_told, "the oracle to tell of it", PATIENCE_SECONDS)


def entries_of(decision_id: str) -> QuerySet[Order]:
    return Order.objects.filter(purpose="ENTRY", allocation__decision__uuid=decision_id)


def wait_on_their_way(desk: TradingDesk, decision_id: str) -> bool:
    """Wait until every entry has left; False when the gate let none."""

    def have_left() -> bool:
        return entries_of(decision_id).filter(submitted_at__isnull=False).count() == ACCOUNTS

    def is_denied() -> bool:
        return Allocation.objects.filter(decision__uuid=decision_id, outcome="DENIED").exists()

    desk.wait_for(lambda: have_left() or is_denied(), "the entries to be on their way")
    return have_left()
