"""The desk under a nemesis: programs die, the broker forgets, the database goes; it converges by itself.

The oracle is the ledger of the exchange: nothing doubled, nothing lost, nothing unexplained. A supervisor
starts again what ended, as the runner and the containers do, and nothing else is done for the desk. Every
way in which a message is known to be lost, doubled or repeated has its test, here or where `CASES` says.
"""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db.models import QuerySet

from project.celery import app
from tests.broker_proxy import BrokerProxy
from tests.locked_database import database_away
from tests.processes import Process, Valkey
from tests.proofs import missing_proofs
from tests.running_desk import WATCHERS
from tests.trading_desk import TradingDesk
from trading.domain.states import OrderStatus
from trading.models import Allocation, Decision, Order, Position

pytestmark = [pytest.mark.whole_system, pytest.mark.drill, pytest.mark.timeout(240)]

HERE = "tests/test_recovery.py"
PROGRAMS = "tests/test_programs.py"
CASES: dict[str, tuple[str, ...]] = {
    # The pool is threads: a killed child is a killed worker. Poison is tried with forked children as well.
    "1 child kill -9": (
        f"{HERE}::test_workers_killed_at_any_moment_of_a_decision_lose_and_double_nothing",
        f"{PROGRAMS}::test_poison_is_taken_five_times_then_left_alone_and_told_and_other_messages_run",
    ),
    "2 whole worker kill -9": (
        f"{HERE}::test_workers_killed_at_any_moment_of_a_decision_lose_and_double_nothing",
    ),
    "3 SIGTERM during an order": (f"{HERE}::test_a_worker_told_to_end_finishes_its_orders_first",),
    "4 SIGQUIT, soft shutdown": (f"{HERE}::test_a_worker_told_to_end_finishes_its_orders_first",),
    "5 broker restarts empty": (f"{HERE}::test_a_broker_that_comes_back_empty_costs_time_and_nothing_else",),
    "6 broker restarts with its file": (
        f"{HERE}::test_a_broker_killed_and_back_with_its_file_has_kept_the_message",
    ),
    "7 broker's lines black-holed": (f"{HERE}::test_lines_to_the_broker_that_die_silently_are_given_up",),
    "8 publish reply lost, one id twice": (
        f"{HERE}::test_a_message_sent_twice_under_one_id_is_one_placement_an_account",
        f"{HERE}::test_every_message_sent_again_changes_nothing",
    ),
    "9 killed between pop and unacked": (
        f"{HERE}::test_a_message_lost_between_the_broker_and_a_killed_worker_is_rung_again",
    ),
    "10 crash between commit and publish": (
        f"{HERE}::test_a_web_process_killed_between_commit_and_publish_loses_no_decision",
    ),
    "11 broker down at commit": (
        f"{HERE}::test_a_decision_asked_for_while_the_broker_is_away_is_refused_whole_and_nothing_is_sent",
    ),
    "12 two beats": (f"{PROGRAMS}::test_of_two_beats_one_sends_and_the_other_takes_over_without_repeating",),
    "13 beat kill -9 right after a tick": (
        f"{PROGRAMS}::test_of_two_beats_one_sends_and_the_other_takes_over_without_repeating",
    ),
    "14 database restarts idle, mid-task, under beat": (
        f"{HERE}::test_a_database_that_restarts_idle_and_mid_order_costs_seconds",
    ),
    "15 task longer than the visibility timeout": (
        f"{HERE}::test_a_send_longer_than_the_visibility_timeout_is_delivered_again_and_placed_once",
    ),
    "16 countdown longer than the visibility timeout": (
        f"{HERE}::test_a_countdown_longer_than_the_visibility_timeout_runs_often_and_places_once",
    ),
    "17 a coroutine as a task": (f"{PROGRAMS}::test_a_worker_with_a_coroutine_for_a_task_does_not_start",),
    "18 poison": (
        f"{PROGRAMS}::test_poison_is_taken_five_times_then_left_alone_and_told_and_other_messages_run",
    ),
}

