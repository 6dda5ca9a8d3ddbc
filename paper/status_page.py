"""The page at `/`: accounts, positions, prices, request rates and weights, faults."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from html import escape

from paper.engine.margin import Exposure, Summary, liquidation_price, summary
from paper.service import Service

STYLE = """
:root{color-scheme:light dark}
:root{--ink:#1b2430;--soft:#56657a;--line:#e3e7ec;--paper:#fff;--gain:#0a7d4f;--loss:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa7b8;--line:#2a323d;--paper:#12161c}}
@media(prefers-color-scheme:dark){:root{--gain:#4cc38a;--loss:#ff8a80}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:74rem;padding:1.5rem 1rem 3rem}
body{color:var(--ink);background:var(--paper)}
h1{font-size:1.35rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}p{margin:.2rem 0;color:var(--soft)}
dl{display:grid;grid-template-columns:repeat(4,1fr);gap:1rem 1.5rem;margin:1.2rem 0 0}
@media(max-width:36rem){dl{grid-template-columns:repeat(2,1fr)}}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}th:last-child,td:last-child{padding-right:0}
th{font-weight:600;color:var(--soft);font-size:.85rem}td{font-variant-numeric:tabular-nums}
.gain{color:var(--gain)}.loss{color:var(--loss)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:0 2.5rem}
"""
MAX_ROWS = 200
SHOWN_ENDPOINTS = 12
SHOWN_LETTERS = 4


def table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    """A titled table, or a line that says it is empty."""
    if not rows:
        return f"<section><h2>{escape(title)}</h2><p>None.</p></section>"
    head = "".join(f"<th scope=col>{escape(column)}</th>" for column in columns)
    lines = ("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    more = f"<p>The first {MAX_ROWS} are shown.</p>" if len(rows) == MAX_ROWS else ""
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f"<section><h2>{escape(title)}</h2><div class=scroll><table>{body}</table></div>{more}</section>"


def _cell(text: str) -> str:
    """A number with a sign says by its colour, too, whether it is a gain."""
    kind = {"+": " class=gain", "\N{MINUS SIGN}": " class=loss"}.get(text[:1], "")
    return f"<td{kind}>{escape(text)}</td>"


def _signed(value: Decimal) -> str:
    if not round(value, 2):
        return "0.00"
    return f"+{value:,.2f}" if value > 0 else f"\N{MINUS SIGN}{-value:,.2f}"


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _heading(service: Service) -> str:
    venue = service.exchange.venue
    how = "lockstep" if service.options.lockstep else "running"
    open_positions = sum(len(held) for held in venue.held.values())
    numbers = {
        "accounts": f"{len(venue.portfolios):,}",
        "open positions": f"{open_positions:,}",
        "requests a second": f"{service.traffic.a_second(time.time()):,.1f}",
        "requests so far": f"{service.requests:,}",
        "streams open": f"{len(service.hub.connections):,}",
        "ledger rows": f"{len(venue.ledger):,}",
        "last tick": f"{service.tick.engine_ms + service.tick.telling_ms:.1f} ms",
        "fault rules": f"{len(service.faults.rules)}",
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{number}</dd></div>" for name, number in numbers.items())
    return (
        f"<h1>Paper exchange</h1><p>{escape(service.feed.kind)} feed, {how}, "
        f"at {_moment(service.feed.now_ms)}</p><dl>{shown}</dl>"
    )


def _position_row(key: str, line: Exposure, totals: Summary) -> list[str]:
    position, price = line.position, line.instrument.price
    liquidation = liquidation_price(line, totals)
    return [
        f"{key} {position.symbol} {position.position_side}",
        f"{position.quantity:f}",
        price(position.entry_price),
        price(line.mark),
        _signed(line.unrealized),
        f"{line.leverage}x {'isolated' if line.isolated else 'cross'}",
        price(liquidation) if liquidation else "none",
    ]


def named(key: str, *, in_full: bool) -> str:
    """The key, or its beginning: an account that brought no secret of its own signs with its key."""
    return key if in_full else f"{key[:SHOWN_LETTERS]}\N{HORIZONTAL ELLIPSIS}"


def _holdings(service: Service, *, in_full: bool) -> str:
    """Accounts and their positions."""
    accounts, positions = [], []
    for portfolio in list(service.exchange.venue.portfolios.values())[:MAX_ROWS]:
        totals = summary(service.exchange.venue, portfolio)
        key = named(portfolio.account.key, in_full=in_full)
        waiting = len(portfolio.open_orders) + len(portfolio.open_conditionals)
        money = [f"{totals.wallet:,.2f}", _signed(totals.unrealized), f"{totals.available:,.2f}"]
        accounts.append([key, *money, str(waiting)])
        open_lines = [line for line in totals.exposures if line.position.quantity]
        positions += [_position_row(key, line, totals) for line in open_lines]
    columns = ["position", "quantity", "entry", "mark", "profit, USDT", "margin", "liquidation"]
    owners = ["key", "wallet, USDT", "unrealised, USDT", "available, USDT", "open orders"]
    return table("Accounts", owners, accounts) + table("Positions", columns, positions[:MAX_ROWS])


def _prices(service: Service) -> str:
    venue = service.exchange.venue
    rows = [
        [q.symbol, venue.markets.futures[q.symbol].price(q.mark), f"{q.funding_rate * 100:.4f} %"]
        for q in venue.quotes.values()
    ]
    return table("Prices", ["symbol", "mark", "funding"], rows[:MAX_ROWS])


def _traffic(service: Service, *, in_full: bool) -> str:
    """What is asked for, what it weighs, and what is spoiled."""
    busiest = sorted(service.traffic.by_endpoint.items(), key=lambda entry: -entry[1])[:SHOWN_ENDPOINTS]
    weights = [[address, str(window.used)] for address, window in service.limits.weights.items()]
    rules = [
        [r.kind, r.endpoint, named(r.account, in_full=in_full), r.symbol, f"{r.hits} of {r.count or 'any'}"]
        for r in service.faults.rules
    ]
    return (
        table("Requests so far", ["endpoint", "requests"], [[name, f"{n:,}"] for name, n in busiest])
        + table("Request weight this minute", ["address", "used"], weights[:MAX_ROWS])
        + table("Faults", ["kind", "endpoint", "account", "symbol", "hits"], rules[:MAX_ROWS])
    )


def page(service: Service, *, in_full: bool) -> bytes:
    """The whole page, renewed each five seconds; no script, nothing from elsewhere.

    Keys are shown in full to this host only.
    """
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>Paper exchange</title><style>{STYLE}</style><main>"
        f"{_heading(service)}{_holdings(service, in_full=in_full)}"
        f"<div class=pair><div>{_prices(service)}</div><div>{_traffic(service, in_full=in_full)}</div></div>"
        "</main></html>"
    ).encode()
