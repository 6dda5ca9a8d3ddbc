"""A desk that trades, as an outside observer meets it: HTTP in front, the exchange's own ledger behind."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from django.db import OperationalError
from django.utils import timezone

from accounts.models import Account, Health
from accounts.services.registry import create_account
from tests.processes import PaperExchange, wait_until
from tests.running_desk import WATCHERS, WORKERS, Desk
from trading.domain.states import OPEN, TERMINAL, OrderPurpose, Protection
from trading.models import Decision, EquitySnapshot, Order, Position
from trading.services import equity
from trading.services.reconciliation import reconcile, unexplained_orders
from trading.services.tokens import create_token

MARKS = {
    "BTC": "100000",
    "ETH": "3000",
    "SOL": "150",
    "XRP": "2",
    "BNB": "600",
    "ADA": "0.8",
    "LINK": "15",
    "AVAX": "20",
    "LTC": "90",
    "DOGE": "0.2",
    "TRX": "0.25",
    "DOT": "4",
    "BCH": "400",
    "NEAR": "5",
    "AAVE": "300",
    "UNI": "10",
    "INJ": "25",
    "APT": "10",
    "ATOM": "10",
    "FIL": "5",
    "ETC": "30",
    "ICP": "12",
    "OP": "2",
    "TAO": "400",
}
"""Where the marks are pinned while a desk starts, so that every price of a test is known."""

WEATHER = "CORRELATED,VOLATILITY,TREND_AGAINST,FUNDING,SPREAD,REWARD_RISK"
"""Gate rules about how the synthetic market happens to be while a test runs."""

SCOPES = ("signals:write", "read", "trade", "admin")
START_SECONDS = 180.0

ONE_OF_EACH: Mapping[str, int] = MappingProxyType({})
"""No program runs twice."""

LedgerRow = Mapping[str, Any]


class Supervisor(Thread):
    """Starts again what ended by itself, as the runner and a container's restart policy do."""

    def __init__(self, desk: Desk, names: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self._desk = desk
        self._names = frozenset(names)
        self._left_alone: frozenset[str] = frozenset()
        self._ended = Event()
        self._turn = Lock()

    def run(self) -> None:
        """Look a few times a second until told to end."""
        while not self._ended.wait(0.25):
            with self._turn:
                self._revive()

    @contextmanager
    def leaving_alone(self, *names: str) -> Iterator[None]:
        """Programs that stay dead while the body runs."""
        with self._turn:
            self._left_alone = frozenset(names)
        yield
        with self._turn:
            self._left_alone = frozenset()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()

    def _revive(self) -> None:
        for name in sorted(self._names - self._left_alone):
            process = self._desk.process(name)
            if not process.is_running:
                process.start()


class TradingDesk:
    """Programs, accounts and a token; verbs of a client, of the exchange and of somebody who waits."""

    def __init__(
        self, desk: Desk, exchange: PaperExchange, accounts: int, copies: Mapping[str, int] = ONE_OF_EACH
    ) -> None:
        self.programs = desk
        self.exchange = exchange
        self.names = [f"w-{uuid4().hex[:10]}" for _ in range(accounts)]
        for name in self.names:
            create_account(name, name, name)
        self.further = [
            desk.process(name, copy).name for name, count in copies.items() for copy in range(2, count + 1)
        ]
        self.supervisor = Supervisor(desk, (*WORKERS, "beat", *WATCHERS, "web", *self.further))
        self._token = create_token(f"observer {uuid4().hex[:8]}", SCOPES)

    def start(self) -> None:
        """Start every program with the marks pinned; ready when every account may trade."""
        self.pin(MARKS)
        self.programs.start_all()
        for name in self.further:
            self.programs.process(name).start()
        self.supervisor.start()
        self.wait_ready()
        # The tick of beat does it each minute; without its first reading no ledger has a beginning.
        equity.record(timezone.now())
        # Where the start took longer than a minute the tick has been there too.
        read = EquitySnapshot.objects.order_by().values("account", "market").distinct()
        assert read.count() == 2 * len(self.names)

    def stop(self) -> None:
        """End every program of the desk."""
        if self.supervisor.is_alive():
            self.supervisor.end()
        self.programs.stop()

    def pin(self, marks: dict[str, str]) -> None:
        """Jump the marks of coins there and hold them."""
        for coin, price in marks.items():
            self.exchange.set_mark(f"{coin}USDT", price)

    # ── as a client ──────────────────────────────────────────────────────────
    def get(self, path: str) -> tuple[int, Any]:
        """The status and JSON of a GET; status 0 when nobody answers."""
        return self._ask("GET", path, None)

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """The status and JSON of a POST; status 0 when nobody answers."""
        return self._ask("POST", path, body)

    def send_signal(self, coin: str, side: str = "LONG", **changes: Any) -> dict[str, Any]:
        """Post a signal at the pinned mark, its stop 2 % away and its target 6 %."""
        mark, way = Decimal(MARKS[coin]), 1 if side == "LONG" else -1
        told = {
            "source": "observer",
            "external_id": uuid4().hex,
            "symbol": f"{coin}USDT",
            "side": side,
            "score": "0.9",
            "entry_price": str(mark),
            "stop_price": str(mark * (1 - way * Decimal("0.02"))),
            "take_profit_price": str(mark * (1 + way * Decimal("0.06"))),
        }
        status, signal = self.post("/api/bot/signals", **told | changes)
        assert status == 201, signal
        return dict(signal)

    def execute(self, coin: str, side: str = "LONG", **told: Any) -> str:
        """Post a signal and have it executed at once, as `told`; its decision's id."""
        signal = self.send_signal(coin, side)
        status, decision = self.post("/api/bot/decisions", signal_id=signal["id"], **told)
        assert status == 202, decision
        return str(decision["id"])

    def decision(self, decision_id: str) -> dict[str, Any]:
        """The fan-out ledger of a decision."""
        status, decision = self.get(f"/api/bot/decisions/{decision_id}")
        assert status == 200, decision
        return dict(decision)

    def positions(self, coin: str, status: str = "OPEN") -> list[dict[str, Any]]:
        """Positions of a coin's perpetual, all pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            symbol = quote(f"{coin}/USDT:USDT", safe="")
            path = f"/api/bot/positions?status={status}&symbol={symbol}&limit=100{cursor}"
            answered, page = self.get(path)
            assert answered == 200, page
            found += page["items"]
            if not page["next"]:
                return found
            cursor = f"&cursor={quote(page['next'], safe='')}"

    # ── waiting ──────────────────────────────────────────────────────────────
    def wait_for(self, true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """As `wait_until`, telling the rows and the programs' last words when it does not come true."""
        try:
            wait_until(partial(_or_later, true), what, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.rows()}\n{self.warnings()}") from error

    def wait_ready(self) -> None:
        """Wait until every program lives, marks are fresh and every account may enter."""
        wait_until(lambda: self.get("/ready")[0] == 200, "the desk to be ready", START_SECONDS)
        wait_until(self._are_accounts_fit, "every account to be fit", START_SECONDS)

    def wait_complete(self, decision_id: str, seconds: float = 30.0) -> dict[str, Any]:
        """The decision once every account has its known end."""
        self.wait_for(lambda: self.decision(decision_id)["status"] == "COMPLETE", "a ledger", seconds)
        return self.decision(decision_id)

    def wait_verified(self, coin: str, count: int, seconds: float = 30.0) -> list[dict[str, Any]]:
        """The open positions of a coin once there are so many and each has a stop seen at the exchange."""

        def are_verified() -> bool:
            states = [position["protection"] for position in self.positions(coin)]
            return states == [Protection.VERIFIED] * count

        self.wait_for(are_verified, f"{count} {coin} positions to be verified", seconds)
        return self.positions(coin)

    def wait_flat(self, coin: str, seconds: float = 30.0) -> None:
        """Wait until the coin is flat in our rows and at the exchange, with no stop of it left there."""

        def is_flat() -> bool:
            return not self.positions(coin) and not self.held_there(coin) and not self.stops_there(coin)

        self.wait_for(is_flat, f"{coin} to be flat", seconds)

    def wait_quiet(self, seconds: float = 30.0) -> None:
        """Wait until no order of ours is on its way and every ended one has all its fills."""

        def is_quiet() -> bool:
            on_their_way = Order.objects.filter(status__in=OPEN - {"ACKNOWLEDGED"})
            unread = Order.objects.filter(status__in=TERMINAL, fills_complete=False)
            return not on_their_way.exists() and not unread.exists()

        self.wait_for(is_quiet, "every order to have its end", seconds)

    # ── what the exchange says ───────────────────────────────────────────────
    def ledger(self, kind: str = "", coin: str = "") -> list[dict[str, Any]]:
        """The exchange's rows of these accounts."""
        return [
            row
            for row in self.exchange.ledger()
            if row["account"] in self.names
            and (not kind or row["kind"] == kind)
            and (not coin or row["symbol"] == f"{coin}USDT")
        ]

    def held_there(self, coin: str) -> dict[str, Decimal]:
        """The quantity of a perpetual that each account holds at the exchange, flat ones left out."""
        held: dict[str, Decimal] = {}
        for wallet in self.exchange.get("/paper/wallets"):
            quantity = Decimal(str(wallet["positions"].get(f"{coin}USDT/BOTH", 0)))
            if wallet["key"] in self.names and quantity:
                held[wallet["key"]] = quantity
        return held

    def coins_there(self) -> set[str]:
        """The coins that any of these accounts holds at the exchange."""
        wallets = self.exchange.get("/paper/wallets")
        mine = [wallet["positions"] for wallet in wallets if wallet["key"] in self.names]
        return {name.partition("USDT/")[0] for held in mine for name, quantity in held.items() if quantity}

    def stops_there(self, coin: str) -> Counter[str]:
        """How many stops of a coin rest at the exchange, by account, folded from its ledger."""
        resting: dict[str, str] = {}
        for row in self.ledger(coin=coin):
            if row["store"] != "conditional":
                continue
            if row["kind"] == "PLACED":
                resting[row["client_order_id"]] = row["account"]
            else:
                resting.pop(row["client_order_id"], None)
        return Counter(resting.values())

    # ── the oracle ───────────────────────────────────────────────────────────
    def assert_nothing_doubled_lost_or_unexplained(self, seconds: float = 30.0) -> None:
        """Our rows and the exchange's ledger agree to the last fill and unit, each order was placed once.

        A desk that holds something never rests for long, and rows follow the exchange: who is asked between
        the two is asked again. What was doubled, lost or invented stays wrong however often.
        """
        found = ["never answered"]

        def is_wrong_no_more() -> bool:
            found[:] = self._what_is_wrong()
            return not found

        with suppress(TimeoutError):
            wait_until(partial(_or_later, is_wrong_no_more), "both ledgers to agree", seconds)
        assert found == [], self.rows()

    def _what_is_wrong(self) -> list[str]:
        ledger = self.exchange.ledger()  # first: a row is there before its order leaves
        ours = set(Order.objects.values_list("client_order_id", flat=True))
        mine = [row for row in ledger if row["account"] in self.names]
        placed = [row for row in mine if row["kind"] == "PLACED"]
        twice = entered_more_than_once(row for row in mine if row["kind"] == "FILL")
        return [
            *(f"{name} placed twice" for name in placed_more_than_once(placed)),
            *(f"{name} not ours" for name in {row["client_order_id"] for row in placed} - ours),
            *(f"{account} {coin} entered twice" for account, coin in twice),
            *(str(difference) for difference in reconcile(ledger)),
            *(f"{name} has no known end" for name in unexplained_orders()),
        ]

    # ── when something is wrong ──────────────────────────────────────────────
    def rows(self) -> str:
        """The state of the rows, in few lines."""
        with suppress(OperationalError):
            return "\n".join(
                (
                    f"orders {_counted(Order.objects.values_list('purpose', 'status', 'code'))}",
                    f"positions {_counted(Position.objects.values_list('status', 'protection'))}",
                    f"allocations {self._shares()}",
                )
            )
        return "the database does not answer"

    def warnings(self) -> str:
        """The last warnings and errors the programs wrote."""
        lines = self.programs.output().splitlines()
        marked = [line for line in lines if '"warning"' in line or '"error"' in line or "Traceback" in line]
        return "\n".join(line[:400] for line in marked[-12:])

    def _shares(self) -> str:
        shares = Decision.objects.values_list("allocations__outcome", "allocations__code")
        return _counted(shares)

    def _are_accounts_fit(self) -> bool:
        fit = Account.objects.filter(name__in=self.names, health=Health.HEALTHY)
        lately = timezone.now() - timedelta(seconds=20)
        begun = fit.filter(fresh_at__gte=lately, day_baseline_equity__isnull=False)
        return begun.count() == len(self.names)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        connection = HTTPConnection(urlsplit(self.programs.web_url).netloc, timeout=30)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, _read(answer.read())
        except (OSError, HTTPException):
            return 0, None
        finally:
            connection.close()


def placed_more_than_once(placed: Iterable[LedgerRow]) -> list[str]:
    """The client order ids that the exchange took more than once in one store."""
    times = Counter((row["account"], row["client_order_id"], row["store"]) for row in placed)
    return [client_order_id for (_, client_order_id, _), count in times.items() if count > 1]


def entered_more_than_once(fills: Iterable[LedgerRow]) -> list[tuple[str, str]]:
    """Account and coin of every share that was filled by more than one entry."""
    entries = Order.objects.filter(purpose=OrderPurpose.ENTRY)
    shares = dict(entries.values_list("client_order_id", "allocation_id"))
    filled = {
        (row["account"], row["symbol"], row["client_order_id"])
        for row in fills
        if row["client_order_id"] in shares
    }
    times = Counter((account, symbol, shares[order]) for account, symbol, order in filled)
    return [(account, symbol) for (account, symbol, _), count in times.items() if count > 1]


def _read(body: bytes) -> Any:
    """The JSON of an answer; None for the page of a server that failed."""
    try:
        return json.loads(body or b"null")
    except ValueError:
        return None


def _counted(rows: Iterable[Any]) -> str:
    return str(dict(Counter(rows)))


def _or_later(true: Callable[[], bool]) -> bool:
    """A database that is busy for a moment is asked again."""
    try:
        return true()
    except OperationalError:
        return False
