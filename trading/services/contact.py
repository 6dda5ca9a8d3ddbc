"""Stop-outs while the exchange is away, and the first moment it answers again."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from exchange.port import Market, MarkPrice, OrderReport, PositionReport
from trading.domain.fallback import UNAVAILABLE
from trading.domain.percent import is_crossed
from trading.domain.protection import closes_on_contact
from trading.models import Position
from trading.services import intents, pictures
from trading.services.attempts import failed_attempts, unended_names
from trading.services.intents import STOP_RULES
from trading.services.plans import plan_of
from trading.services.position_rows import lock_many, look_again

RETRY = timedelta(seconds=1)


def is_in_doubt(position: Position) -> bool:
    """Whether its last attempt never arrived and the mark may take it back. Other exits are tried again."""
    return position.closing_for in STOP_RULES and _was_unreachable(position)


def in_contact(
    doubtful: Sequence[Position], read: Mapping[int, Sequence[PositionReport]], now: datetime
) -> list[Position]:
    """The stop-outs in doubt that may go out: the exchange answers again with the positions or the stops.

    An outage costs one attempt and then one look a second, not an order a second. What the mark has taken
    back meanwhile is not carried out, while its stop still rests.
    """
    listed = pictures.resting_stops_of(doubtful)
    marks = pictures.marks_of(one for one in doubtful if one.pk in listed)
    for position in doubtful:
        look_again(position, now + RETRY)
    calm = {pk for pk, reports in listed.items() if _is_calm(pk, reports, marks.get(pk))}
    _withdraw(calm, now)
    answering = [one for one in doubtful if one.pk in listed or _was_read(one, read)]
    return [one for one in answering if one.pk not in calm]


def _was_read(position: Position, read: Mapping[int, Sequence[PositionReport]]) -> bool:
    """A futures reading says nothing of the spot exchange."""
    return position.market == Market.FUTURES and position.account_id in read


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
            if position.closing_for not in STOP_RULES:
                continue  # somebody asked for the close while we looked
            position.crossed_at = None
            intents.drop_intent(position, now, "the mark came back while the exchange was away")
