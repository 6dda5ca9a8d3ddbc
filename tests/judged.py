"""Decisions carried out to their end, and what the paper exchange's own ledger says of them."""

from collections import Counter
from datetime import timedelta

from accounts.models import Account
from tests.processes import PaperExchange
from trading.domain.states import OrderPurpose
from trading.models import Decision, Order, Signal
from trading.services import preparing
from trading.services.allocation import allocate
from trading.services.decisions import settle
from trading.services.selection import request
from trading.tests.services.holding import answer
from trading.tests.services.journey import now

ENTRY = "POST /fapi/v1/order"
AVOIDABLE = ("-2019", "-4164", "-1111", "-4005", "-2027")
"""Margin, minimum notional, precision, maximum quantity, leverage bracket: what a gate can know."""


def carried_out(signal: Signal, *, seconds_ago: float = 0) -> Decision:
    """Have a signal executed to its end, as if it had been decided so long ago."""
    decision = request(signal, now())
    preparing.prepare_decision(decision.pk, now())
    answer(allocate(decision.pk, now()))
    settle([decision.pk], now())
    made = decision.decided_at - timedelta(seconds=seconds_ago)
    Decision.objects.filter(pk=decision.pk).update(decided_at=made)
    decision.refresh_from_db()
    return decision


def ends(decision: Decision) -> list[tuple[str, str]]:
    """How each account's share ended, and by which code."""
    return list(decision.allocations.order_by("account_id").values_list("outcome", "code"))


def entered(exchange: PaperExchange, account: Account) -> int:
    """How many entries the exchange took of an account."""
    ours = set(Order.objects.filter(purpose=OrderPurpose.ENTRY).values_list("client_order_id", flat=True))
    rows = [row for row in exchange.ledger() if row["account"] == account.name and row["kind"] == "PLACED"]
    return sum(row["client_order_id"] in ours for row in rows)


def refused(exchange: PaperExchange) -> Counter[str]:
    """How often the exchange refused an order, by what a gate could have known."""
    told = exchange.get("/paper/status")["refusals"]
    return Counter({code: told.get(f"{ENTRY} {code}", 0) for code in AVOIDABLE})
