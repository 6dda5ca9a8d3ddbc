"""The administration calls under /paper/ (listed in the package's docstring)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from paper import ledger
from paper.engine import margin
from paper.engine.venue import PERMISSIONS, Portfolio, Venue
from paper.fault_rules import BadRule
from paper.protocol.auth import KEY
from paper.protocol.calls import WHOLE
from paper.service import Service

MAX_POINTS = 10_000
SETTINGS = ("dual", "multi_assets", "revoked")
MOST = 10**15


class Denied(Exception):  # an answer
    """The call is refused with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Answer:
    """Body and media type."""

    body: bytes
    content_type: str = "application/json"


def as_json(value: Any) -> Answer:
    """A JSON answer; decimals become text."""
    return Answer(orjson.dumps(value, default=lambda item: format(item, "f")))


def _number(values: dict[str, Any], name: str) -> Decimal | None:
    value = values.get(name)
    if value is None:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise Denied(400, f"{name} is not a number") from error
    if not number.is_finite() or abs(number) >= MOST:
        raise Denied(400, f"{name} is not finite, or not below {MOST}")
    return number


def _marks(service: Service) -> dict[str, str]:
    venue = service.exchange.venue
    return {symbol: venue.markets.futures[symbol].price(q.mark) for symbol, q in venue.quotes.items()}


