"""The figures of a run: what the rows say, and what the exchange counted."""

from collections import Counter
from typing import Any

from tests.chaos.decks import ORDER, STOP
from tests.processes import PaperExchange
from trading.domain.states import OrderPurpose
from trading.models import Allocation, Decision, Order, Position


def sent_entries() -> int:
    """Entry orders that left, or were about to."""
    return Order.objects.filter(purpose=OrderPurpose.ENTRY, submitted_at__isnull=False).count()


def of_rows() -> dict[str, Any]:
    """What the rows say of the run."""
    outcomes = Counter(
        f"{outcome} {code}".strip() for outcome, code in Allocation.objects.values_list("outcome", "code")
    )
    return {
        "decisions": Decision.objects.exclude(status="NONE").count(),
        "orders": sent_entries(),
        "all_orders": Order.objects.count(),
        "outcomes": dict(sorted(outcomes.items())),
        "closed": dict(Counter(Position.objects.values_list("close_reason", flat=True))),
    }


def of_exchange(exchange: PaperExchange) -> dict[str, Any]:
    """What the exchange counted: placements asked for, and requests it refused as too old or ahead."""
    status = exchange.get("/paper/status")
    asked = status["requests_by_endpoint"]
    late = {f"{endpoint} -1021": status["refusals"].get(f"{endpoint} -1021", 0) for endpoint in (ORDER, STOP)}
    return {"placements": asked.get(ORDER, 0) + asked.get(STOP, 0), "refused_by_their_timestamp": late}
