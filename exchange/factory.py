"""Gateways of one desk: the mode and the addresses are chosen once, here."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, overload

from exchange.budget import Priority, RateBudget
from exchange.bybit_gateway import BybitGateway
from exchange.ccxt_gateway import wall_clock
from exchange.clients import UNWEIGHED, SharedSession, VenueConnection
from exchange.credentials import Credentials
from exchange.errors import OrderRejected, ReadFailed
from exchange.experimental_market_data import BybitMarketData, OkxMarketData
from exchange.futures_gateway import FuturesGateway
from exchange.market_data import CcxtMarketData
from exchange.okx_gateway import OkxGateway
from exchange.port import ExchangeGateway, Market
from exchange.quirks import BINANCE, BYBIT, OKX, VENUES, Hosts, Venue
from exchange.silent_stream import SilentStream
from exchange.spot_gateway import SpotGateway
from exchange.stamps import StampedClient
from exchange.streams import FuturesUserStream, MarkStream, SpotUserStream, UserStream, Watched, nobody

GATEWAYS: Mapping[Market, type[FuturesGateway] | type[SpotGateway]] = MappingProxyType(
    {Market.FUTURES: FuturesGateway, Market.SPOT: SpotGateway}
)

Experimental = BybitGateway | OkxGateway

EXPERIMENTAL_GATEWAYS: Mapping[str, type[Experimental]] = MappingProxyType(
    {BYBIT.name: BybitGateway, OKX.name: OkxGateway}
)
EXPERIMENTAL_DATA: Mapping[str, type[BybitMarketData] | type[OkxMarketData]] = MappingProxyType(
    {BYBIT.name: BybitMarketData, OKX.name: OkxMarketData}
)


def factory_for(
    mode: str,
    venue: str,
    base_url: str = "",
    budgets: Mapping[Market, RateBudget] | None = None,
    *,
    now: Callable[[], datetime] = wall_clock,
) -> "GatewayFactory | ExperimentalFactory":
    """The factory of a venue in a mode. Raises `ValueError` as the factories do."""
    if venue in EXPERIMENTAL_GATEWAYS:
        return ExperimentalFactory(mode, venue, base_url, budgets, now=now)
    return GatewayFactory(mode, venue, base_url, budgets, now=now)


class GatewayFactory:
    """Makes the gateways of one mode on one venue; belongs to the one loop its gateways are used on."""

    def __init__(
        self,
        mode: str,
        venue: str = "binance",
        base_url: str = "",
        budgets: Mapping[Market, RateBudget] | None = None,
        *,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        """`base_url` is the paper exchange's address: needed in mode paper, refused in any other.

        Raises `ValueError` for an unknown mode or venue, and for an address that contradicts the mode.
        """
        if venue != BINANCE.name:
            raise ValueError(f"unknown venue {venue!r}")
        self.venue = BINANCE
        self.mode = mode
        self.hosts = _hosts(mode, base_url, self.venue.hosts)
        self._now = now
        self._budgets = budgets or {}
        self._session = SharedSession()
        self._connections = {
            market: VenueConnection(self.venue, market, self.hosts, self._session, budgets)
            for market in self.venue.markets
        }
        self._gateways: dict[tuple[Credentials, Market], FuturesGateway | SpotGateway] = {}

    @overload
    def for_account(self, credentials: Credentials, market: Literal[Market.FUTURES]) -> FuturesGateway: ...

    @overload
    def for_account(self, credentials: Credentials, market: Literal[Market.SPOT]) -> SpotGateway: ...

    @overload
    def for_account(self, credentials: Credentials, market: Market) -> FuturesGateway | SpotGateway: ...

    def for_account(self, credentials: Credentials, market: Market) -> FuturesGateway | SpotGateway:
        """The account's gateway on a market; the same one for the same keys."""
        key = (credentials, market)
        if key not in self._gateways:
            self._gateways[key] = GATEWAYS[market](self._connections[market], credentials, now=self._now)
        return self._gateways[key]

    def forget(self, credentials: Credentials) -> None:
        """Drop the gateways of keys that were replaced or wiped."""
        for market in self._connections:
            self._gateways.pop((credentials, market), None)

    def market_data(self, market: Market, credentials: Credentials | None = None) -> CcxtMarketData:
        """Public data of a market; any account's credentials add the margin brackets to its instruments."""
        account = None
        if credentials is not None and market is Market.FUTURES:
            account = FuturesGateway(self._connections[market], credentials, now=self._now)
        return CcxtMarketData(self._connections[market], account)

    def mark_stream(self, market: Market, watched: Watched = nobody) -> MarkStream:
        """The stream of all marks of a market, polling while it is silent."""
        url, polled = self.hosts.mark_streams(market), self.market_data(market)
        return MarkStream(self._session.get, url, polled, watched=watched)

    def user_stream(self, credentials: Credentials, market: Market) -> UserStream:
        """The account's stream on a market; one task and one socket each."""
        gateway = self.for_account(credentials, market)
        url, spread = self.hosts.user_streams(market), int(credentials.fingerprint, 16) % 1000 / 1000
        if isinstance(gateway, FuturesGateway):
            return FuturesUserStream(gateway, self._session.get, url, spread=spread)
        return SpotUserStream(gateway, self._session.get, url, spread=spread)

    async def fetch_clock_offset_ms(self, market: Market) -> int:
        """Exchange time minus this machine's, measured now; raises `ReadFailed`."""
        return await self._connections[market].fetch_clock_offset_ms()

    def clock_offset_ms(self, market: Market) -> int | None:
        """The same as last measured by this process; None before the first time."""
        clock = self._connections[market].clock
        return clock.offset_ms if clock.is_measured else None

    async def take_orders(
        self, market: Market, count: int, wanted: Priority, *, is_conditional: bool = False
    ) -> int:
        """How many of `count` placements may go now, in one question to the rate budget for all of them.

        Place that many, each inside `exchange.budget.already_taken`. Raises as `RateBudget.take`.
        """
        budget = self._budgets.get(market)
        if budget is None:
            return count
        endpoint = "POST algoOrder" if is_conditional else "POST order"
        weight = self.venue.markets[market].weights.get(endpoint, UNWEIGHED).of({"symbol": ""})
        return await budget.take(count, weight, wanted)

    async def warm_up(self) -> None:
        """Load both market tables and open connections, before readiness is reported."""
        for connection in self._connections.values():
            await connection.template()

    async def close(self) -> None:
        """Close the shared session; the next use, on whichever loop, opens a new one."""
        await self._session.close()
        for connection in self._connections.values():
            connection.reset()


