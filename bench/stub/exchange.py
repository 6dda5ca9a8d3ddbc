"""The stub's answers, by method and path."""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

from bench.stub.book import UNCLEAR, Book, Order, Words
from bench.stub.tables import Tables, wall_ms

Answer = tuple[int, bytes]

BALANCE = json.dumps(
    {
        "assets": [
            {
                "asset": "USDT",
                "walletBalance": "10000",
                "unrealizedProfit": "0",
                "marginBalance": "10000",
                "availableBalance": "10000",
            }
        ],
        "positions": [],
    }
).encode()


class Exchange:
    """Everything but the wire: the book of the round, and who listens to which account."""

    def __init__(self) -> None:
        self.book = Book()
        self.tables = Tables()
        self.listeners: defaultdict[bytes, list[Callable[[bytes], None]]] = defaultdict(list)
        self.mark_listeners: list[Callable[[], None]] = []
        self._marked_ms = 0.0
        self._routes: dict[tuple[bytes, bytes], Callable[[Words], Answer]] = {
            (b"POST", b"/fapi/v1/algoOrder"): lambda words: (200, self.book.place_conditional(words)),
            (b"GET", b"/fapi/v1/order"): self.book.look_up,
            (b"GET", b"/fapi/v1/algoOrder"): self.book.look_up,
            (b"GET", b"/fapi/v1/openOrders"): _nothing,
            (b"GET", b"/fapi/v1/openAlgoOrders"): _nothing,
            (b"GET", b"/fapi/v1/userTrades"): lambda words: (200, self.book.executions(words)),
            (b"GET", b"/fapi/v3/positionRisk"): lambda words: (200, self.book.held_by(words)),
            (b"GET", b"/fapi/v3/account"): lambda _: (200, BALANCE),
            (b"PUT", b"/fapi/v1/listenKey"): lambda _: (200, b"{}"),
            (b"GET", b"/fapi/v1/time"): _time,
            (b"GET", b"/api/v3/time"): _time,
            (b"GET", b"/fapi/v1/exchangeInfo"): lambda _: (200, self.tables.futures),
            (b"GET", b"/api/v3/exchangeInfo"): lambda _: (200, self.tables.spot),
            (b"GET", b"/fapi/v1/leverageBracket"): lambda _: (200, self.tables.brackets),
            (b"GET", b"/fapi/v1/premiumIndex"): lambda _: (200, self.tables.marks()),
            (b"GET", b"/fapi/v1/ticker/24hr"): lambda _: (200, self.tables.tickers()),
            (b"GET", b"/fapi/v1/ticker/bookTicker"): lambda _: (200, self.tables.books()),
            (b"GET", b"/fapi/v1/depth"): lambda words: (200, self.tables.depth(words[b"symbol"].decode())),
            (b"GET", b"/fapi/v1/klines"): self._candles,
            (b"GET", b"/bench/counts"): lambda _: (200, self._counts()),
            (b"POST", b"/bench/reset"): self._reset,
            (b"POST", b"/bench/mark"): self._mark,
        }

    def place(self, body: bytes, key: bytes = b"") -> tuple[Answer, Order | None]:
        """The answer to a placement, and the order when it was taken; `key` tells whose where it matters."""
        order, is_answered = self.book.place(body, key)
        answer = (200, order.answer()) if order is not None and is_answered else (408, UNCLEAR)
        return answer, order

    def answer(self, method: bytes, path: bytes, words: Words) -> Answer:
        """Status and body of everything but a placement."""
        route = self._routes.get((method, path))
        return (404, b'{"code":-5000,"msg":"not spoken here"}') if route is None else route(words)

    def _candles(self, words: Words) -> Answer:
        symbol, interval = words[b"symbol"].decode(), words[b"interval"].decode()
        return 200, self.tables.candles(symbol, interval, int(words.get(b"limit", b"500")))

    def forget(self, key: bytes, listener: Callable[[bytes], None]) -> None:
        """Let go of one who listened; others may listen to the same account, while watchers hand it over."""
        if listener in self.listeners.get(key, ()):
            self.listeners[key].remove(listener)
            if not self.listeners[key]:
                del self.listeners[key]

    def _counts(self) -> bytes:
        told = {"listeners": len(self.listeners), "marked_ms": self._marked_ms}
        return json.dumps(self.book.counts() | told).encode()

    def _reset(self, words: Words) -> Answer:
        self.book.clear(
            is_filling=words.get(b"fills") == b"1",
            is_told=words.get(b"told") == b"1",
            unclear_percent=int(words.get(b"unclear", b"0")),
            unclear_first=int(words.get(b"first", b"0")),
            held=words.get(b"held", b""),
        )
        return 200, b"{}"

    def _mark(self, words: Words) -> Answer:
        """Move a mark and tell it at once, as the exchange would in its next second."""
        self.tables.set_price(words[b"symbol"].decode(), Decimal(words[b"price"].decode()))
        self._marked_ms = time.time() * 1000
        for tell in list(self.mark_listeners):
            tell()
        return 200, b"{}"


def _nothing(_words: Words) -> Answer:
    return 200, b"[]"


def _time(_words: Words) -> Answer:
    return 200, b'{"serverTime":%d}' % wall_ms()
