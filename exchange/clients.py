"""ccxt clients: one template a market, one light clone an account, one HTTP session a loop.

A ccxt constructor costs 1.6 ms and 250 KB, a clone 3 microseconds and 1 KB. A clone shares the template's
markets and connections and owns everything a request is signed or counted with.
"""

import asyncio
import copy
import logging
import re
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from types import BuiltinFunctionType, FunctionType, MappingProxyType
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import certifi
from ccxt.base.errors import BaseError

from exchange.budget import Priority, RateBudget, current_priority, priority, spend_taken
from exchange.clock import VenueClock
from exchange.codes import CodeBook
from exchange.credentials import Credentials
from exchange.errors import Throttled
from exchange.order_rate import OrderRate
from exchange.outcomes import BINANCE_CODES, Answer, classify, classify_read, numeric_code
from exchange.port import Market
from exchange.quirks import Hosts, PagedWeight, Venue, Weight

REQUEST_TIMEOUT_MS = 10_000
REFUSED = 400
RECV_WINDOW_MS = 5_000
FAILED_LOAD_SECONDS = 1.0
NUMBERS_KEPT = 2048
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# How long an address stays silent when the venue does not say: 418 is a ban of two minutes and more.
UNTOLD_WAIT_SECONDS: Mapping[int, float] = MappingProxyType({429: 10.0, 418: 120.0})
UNWEIGHED = Weight(1, 1)
UNESCAPED = re.compile(r"[A-Za-z0-9_.~-]*")
"""Characters that stand for themselves in a query (RFC 3986, section 2.3)."""


@dataclass(slots=True)
class Flight:
    """Whether the bytes of a request may have left, so that a local error is known to be one."""

    may_have_left: bool = False


departed_at: ContextVar[int | None] = ContextVar("departed_at", default=None)

current_flight: ContextVar[Flight | None] = ContextVar("current_flight", default=None)


@dataclass(frozen=True, slots=True)
class Pool:
    """One of the venue's weight counts: futures and spot hosts count an address apart."""

    gate: RateBudget | None
    weights: Mapping[str, Weight | PagedWeight]


FUTURES_APIS = ("fapi", "dapi", "eapi", "papi")


def pool_of(api: object) -> Market:
    """Whose weight a ccxt api name, or a URL, counts against; a futures client asks the spot host too."""
    if isinstance(api, list):  # ccxt's form of an api with an access level
        return pool_of(api[0])
    name = str(api).rpartition("://")[2].partition("/")[2] or str(api)
    return Market.FUTURES if name.startswith(FUTURES_APIS) else Market.SPOT


