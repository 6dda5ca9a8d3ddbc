"""Lockstep: one price point at the exchange, then the real desk until no row is due, then the next point.

Beat's entries are called at replay cadence by their services; what they find is done by real workers.
"""

import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from accounts.services.gateways import market_data
from accounts.services.registry import create_paper_accounts
from accounts.services.symbol_settings import ensure_symbol_settings_of
from accounts.services.verification import verify_account
from exchange import heartbeat
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice
from project.clock import ReplayClock
from project.replay.venue import Step, Venue
from trading.models import Halt, Order, Position
from trading.services import demo, emergency, equity, market, monitoring, selection, sweeping
from trading.services.bells import Bells
from trading.services.valkey import valkey
from trading.services.watcher import Watcher
from trading.tasks import ring

QUIET_SECONDS = 60.0
RING_AGAIN_SECONDS = 0.5
POLL_SECONDS = 0.002
LONGEST_POLL_SECONDS = 0.02
READ_SECONDS = 10.0
SELECT_EVERY = timedelta(seconds=60)


class NeverQuiet(RuntimeError):
    """Rows stayed due for longer than any honest step takes; the message names them."""


@dataclass(slots=True)
class Progress:
    """What the replay has done so far."""

    points: int = 0
    minutes: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has run, by the wall clock."""
        return time.monotonic() - self.begun


class Driver:
    """Moves one desk through recorded time."""

    def __init__(self, venue: Venue, clock: ReplayClock) -> None:
        self._venue = venue
        self._clock = clock
        self._watcher = Watcher()
        self._board = MarkBoard(valkey())
        self._symbols: dict[str, str] = {}
        self._funding: dict[str, MarkPrice] = {}
        self._selected_at: datetime | None = None
        self._is_quiet = False
        self._day: date | None = None
        self.progress = Progress()

    def prepare(self, accounts: int) -> datetime:
        """Open the desk at the feed's first moment: accounts verified, settings read back, equity kept."""
        self._symbols = {
            one.base + one.quote: one.symbol for one in market.instruments(Market.FUTURES).values()
        }
        step = self._venue.stand()
        self._take(step)
        create_paper_accounts(accounts)
        demo.demonstration_source()
        rows = list(Account.objects.order_by("pk"))
        for account in rows:
            verify_account(account, step.now)
        ensure_symbol_settings_of(rows, self._symbols.values(), step.now)
        self._monitor(step.now)
        equity.record(step.now)
        return step.now

    def step(self) -> Step:
        """One price point, and everything the desk makes of it."""
        step = self._venue.advance()
        self._take(step)
        marks = {self._symbols[one]: price for one, price in step.marks.items() if one in self._symbols}
        bells = self._watcher.on_marks(marks, step.now)
        if step.is_minute_closed:
            bells.add(self._close_minute(step.now))
        self._settle(bells, step.now)
        self.progress.points += 1
        return step

    def finish(self, now: datetime) -> None:
        """Let everything come to its end: fills read, decisions closed, money written."""
        for _ in range(3):
            self._is_quiet = False
            self._settle(self._monitor(now).add(sweeping.sweep(now)), now)
        equity.record(now)

    def _take(self, step: Step) -> None:
        """Set the clock of every process and publish the marks, in this order: no mark is from the future."""
        self._clock.set(step.now)
        if step.is_minute_closed or not self._funding:
            self._read_funding()
        self._board.publish(self._mark(symbol, price, step.now) for symbol, price in step.marks.items())
        heartbeat.beat(valkey(), heartbeat.MARKS)

    def _monitor(self, now: datetime) -> Bells:
        """Monitor with living marks: in lockstep they come when the desk is ready, not by the wall clock."""
        heartbeat.beat(valkey(), heartbeat.MARKS)
        return monitoring.monitor(now)

    def _read_funding(self) -> None:
        try:
            marks = IoLoop.current().run(market_data(Market.FUTURES).fetch_mark_prices(), READ_SECONDS)
        except GatewayError:
            return  # the last rates stand: a funding time is hours away
        self._funding = {mark.symbol: mark for mark in marks}

    def _mark(self, name: str, price: Decimal, now: datetime) -> MarkPrice:
        symbol = self._symbols.get(name, name)
        known = self._funding.get(symbol)
        return MarkPrice(
            symbol=symbol,
            mark_price=price,
            at=now,
            funding_rate=known.funding_rate if known else None,
            next_funding_at=known.next_funding_at if known else None,
        )

    def _close_minute(self, now: datetime) -> Bells:
        self.progress.minutes += 1
        self._operate(now)
        bells = self._monitor(now)
        bells.add(sweeping.sweep(now))
        if self._selected_at is None or now - self._selected_at >= SELECT_EVERY:
            self._selected_at = now
            demo.poll(now)
            bells.decisions.extend(chosen.pk for chosen in selection.select(now))
        equity.record(now)
        return bells

    def _operate(self, now: datetime) -> None:
        """What the desk leaves to a person: each midnight the operator resumes what halted itself."""
        if self._day == now.date():
            return
        self._day = now.date()
        for halt in Halt.objects.filter(is_automatic=True, resumed_at__isnull=True):
            scope = f"{halt.scope}:{halt.target}" if halt.target else halt.scope
            emergency.resume(scope, "A new day of the replay.", "replay operator", now)

    def _settle(self, bells: Bells, now: datetime) -> None:
        """Ring, and wait until no row is due. On a quiet desk nothing is waited for."""
        if not bells and self._is_quiet and not sweeping.is_anything_due(now):
            return
        ring(bells)
        until, again, pause = (
            time.monotonic() + QUIET_SECONDS,
            time.monotonic() + RING_AGAIN_SECONDS,
            POLL_SECONDS,
        )
        while sweeping.is_anything_due(now):
            if time.monotonic() > until:
                raise NeverQuiet(_stuck(now))
            if time.monotonic() > again:
                ring(sweeping.sweep(now))
                again = time.monotonic() + RING_AGAIN_SECONDS
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
        self._is_quiet = True


def _stuck(now: datetime) -> str:
    orders = [f"{order} {order.code}" for order in Order.objects.exclude(due_at=None)[:10]]
    positions = [str(position) for position in Position.objects.filter(check_at__lte=now)[:10]]
    return f"at {now:%Y-%m-%d %H:%M:%S} still due: orders {orders}, positions {positions}"


def replay_clock() -> ReplayClock:
    """The clock this process was told to share. Raises TypeError where the desk runs on the wall clock."""
    clock = settings.CLOCK
    if not isinstance(clock, ReplayClock):
        raise TypeError("a replay needs CLOCK=replay")
    return clock
