"""What the stub remembers of a round: enough to answer for an order and its executions."""

import sys
import time
from decimal import Decimal
from functools import lru_cache

Words = dict[bytes, bytes]

FEE = Decimal("0.0005")
LAST_PRICE = b"95000.0"
CLIENT_ID, TIMESTAMP, SIGNATURE = b"newClientOrderId=", b"timestamp=", 64
FILLED, EXPIRED = b"FILLED", b"EXPIRED"

# Formatted twice: once for all orders that are alike, then with id, client id and time of each.
# The fields of 2026: no avgPrice and no cumQuote in the answer to a placement.
PLACED = (
    b'{"orderId":%%d,"symbol":"%b","status":"%b","clientOrderId":"%%b","price":"%b","origQty":"%b",'
    b'"executedQty":"%b","cumQty":"%b","timeInForce":"%b","type":"%b","origType":"%b","reduceOnly":%b,'
    b'"closePosition":false,"side":"%b","positionSide":"BOTH","stopPrice":"0","workingType":"CONTRACT_PRICE",'
    b'"priceProtect":false,"priceMatch":"NONE","selfTradePreventionMode":"EXPIRE_MAKER","goodTillDate":0,'
    b'"updateTime":%%d}'
)
EXECUTION = (
    b'[{"id":%%d,"orderId":%%d,"symbol":"%b","side":"%b","price":"%b","qty":"%b","quoteQty":"%b",'
    b'"realizedPnl":"0","commission":"%b","commissionAsset":"USDT","positionSide":"BOTH","buyer":%b,'
    b'"maker":false,"time":%%d}]'
)
TRADED = (
    b'{"e":"ORDER_TRADE_UPDATE","E":%%d,"T":%%d,"o":{"s":"%b","c":"%%b","S":"%b","o":"%b","f":"%b","q":"%b",'
    b'"p":"%b","ap":"%b","sp":"0","x":"TRADE","X":"FILLED","i":%%d,"l":"%b","z":"%b","L":"%b","N":"USDT",'
    b'"n":"%b","T":%%d,"t":%%d,"m":false,"R":%b,"wt":"CONTRACT_PRICE","ot":"%b","ps":"BOTH","cp":false,'
    b'"rp":"0"}}'
)
CONDITIONAL = (
    b'{"algoId":%d,"clientAlgoId":"%b","algoType":"CONDITIONAL","orderType":"%b","symbol":"%b","side":"%b",'
    b'"positionSide":"BOTH","quantity":"%b","algoStatus":"NEW","triggerPrice":"%b","reduceOnly":%b,'
    b'"closePosition":%b,"createTime":%d,"updateTime":%d}'
)
HELD = (
    b'[{"symbol":"BTCUSDT","positionSide":"BOTH","positionAmt":"%b","entryPrice":"%b","breakEvenPrice":"0",'
    b'"markPrice":"%b","unRealizedProfit":"0","liquidationPrice":"0","isolatedMargin":"320","notional":"950",'
    b'"marginAsset":"USDT","isolatedWallet":"320","initialMargin":"320","maintMargin":"4",'
    b'"positionInitialMargin":"320","openOrderInitialMargin":"0","adl":1,"bidNotional":"0","askNotional":"0",'
    b'"updateTime":1700000000000}]'
)
UNCLEAR = b'{"code":-1007,"msg":"Timeout waiting for response from backend server."}'
NOT_THERE = b'{"code":-2013,"msg":"Order does not exist."}'


class Kind:
    """Orders that are alike but for id, client id and time: everything about them is written once."""

    __slots__ = ("event", "execution", "expired", "filled")

    def __init__(self, words: Words) -> None:
        words = {name: value.replace(b"%", b"%%") for name, value in words.items()}
        get, symbol, side = words.get, words[b"symbol"], words[b"side"]
        quantity, kind, asked = words[b"quantity"], get(b"type", b"LIMIT"), get(b"price", b"0")
        force, reduces = get(b"timeInForce", b"GTC"), get(b"reduceOnly", b"false")
        price = get(b"price", LAST_PRICE)
        quote, fee = _money(price, quantity)

        def placed(status: bytes, executed: bytes) -> bytes:
            fixed = (symbol, status, asked, quantity, executed, executed, force, kind, kind, reduces, side)
            return PLACED % fixed

        self.filled, self.expired = placed(FILLED, quantity), placed(EXPIRED, b"0")
        is_buyer = b"true" if side == b"BUY" else b"false"
        self.execution = EXECUTION % (symbol, side, price, quantity, quote, fee, is_buyer)
        self.event = TRADED % (
            *(symbol, side, kind, force, quantity, asked, price),
            *(quantity, quantity, price, fee, reduces, kind),
        )


class Order:
    """One ordinary order as it came; with fills on it was filled whole at its price."""

    __slots__ = ("at_ms", "client_id", "id", "is_filled", "kind")

    def __init__(self, number: int, kind: Kind, client_id: bytes, at_ms: int, is_filled: bool) -> None:
        self.id, self.kind, self.client_id, self.at_ms, self.is_filled = (
            number,
            kind,
            client_id,
            at_ms,
            is_filled,
        )

    def answer(self) -> bytes:
        """The order as a placement or a lookup tells it."""
        template = self.kind.filled if self.is_filled else self.kind.expired
        return template % (self.id, self.client_id, self.at_ms)

    def execution(self) -> bytes:
        """Its one execution, as a list."""
        return self.kind.execution % (self.id, self.id, self.at_ms)

    def event(self) -> bytes:
        """Its execution as the account's stream tells it."""
        at_ms = self.at_ms
        return self.kind.event % (at_ms, at_ms, self.client_id, self.id, at_ms, self.id)


