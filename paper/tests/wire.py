"""A bare HTTP client that signs, for looking at the wire as it is."""

import hashlib
import hmac
import json
import subprocess
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit


@dataclass(slots=True)
class Answer:
    """Status, headers and parsed body; `text` as it came."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> int:
        return int(self.json["code"])


class Wire:
    """Requests against one server process."""

    def __init__(self, url: str, secret: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.secret = secret
        self.process = process

    def stop(self) -> None:
        """End the process and its pipe."""
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def kill(self) -> None:
        """End it at once, as a power user's kill -9 does."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def send(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, path, body or None, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, text)
        finally:
            connection.close()

    def signed(self, key: str, method: str, path: str, *, secret: str = "", **params: Any) -> Answer:
        """A signed request, parameters in the query for GET and DELETE and in the body otherwise."""
        params.setdefault("timestamp", int(time.time() * 1000))
        text = urlencode({name: value for name, value in params.items() if value is not None})
        signature = hmac.new((secret or key).encode(), text.encode(), hashlib.sha256).hexdigest()
        full = f"{text}&signature={signature}"
        headers = {"X-MBX-APIKEY": key}
        if method in {"GET", "DELETE"}:
            return self.send(method, f"{path}?{full}", headers=headers)
        return self.send(method, path, full, headers | {"Content-Type": "application/x-www-form-urlencoded"})

    def signed_params(self, key: str, **params: Any) -> dict[str, Any]:
        """The parameters of a request over the WebSocket API, signed in sorted order."""
        params |= {"apiKey": key, "timestamp": int(time.time() * 1000)}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return params | {"signature": hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()}

    def market(self, key: str, side: str, quantity: str, symbol: str = "BTCUSDT", **params: Any) -> Answer:
        """A market order with its result."""
        params = {"newOrderRespType": "RESULT"} | params
        path = "/fapi/v1/order"
        return self.signed(
            key, "POST", path, symbol=symbol, side=side, type="MARKET", quantity=quantity, **params
        )

    def stop_order(self, key: str, trigger: str, symbol: str = "BTCUSDT", **params: Any) -> Answer:
        """A close-position sell stop on the mark, unless told otherwise."""
        given: dict[str, Any] = {
            "algoType": "CONDITIONAL",
            "symbol": symbol,
            "side": "SELL",
            "type": "STOP_MARKET",
            "triggerPrice": trigger,
            "workingType": "MARK_PRICE",
        }
        if "quantity" not in params:
            given["closePosition"] = "true"
        return self.signed(key, "POST", "/fapi/v1/algoOrder", **(given | params))

    def admin(self, method: str, path: str, **body: Any) -> Any:
        """An administration call that must succeed."""
        headers = {"X-Paper-Secret": self.secret}
        answer = self.send(method, path, json.dumps(body) if body else "", headers)
        assert answer.status == 200, answer.text
        return answer.json

    def pin(self, symbol: str, price: str | None, last: str | None = None) -> None:
        """Hold a mark."""
        self.admin("POST", "/paper/mark", symbol=symbol, price=price, last=last)

    def ledger(self, key: str = "") -> list[dict[str, Any]]:
        """Ledger rows, of one account when named."""
        rows: list[dict[str, Any]] = self.admin("GET", "/paper/ledger?format=json")
        return [row for row in rows if key in {"", row["account"]}]
