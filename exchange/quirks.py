"""What differs between venues, as data: a new venue is a new `Venue`, not a new branch.

Names of calls are ccxt's implicit methods; weights are the venue's own, not ccxt's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from types import MappingProxyType

from exchange.port import Market


class PositionModeScope(StrEnum):
    """What one position mode applies to."""

    ACCOUNT = "account"
    SYMBOL = "symbol"


class MarginModeScope(StrEnum):
    """What isolated or cross margin is set for."""

    SYMBOL = "symbol"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class OrderStore:
    """Where orders of one kind rest, and how to find one there by our id."""

    fetch: str
    list_open: str
    cancel: str
    client_id_param: str
    exchange_id_field: str


@dataclass(frozen=True, slots=True)
class Weight:
    """Request weight of one endpoint, dearer when it is asked without a symbol."""

    with_symbol: int
    without_symbol: int

    def of(self, params: Mapping[str, object]) -> int:
        """The weight of one call."""
        return self.with_symbol if "symbol" in params else self.without_symbol


@dataclass(frozen=True, slots=True)
class PagedWeight:
    """Request weight of one endpoint by the length of the page asked for: up to so many rows, so much."""

    steps: tuple[tuple[float, int], ...]
    default_limit: int = 500

    def of(self, params: Mapping[str, object]) -> int:
        """The weight of one call."""
        limit = int(str(params.get("limit", self.default_limit)))
        return next(weight for most, weight in self.steps if limit <= most)


@dataclass(frozen=True, slots=True)
class OrderWindow:
    """How many orders one account may place in so many seconds, and the header that tells its count."""

    seconds: int
    limit: int
    header: str


@dataclass(frozen=True, slots=True)
class MarketQuirks:
    """One market of a venue: which ccxt class speaks it and where its orders rest."""

    ccxt_id: str
    options: Mapping[str, object]
    ordinary: OrderStore
    conditional: OrderStore
    trigger_params: Mapping[str, object]
    weights: Mapping[str, Weight | PagedWeight]
    sends_reduce_only: bool
    time_endpoint: str
    conditional_types: frozenset[str] = frozenset()
    order_windows: tuple[OrderWindow, ...] = ()

    @property
    def has_conditional_store(self) -> bool:
        """Whether conditional orders rest apart from ordinary ones."""
        return self.ordinary != self.conditional


@dataclass(frozen=True, slots=True)
class Hosts:
    """Base addresses of REST and streams; spot tells an account over its WebSocket API."""

    futures: str
    spot: str
    futures_streams: str
    spot_streams: str
    spot_api_streams: str

    @classmethod
    def single(cls, base_url: str) -> "Hosts":
        """Everything on one port, as the paper exchange serves it."""
        base = base_url.rstrip("/")
        streams = "ws" + base.removeprefix("http")
        return cls(base, base, streams, streams, streams)

    def mark_streams(self, market: Market) -> str:
        """Where a market's prices are streamed."""
        return self.futures_streams if market is Market.FUTURES else self.spot_streams

    def user_streams(self, market: Market) -> str:
        """Where an account's events are streamed."""
        return self.futures_streams if market is Market.FUTURES else self.spot_api_streams

    def ccxt_urls(self) -> dict[str, str]:
        """Every REST address ccxt knows: one left out would send a key to the real exchange."""
        futures, spot = self.futures, self.spot
        return {
            **dict.fromkeys(("fapiPublic", "fapiPrivate"), f"{futures}/fapi/v1"),
            **dict.fromkeys(("fapiPublicV2", "fapiPrivateV2"), f"{futures}/fapi/v2"),
            **dict.fromkeys(("fapiPublicV3", "fapiPrivateV3"), f"{futures}/fapi/v3"),
            **dict.fromkeys(("fapiData", "dapiData"), f"{futures}/futures/data"),
            **dict.fromkeys(("dapiPublic", "dapiPrivate"), f"{futures}/dapi/v1"),
            "dapiPrivateV2": f"{futures}/dapi/v2",
            **dict.fromkeys(("eapiPublic", "eapiPrivate"), f"{futures}/eapi/v1"),
            **dict.fromkeys(("public", "private"), f"{spot}/api/v3"),
            "v1": f"{spot}/api/v1",
            "sapi": f"{spot}/sapi/v1",
            **{f"sapiV{version}": f"{spot}/sapi/v{version}" for version in (2, 3, 4)},
            "papi": f"{futures}/papi/v1",
            "papiV2": f"{futures}/papi/v2",
        }


@dataclass(frozen=True, slots=True)
class Venue:
    """One exchange, as far as it differs from the next one."""

    name: str
    markets: Mapping[Market, MarketQuirks]
    hosts: Mapping[str, Hosts]
    position_mode_scope: PositionModeScope
    margin_mode_scope: MarginModeScope
    # Whether a request older than its receive window is refused. Without it an absent order stays UNKNOWN.
    has_receive_window: bool
    client_id_limit: int
    quantity_in_contracts: bool
    weight_limit_per_minute: Mapping[Market, int]
    used_weight_header: str
    uses_passphrase: bool = False