ACCOUNTS = 8
SEED = 20_261_120
VISIBILITY_SECONDS = 5
LONGER_SECONDS = 4
"""What is still in hand so long after its time is delivered again meanwhile, on a busy machine, too."""

SLOW = {"kind": "delay", "endpoint": "POST /fapi/v1/*", "count": 0, "seconds": 1.0}
RESTART_SECONDS = 2.0
POP_SECONDS = 1.5
TRIES = 3
PATIENCE_SECONDS = 75.0
"""A lease of 20 s, the absence rule of 10 s, a sweep of 5 s, and a restart on a busy machine."""


@pytest.fixture(scope="module")
def line(valkey: Valkey) -> Iterator[BrokerProxy]:
    """The line of every program to the broker."""
    proxy = BrokerProxy(valkey.url)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def desk(open_desk: Callable[..., TradingDesk], line: BrokerProxy) -> TradingDesk:
    # A quarter of a percent a trade: four coins at once fit into the margin.
    return open_desk(
        ACCOUNTS,
        LIMIT_RISK_PER_TRADE="0.25",
        LIMIT_DAILY_TRADES="200",
        # What is rung again comes in time on a slow machine, too.
        LIMIT_DEADLINE_SECONDS="60",
        REDIS_URL=line.url,
        BROKER_VISIBILITY_SECONDS=str(VISIBILITY_SECONDS),
    )


def test_every_case_has_its_test() -> None:
    assert [int(case.split()[0]) for case in CASES] == list(range(1, 19))
    assert missing_proofs(proof for proofs in CASES.values() for proof in proofs) == []


@pytest.fixture(autouse=True)
def flat_afterwards(desk: TradingDesk) -> Iterator[None]:
    """Each test begins with a desk that is fit and holds nothing."""
    wait_unhalted(desk)
    yield
    desk.exchange.delete("/paper/faults")
    desk.post("/api/bot/emergency-stop", scope="desk", level="FLATTEN", reason="end of a test")
    for coin in desk.coins_there():
        desk.wait_flat(coin)
    desk.post("/api/bot/resume", scope="desk", reason="end of a test")


def converge(desk: TradingDesk) -> None:
    """Every decision ends, every position that is held is verified, and the ledger explains all of it."""
    desk.wait_for(lambda: not Decision.objects.filter(status="OPEN").exists(), "ends", PATIENCE_SECONDS)
    desk.wait_quiet(PATIENCE_SECONDS)
    for coin in desk.coins_there():
        desk.wait_verified(coin, len(desk.held_there(coin)), PATIENCE_SECONDS)
        held = {one["account"]: abs(Decimal(one["quantity"])) for one in desk.positions(coin)}
        assert held == {name: abs(quantity) for name, quantity in desk.held_there(coin).items()}
    desk.assert_nothing_doubled_lost_or_unexplained()


def test_workers_killed_at_any_moment_of_a_decision_lose_and_double_nothing(desk: TradingDesk) -> None:
    dice = random.Random(SEED)
    desk.exchange.add_fault(**SLOW)
    moments = []
    for coin, side in {"ETH": "SHORT", "SOL": "LONG", "XRP": "SHORT"}.items():
        desk.execute(coin, side)
        moment, victim = dice.uniform(0.0, 1.2), dice.choice(("worker_orders", "worker_exits"))
        moments.append((coin, victim, round(moment, 3)))
        time.sleep(moment)
        desk.programs.process(victim).kill()
        time.sleep(RESTART_SECONDS)
    print(f"seed {SEED}: {moments}")  # noqa: T201 -- told when the test fails
    decision_id = sent(desk, "BTC")
    desk.programs.process("worker_orders").kill()
    assert unanswered(decision_id) == ACCOUNTS
    converge(desk)
    shares = desk.decision(decision_id)["allocations"]
    assert {share["outcome"] for share in shares} <= {"FILLED", "EXPIRED"}
    filled = {share["account"] for share in shares if share["outcome"] == "FILLED"}
    assert set(desk.held_there("BTC")) == filled


