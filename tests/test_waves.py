"""A staged decision whose worker dies between its waves: it goes on, and no wave starts twice or unheard."""

from collections.abc import Callable

import pytest

from accounts.models import Account
from tests.trading_desk import TradingDesk
from trading.domain.states import OrderStatus
from trading.models import Decision, Order

pytestmark = [pytest.mark.whole_system, pytest.mark.drill, pytest.mark.timeout(240)]

ACCOUNTS, CANARIES = 6, 2
SLOW = {"kind": "delay", "endpoint": "POST /fapi/v1/*", "count": 0, "seconds": 0.6}
PATIENCE_SECONDS = 90.0


@pytest.fixture(scope="module")
def desk(open_desk: Callable[..., TradingDesk]) -> TradingDesk:
    # Time enough that what comes after the death is decided by the waves and not by the deadline.
    desk = open_desk(ACCOUNTS, LIMIT_RISK_PER_TRADE="0.25", LIMIT_DEADLINE_SECONDS="90")
    Account.objects.filter(name__in=desk.names[:CANARIES]).update(is_canary=True)
    desk.exchange.add_fault(**SLOW)
    return desk


@pytest.mark.parametrize(("coin", "seen"), [("LINK", "SENT"), ("ADA", "ANSWERED"), ("XRP", "RELEASED")])
def test_the_rest_goes_once_and_after_the_canaries_whenever_the_worker_dies(
    desk: TradingDesk, coin: str, seen: str
) -> None:
    desk.wait_ready()
    decision_id = desk.execute(coin, is_staged=True)
    wait_for_wave(desk, decision_id, seen)
    desk.programs.process("worker_orders").kill()
    ledger = desk.wait_complete(decision_id, PATIENCE_SECONDS)
    desk.wait_quiet(PATIENCE_SECONDS)

    assert ledger["counts"] == {"FILLED": ACCOUNTS}, ledger["allocations"]
    waves = {share["account"]: share["wave"] for share in ledger["allocations"]}
    assert waves == {name: 1 if name in desk.names[:CANARIES] else 2 for name in desk.names}
    entries = Order.objects.filter(purpose="ENTRY", allocation__decision__uuid=decision_id)
    taken = entries.filter(status=OrderStatus.FILLED)
    heard = [order.acknowledged_at for order in taken.filter(allocation__wave=1)]
    sent = [order.submitted_at for order in entries.filter(allocation__wave=2)]
    assert len(heard) == CANARIES
    assert len(sent) == ACCOUNTS - CANARIES
    assert max(at for at in heard if at is not None) < min(at for at in sent if at is not None)
    desk.assert_nothing_doubled_lost_or_unexplained()


def wait_for_wave(desk: TradingDesk, decision_id: str, seen: str) -> None:
    """Wait until the canaries were sent, answered, or the rest was let go."""
    canaries = Order.objects.filter(allocation__decision__uuid=decision_id, allocation__wave=1)
    found: dict[str, Callable[[], bool]] = {
        "SENT": lambda: canaries.filter(status=OrderStatus.SUBMITTED).count() == CANARIES,
        "ANSWERED": lambda: canaries.filter(acknowledged_at__isnull=False).count() == CANARIES,
        "RELEASED": lambda: Decision.objects.filter(uuid=decision_id, wave=2).exists(),
    }
    desk.wait_for(found[seen], f"the first wave to be {seen}")