def status(service: Service, _query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """Feed, clock, marks and counts."""
    venue = service.exchange.venue
    return as_json(
        {
            "feed": service.feed.kind,
            "lockstep": service.options.lockstep,
            "time_ms": service.feed.now_ms,
            "done": service.feed.done,
            "marks": _marks(service),
            "accounts": len(venue.portfolios),
            "ledger_rows": len(venue.ledger),
            "streams": len(service.hub.connections),
            "requests": service.requests,
            "requests_by_endpoint": service.traffic.by_endpoint,
            "refusals": dict(service.traffic.refusals),
            "faults": len(service.faults.rules),
            "tick": {
                "engine_ms": round(service.tick.engine_ms, 3),
                "telling_ms": round(service.tick.telling_ms, 3),
            },
        }
    )


def advance(service: Service, _query: dict[str, str], values: dict[str, Any]) -> Answer:
    """Move a lockstep feed; needs a secret, so that no client does it by accident."""
    if not service.options.lockstep or not service.options.admin_secret:
        raise Denied(403, "start with --lockstep and --admin-secret to advance the feed by hand")
    points = values.get("points", 1)
    if not isinstance(points, int) or not 0 <= points <= MAX_POINTS:
        raise Denied(400, f"points must be 0..{MAX_POINTS}")
    closed = service.advance(points)
    return as_json(
        {
            "time_ms": service.feed.now_ms,
            "done": service.feed.done,
            "marks": _marks(service),
            "minute_closed": closed,
            "points": points,
        }
    )


def pin_mark(service: Service, _query: dict[str, str], values: dict[str, Any]) -> Answer:
    """Jump and hold a price, or release it."""
    symbol, price = str(values.get("symbol", "")), _number(values, "price")
    if symbol not in service.exchange.venue.quotes:
        raise Denied(404, f"no price of {symbol!r} here")
    if price is None:
        service.release(symbol)
    elif price <= 0:
        raise Denied(400, "price must be positive")
    else:
        last = _number(values, "last")
        if last is not None and last <= 0:
            raise Denied(400, "last must be positive")
        service.pin(symbol, price, price if last is None else last)
    return as_json({"symbol": symbol, "mark": service.exchange.venue.quotes[symbol].mark})


def change_symbol(service: Service, _query: dict[str, str], values: dict[str, Any]) -> Answer:
    """Close a futures symbol, or open it again; anything but TRADING and REDUCE_ONLY is closed."""
    symbol, status = str(values.get("symbol", "")), str(values.get("status", "TRADING"))
    if symbol not in service.exchange.venue.quotes:
        raise Denied(404, f"no price of {symbol!r} here")
    service.set_status(symbol, status)
    return as_json({"symbol": symbol, "status": status})


def change_account(service: Service, _query: dict[str, str], values: dict[str, Any]) -> Answer:
    """Make or change an account; deposits add up, and take away when negative. All of it or nothing."""
    key, secret = str(values.get("key", "")), values.get("secret")
    if not KEY.fullmatch(key):
        raise Denied(400, "key is missing, or no key: letters, digits, - and _")
    if secret is not None and not (isinstance(secret, str) and secret):
        raise Denied(400, "secret is no text")
    deposit, assets = _number(values, "deposit"), _object(values, "spot")
    spot = {asset: _number(assets, asset) or Decimal(0) for asset in assets}
    permissions, settings = _flags(_object(values, "permissions"), PERMISSIONS), _flags(values, SETTINGS)
    venue = service.exchange.venue
    portfolio = venue.portfolios.get(key)
    _check_left(venue, portfolio, deposit, spot)
    if portfolio is None:
        portfolio = venue.open_account(key, secret, deposit)
    elif deposit:
        venue.deposit(portfolio, deposit)
    if secret:
        portfolio.account.secret = secret
    for asset, quantity in spot.items():
        venue.deposit_spot(portfolio, asset, quantity)
    portfolio.account.permissions |= permissions
    for name, on in settings.items():
        setattr(portfolio.account, name, on)
    venue.touch(portfolio.account)
    return as_json(_wallet(service, portfolio))


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    if found is not None and not isinstance(found, dict):
        raise Denied(400, f"{name} must be a JSON object")
    return found or {}


def _flags(values: dict[str, Any], names: Collection[str]) -> dict[str, bool]:
    """Those of the named switches that were given."""
    given = {name: values[name] for name in names if values.get(name) is not None}
    for name, on in given.items():
        if not isinstance(on, bool):
            raise Denied(400, f"{name} is neither true nor false")
    return given


def _check_left(
    venue: Venue, portfolio: Portfolio | None, deposit: Decimal | None, spot: dict[str, Decimal]
) -> None:
    """Nothing can be taken away that is not there."""
    if portfolio is None:
        wallet, free = Decimal(0), {"USDT": venue.settings.spot_deposit}
    else:
        wallet = portfolio.account.wallet
        free = {asset: balance.free for asset, balance in portfolio.spot.items()}
    short = [asset for asset, quantity in spot.items() if free.get(asset, Decimal(0)) + quantity < 0]
    if short or (deposit is not None and wallet + deposit < 0):
        raise Denied(400, f"there is not so much to take away: {', '.join(short) or 'deposit'}")


def _wallet(service: Service, portfolio: Portfolio) -> dict[str, Any]:
    summary = margin.summary(service.exchange.venue, portfolio)
    return {
        "key": portfolio.account.key,
        "wallet": summary.wallet,
        "unrealized": summary.unrealized,
        "available": summary.available,
        "positions": {f"{p.symbol}/{p.position_side}": p.quantity for p in portfolio.open_positions()},
        "spot": {b.asset: {"free": b.free, "locked": b.locked} for b in portfolio.spot.values()},
    }


def wallets(service: Service, query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """Balances as the account state has them; the ledger's fold must agree."""
    portfolios = service.exchange.venue.portfolios.values()
    key = query.get("key")
    return as_json([_wallet(service, p) for p in portfolios if key in {None, p.account.key}])


def show_ledger(service: Service, query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """Rows after `since`, as JSON or CSV."""
    since = query.get("since", "0")
    if not WHOLE.fullmatch(since) or int(since) < 0:
        raise Denied(400, "since must be a number")
    rows = service.exchange.venue.ledger[int(since) :]
    if query.get("format") == "csv":
        return Answer(ledger.as_csv(rows).encode(), "text/csv")
    return as_json([ledger.shown(row) for row in rows])


def show_weights(service: Service, _query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """Request weight as this exchange counted it, by address and minute."""
    return as_json(service.limits.shown())


def add_faults(service: Service, _query: dict[str, str], values: dict[str, Any]) -> Answer:
    """Activate one rule or a list of them, all or none."""
    try:
        added = service.add_faults(values["rules"] if set(values) == {"rules"} else [values])
    except BadRule as error:
        raise Denied(400, str(error)) from error
    return as_json({"added": added, "rules": len(service.faults.rules)})


def show_faults(service: Service, _query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """The rules with their hits."""
    return as_json(service.faults.shown())


def clear_faults(service: Service, query: dict[str, str], _values: dict[str, Any]) -> Answer:
    """Remove every rule; with a symbol only those of this one, whose hits are still told."""
    if "symbol" in query:
        service.faults.call_off(query["symbol"])
    else:
        service.faults.clear()
    return as_json({"rules": len(service.faults.rules)})


def run_verb(service: Service, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
    """One call under /paper/. Raises Denied, Refusal or JSONDecodeError with nothing changed."""
    verb = VERBS.get((method, path))
    if verb is None:
        raise Denied(404, f"no such call: {method} {path}")
    values = orjson.loads(body) if body else {}
    if not isinstance(values, dict):
        raise Denied(400, "the body must be a JSON object")
    return verb(service, query, values)


Verb = Callable[[Service, dict[str, str], dict[str, Any]], Answer]
VERBS: dict[tuple[str, str], Verb] = {
    ("GET", "/paper/status"): status,
    ("POST", "/paper/advance"): advance,
    ("POST", "/paper/mark"): pin_mark,
    ("POST", "/paper/symbol"): change_symbol,
    ("POST", "/paper/account"): change_account,
    ("GET", "/paper/wallets"): wallets,
    ("GET", "/paper/ledger"): show_ledger,
    ("GET", "/paper/weights"): show_weights,
    ("POST", "/paper/faults"): add_faults,
    ("GET", "/paper/faults"): show_faults,
    ("DELETE", "/paper/faults"): clear_faults,
}