def _weights(
    table: Mapping[str, tuple[int, int]], paged: Mapping[str, PagedWeight] = MappingProxyType({})
) -> Mapping[str, Weight | PagedWeight]:
    return MappingProxyType({**{path: Weight(*weight) for path, weight in table.items()}, **paged})


# As published; what is not named weighs 1.
_FUTURES_WEIGHTS = _weights(
    {
        "POST order": (0, 0),
        "POST algoOrder": (0, 0),
        "GET exchangeInfo": (1, 1),
        "GET openOrders": (1, 40),
        "GET openAlgoOrders": (1, 40),
        "GET ticker/24hr": (1, 40),
        "GET ticker/bookTicker": (2, 5),
        "GET premiumIndex": (1, 10),
        "GET account": (5, 5),
        "GET positionRisk": (5, 5),
        "GET userTrades": (5, 5),
        "GET symbolConfig": (5, 5),
        "GET income": (30, 30),
        "GET accountConfig": (5, 5),
    },
    {
        "GET klines": PagedWeight(((99, 1), (499, 2), (1000, 5), (inf, 10))),
        "GET depth": PagedWeight(((50, 2), (100, 5), (500, 10), (inf, 20))),
    },
)

_SPOT_WEIGHTS = _weights(
    {
        "POST order": (1, 1),
        "GET order": (4, 4),
        "GET exchangeInfo": (20, 20),
        "GET openOrders": (6, 80),
        "GET ticker/24hr": (2, 80),
        "GET klines": (2, 2),
        "GET depth": (25, 25),
        "GET account": (20, 20),
        "GET myTrades": (20, 20),
    }
)

_SPOT_STORE = OrderStore(
    fetch="privateGetOrder",
    list_open="privateGetOpenOrders",
    cancel="privateDeleteOrder",
    client_id_param="origClientOrderId",
    exchange_id_field="orderId",
)

BINANCE = Venue(
    name="binance",
    markets=MappingProxyType(
        {
            Market.FUTURES: MarketQuirks(
                ccxt_id="binanceusdm",
                options=MappingProxyType(
                    {"fetchCurrencies": False, "fetchMargins": False, "fetchMarkets": {"types": ["linear"]}}
                ),
                ordinary=OrderStore(
                    fetch="fapiPrivateGetOrder",
                    list_open="fapiPrivateGetOpenOrders",
                    cancel="fapiPrivateDeleteOrder",
                    client_id_param="origClientOrderId",
                    exchange_id_field="orderId",
                ),
                conditional=OrderStore(
                    fetch="fapiPrivateGetAlgoOrder",
                    list_open="fapiPrivateGetOpenAlgoOrders",
                    cancel="fapiPrivateDeleteAlgoOrder",
                    client_id_param="clientAlgoId",
                    exchange_id_field="algoId",
                ),
                # The mark cannot be wicked by one trade, and a protected stop may not fire at all.
                trigger_params=MappingProxyType({"workingType": "MARK_PRICE", "priceProtect": False}),
                weights=_FUTURES_WEIGHTS,
                sends_reduce_only=True,
                time_endpoint="fapiPublicGetTime",
                order_windows=(
                    OrderWindow(10, 300, "X-MBX-ORDER-COUNT-10S"),
                    OrderWindow(60, 1200, "X-MBX-ORDER-COUNT-1M"),
                ),
            ),
            Market.SPOT: MarketQuirks(
                ccxt_id="binance",
                options=MappingProxyType(
                    {
                        "defaultType": "spot",
                        "fetchCurrencies": False,
                        "fetchMargins": False,
                        "fetchMarkets": {"types": ["spot"]},
                    }
                ),
                ordinary=_SPOT_STORE,
                conditional=_SPOT_STORE,
                trigger_params=MappingProxyType({}),
                weights=_SPOT_WEIGHTS,
                sends_reduce_only=False,
                time_endpoint="publicGetTime",
                conditional_types=frozenset(
                    {"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"}
                ),
            ),
        }
    ),
    hosts=MappingProxyType(
        {
            "live": Hosts(
                futures="https://fapi.binance.com",
                spot="https://api.binance.com",
                futures_streams="wss://fstream.binance.com",
                spot_streams="wss://stream.binance.com:9443",
                spot_api_streams="wss://ws-api.binance.com:443",
            ),
            "testnet": Hosts(
                futures="https://demo-fapi.binance.com",
                spot="https://demo-api.binance.com",
                futures_streams="wss://fstream.binancefuture.com",
                spot_streams="wss://demo-stream.binance.com",
                spot_api_streams="wss://demo-ws-api.binance.com:443",
            ),
        }
    ),
    position_mode_scope=PositionModeScope.ACCOUNT,
    margin_mode_scope=MarginModeScope.SYMBOL,
    has_receive_window=True,
    client_id_limit=36,
    quantity_in_contracts=False,
    weight_limit_per_minute=MappingProxyType({Market.FUTURES: 2400, Market.SPOT: 6000}),
    used_weight_header="X-MBX-USED-WEIGHT-1M",
)

VENUES: Mapping[str, Venue] = MappingProxyType({BINANCE.name: BINANCE})