class Book:
    """The orders of a round; ids go on from round to round, because a trade id is one execution for ever."""

    def __init__(self) -> None:
        self._next = self._algo = 1_000_000
        self.clear(is_filling=False)

    def clear(
        self,
        *,
        is_filling: bool,
        is_told: bool = True,
        unclear_percent: int = 0,
        unclear_first: int = 0,
        held: bytes = b"",
    ) -> None:
        """Start a round; answers are lost among its first placements only, when told among how many.

        `held` is the quantity of BTCUSDT that every account is long of, until it sells it reduce-only.
        """
        self.held = held
        self._sold: set[bytes] = set()
        self._is_filling = is_filling
        self.is_told = is_filling and is_told
        self._unclear_every = 100 // unclear_percent if unclear_percent else 0
        self._unclear_first = unclear_first or sys.maxsize
        self.placed = 0
        self.unclear_taken: set[bytes] = set()
        self.unclear_refused: set[bytes] = set()
        self.first_ms = self.last_ms = 0.0
        self.cpu_began = time.process_time()
        self._first_id = self._next + 1
        self._orders: list[Order] = []
        self._by_client_id: dict[bytes, Order | None] = {}

    def held_by(self, words: Words) -> bytes:
        """What an account is long of: all that the round gave it, or nothing once it sold."""
        if not self.held or words[b"key"] in self._sold:
            return b"[]"
        return HELD % (self.held, LAST_PRICE, LAST_PRICE)

    def place(self, body: bytes, key: bytes = b"") -> tuple[Order | None, bool]:
        """Take an ordinary order; the order unless it was not taken, and whether its answer arrives."""
        if self.held and b"reduceOnly=true" in body:
            self._sold.add(key)
        client_id, kind = _read(body)
        now_ms = self._count()
        is_answered = True
        if self._unclear_every and self._is_unclear():
            is_answered = False
            if self.placed // self._unclear_every % 2:
                self.unclear_refused.add(client_id)
                self._by_client_id[client_id] = None
                return None, False
            self.unclear_taken.add(client_id)
        self._next += 1
        order = Order(self._next, kind, client_id, now_ms, self._is_filling)
        self._orders.append(order)
        self._by_client_id[client_id] = order
        return order, is_answered

    def _is_unclear(self) -> bool:
        return self.placed % self._unclear_every == 0 and self.placed <= self._unclear_first

    def place_conditional(self, words: Words) -> bytes:
        """Take a conditional order: it rests."""
        get, now_ms = words.get, int(time.time() * 1000)
        self._algo += 1
        return CONDITIONAL % (
            self._algo,
            get(b"clientAlgoId", b""),
            get(b"type", b"STOP_MARKET"),
            get(b"symbol", b""),
            get(b"side", b"SELL"),
            get(b"quantity", b"0"),
            get(b"triggerPrice", b"0"),
            get(b"reduceOnly", b"false"),
            get(b"closePosition", b"false"),
            now_ms,
            now_ms,
        )

    def executions(self, words: Words) -> bytes:
        """The execution of an order of this round; no others are told."""
        order = self._by_id(words)
        return b"[]" if order is None or not order.is_filled else order.execution()

    def look_up(self, words: Words) -> tuple[int, bytes]:
        """Status and body of a question for one order, by either id."""
        order = self._by_client_id.get(words.get(b"origClientOrderId", b"")) or self._by_id(words)
        return (400, NOT_THERE) if order is None else (200, order.answer())

    def counts(self) -> dict[str, object]:
        """What came since the round began, and what this process has used meanwhile."""
        return {
            "placed": self.placed,
            "distinct": len(self._by_client_id),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
            "cpu_seconds": time.process_time() - self.cpu_began,
            "unclear_taken": sorted(one.decode() for one in self.unclear_taken),
            "unclear_refused": sorted(one.decode() for one in self.unclear_refused),
        }

    def _by_id(self, words: Words) -> Order | None:
        place = int(words.get(b"orderId", b"0")) - self._first_id
        return self._orders[place] if 0 <= place < len(self._orders) else None

    def _count(self) -> int:
        now_ms = time.time() * 1000
        if not self.placed:
            self.first_ms = now_ms
        self.last_ms = now_ms
        self.placed += 1
        return int(now_ms)


def words_of(text: bytes) -> Words:
    """The parameters of a query or a body, as they are on the wire."""
    return dict([pair.split(b"=", 1) for pair in text.split(b"&") if b"=" in pair])


def _read(body: bytes) -> tuple[bytes, Kind]:
    """The client id of a placement, and what it is besides.

    Reading all parameters of each costs more than everything else here: what differs from order to order is
    cut out (client id, time, and the signature at the end), and what is left was read before.
    """
    begin = body.find(CLIENT_ID) + len(CLIENT_ID)
    end = body.find(b"&", begin)
    time_at = body.find(TIMESTAMP)
    time_end = body.find(b"&", time_at)
    if time_at < begin:
        left = body[:time_at] + body[time_end:begin] + body[end:-SIGNATURE]
    else:
        left = body[:begin] + body[end:time_at] + body[time_end:-SIGNATURE]
    return body[begin:end], _kind(left)


@lru_cache(maxsize=8192)
def _kind(left: bytes) -> Kind:
    return Kind(words_of(left))


def _money(price: bytes, quantity: bytes) -> tuple[bytes, bytes]:
    """Quote quantity and fee of an execution."""
    quote = Decimal(price.decode()) * Decimal(quantity.decode())
    return f"{quote:f}".encode(), f"{quote * FEE:.8f}".encode()
