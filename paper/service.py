"""The exchange as it runs: engine, feed, store, streams and faults, moved by time and by requests."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatch
from zlib import crc32

import orjson

from paper.engine.events import Event, OrderChanged
from paper.engine.exchange import Exchange
from paper.engine.refusals import Refusal
from paper.engine.venue import Portfolio
from paper.estrangement import estrange
from paper.fault_rules import AT_ONCE, DISCONNECT, EXPIRE, MISMATCH, read_rules
from paper.faults import Faults
from paper.feeds.candles import Candle, opening
from paper.feeds.feed import DataMissing, Feed
from paper.limits import Limits
from paper.protocol.market_streams import MarketStreams
from paper.protocol.shapes import Fields
from paper.protocol.user_events import SPOT_EVENTS, liquidation, message, order_lite
from paper.store import Store
from paper.streams import Hub, ListenKeys
from paper.traffic import Traffic

LOG = logging.getLogger("paper")


@dataclass(slots=True)
class Options:
    """How the server was started."""

    admin_secret: str = ""
    lockstep: bool = False
    weight_limit: int = 2400
    fault_seed: int = 0
    ack_has_average: bool = False
    trade_lite: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """What the last move of prices cost: triggers, funding and liquidations, then keeping and telling it."""

    engine_ms: float = 0.0
    telling_ms: float = 0.0


class Service:
    """Everything a request handler may ask for."""

    def __init__(self, exchange: Exchange, feed: Feed, options: Options, store: Store | None = None) -> None:
        self.exchange = exchange
        self.feed = feed
        self.options = options
        self.store = store
        self.ack_has_average = options.ack_has_average
        self.faults = Faults(options.fault_seed)
        self.limits = Limits(options.weight_limit)
        self.hub = Hub(MarketStreams(self), trade_lite=options.trade_lite)
        self.outbox: list[Callable[[], None]] = []
        self.saving: asyncio.Future[None] | None = None
        self.countdowns: dict[tuple[str, str], float] = {}
        self.requests = 0
        self.traffic = Traffic()
        self.tick = Tick()
        self.previous_ms = feed.now_ms
        self.started = time.time()
        self.has_news = False
        self.listen_keys = ListenKeys()
        if store is not None:
            store.load(exchange.venue)
            self._check_priced()
            self._recall(store.meta())
        exchange.venue.publish = self._publish
        exchange.conditional.reject_trigger = self.faults.rejects_trigger
        exchange.conditional.tampering = self.faults.slips
        exchange.venue.greet = self._greet
        self.late_events: dict[str, list[Callable[[], None]]] = {}
        self.exchange.move(feed.now_ms, feed.points())

    def wall_ms(self) -> int:
        """The wall clock, which signatures follow."""
        return int(time.time() * 1000)

    def uid(self, key: str) -> int:
        """The number of an account, the same for the same key."""
        return 100_000_000 + crc32(key.encode()) % 900_000_000

    # prices

    def with_pin(self, symbol: str, found: list[Candle], interval_ms: int) -> list[Candle]:
        """Candles whose forming one shows a pinned price."""
        pinned = self.exchange.pinned.get(symbol)
        if not pinned or not found or found[-1].open_ms != opening(self.feed.now_ms, interval_ms):
            return found
        return [*found[:-1], _closing_at(found[-1], float(pinned[1]))]

    def day(self, symbol: str) -> Candle:
        """The rolling last 24 hours, which end at a pinned price."""
        day, pinned = self.feed.day(symbol), self.exchange.pinned.get(symbol)
        return _closing_at(day, float(pinned[1])) if pinned else day

    def move(self) -> None:
        """Take the feed's present prices: engine first, then streams, all after the state is kept."""
        self._run_countdowns()
        self._expire_listen_keys()
        self.previous_ms = self.exchange.venue.now_ms
        points, began = self.feed.points(), time.perf_counter()
        self.exchange.move(self.feed.now_ms, points)
        reacted = time.perf_counter()
        self.outbox.append(self.hub.publish_market)
        self.save()
        self.tick = Tick((reacted - began) * 1000, (time.perf_counter() - reacted) * 1000)

    def advance(self, points: int) -> bool:
        """Move the feed by that many price points; whether a candle of its timeframe was closed."""
        closed = False
        for _ in range(points):
            if self.feed.done:
                break
            closed = self.feed.advance() or closed
            self.move()
        if closed and self.store is not None:
            self.store.save([], [], self._meta())
        return closed

    def pin(self, symbol: str, mark: Decimal, last: Decimal) -> None:
        """Jump a symbol's prices and hold them, over restarts too."""
        self.exchange.pin(symbol, mark, last)
        self.has_news = True
        self.outbox.append(self.hub.publish_market)

    def release(self, symbol: str) -> None:
        """Let the feed move the symbol again."""
        self.exchange.release(symbol)
        self.has_news = True
        self.move()

    def set_status(self, symbol: str, status: str) -> None:
        """Close a futures symbol or open it, over restarts too."""
        self.exchange.futures.statuses[symbol] = status
        self.has_news = True

    def set_countdown(self, portfolio: Portfolio, symbol: str, countdown_ms: int) -> None:
        """Cancel the symbol's orders unless asked again before; 0 calls it off."""
        place = (portfolio.account.key, symbol)
        self.countdowns.pop(place, None)
        if countdown_ms:
            self.countdowns[place] = time.time() + countdown_ms / 1000
        self.has_news = True

    def _run_countdowns(self) -> None:
        if not self.countdowns:
            return
        now = time.time()
        for (key, symbol), until in list(self.countdowns.items()):
            if until <= now:
                del self.countdowns[key, symbol]
                self.has_news = True
                self.exchange.futures.cancel_all(self.exchange.venue.portfolios[key], symbol)

    def _expire_listen_keys(self) -> None:
        for account in self.listen_keys.overdue():
            self.expire_listen_key(account)

    def open_listen_key(self, account: str) -> str:
        """The account's listen key, made or extended."""
        self.has_news = True
        return self.listen_keys.open(account)

    def close_listen_key(self, account: str) -> None:
        """End the account's user stream by its owner's wish: its connections are closed."""
        self.has_news = True
        if self.listen_keys.close(account):
            self.outbox.append(lambda: self.hub.hang_up(account))

    def expire_listen_key(self, account: str) -> None:
        """End the account's user stream the way an hour of silence does."""
        key = self.listen_keys.close(account)
        if key:
            self.has_news = True
            shown = {"e": "listenKeyExpired", "E": self.wall_ms(), "listenKey": key}
            self.hub.publish_user(account, shown, spot=False)
            self.hub.forsake(account)

    # events and durability

    def _publish(self, portfolio: Portfolio, event: Event) -> None:
        """Build the stream message now, send it once the change is kept."""
        if isinstance(event, OrderChanged) and event.execution == "CALCULATED":
            told = liquidation(self.exchange.venue, event)
            self.outbox.append(lambda: self.hub.publish_liquidation(event.order.symbol, told))
        spot = isinstance(event, SPOT_EVENTS)
        key = portfolio.account.key
        if not self.hub.has_listener(key, spot=spot):
            return
        lite = order_lite(self.exchange.venue, event) if isinstance(event, OrderChanged) else None
        if lite and self.hub.wants_lite(key):
            self._queue(key, lite, spot=False)
        self._queue(key, message(self.exchange.venue, portfolio, event), spot=spot)

    def _queue(self, key: str, shown: Fields, *, spot: bool) -> None:
        """Send it once the change is kept, as often and as late as fault rules say."""

        def send() -> None:
            self.hub.publish_user(key, shown, spot=spot)

        if not self.faults.rules:
            self.outbox.append(send)
            return
        if self.faults.reorders(key, shown["e"]):
            self.late_events.setdefault(key, []).append(send)
            return
        self.outbox += [send] * self.faults.copies(key, shown["e"])
        self.outbox += self.late_events.pop(key, [])

    def add_faults(self, rows: object) -> list[str]:
        """Activate rules; the kinds of those that stay. Raises BadRule, and then none of them is active."""
        rules = read_rules(rows)
        for rule in rules:
            if rule.kind == EXPIRE:
                for account in [name for name in self.listen_keys.by_account if fnmatch(name, rule.account)]:
                    self.expire_listen_key(account)
            elif rule.kind == DISCONNECT:
                self.hub.disconnect(rule.account)
            else:
                self.faults.add(rule)
        if any(rule.kind == MISMATCH for rule in rules):
            for portfolio in list(self.exchange.venue.portfolios.values()):
                self._greet(portfolio)
        return [rule.kind for rule in rules if rule.kind not in AT_ONCE]

    def _greet(self, portfolio: Portfolio) -> None:
        """What rules say is not as the owner of an account left it."""
        for rule in self.faults.mismatches(portfolio.account.key):
            try:
                estrange(self.exchange, portfolio, rule)
            except Refusal as refusal:
                LOG.warning("mismatch of %s stopped short: %s", portfolio.account.key, refusal)

    def save(self) -> None:
        """Keep what changed, then let the streams tell."""
        venue = self.exchange.venue
        if venue.unsaved_rows or venue.unsaved or self.has_news:
            if self.store is not None:
                meta = self._meta() | (self._news() if self.has_news else {})
                self.store.save(venue.unsaved_rows, list(venue.unsaved.values()), meta)
            venue.unsaved_rows, venue.unsaved, self.has_news = [], {}, False
        outbox, self.outbox = self.outbox, []
        for send in outbox:
            send()

    def _meta(self) -> dict[str, str]:
        venue = self.exchange.venue
        return {
            "last_id": str(venue.last_id),
            "now_ms": str(venue.now_ms),
        }

    def _news(self) -> dict[str, str]:
        """What a restart must find beside accounts and orders; kept only when it has changed."""
        held = {symbol: [str(mark), str(last)] for symbol, (mark, last) in self.exchange.pinned.items()}
        countdowns = [[key, symbol, until] for (key, symbol), until in self.countdowns.items()]
        values = {
            "listen_keys": self.listen_keys.by_account,
            "pinned": held,
            "statuses": self.exchange.futures.statuses,
            "countdowns": countdowns,
        }
        return {name: orjson.dumps(value).decode() for name, value in values.items()}

    def _check_priced(self) -> None:
        """DataMissing when something open is of a symbol this feed has no prices of."""
        held: set[str] = set()
        for portfolio in self.exchange.venue.portfolios.values():
            held |= {position.symbol for position in portfolio.open_positions()}
            held |= {order.symbol for order in portfolio.open_orders.values()}
            held |= {order.symbol for order in portfolio.open_conditionals.values()}
            held |= {order.symbol for order in portfolio.open_spot_orders.values()}
        unpriced = sorted(held - self.feed.symbols)
        if unpriced:
            raise DataMissing(f"the state holds what this feed has no prices of: {', '.join(unpriced)}")

    def _recall(self, meta: dict[str, str]) -> None:
        """Take up what `_news` kept; symbols that are no longer served are left out."""
        known = self.exchange.venue.markets.futures
        self.listen_keys = ListenKeys(orjson.loads(meta.get("listen_keys", "{}")))
        for symbol, (mark, last) in orjson.loads(meta.get("pinned", "{}")).items():
            if symbol in known:
                self.exchange.pinned[symbol] = (Decimal(mark), Decimal(last))
        self.exchange.futures.statuses |= orjson.loads(meta.get("statuses", "{}"))
        for key, symbol, until in orjson.loads(meta.get("countdowns", "[]")):
            self.countdowns[key, symbol] = until

    async def settled(self) -> None:
        """Return once everything done so far is kept; requests of one turn of the loop share a commit."""
        venue = self.exchange.venue
        if not (venue.unsaved_rows or venue.unsaved or self.has_news or self.outbox):
            return
        if self.saving is None:
            loop = asyncio.get_running_loop()
            self.saving = loop.create_future()
            loop.call_soon(self._save_shared, self.saving)
        await asyncio.shield(self.saving)

    def _save_shared(self, waiting: asyncio.Future[None]) -> None:
        self.saving = None
        try:
            self.save()
        except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, not be told "accepted"
            waiting.set_exception(error)
        else:
            waiting.set_result(None)

    def close(self) -> None:
        """Keep the last of it and release the file."""
        self.save()
        if self.store is not None:
            self.store.save([], [], self._meta())
            self.store.close()


def _closing_at(candle: Candle, last: float) -> Candle:
    """The candle with another last price, within its range."""
    return candle._replace(close=last, high=max(candle.high, last), low=min(candle.low, last))
