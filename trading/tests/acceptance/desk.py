"""The desk as its users meet it: every wish and every figure over HTTP, its tasks run where they are rung.

Below it are real rows and a real exchange. What a program beside the web process would do by itself (the
watcher's tick, the monitor's tick) is done here by name.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.test import Client
from redis import Redis

from exchange import heartbeat
from exchange.marks import MarkBoard
from exchange.port import MarkPrice
from tests.processes import PaperExchange
from trading import tasks
from trading.services import monitoring
from trading.services.watcher import Watcher

BTC, ETH, SOL, XRP = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT"
API = "/api/bot/"


def now() -> datetime:
    return datetime.now(UTC)


def venue_symbol(symbol: str) -> str:
    """The symbol as the exchange writes it."""
    return symbol.partition(":")[0].replace("/", "")


class PublicDesk:
    """One user of the desk, with a token for everything."""

    def __init__(
        self,
        client: Client,
        exchange: PaperExchange,
        redis: Redis,
        committing: Callable[..., AbstractContextManager[Any]],
    ) -> None:
        self.client = client
        self.exchange = exchange
        self._redis, self._board = redis, MarkBoard(redis)
        self._committing = committing
        self._watcher: Watcher | None = None

    # ── over HTTP ────────────────────────────────────────────────────────────

    def get(self, path: str, **query: str) -> Any:
        """The answer's JSON."""
        answer = self.client.get(API + path, query)
        assert answer.status_code == 200, answer.content
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        """The answer's JSON; what waits for the commit runs."""
        with self._committing(execute=True):
            answer = self.client.post(API + path, body, content_type="application/json")
        assert answer.status_code < 300, answer.content
        return answer.json()

    def add_account(
        self, *, leverage: int = 3, executors: tuple[str, ...] = ("futures",), **terms: Any
    ) -> str:
        """A healthy account nobody else uses: added, verified, its money read. Its name."""
        name = f"a-{uuid4().hex[:12]}"
        told = self.post(
            "multi-account/api-keys",
            name=name,
            api_key=name,
            api_secret=name,
            leverage=leverage,
            executors=list(executors),
            **terms,
        )
        found = self.account(told["id"])
        assert found["health"] == "HEALTHY", (found["health_code"], found["health_message"])
        return name

    def account(self, account_id: str) -> Any:
        """The account as it is told now."""
        return self.get(f"multi-account/api-keys/{account_id}")

    def named(self, name: str) -> Any:
        """The account of a name."""
        return next(one for one in self.get("multi-account/api-keys")["items"] if one["name"] == name)

    def send_signal(self, symbol: str = BTC, side: str = "LONG", **changes: Any) -> Any:
        """A signal at the mark, its stop 1 % away and its target 3 %."""
        mark, way = self.mark_there(symbol), 1 if side == "LONG" else -1
        told: dict[str, Any] = {
            "source": "acceptance",
            "external_id": uuid4().hex,
            "symbol": symbol,
            "side": side,
            "score": "0.8",
            "entry_price": f"{mark:.8f}",
            "stop_price": f"{mark * (1 - way * Decimal('0.01')):.8f}",
            "take_profit_price": f"{mark * (1 + way * Decimal('0.03')):.8f}",
        }
        return self.post("signals", **{**told, **changes})

    def decide(self, symbol: str = BTC, side: str = "LONG", **changes: Any) -> Any:
        """Have a signal executed; the decision with its ledger."""
        signal = self.send_signal(symbol, side, **changes)
        made = self.post("decisions", signal_id=signal["id"])
        return self.get(f"decisions/{made['id']}")

    def share(self, symbol: str = BTC, side: str = "LONG", **changes: Any) -> Any:
        """Have a signal executed; the one account's share."""
        (share,) = self.decide(symbol, side, **changes)["allocations"]
        return share

    def open_one(self, symbol: str = BTC, side: str = "LONG", **changes: Any) -> Any:
        """Have a signal executed on the one account; the position it led to, whole."""
        share = self.share(symbol, side, **changes)
        assert share["outcome"] == "FILLED", share
        return self.position(share["account"], symbol)

    def position(self, account: str, symbol: str = BTC) -> Any:
        """The account's newest position on a symbol, whole."""
        newest = self.get("positions", account=account, symbol=symbol)["items"][0]
        return self.get(f"positions/{newest['id']}")

    def alerts(self, code: str) -> Any:
        """What people were told under a code."""
        return [one for one in self.get("alerts")["items"] if one["code"] == code]

    # ── what else happens ────────────────────────────────────────────────────

    def mark_there(self, symbol: str) -> Decimal:
        """The mark at the exchange."""
        told = self.exchange.get(f"/fapi/v1/premiumIndex?symbol={venue_symbol(symbol)}")
        return Decimal(told["markPrice"])

    def move(self, symbol: str, price: str | Decimal) -> None:
        """Jump the mark there, and let the watcher see it."""
        self.exchange.set_mark(venue_symbol(symbol), str(price))
        self.tick(symbol, price)

    def tick(self, symbol: str, price: str | Decimal, *, later_seconds: float = 0) -> None:
        """One mark seen by the watcher; its bells are rung."""
        at = now() + timedelta(seconds=later_seconds)
        self._board.publish([MarkPrice(symbol, Decimal(price), now())])
        if self._watcher is None:
            self._watcher = Watcher()
        tasks.ring(self._watcher.on_marks({symbol: Decimal(price)}, at))

    def monitor(self) -> None:
        """One tick of the monitor, while marks come."""
        heartbeat.beat(self._redis, heartbeat.MARKS)
        tasks.ring(monitoring.monitor(now()))