def test_a_broker_that_comes_back_empty_costs_time_and_nothing_else(desk: TradingDesk) -> None:
    hold(desk, "BNB")
    valkey, worker = desk.programs.valkey, desk.programs.process("worker_orders")
    with standing_still(worker):
        lost = desk.execute("ADA", "SHORT")  # its bell waits in a queue that will be forgotten
        valkey.kill()
        valkey.forget()
        desk.pin({"BNB": first_target("BNB")})
    time.sleep(1)
    valkey.start()
    wait_harvested(desk, "BNB")
    assert sum(desk.wait_complete(lost, PATIENCE_SECONDS)["counts"].values()) == ACCOUNTS
    converge(desk)


def test_a_decision_asked_for_while_the_broker_is_away_is_refused_whole_and_nothing_is_sent(
    desk: TradingDesk,
) -> None:
    signal = desk.send_signal("LINK")
    placed = len(desk.ledger("PLACED"))
    valkey = desk.programs.valkey
    valkey.kill()
    status, decision = desk.post("/api/bot/decisions", signal_id=signal["id"])
    valkey.start()
    assert status == 202, decision
    ledger = desk.wait_complete(decision["id"], PATIENCE_SECONDS)
    assert {(one["outcome"], one["code"]) for one in ledger["allocations"]} == {("DENIED", "STALE_DATA")}
    assert len(desk.ledger("PLACED")) == placed
    converge(desk)


def test_a_database_that_restarts_idle_and_mid_order_costs_seconds(desk: TradingDesk) -> None:
    beat = desk.programs.process("beat").pid
    with database_away(2):
        pass
    hold(desk, "AVAX")
    target = first_target("AVAX")
    desk.exchange.add_fault(**SLOW)
    decision_id = sent(desk, "LTC", "SHORT")
    with database_away(6):
        desk.pin({"AVAX": target})
    wait_harvested(desk, "AVAX")
    desk.wait_complete(decision_id, PATIENCE_SECONDS)
    assert desk.programs.process("beat").pid == beat
    converge(desk)


@pytest.mark.parametrize(
    ("number", "coin"), [(signal.SIGTERM, "DOT"), (signal.SIGQUIT, "NEAR")], ids=["term", "quit"]
)
def test_a_worker_told_to_end_finishes_its_orders_first(
    desk: TradingDesk, number: signal.Signals, coin: str
) -> None:
    desk.exchange.add_fault(**SLOW | {"seconds": 1.5})
    decision_id = sent(desk, coin, "SHORT")
    worker = desk.programs.process("worker_orders")
    with desk.supervisor.leaving_alone("worker_orders"):
        worker.tell(number)
        if number == signal.SIGTERM:
            assert worker.wait_ended() == 0
        else:  # a soft shutdown sleeps its whole time, whatever it has to wait for
            desk.wait_for(
                lambda: statuses_of(decision_id) == {OrderStatus.FILLED}, "the orders to be answered"
            )
            worker.kill()
        assert statuses_of(decision_id) == {OrderStatus.FILLED}
    assert desk.wait_complete(decision_id)["counts"] == {"FILLED": ACCOUNTS}
    converge(desk)


def test_a_broker_killed_and_back_with_its_file_has_kept_the_message(desk: TradingDesk) -> None:
    valkey, worker = desk.programs.valkey, desk.programs.process("worker_orders")

    def happen() -> str:
        with standing_still(worker):
            decision_id = desk.execute("AAVE")
            messages = waiting(desk, "decide")  # more than one where the sweep has rung it again by now
            assert messages
            valkey.kill()
            valkey.start()
            assert waiting(desk, "decide")[: len(messages)] == messages
            return decision_id

    assert_placed_once(desk, happen)


