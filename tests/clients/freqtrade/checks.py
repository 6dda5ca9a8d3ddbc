"""freqtrade as it is, live against the exchange: a program of its own, spoken to over its own interface.

It is GPL-3.0 and no dependency: it is only run, in an environment of its own.
"""

import asyncio
import base64
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from paper.tests.clients import addresses
from tests.clients.checks import Place, expect, pass_checks

STRATEGIES = Path(__file__).resolve().parent / "strategies"
BTC, SOL = "BTC/USDT:USDT", "SOL/USDT:USDT"
KEY, PASSWORD = "freqtrade", "a password for one check"
SOON_SECONDS = 45


def free_port() -> int:
    """A loopback port nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def settings(url: str, port: int, directory: Path) -> dict[str, Any]:
    """The bot's configuration file."""
    other_side = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
    options = {"fetchCurrencies": False, "fetchMargins": False, "fetchMarkets": {"types": ["linear"]}}
    return {
        "dry_run": False,
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "stake_currency": "USDT",
        "stake_amount": 500,
        "max_open_trades": 3,
        "db_url": f"sqlite:///{directory}/trades.sqlite",
        "entry_pricing": other_side,
        "exit_pricing": other_side,
        "pairlists": [{"method": "StaticPairList"}],
        "exchange": {
            "name": "binance",
            "key": KEY,
            "secret": KEY,
            "only_from_ccxt": True,
            "enable_ws": False,
            "ccxt_config": {"urls": addresses(url), "options": options},
            "pair_whitelist": [BTC, SOL],
        },
        "api_server": {
            "enabled": True,
            "listen_ip_address": "127.0.0.1",
            "listen_port": port,
            "username": KEY,
            "password": PASSWORD,
            "jwt_secret_key": "a key for one check, long enough to be one",
            "verbosity": "error",
        },
        "force_entry_enable": True,
        "initial_state": "running",
        "internals": {"process_throttle_secs": 1},
    }


class Bot:
    """The running program."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self.port = free_port()
        self.output = directory / "freqtrade.log"
        configuration = directory / "config.json"
        configuration.write_text(json.dumps(settings(place.url, self.port, directory)))
        words = [str(Path(sys.executable).with_name("freqtrade")), "trade", "--config", str(configuration)]
        words += [
            "--userdir",
            str(directory),
            "--strategy",
            "OnlyWhenForced",
            "--strategy-path",
            str(STRATEGIES),
        ]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(words, cwd=directory, stdout=output, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def ask(self, verb: str, **body: Any) -> Any:
        """A call of its interface: a POST when there is a body."""
        token = base64.b64encode(f"{KEY}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        given = json.dumps(body).encode() if body else None
        request = Request(f"http://127.0.0.1:{self.port}/api/v1/{verb}", given, headers)
        with urlopen(request, timeout=15) as answer:  # noqa: S310  # ours
            return json.loads(answer.read())

    def until(self, what: str, true: Callable[[], Any], seconds: float = SOON_SECONDS) -> Any:
        """What it gives as soon as it gives something; the bot's last words when it never does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if found := true():
                    return found
            except URLError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"not {what}:\n{self.output.read_text()[-3000:]}")

    def open_trade(self, pair: str) -> Any:
        """The open trade of a pair, None without one."""
        return next((row for row in self.ask("status") if row["pair"] == pair), None)

    def guarded_trade(self, pair: str) -> Any:
        """The open trade of a pair once its stop rests at the exchange."""
        trade = self.open_trade(pair)
        if trade is None or trade["amount"] == 0:
            return None
        guards = [row for row in trade["orders"] if row["ft_order_side"] == "stoploss" and row["is_open"]]
        return trade if guards else None

    def closed_trade(self, number: int) -> Any:
        """The trade once it is closed."""
        trades = self.ask("trades")["trades"]
        return next((row for row in trades if row["trade_id"] == number and not row["is_open"]), None)


class Checks:
    """In order, with one bot."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot

    def it_starts_and_reads_markets_and_balance(self) -> None:
        """It refuses to start in hedge mode or with multi-assets margin."""
        self.bot.until("started", lambda: self.bot.ask("ping") == {"status": "pong"}, seconds=90)
        self.bot.until("running", lambda: self.bot.ask("show_config")["state"] == "running")
        expect(self.bot.ask("balance")["total"], 10_000.0)

    def a_forced_long_is_filled_and_its_stop_rests_at_the_exchange(self) -> None:
        """At the ask, three times levered."""
        self.bot.ask("forceenter", pair=BTC, side="long")
        trade = self.bot.until("guarded", lambda: self.bot.guarded_trade(BTC))
        expect((trade["open_rate"], trade["leverage"], trade["is_short"]), (100_005.0, 3.0, False))

    def a_forced_exit_closes_it_and_takes_the_stop_back(self) -> None:
        """At the bid."""
        trade = self.bot.open_trade(BTC)
        self.bot.ask("forceexit", tradeid=str(trade["trade_id"]))
        closed = self.bot.until("closed", lambda: self.bot.closed_trade(trade["trade_id"]))
        expect((closed["close_rate"], closed["exit_reason"]), (99_995.0, "force_exit"))
        stops = {"account": KEY, "store": "conditional", "symbol": "BTCUSDT"}
        expect(len(self.bot.place.rows("CANCELED", **stops)), len(self.bot.place.rows("PLACED", **stops)))

    def a_stop_that_fires_at_the_exchange_closes_the_trade(self) -> None:
        """The bot learns it from the conditional order and reads the fill from the ordinary one."""
        self.bot.ask("forceenter", pair=SOL, side="long")
        trade = self.bot.until("guarded", lambda: self.bot.guarded_trade(SOL))
        self.bot.place.pin("SOLUSDT", "140")
        closed = self.bot.until("closed", lambda: self.bot.closed_trade(trade["trade_id"]))
        expect((closed["exit_reason"], closed["close_rate"] < 140), ("stoploss_on_exchange", True))
        self.bot.place.pin("SOLUSDT", "150")

    def a_forced_short_is_guarded_and_closed(self) -> None:
        """The mirror of the long."""
        self.bot.ask("forceenter", pair=BTC, side="short")
        trade = self.bot.until("guarded", lambda: self.bot.guarded_trade(BTC))
        expect((trade["open_rate"], trade["is_short"]), (99_995.0, True))
        self.bot.ask("forceexit", tradeid=str(trade["trade_id"]))
        closed = self.bot.until("closed", lambda: self.bot.closed_trade(trade["trade_id"]))
        expect(closed["close_rate"], 100_005.0)


async def main() -> int:
    """All checks."""
    place = Place.of_environment()
    with tempfile.TemporaryDirectory() as directory:
        bot = Bot(place, Path(directory))
        try:
            checks = Checks(bot)
            return await pass_checks(
                [
                    checks.it_starts_and_reads_markets_and_balance,
                    checks.a_forced_long_is_filled_and_its_stop_rests_at_the_exchange,
                    checks.a_forced_exit_closes_it_and_takes_the_stop_back,
                    checks.a_stop_that_fires_at_the_exchange_closes_the_trade,
                    checks.a_forced_short_is_guarded_and_closed,
                ]
            )
        finally:
            bot.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