class GatedClient:
    """Mixed into a ccxt class: budget before the request, the whole answer kept beside an error."""

    pools: Mapping[Market, "Pool"]
    order_rate: OrderRate
    used_weight_header: str
    venue_clock: VenueClock
    placements: frozenset[str]
    code_book: CodeBook = BINANCE_CODES

    def __del__(self) -> None:
        """Nothing to release: session and connections belong to the loop, not to a clone."""

    def nonce(self) -> int:
        """The exchange's time as far as we know it; a skewed clock would have every request refused."""
        return int(self.milliseconds()) + self.venue_clock.offset_ms  # type: ignore[attr-defined]  # ccxt's own

    @staticmethod
    def urlencode(params: Mapping[str, Any], *rest: Any, **named: Any) -> str:
        """As ccxt writes parameters; where nothing is to be escaped, without asking at every character."""
        pairs = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in params.items()
        }
        if rest or named or not UNESCAPED.fullmatch("".join((*pairs, *pairs.values()))):
            return str(ccxt.Exchange.urlencode(params, *rest, **named))
        return "&".join([f"{name}={value}" for name, value in pairs.items()])

    async def fetch2(
        self,
        path: str,
        api: Any = "public",
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """Ask the budget, then the exchange; a throttled answer stops the whole address, or the account.

        One refused for its time is asked again once, by the clock measured anew: it was not carried out. Not
        an order: the time it carries is in its row, and the row decides what is sent.
        """
        params, asked_at = params or {}, time.monotonic()
        try:
            return await self._ask(path, api, method, params, config or {})
        except BaseError as exc:
            if path.rpartition("/")[2] == "time" or classify(exc).code not in self.code_book.out_of_step:
                raise
            await self.venue_clock.resynchronise(asked_at)
            if f"{method} {path}" in self.placements:
                raise
        return await self._ask(path, api, method, params, config or {})

    async def _ask(
        self, path: str, api: Any, method: str, params: Mapping[str, Any], config: Mapping[str, Any]
    ) -> Any:
        pool = self.pools[pool_of(api)]
        endpoint = f"{method} {path}"
        is_order = endpoint in self.placements
        wanted = current_priority.get() or Priority.REPORT
        if is_order:
            self.order_rate.take(wanted)
        if pool.gate is not None:
            if not spend_taken():
                weight = pool.weights.get(endpoint, UNWEIGHED).of(params)
                await pool.gate.acquire(weight, wanted, is_order=is_order)
            departed_at.set(pool.gate.departure_ms())
        try:
            return await super().fetch2(path, api, method, params, config)  # type: ignore[misc]  # ccxt's own
        except BaseError as exc:
            await self._tell_throttled(pool.gate, exc)
            raise

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """From here on the exchange may have the request."""
        flight = current_flight.get()
        if flight is not None:
            flight.may_have_left = True
        return await super().fetch(url, method, headers, body)  # type: ignore[misc]  # ccxt's own

    def on_rest_response(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        response_headers: Mapping[str, str],
        response_body: str,
        *rest: Any,
    ) -> Any:
        """Feed the used weight back into the budget."""
        used = response_headers.get(self.used_weight_header)
        gate = self.pools[pool_of(url)].gate
        if gate is not None and gate.answers is not None:
            gate.answers.note(code, numeric_code(response_body) or "" if code >= REFUSED else "")
        if gate is not None and used is not None and used.isdigit():
            gate.note_headers(int(used), departed_at.get())
        if method == "POST":
            self.order_rate.note_headers(response_headers)
        return super().on_rest_response(  # type: ignore[misc]  # ccxt's own
            code, reason, url, method, response_headers, response_body, *rest
        )

    def handle_errors(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any
    ) -> None:
        """Let ccxt raise, and keep the answer it raised on: its text may lack the code."""
        try:
            super().handle_errors(code, reason, url, method, headers, body, *rest)  # type: ignore[misc]  # ccxt's own
        except BaseError as exc:
            exc.answer = Answer(code, body or "", retry_after_seconds(headers), self.code_book)
            raise

    def handle_http_status_code(self, code: int, reason: str, url: str, method: str, body: str) -> None:
        """As `handle_errors`, for answers without a readable body."""
        try:
            super().handle_http_status_code(code, reason, url, method, body)  # type: ignore[misc]  # ccxt's own
        except BaseError as exc:
            exc.answer = Answer(code, body or "", codes=self.code_book)
            raise

    async def _tell_throttled(self, gate: RateBudget | None, exc: BaseError) -> None:
        answer = getattr(exc, "answer", None)
        if not isinstance(answer, Answer):
            return
        error = classify(exc, int(time.time() * 1000))
        told = error.retry_after_seconds if isinstance(error, Throttled) else 0.0
        if error.code in self.code_book.too_many_orders:
            self.order_rate.note_refused(told)
        elif gate is not None and answer.status in UNTOLD_WAIT_SECONDS:
            await gate.note_retry_after(told or UNTOLD_WAIT_SECONDS[answer.status])


def retry_after_seconds(headers: Mapping[str, str] | None) -> float:
    """The ``Retry-After`` header in seconds, 0 when it is missing or no number."""
    told = {name.lower(): value for name, value in (headers or {}).items()}.get("retry-after", "")
    return float(told) if told.replace(".", "", 1).isdigit() else 0.0


@cache
def client_class(ccxt_id: str, base: Any = GatedClient) -> Any:
    """The gated variant of a ccxt class; made once, because ccxt caches names on the class."""
    return type(f"Gated_{ccxt_id}", (base, getattr(ccxt, ccxt_id)), {})


def clone(template: Any, credentials: Credentials) -> Any:
    """A client of its own for one account: keys, options, counters; markets and session are shared."""
    client = copy.copy(template)
    client.order_rate = template.order_rate.of_another_account()
    client.apiKey = credentials.api_key
    client.secret = credentials.secret
    client.password = credentials.passphrase or None
    client.options = dict(template.options)
    client.tokenBucket = dict(template.tokenBucket)
    client.throttler = None
    client.headers = dict(template.headers)
    client.last_request_headers = client.last_request_body = client.last_request_url = None
    return client


async def refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A redirect would carry key and signature to wherever an answer points; it is a lost answer instead."""
    response = await handler(request)
    if response.status in REDIRECTS:
        response.close()
        raise aiohttp.ClientPayloadError(f"redirected ({response.status})")
    return response


class SharedSession:
    """One HTTP session for everything on one loop, without a limit of connections."""

    def __init__(self) -> None:
        """The session is opened on first use, on the loop that uses it."""
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> aiohttp.ClientSession:
        """The session; a second loop is refused, because connections belong to the loop that made them."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed:
            context = ssl.create_default_context(cafile=certifi.where())
            connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=75, ssl=context)
            self._session = aiohttp.ClientSession(connector=connector, middlewares=(refuse_redirects,))
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("an exchange session belongs to the loop that opened it")
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class VenueConnection:
    """One market of a venue at one address: the template, its markets and its clock.

    `quantity_as_sent` and `price_as_sent` tell how ccxt writes a number of a listed symbol.
    """

    quantity_as_sent: Callable[[str, str], str]
    price_as_sent: Callable[[str, str], str]

    def __init__(
        self,
        venue: Venue,
        market: Market,
        hosts: Hosts,
        session: SharedSession,
        budgets: Mapping[Market, RateBudget] | None = None,
        client_base: Any = GatedClient,
    ) -> None:
        """Nothing is asked before the first use."""
        self.venue = venue
        self.market = market
        self.hosts = hosts
        self.quirks = venue.markets[market]
        self.clock = VenueClock(self._server_time_ms)
        self.budgets = budgets or {}
        if market in self.budgets:
            self.budgets[market].follow(self.clock.now_ms)
        self.session = session
        self._client_base = client_base
        self._template: Any = None
        self._symbols: dict[str, str] = {}
        self._failed: tuple[float, Exception] | None = None
        self._loading = asyncio.Lock()

    def reset(self) -> None:
        """Forget the template: the session it spoke through is closed."""
        self._template = self._failed = None
        self._loading = asyncio.Lock()

    async def template(self) -> Any:
        """The template with its markets loaded, once."""
        if self._template is None:
            async with self._loading:
                if self._template is None:
                    self._template = await self._first_load()
                    await self.clock.resynchronise(time.monotonic())
        self.clock.keep_measured()
        return self._template

    async def refresh(self) -> Any:
        """Read the markets again; clones take them over on their next call."""
        async with self._loading:
            self._template = await self._load(self._template or self._build())
        return self._template

    async def fetch_clock_offset_ms(self) -> int:
        """Exchange time minus ours, measured now; everything of this market signs with it from now on."""
        try:
            await self.template()  # loading the market table is no part of the trip
            return await self.clock.measure()
        except Exception as exc:
            raise classify_read(exc) from exc

    async def _server_time_ms(self) -> int:
        """The exchange's time. As urgent as an exit: with a wrong clock nothing that is signed is taken."""
        current_flight.set(None)
        with priority(Priority.EXIT):
            answer = await getattr(self._template, self.quirks.time_endpoint)({})
        return self.quirks.read_time(answer)

    def symbol_of(self, venue_symbol: str) -> str:
        """The unified symbol of the venue's own name; an unlisted one stays as the venue calls it."""
        return self._symbols.get(venue_symbol, venue_symbol)

    def is_listed(self, symbol: str) -> bool:
        """Whether a unified symbol is in the market table."""
        return self._template is not None and symbol in self._template.markets

    def venue_symbols(self, symbols: Collection[str]) -> list[str]:
        """The venue's own names of unified symbols, unlisted ones left out."""
        listed = {} if self._template is None else self._template.markets
        return [str(listed[symbol]["id"]) for symbol in sorted(symbols) if symbol in listed]

    def _build(self) -> Any:
        template = client_class(self.quirks.ccxt_id, self._client_base)(
            {
                # ccxt's own limiter delays every order after the first by 200 ms; ours stands instead.
                "enableRateLimit": False,
                "timeout": REQUEST_TIMEOUT_MS,
                "session": self.session.get(),
                "urls": {"api": self.venue.rest_urls(self.hosts)},
                "headers": dict(self.hosts.headers),
                "options": {**self.quirks.options, "recvWindow": RECV_WINDOW_MS},
            }
        )
        _share_functions(template)
        _merge_exception_tables(template)
        template.logger = _quiet_logger()
        own = self.venue.markets
        template.pools = {
            market: Pool(self.budgets.get(asked), own[asked].weights)
            # A venue of one market counts everything there: its addresses tell no market.
            for market, asked in ((market, market if market in own else self.market) for market in Market)
        }
        template.used_weight_header = self.venue.used_weight_header
        template.code_book = self.venue.codes
        template.venue_clock = self.clock
        template.placements = self.quirks.placements
        template.order_rate = OrderRate(self.quirks.order_windows, self.clock.now_ms)
        return template

    async def _first_load(self) -> Any:
        """The first load; after a failed one everyone else fails for a second instead of asking too."""
        if self._failed is not None and time.monotonic() - self._failed[0] < FAILED_LOAD_SECONDS:
            raise self._failed[1]
        try:
            return await self._load(self._build())
        except Exception as exc:
            self._failed = (time.monotonic(), exc)
            raise

    async def _load(self, template: Any) -> Any:
        await template.load_markets(reload=True)
        self._symbols = {market["id"]: symbol for symbol, market in template.markets.items()}
        # A decision asks the same of every account.
        self.quantity_as_sent = lru_cache(NUMBERS_KEPT)(template.amount_to_precision)
        self.price_as_sent = lru_cache(NUMBERS_KEPT)(template.price_to_precision)
        return template


def _quiet_logger() -> logging.Logger:
    """A logger that stays above DEBUG, where ccxt writes whole signed requests, whatever the root does."""
    logger = logging.getLogger("exchange.ccxt")
    logger.setLevel(logging.WARNING)
    return logger


def _share_functions(template: Any) -> None:
    """Keep on the class the functions that ccxt gives every instance under a second name.

    They are four of ten entries of what each account's clone has of its own, and half of its memory.
    """
    for name, value in list(vars(template).items()):
        if isinstance(value, FunctionType | BuiltinFunctionType):
            setattr(type(template), name, staticmethod(value))
            delattr(template, name)


def _merge_exception_tables(template: Any) -> None:
    """The same classes at every address: ccxt picks the futures table by the host's name."""
    tables = template.exceptions
    own = tables.get("spot" if template.id == "binance" else "linear", {})
    template.exceptions = {
        **tables,
        "exact": {**tables.get("exact", {}), **own.get("exact", {})},
        "broad": {**tables.get("broad", {}), **own.get("broad", {})},
    }