def test_lines_to_the_broker_that_die_silently_are_given_up(desk: TradingDesk, line: BrokerProxy) -> None:
    line.black_hole()
    lost = desk.execute("UNI")
    assert sum(desk.wait_complete(lost, PATIENCE_SECONDS)["counts"].values()) == ACCOUNTS
    # Whoever finds its line dead halts entries, for it cannot know that marks come; the next tick lets go.
    assert any(is_entered(desk, coin) for coin in ("OP", "ICP", "TAO"))
    converge(desk)


def test_a_message_sent_twice_under_one_id_is_one_placement_an_account(
    desk: TradingDesk, line: BrokerProxy
) -> None:
    def happen() -> str:
        with standing_still(desk.programs.process("worker_orders")):
            line.lost_replies = 0
            line.lose_the_reply_to("trading.tasks.decide")
            decision_id = desk.execute("INJ")
            lying = Counter(waiting(desk, "decide"))
            assert line.lost_replies == 1
            assert 2 in lying.values()  # beside it may lie what the sweep has rung
            return decision_id

    assert_placed_once(desk, happen)


def test_a_message_lost_between_the_broker_and_a_killed_worker_is_rung_again(
    desk: TradingDesk, line: BrokerProxy
) -> None:
    worker, sweeper = desk.programs.process("worker_orders"), desk.programs.process("worker_monitor")

    def happen() -> str:
        sweeper.pause()  # a slow machine's worker would find it rung again before it is seen to be lost
        try:
            line.on_pop("trading.tasks.decide", worker.kill)
            decision_id = desk.execute("APT")
            desk.wait_for(lambda: worker.is_running, "the worker to be started again")
            assert waiting(desk, "decide") == []
        finally:
            sweeper.resume()
        return decision_id

    assert_placed_once(desk, happen)


def test_a_web_process_killed_between_commit_and_publish_loses_no_decision(
    desk: TradingDesk, line: BrokerProxy
) -> None:
    def happen() -> str:
        chosen = desk.send_signal("ATOM")
        line.on_push("trading.tasks.decide", desk.programs.process("web").kill)
        assert desk.post("/api/bot/decisions", signal_id=chosen["id"])[0] == 0, "its answer never came"
        desk.wait_for(lambda: desk.get("/health")[0] == 200, "the web process to be started again")
        return str(Decision.objects.get(signal__uuid=chosen["id"]).uuid)

    assert_placed_once(desk, happen)


def test_a_send_longer_than_the_visibility_timeout_is_delivered_again_and_placed_once(
    desk: TradingDesk, line: BrokerProxy
) -> None:
    desk.exchange.add_fault(**SLOW | {"seconds": VISIBILITY_SECONDS + LONGER_SECONDS})
    line.delivered.clear()
    assert_placed_once(desk, lambda: desk.execute("FIL"))
    assert max(line.delivered.values()) > 1


def test_a_countdown_longer_than_the_visibility_timeout_runs_often_and_places_once(
    desk: TradingDesk, line: BrokerProxy
) -> None:
    orders, sweeper = desk.programs.process("worker_orders"), desk.programs.process("worker_monitor")

    def happen() -> str:
        sweeper.pause()  # nobody else shall ring
        with standing_still(orders):
            decision_id = desk.execute("ETC")
            with desk.programs.valkey.client() as broker:
                broker.delete("desk:orders")
            line.delivered.clear()
        pk = Decision.objects.get(uuid=decision_id).pk
        message = ring("decide", "orders", [pk], VISIBILITY_SECONDS + LONGER_SECONDS)
        try:
            desk.wait_for(partial(is_offered, decision_id), "the message to be run", PATIENCE_SECONDS)
        finally:
            sweeper.resume()
        assert line.delivered[message] > 1
        return decision_id

    assert_placed_once(desk, happen)


