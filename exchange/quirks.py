"""What differs between venues, as data: a new venue is a new `Venue`, not a new branch.

Names of calls are ccxt's implicit methods; weights are the venue's own, not ccxt's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from types import MappingProxyType
from typing import Any

from exchange.bybit_codes import BYBIT_CODES
from exchange.codes import CodeBook
from exchange.okx_codes import OKX_CODES
from exchange.outcomes import BINANCE_CODES
from exchange.port import Market


class PositionModeScope(StrEnum):
    """What one position mode applies to."""

    ACCOUNT = "account"
    SYMBOL = "symbol"


class MarginModeScope(StrEnum):
    """What isolated or cross margin is set for."""

    ACCOUNT = "account"
    SYMBOL = "symbol"
    ORDER = "order"


class Fence(StrEnum):
    """By what the venue refuses an order that arrives too late: a former owner's late send must not fill.

    Without a fence no number of looks proves an absence, and the order stays UNKNOWN for a person.
    """

    PARAMETERS = "timestamp and receive window in the signed parameters"
    HEADERS = "timestamp and receive window in the signed headers"
    DEADLINE = "a deadline of its own, and the age of the signature where there is none"
    NONE = ""


@dataclass(frozen=True, slots=True)
class OrderStore:
    """Where orders of one kind rest, and how to find one there by our id."""

    fetch: str
    list_open: str
    cancel: str
    client_id_param: str
    exchange_id_field: str
    params: Mapping[str, object] = field(default_factory=dict)


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


def _server_time(answer: Mapping[str, Any]) -> int:
    return int(answer["serverTime"])


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
    # What places an order: counted as one, and never sent again by itself.
    placements: frozenset[str] = frozenset({"POST order", "POST algoOrder"})
    read_time: Callable[[Mapping[str, Any]], int] = _server_time
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
    headers: Mapping[str, str] = field(default_factory=dict)

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
    fence: Fence
    client_id_limit: int
    quantity_in_contracts: bool
    weight_limit_per_minute: Mapping[Market, int]
    used_weight_header: str
    codes: CodeBook
    rest_urls: Callable[[Hosts], dict[str, str]]
    uses_passphrase: bool = False
    # Not yet tried against its testnet: only a desk that names the venue takes an account of it.
    is_experimental: bool = False


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
    fence=Fence.PARAMETERS,
    client_id_limit=36,
    quantity_in_contracts=False,
    weight_limit_per_minute=MappingProxyType({Market.FUTURES: 2400, Market.SPOT: 6000}),
    used_weight_header="X-MBX-USED-WEIGHT-1M",
    codes=BINANCE_CODES,
    rest_urls=Hosts.ccxt_urls,
)


def _bybit_urls(hosts: Hosts) -> dict[str, str]:
    """Every REST address ccxt knows of Bybit; all its markets share one host."""
    return dict.fromkeys(("spot", "futures", "v2", "public", "private"), hosts.futures)


def _okx_urls(hosts: Hosts) -> dict[str, str]:
    """The one REST address ccxt knows of OKX."""
    return {"rest": hosts.futures}


_LINEAR: Mapping[str, object] = MappingProxyType({"category": "linear"})

# One table holds both kinds, told apart by status; a filter narrows what is listed.
_BYBIT_ORDINARY = OrderStore(
    fetch="privateGetV5OrderRealtime",
    list_open="privateGetV5OrderRealtime",
    cancel="privatePostV5OrderCancel",
    client_id_param="orderLinkId",
    exchange_id_field="orderId",
    params=_LINEAR,
)
_BYBIT_CONDITIONAL = OrderStore(
    fetch="privateGetV5OrderRealtime",
    list_open="privateGetV5OrderRealtime",
    cancel="privatePostV5OrderCancel",
    client_id_param="orderLinkId",
    exchange_id_field="orderId",
    params=MappingProxyType({**_LINEAR, "orderFilter": "StopOrder"}),
)

# bybit-exchange.github.io/docs/v5: guide (authentication), order/create-order, position/position-mode,
# account/set-margin-mode, rate-limit (600 requests in 5 s of one address).
BYBIT = Venue(
    name="bybit",
    markets=MappingProxyType(
        {
            Market.FUTURES: MarketQuirks(
                ccxt_id="bybit",
                options=MappingProxyType(
                    {
                        # Left untold, ccxt asks for the account's kind within the first order's call.
                        "enableUnifiedMargin": False,
                        "enableUnifiedAccount": True,
                        "fetchMarkets": {"types": ["linear"]},
                    }
                ),
                ordinary=_BYBIT_ORDINARY,
                conditional=_BYBIT_CONDITIONAL,
                trigger_params=MappingProxyType({"triggerBy": "MarkPrice"}),
                weights=MappingProxyType({}),
                sends_reduce_only=True,
                time_endpoint="publicGetV5MarketTime",
                read_time=lambda answer: int(answer["result"]["timeNano"]) // 1_000_000,
                placements=frozenset({"POST v5/order/create"}),
                order_windows=(OrderWindow(1, 10, ""),),
            )
        }
    ),
    hosts=MappingProxyType(
        {
            "live": Hosts("https://api.bybit.com", "https://api.bybit.com", "", "", ""),
            "testnet": Hosts("https://api-testnet.bybit.com", "https://api-testnet.bybit.com", "", "", ""),
        }
    ),
    position_mode_scope=PositionModeScope.SYMBOL,
    margin_mode_scope=MarginModeScope.ACCOUNT,
    fence=Fence.HEADERS,
    client_id_limit=36,
    quantity_in_contracts=False,
    weight_limit_per_minute=MappingProxyType({Market.FUTURES: 7200}),
    used_weight_header="",
    codes=BYBIT_CODES,
    rest_urls=_bybit_urls,
    is_experimental=True,
)

# www.okx.com/docs-v5/en: overview-demo-trading-services, overview-transaction-timeouts,
# order-book-trading-trade-post-place-order, order-book-trading-algo-trading-post-place-algo-order.
OKX = Venue(
    name="okx",
    markets=MappingProxyType(
        {
            Market.FUTURES: MarketQuirks(
                ccxt_id="okx",
                options=MappingProxyType({"fetchMarkets": {"types": ["swap"]}}),
                ordinary=OrderStore(
                    fetch="privateGetTradeOrder",
                    list_open="privateGetTradeOrdersPending",
                    cancel="privatePostTradeCancelOrder",
                    client_id_param="clOrdId",
                    exchange_id_field="ordId",
                ),
                conditional=OrderStore(
                    fetch="privateGetTradeOrderAlgo",
                    list_open="privateGetTradeOrdersAlgoPending",
                    cancel="privatePostTradeCancelAlgos",
                    client_id_param="algoClOrdId",
                    exchange_id_field="algoId",
                ),
                trigger_params=MappingProxyType({"slTriggerPxType": "mark"}),
                weights=MappingProxyType({}),
                sends_reduce_only=True,
                time_endpoint="publicGetPublicTime",
                read_time=lambda answer: int(answer["data"][0]["ts"]),
                placements=frozenset({"POST trade/batch-orders", "POST trade/order-algo"}),
                order_windows=(OrderWindow(2, 60, ""),),
            )
        }
    ),
    hosts=MappingProxyType(
        {
            "live": Hosts("https://www.okx.com", "https://www.okx.com", "", "", ""),
            "testnet": Hosts(
                "https://www.okx.com",
                "https://www.okx.com",
                "",
                "",
                "",
                headers=MappingProxyType({"x-simulated-trading": "1"}),
            ),
        }
    ),
    position_mode_scope=PositionModeScope.ACCOUNT,
    margin_mode_scope=MarginModeScope.ORDER,
    fence=Fence.DEADLINE,
    client_id_limit=32,
    quantity_in_contracts=True,
    # Counted per user and endpoint there, not per address: this only keeps one address civil.
    weight_limit_per_minute=MappingProxyType({Market.FUTURES: 2400}),
    used_weight_header="",
    codes=OKX_CODES,
    rest_urls=_okx_urls,
    uses_passphrase=True,
    is_experimental=True,
)

VENUES: Mapping[str, Venue] = MappingProxyType({venue.name: venue for venue in (BINANCE, BYBIT, OKX)})
