"""Lanes: each lives one decision after another from signal to flat, with faults armed on the way.

Nothing here asserts: what a decision comes to is the desk's business, and its proof the oracle's.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connection
from django.utils import timezone

from accounts.models import Account, Health
from tests.chaos import decks
from tests.chaos.board import Board
from tests.chaos.decks import ORDER, STOP, Deck, Faults
from tests.chaos.nemesis import say
from tests.trading_desk import MARKS, TradingDesk
from trading.domain.states import DecisionStatus, OrderPurpose, OrderStatus
from trading.models import Decision, Halt, Order, Position

FAULTY_SHARE = 0.12
"""Of the placements of each phase; what is denied or was closed by its stop before is not met."""

SLOW_SHARE = 0.4
SLOW_SECONDS = (0.2, 0.7)
READY_SECONDS = 90.0
FIT_SHARE = 0.8
ENOUGH_SHARE = 0.5
LAST_PLACE = Decimal("0.0001")
ANSWER_SECONDS = 60.0
COMPLETE_SECONDS = 45.0
RESTING_SECONDS = 15.0
FLAT_SECONDS = 60.0
WAYS = ("signal", "target", "target", "stop", "stop", "flatten", "hand", "recall", "recall")
"""Stops and recalls twice: three of the switches strike nowhere else."""


class Streets:
    """The coins that are free, each with the side it is traded next."""

    def __init__(self, coins: Sequence[str]) -> None:
        self._free = deque((coin, "LONG") for coin in coins)
        self._lock = Lock()

    def take(self) -> tuple[str, str]:
        """The coin that was left alone longest."""
        with self._lock:
            return self._free.popleft()

    def give_back(self, coin: str, side: str) -> None:
        """Free again; next time the other side."""
        with self._lock:
            self._free.append((coin, "SHORT" if side == "LONG" else "LONG"))


class Ways:
    """How positions come to their ends: dealt to all lanes from one deck, so that a short run had each."""

    def __init__(self, dice: random.Random) -> None:
        self._deck = Deck(WAYS, dice)
        self._again: list[str] = []
        self._lock = Lock()

    def deal(self) -> str:
        """The next one; first those that were given back."""
        with self._lock:
            return self._again.pop() if self._again else self._deck.deal()

    def give_back(self, way: str) -> None:
        """Nobody entered: somebody else goes this way."""
        with self._lock:
            self._again.append(way)


class Lane(Thread):
    """One decision at a time, until told to end."""

    def __init__(
        self, number: int, desk: TradingDesk, board: Board, streets: Streets, ways: Ways, seed: int
    ) -> None:
        super().__init__(daemon=True, name=f"lane {number}")
        self.failure = ""
        self._desk = desk
        self._board = board
        self._streets = streets
        self._ways = ways
        self._dice = random.Random(f"lane {number} {seed}")
        self._ended = Event()
        self._entries = Faults(decks.FOR_ENTRIES, self._dice, decks.ENTRIES_OFTEN)
        self._exits = Faults(decks.FOR_EXITS, self._dice, decks.HIDDEN_OFTEN)
        self._stops = Faults(decks.FOR_STOPS, self._dice, decks.HIDDEN_OFTEN)
        self._triggers = Faults(decks.AT_TRIGGERS, self._dice)
        self._cancels = Faults(decks.AT_CANCELS, self._dice)
        self._recalls = Faults(decks.AT_RECALLS, self._dice)
        self._streams = Faults(decks.OF_STREAMS, self._dice)
        self._settings = Faults(decks.OF_SETTINGS, self._dice)

    def run(self) -> None:
        """Live decisions; an observer that fails ends its lane and says why."""
        try:
            while not self._ended.is_set():
                coin, side = self._streets.take()
                self._live(coin, side)
                self._streets.give_back(coin, side)
        except Exception as error:  # noqa: BLE001 -- told with the verdict, whatever it was
            self.failure = f"{self.name}: {type(error).__name__} {error}"
            say(self.failure)
        finally:
            connection.close()

    def end(self) -> None:
        """No further decision."""
        self._ended.set()

    # ── a life ───────────────────────────────────────────────────────────────
    def _live(self, coin: str, side: str) -> None:
        way = self._ways.deal()
        self._until(self._may_enter, READY_SECONDS)
        self._arm_before(coin, way)
        decision_id = self._ask(coin, side)
        if decision_id is not None and way == "recall":
            self._recall(coin)
        entered = 0 if decision_id is None else self._entered(decision_id)
        if entered < ENOUGH_SHARE * len(self._desk.names):
            self._ways.give_back(way)
        if not entered:
            return
        time.sleep(self._dice.uniform(0.0, 4.0))
        self._arm_after(coin, way)
        self._leave(coin, side, way)
        if not self._until(lambda: is_flat(coin), FLAT_SECONDS):
            self._leave(coin, side, "signal")
            self._until(lambda: is_flat(coin), FLAT_SECONDS)

    def _entered(self, decision_id: str) -> int:
        """How many accounts' entries of a decision left, once it is complete or should long be."""
        self._until(lambda: is_complete(decision_id), COMPLETE_SECONDS)
        entries = Order.objects.filter(allocation__decision__uuid=decision_id, submitted_at__isnull=False)
        return entries.values("account").distinct().count()

    def _may_enter(self) -> bool:
        """Whether the desk is ready and most accounts are fresh: one that denies everybody proves little."""
        if Halt.objects.filter(scope="desk", resumed_at__isnull=True).exists():
            return False
        lately = timezone.now() - timedelta(seconds=20)
        fit = Account.objects.filter(name__in=self._desk.names, health=Health.HEALTHY, fresh_at__gte=lately)
        return fit.count() >= FIT_SHARE * len(self._desk.names) and self._desk.get("/ready")[0] == 200

    def _arm_before(self, coin: str, way: str) -> None:
        self._board.call_off(f"{coin}USDT")
        self._arm(self._settings, coin, share=0.01)
        if way == "recall":
            self._arm(self._recalls, coin, share=0.2)
        self._arm(self._entries, coin, ORDER)
        self._arm(self._stops, coin, STOP)
        if self._dice.random() < SLOW_SHARE:
            seconds = round(self._dice.uniform(*SLOW_SECONDS), 2)
            self._board.slow(f"{coin}USDT", ORDER, len(self._desk.names), seconds)

    def _arm_after(self, coin: str, way: str) -> None:
        self._arm(self._exits, coin, ORDER)
        self._arm(self._cancels, coin, share=0.06)
        self._arm(self._streams, coin, share=0.05)
        if way == "stop":
            self._arm(self._triggers, coin, share=0.5)

    def _arm(self, deck: Faults, coin: str, endpoint: str = "", share: float = FAULTY_SHARE) -> None:
        symbol = f"{coin}USDT"
        self._board.arm(deck, self._desk.names, share, self._dice, symbol=symbol, endpoint=endpoint)

    def _ask(self, coin: str, side: str) -> str | None:
        """Have a decision made; asked again when nobody answered, which must not make a second one."""
        mark, way = Decimal(MARKS[coin]), 1 if side == "LONG" else -1
        signal = self._insist(
            "/api/bot/signals",
            source="observer",
            external_id=uuid4().hex,
            symbol=f"{coin}USDT",
            side=side,
            score="0.9",
            entry_price=str(mark),
            stop_price=str(mark * (1 - way * Decimal("0.02"))),
            take_profit_price=str(mark * (1 + way * Decimal("0.06"))),
        )
        decision = self._insist("/api/bot/decisions", signal_id=signal["id"]) if signal else None
        return str(decision["id"]) if decision else None

    def _recall(self, coin: str) -> None:
        """Cancel what rests of the entries; who cancels too late meets the fill."""
        self._until(lambda: rests(coin), RESTING_SECONDS)
        scope = f"symbol:{coin}/USDT:USDT"
        self._insist("/api/bot/emergency-stop", scope=scope, level="CANCEL_ORDERS", reason="recalled")
        time.sleep(2.0)
        self._insist("/api/bot/resume", scope=scope, reason="recalled")

    def _leave(self, coin: str, side: str, way: str) -> None:
        """Get the position closed in one of the ways it can be."""
        if way in {"signal", "recall"}:
            self._close(coin, side)
        elif way in {"target", "stop"}:
            self._jump(coin, side, Decimal("0.03") if way == "target" else Decimal("-0.03"))
        elif way == "flatten":
            scope = f"symbol:{coin}/USDT:USDT"
            self._insist("/api/bot/emergency-stop", scope=scope, level="FLATTEN", reason="a drill")
            self._until(lambda: is_flat(coin), FLAT_SECONDS)
            self._insist("/api/bot/resume", scope=scope, reason="drill over")
        else:
            held = Position.objects.filter(symbol=f"{coin}/USDT:USDT", status="OPEN")[:5]
            for position in list(held):
                self._insist(f"/api/bot/close-position/{position.uuid}")
            self._close(coin, side)

    def _close(self, coin: str, side: str) -> None:
        told = {"source": "observer", "external_id": uuid4().hex, "symbol": f"{coin}USDT", "side": side}
        self._insist("/api/bot/signals", **told, action="close")

    def _jump(self, coin: str, side: str, share: Decimal) -> None:
        """The mark passes every target, or the stop, and comes back when the exchange is flat."""
        self._desk.pin({coin: str(jumped(Decimal(MARKS[coin]), share if side == "LONG" else -share))})
        self._until(lambda: is_flat(coin), FLAT_SECONDS / 2)
        self._desk.pin({coin: MARKS[coin]})

    # ── asking ───────────────────────────────────────────────────────────────
    def _insist(self, path: str, **body: Any) -> dict[str, Any] | None:
        """The answer of a POST, asked again while nobody can give one; None for a refusal."""
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            status, answer = self._desk.post(path, **body)
            if 200 <= status < 300:
                return dict(answer)
            if 400 <= status < 500:
                say(f"{path} refused: {status} {answer}")
                return None
            time.sleep(0.5)
        return None

    def _until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait that long at most, and no longer than the run; a database that is away says nothing."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._ended.is_set():
            try:
                if true():
                    return True
            except OperationalError:
                connection.close()
            time.sleep(0.25)
        return False


def jumped(mark: Decimal, share: Decimal) -> Decimal:
    """The mark moved by this share, to the last unit that any coin's price has: 2 moves to 1.94, not to 2."""
    return (mark * (1 + share)).quantize(LAST_PLACE)


def is_complete(decision_id: str) -> bool:
    """Whether every account of a decision has its known end."""
    return Decision.objects.filter(uuid=decision_id, status=DecisionStatus.COMPLETE).exists()


def rests(coin: str) -> bool:
    """Whether an entry of a coin rests in the book."""
    entries = Order.objects.filter(symbol=f"{coin}/USDT:USDT", purpose=OrderPurpose.ENTRY)
    return entries.filter(status=OrderStatus.ACKNOWLEDGED).exists()


def is_flat(coin: str) -> bool:
    """Whether our rows hold nothing of a coin."""
    return not Position.objects.filter(symbol=f"{coin}/USDT:USDT", status="OPEN").exists()