def test_every_message_sent_again_changes_nothing(desk: TradingDesk) -> None:
    decision_id = desk.execute("BCH")
    again(decision_id)
    desk.wait_complete(decision_id)
    again(decision_id)
    desk.wait_verified("BCH", ACCOUNTS)
    again(decision_id)
    converge(desk)
    assert len(desk.held_there("BCH")) == ACCOUNTS
    assert desk.stops_there("BCH") == dict.fromkeys(desk.names, 1)


def test_without_beat_and_watchers_the_stops_at_the_exchange_hold_and_both_take_up_again(
    desk: TradingDesk,
) -> None:
    hold(desk, "DOGE")
    shorts = hold(desk, "TRX", "SHORT")
    stop = max(Decimal(position["stop_price"]) for position in shorts)
    target = first_target("DOGE")
    with desk.supervisor.leaving_alone("beat", *WATCHERS):
        for name in ("beat", *WATCHERS):
            desk.programs.process(name).kill()
        desk.pin({"TRX": str(stop + Decimal("0.0002")), "DOGE": target})
        desk.wait_for(lambda: not desk.held_there("TRX"), "the exchange to stop out every short")
    wait_harvested(desk, "DOGE")
    desk.wait_flat("TRX", PATIENCE_SECONDS)
    assert {one["close_reason"] for one in desk.positions("TRX", "CLOSED")} == {"STOP_LOSS"}
    converge(desk)


# ── steps ────────────────────────────────────────────────────────────────────


def hold(desk: TradingDesk, coin: str, side: str = "LONG") -> list[dict[str, Any]]:
    """Enter on every account and wait until every position is verified."""
    wait_unhalted(desk)
    ledger = desk.wait_complete(let_in(desk, lambda: desk.execute(coin, side)))
    assert ledger["counts"] == {"FILLED": ACCOUNTS}, ledger["allocations"]
    return desk.wait_verified(coin, ACCOUNTS)


def sent(desk: TradingDesk, coin: str, side: str = "LONG") -> str:
    """A decision all of whose entries have left, and none was answered."""
    decision_id = let_in(desk, lambda: desk.execute(coin, side))
    desk.wait_for(lambda: unanswered(decision_id) == ACCOUNTS, "the entries to be on their way")
    return decision_id


def let_in(desk: TradingDesk, happen: Callable[[], str]) -> str:
    """The first decision made by `happen` that the gate let accounts into.

    Right after trouble, on a busy machine, it may lack its figures and let nobody in: then nothing is sent.
    """
    for _ in range(TRIES):
        decision_id = happen()
        desk.wait_for(partial(is_offered, decision_id), "the gate's answers", PATIENCE_SECONDS)
        if set(shares_of(decision_id).values_list("outcome", flat=True)) != {"DENIED"}:
            return decision_id
        assert not entries_of(decision_id).exists()
        wait_unhalted(desk)
    raise AssertionError(f"the gate let nobody in, {TRIES} times")


def is_offered(decision_id: str) -> bool:
    """Whether every account has its share of a decision, or knows why not."""
    return shares_of(decision_id).count() == ACCOUNTS


def shares_of(decision_id: str) -> QuerySet[Allocation]:
    """The accounts' shares of a decision."""
    return Allocation.objects.filter(decision__uuid=decision_id)


def unanswered(decision_id: str) -> int:
    """How many entries of a decision left without an answer so far."""
    return entries_of(decision_id).filter(status=OrderStatus.SUBMITTED).count()


def entries_of(decision_id: str) -> QuerySet[Order]:
    """The entries of a decision, every attempt."""
    return Order.objects.filter(purpose="ENTRY", allocation__decision__uuid=decision_id)


def statuses_of(decision_id: str) -> set[str]:
    """Where the entries of a decision stand."""
    return set(entries_of(decision_id).values_list("status", flat=True))