class ExperimentalFactory:
    """Makes the gateways of one mode on a venue that is not yet tried: perpetuals only, and no streams."""

    def __init__(
        self,
        mode: str,
        venue: str,
        base_url: str = "",
        budgets: Mapping[Market, RateBudget] | None = None,
        *,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        """As `GatewayFactory`; in mode paper `base_url` is a server that speaks this venue's own protocol."""
        if venue not in EXPERIMENTAL_GATEWAYS:
            raise ValueError(f"unknown venue {venue!r}")
        self.venue: Venue = VENUES[venue]
        self.mode = mode
        self.hosts = _hosts(mode, base_url, self.venue.hosts)
        self._now = now
        self._budgets = budgets or {}
        self._session = SharedSession()
        self._connection = VenueConnection(
            self.venue, Market.FUTURES, self.hosts, self._session, budgets, StampedClient
        )
        self._gateways: dict[Credentials, Experimental] = {}

    def for_account(self, credentials: Credentials, market: Market) -> ExchangeGateway:
        """The account's gateway, one for the same keys; raises `OrderRejected` for a market it lacks."""
        if market not in self.venue.markets:
            raise OrderRejected("LOCAL_MARKET", f"{self.venue.name} is not traded on {market} here.")
        if credentials not in self._gateways:
            made = EXPERIMENTAL_GATEWAYS[self.venue.name]
            self._gateways[credentials] = made(self._connection, credentials, now=self._now)
        return self._gateways[credentials]

    def forget(self, credentials: Credentials) -> None:
        """Drop the gateway of keys that were replaced or wiped."""
        self._gateways.pop(credentials, None)

    def market_data(
        self,
        market: Market,
        credentials: Credentials | None = None,  # noqa: ARG002 - as `GatewayFactory` is asked
    ) -> BybitMarketData | OkxMarketData:
        """Public data of the perpetuals."""
        self._refuse_other(market)
        return EXPERIMENTAL_DATA[self.venue.name](self._connection)

    def mark_stream(self, market: Market, watched: Watched = nobody) -> MarkStream:  # noqa: ARG002 - as asked
        """None: raises `ReadFailed`."""
        raise ReadFailed("NO_STREAM", f"{self.venue.name} has no {market} stream here.")

    def user_stream(self, credentials: Credentials, market: Market) -> UserStream:  # noqa: ARG002 - as asked
        """One that tells nothing and is never up: the account is read by polling alone."""
        self._refuse_other(market)
        return SilentStream(self._session.get)

    async def fetch_clock_offset_ms(self, market: Market) -> int:
        """Exchange time minus this machine's, measured now; raises `ReadFailed`."""
        self._refuse_other(market)
        return await self._connection.fetch_clock_offset_ms()

    def clock_offset_ms(self, market: Market) -> int | None:
        """The same as last measured by this process; None before the first time."""
        self._refuse_other(market)
        clock = self._connection.clock
        return clock.offset_ms if clock.is_measured else None

    async def take_orders(
        self,
        market: Market,
        count: int,
        wanted: Priority,
        *,
        is_conditional: bool = False,  # noqa: ARG002 - one weight for both stores
    ) -> int:
        """As `GatewayFactory.take_orders`; every placement weighs one request."""
        budget = self._budgets.get(market)
        return count if budget is None else await budget.take(count, UNWEIGHED.of({}), wanted)

    def _refuse_other(self, market: Market) -> None:
        if market not in self.venue.markets:
            raise ReadFailed("LOCAL_MARKET", f"{self.venue.name} is not traded on {market} here.")

    async def warm_up(self) -> None:
        """Load the market table and open connections."""
        await self._connection.template()

    async def close(self) -> None:
        """Close the session; the next use, on whichever loop, opens a new one."""
        await self._session.close()
        self._connection.reset()


def _hosts(mode: str, base_url: str, known: Mapping[str, Hosts]) -> Hosts:
    if mode == "paper":
        if not base_url:
            raise ValueError("mode paper needs the address of the paper exchange")
        return Hosts.single(base_url)
    if base_url:
        raise ValueError(f"mode {mode} goes to the venue's own address, not to {base_url}")
    if mode not in known:
        raise ValueError(f"unknown mode {mode!r}")
    return known[mode]
