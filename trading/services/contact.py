"""Exits while the exchange is away, and the first moment it answers again."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from exchange.port import MarkPrice, OrderReport
from trading.domain.fallback import UNAVAILABLE
from trading.domain.percent import is_crossed
from trading.domain.protection import closes_on_contact
from trading.models import Position
from trading.services import intents, pictures
from trading.services.attempts import failed_attempts, unended_names
from trading.services.crossing import STOP_RULES
from trading.services.plans import plan_of
from trading.services.position_rows import lock_many, look_again

RETRY = timedelta(seconds=1)


def in_contact(ready: Sequence[Position], now: datetime) -> list[Position]:
    """Those whose exchange answers, as far as their last attempt leaves that in doubt.

    An outage costs one attempt and then one look a second, not an order a second. A stop-out that the mark
    has taken back meanwhile is not carried out, while its stop still rests.
    """
    cut_off = {position.pk for position in ready if _was_unreachable(position)}
    doubtful = [position for position in ready if position.pk in cut_off]
    listed = pictures.resting_stops_of(doubtful)
    marks = pictures.marks_of(one for one in doubtful if one.pk in listed and one.closing_for in STOP_RULES)
    for position in doubtful:
        look_again(position, now + RETRY)
    calm = {pk for pk, reports in listed.items() if _is_calm(pk, reports, marks.get(pk))}
    _withdraw(calm, now)
    return [one for one in ready if one.pk not in cut_off or (one.pk in listed and one.pk not in calm)]


def _was_unreachable(position: Position) -> bool:
    failed = failed_attempts(position)
    return bool(failed) and failed[0].code in UNAVAILABLE


def _is_calm(position_id: int, listed: Sequence[OrderReport], mark: MarkPrice | None) -> bool:
    """Whether the stop rests untouched and the mark is back inside; unknown is not calm."""
    position = Position.objects.get(pk=position_id)
    plan = plan_of(position)
    if plan is None or mark is None:
        return False
    names = unended_names(position)
    return not closes_on_contact(
        is_stop_untouched=any(report.client_order_id in names for report in listed),
        is_mark_inside=not is_crossed(
            is_long=plan.is_long, mark_price=mark.mark_price, stop_price=plan.stop_price
        ),
    )


def _withdraw(position_ids: Iterable[int], now: datetime) -> None:
    with transaction.atomic():
        for position in lock_many(position_ids):
            position.crossed_at = None
            intents.drop_intent(position, now, "the mark came back while the exchange was away")