def assert_placed_once(desk: TradingDesk, happen: Callable[[], str]) -> None:
    """The exchange has exactly one order of each intent, and none of a share a slow machine let expire.

    `happen` does to a decision what is tried, and returns its id.
    """
    decision_id = let_in(desk, happen)
    shares = desk.wait_complete(decision_id, PATIENCE_SECONDS)["allocations"]
    ends = {share["account"]: (share["outcome"], share["code"]) for share in shares}
    assert len(ends) == ACCOUNTS
    assert set(ends.values()) <= {("FILLED", ""), ("EXPIRED", "DEADLINE")}
    intents = dict(entries_of(decision_id).values_list("client_order_id", "account__name"))
    placed = Counter(row["client_order_id"] for row in desk.ledger("PLACED"))
    assert {name: placed[name] for name in intents} == {
        name: int(ends[account] == ("FILLED", "")) for name, account in intents.items()
    }
    converge(desk)


def wait_unhalted(desk: TradingDesk) -> None:
    """Wait until the desk is ready; whoever could not hear marks has halted entries until its next tick."""
    desk.wait_ready()
    desk.wait_for(lambda: desk.get("/api/bot/emergency-stop")[1]["items"] == [], "entries to be allowed")


def is_entered(desk: TradingDesk, coin: str) -> bool:
    """Have a coin entered once entries are allowed; whether every account entered."""
    wait_unhalted(desk)
    return bool(desk.wait_complete(desk.execute(coin))["counts"] == {"FILLED": ACCOUNTS})


@contextmanager
def standing_still(worker: Process) -> Iterator[None]:
    """A paused worker that takes nothing: the pop it waits for ends at the broker in a second.

    Paused with a pop open, it would be handed the next message and do nothing with it.
    """
    worker.pause()
    time.sleep(POP_SECONDS)
    try:
        yield
    finally:
        worker.resume()


def waiting(desk: TradingDesk, task: str) -> list[str]:
    """The ids of the messages of a task that lie in the queue of the orders, oldest first."""
    with desk.programs.valkey.client() as broker:
        headers = [json.loads(one)["headers"] for one in reversed(broker.lrange("desk:orders", 0, -1))]
    return [header["id"] for header in headers if header["task"] == f"trading.tasks.{task}"]


def first_target(coin: str) -> str:
    """A price at or beyond the first target of every long of a coin."""
    longs = Position.objects.filter(symbol=f"{coin}/USDT:USDT", status="OPEN")
    return str(max(Decimal(position.plan["levels"][0]["price"]) for position in longs))


def wait_harvested(desk: TradingDesk, coin: str) -> None:
    """Wait until every position of a coin has sold its first share."""

    def harvested() -> bool:
        rows = desk.positions(coin)
        less = [one for one in rows if Decimal(one["quantity"]) < Decimal(one["initial_quantity"])]
        return len(less) == ACCOUNTS

    desk.wait_for(harvested, f"the first target of every {coin}", PATIENCE_SECONDS)


def again(decision_id: str) -> None:
    """Ring every bell of a decision once more, and once more."""
    decision = Decision.objects.get(uuid=decision_id)
    orders = Order.objects.filter(allocation__decision=decision)
    positions = Position.objects.filter(allocation__decision=decision)
    stops = Order.objects.filter(position__in=positions)
    for _ in range(2):
        ring("decide", "orders", [decision.pk])
        ring("submit_entries", "orders", list(orders.values_list("pk", flat=True)))
        ring("attend_positions", "exits", list(positions.values_list("pk", flat=True)))
        ring("submit_exits", "exits", list(stops.values_list("pk", flat=True)))
        ring("resolve_orders", "lookups", list(orders.values_list("pk", flat=True)))


def ring(task: str, queue: str, ids: list[int], countdown: float | None = None) -> str:
    return str(app.send_task(f"trading.tasks.{task}", (ids,), queue=queue, countdown=countdown).id)
