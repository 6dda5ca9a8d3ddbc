"""Protection: each open position has a stop that was seen at the exchange, or it does not stay open.

1. Nothing is VERIFIED but what a stream or a successful list showed with the right side, trigger and cover.
2. A list that could not be read changes nothing; only a successful one that lacks every stop closes.
3. A stop is placed and seen before the one it replaces is cancelled; the hard stop stays to the end.
4. The stops of a closed position go when the exchange itself says that it is flat.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction

from alerts.models import Severity
from alerts.services import clear_alerts, raise_alert
from exchange.port import Market, MarkPrice, OrderReport
from trading.domain import protection as rule
from trading.domain.exit_plan import ExitPlan
from trading.domain.protection import ProtectionView, SeenStop, Step
from trading.domain.states import CloseReason, OrderPurpose, PositionStatus, Protection
from trading.models import Order, Position, PositionEvent
from trading.services import clearing, closing, pictures, plans, positions, stops
from trading.services.attempts import failed_attempts
from trading.services.bells import Bells
from trading.services.intents import want
from trading.services.position_changes import PROTECTION, PositionChanges
from trading.services.position_rows import lock_many, set_protection, step
from trading.services.stop_rows import StopRows

ZERO = Decimal(0)
LOOK_AGAIN = timedelta(seconds=1)
AT_ONCE = 3
"""Refusals within a second; a stop that is refused more often waits for the next look."""

ENDED_BY_A_STOP = ("unprotected", "stop-unseen", "stop-refused")

log = structlog.get_logger(__name__)


def protect(position_ids: Sequence[int], now: datetime) -> Bells:
    """Take every position one step further towards a verified stop; closed ones towards none."""
    found = list(Position.objects.filter(pk__in=position_ids).select_related("account"))
    bells = clearing.clear_stops([one for one in found if one.status == PositionStatus.CLOSED], now)
    ours = [one for one in found if one.status == PositionStatus.OPEN and not one.is_foreign]
    if not ours:
        return bells
    bells.add(_plan_unplanned(ours, now))
    rows = StopRows.of_many(ours)
    bells.add(_settle_where_flat(ours, rows, now))
    looks = pictures.resting_stops_of(one for one in ours if _is_read(one, rows[one.pk], now))
    marks = pictures.marks_of(one for one in ours if rows[one.pk].refusal == rule.WOULD_TRIGGER)
    visits = _Round(looks, marks, now)
    with transaction.atomic():
        locked = lock_many(rows)
        rows_now = StopRows.of_many(locked)
        for position in locked:
            if rows_now[position.pk] != rows[position.pk]:
                # A stop moved while we looked: what was seen is of before.
                bells.positions.append(position.pk)
            elif _is_held(position):
                visits.pay(position, rows[position.pk])
        visits.write()
    return bells.add(visits.bells)


def see(position_ids: Collection[int], now: datetime) -> Bells:
    """Write how sure a stream has just made us of stops; nothing is asked of the exchange.

    Rings the positions that need more than their rows can tell.
    """
    visits, bells = _Round({}, {}, now), Bells()
    with transaction.atomic():
        locked = lock_many(position_ids)
        rows = StopRows.of_many(locked)
        for position in locked:
            if rows[position.pk].is_told and _is_held(position):
                visits.pay(position, rows[position.pk])
            else:
                bells.positions.append(position.pk)
        visits.write()
    return bells.add(visits.bells)


def _is_held(position: Position) -> bool:
    """Whether it is open, ours, and has the plan that a stop is made from."""
    return position.status == PositionStatus.OPEN and not position.is_foreign and bool(position.plan)


def _is_read(position: Position, rows: StopRows, now: datetime) -> bool:
    """Whether the exchange is asked for the position's stops: not while its stream is about to tell."""
    is_about_to_be_told = position.market == Market.FUTURES and position.account.is_heard(now)
    return rows.needs_look and not (is_about_to_be_told and rows.is_just_accepted)


def _plan_unplanned(ours: Sequence[Position], now: datetime) -> Bells:
    """Positions whose fills came while the market table could not be read."""
    bells = Bells()
    for position_id in [position.pk for position in ours if not position.plan]:
        with transaction.atomic():
            for position in lock_many([position_id]):
                position.check_at = now + LOOK_AGAIN
                position.save()
                bells.add(positions.plan_and_stop(position, now))
    return bells


def _settle_where_flat(ours: Sequence[Position], rows: Mapping[int, StopRows], now: datetime) -> Bells:
    """A stop that expired or was refused as reduce-only may mean that nothing is left to protect."""
    doubtful = [position for position in ours if rows[position.pk].doubts_position]
    read = pictures.positions_of(position.account for position in doubtful)
    flat = [position.pk for position in doubtful if pictures.is_flat(position, read)]
    return closing.settle_flat(flat, now) if flat else Bells()


class _Round:
    """Visits to locked positions, with what was read of their stops, and what they leave to be written."""

    def __init__(
        self, looks: Mapping[int, Sequence[OrderReport]], marks: Mapping[int, MarkPrice], now: datetime
    ) -> None:
        self.bells = Bells()
        self._looks, self._marks, self._now = looks, marks, now
        self._changes = PositionChanges(PROTECTION)
        self._gone: list[str] = []

    def pay(self, position: Position, rows: StopRows) -> None:
        """Visit a position that is held by a plan of ours."""
        before = self._changes.values_of(position)
        visit = _Visit(position, rows, self._looks, self._marks, self._now)
        self.bells.add(visit.make())
        if visit.steps or self._changes.values_of(position) != before:
            self._changes.take(position, visit.steps)
        if position.protection == Protection.VERIFIED:
            self._gone += [f"{cause}:{position.pk}" for cause in ENDED_BY_A_STOP]

    def write(self) -> None:
        """Write what changed, and end the alerts whose cause is gone."""
        self._changes.write()
        if self._gone:
            clear_alerts(self._gone, self._now)


@dataclass(frozen=True, slots=True)
class _Visit:
    """One position under lock, with what was known and read of its stops before."""

    position: Position
    rows: StopRows
    looks: Mapping[int, Sequence[OrderReport]]
    marks: Mapping[int, MarkPrice]
    now: datetime
    steps: list[PositionEvent] = field(default_factory=list)

    def make(self) -> Bells:
        """Keep in the row in memory how sure we are, then take the next step."""
        self._mark_seen()
        view = self.view()
        self._keep(set_protection(self.position, rule.standing(view), self.now))
        bells = self._step(view)
        self._look_again(view)
        return bells

    def _keep(self, event: PositionEvent | None) -> None:
        if event is not None:
            self.steps.append(event)

    def _note(self, code: str, **detail: object) -> None:
        self._keep(step(self.position, code, self.now, **detail))

    @property
    def plan(self) -> ExitPlan:
        """The plan in the row."""
        plan = plans.plan_of(self.position)
        assert plan is not None  # noqa: S101 -- unplanned positions are not attempted
        return plan

    @property
    def seen(self) -> tuple[SeenStop, ...] | None:
        """What the newest successful look showed; without one, the stops a stream or earlier look showed."""
        listed = self.looks.get(self.position.pk)
        if listed is not None:
            return tuple(self.rows.seen_in(listed, is_spot=stops.is_spot(self.position)))
        return self.rows.seen_before or None

    def view(self) -> ProtectionView:
        """The facts the rule decides on."""
        position = self.position
        return ProtectionView(
            plan=self.plan,
            open_quantity=stops.stop_quantity(position),
            seen=self.seen,
            hard=self.rows.state(OrderPurpose.HARD_STOP),
            second=self.rows.state(OrderPurpose.WORKING_STOP),
            unprotected_seconds=self._age(self._unprotected_since, Protection.UNPROTECTED),
            unseen_seconds=self._age(position.acked_at, Protection.ACKED),
            is_spot=stops.is_spot(position),
            is_shared=position.foreign_quantity > 0,
            is_outgrown=self._is_outgrown,
        )

    @property
    def _is_outgrown(self) -> bool:
        """Whether a stop of it that was seen is too small by now, for an execution of the entry came late."""
        needed, listed = stops.stop_quantity(self.position), self._listed
        return any(
            order.quantity is not None
            and order.quantity < needed
            and (order.is_seen or order.client_order_id in listed)
            for order in self.rows.resting
        )

    @property
    def _listed(self) -> set[str]:
        """The client ids that the newest successful look showed."""
        return {report.client_order_id for report in self.looks.get(self.position.pk, ())}

    @property
    def _unprotected_since(self) -> datetime | None:
        """Since when no stop rests; a fill that was found late leaves its first stop time for an answer."""
        since = self.position.unprotected_since
        if since is None or not self.rows.in_flight:
            return since
        return max(since, self.rows.orders[-1].created_at)

    def _age(self, since: datetime | None, state: Protection) -> float:
        if since is None or self.position.protection != state:
            return 0.0
        return (self.now - since).total_seconds()

    def _mark_seen(self) -> None:
        listed = self._listed
        if newly := [
            order for order in self.rows.resting if order.client_order_id in listed and not order.is_seen
        ]:
            Order.objects.filter(pk__in=[order.pk for order in newly]).update(is_seen=True)

    def _look_again(self, view: ProtectionView) -> None:
        """When to come back: never for what rests verified, but at the plan's time limit."""
        position = self.position
        if position.is_closing or position.crossed_at is not None:
            # Whoever closes it has said when; only what is over is moved on.
            if position.check_at is None or position.check_at <= self.now:
                position.check_at = self.now + LOOK_AGAIN
            return
        is_settled = rule.standing(view) is Protection.VERIFIED and not self.rows.in_flight
        is_settled &= rule.next_step(view, settings.LIMITS) is Step.NOTHING and not self._is_unsure(view)
        position.check_at = view.plan.expires_at if is_settled else self.now + LOOK_AGAIN

    # ── steps ────────────────────────────────────────────────────────────────

    def _step(self, view: ProtectionView) -> Bells:
        if self.rows.is_firing or self.position.closing_for or self._is_unsure(view):
            return Bells()
        if self.rows.refused_at_trigger:
            return self._close_failed("its stop fired and was refused")
        after_refusal = self._after_refusal(view)
        if after_refusal is Step.CLOSE_AT_MARKET:
            return self._close_failed(f"{self.rows.refusal}, the mark is through the stop to be placed")
        step = after_refusal or rule.next_step(view, settings.LIMITS)
        actions = {
            Step.PLACE_HARD: self._place_hard,
            Step.PLACE_SECOND: self._place_second,
            Step.MOVE_WORKING: self._move_working,
            Step.CANCEL_LEFTOVER: self._cancel_leftovers,
            Step.CANCEL_PREVIOUS: self._cancel_previous,
            Step.ADOPT: self._adopt,
            Step.ALARM: self._alarm_unseen,
            Step.CLOSE_AT_MARKET: self._close_unprotected,
        }
        return actions[step](view) if step in actions else Bells()

    def _is_unsure(self, view: ProtectionView) -> bool:
        """Whether a stop was accepted beside one that protects, and nobody has seen yet that it rests."""
        is_unseen = self.rows.needs_look and self.position.pk not in self.looks
        return is_unseen and rule.standing(view) is Protection.VERIFIED

    def _after_refusal(self, view: ProtectionView) -> Step | None:
        """The step the exchange's refusal asks for; None where the ordinary one is right."""
        code = self.rows.refusal
        if not code or view.unprotected_seconds >= settings.LIMITS.unprotected_seconds:
            return None
        mark = self.marks.get(self.position.pk)
        step = rule.after_refusal(
            code,
            plan=view.plan,
            open_quantity=view.open_quantity,
            mark_price=mark.mark_price if mark else None,
            seen=view.seen,
        )
        self._tell_refused(code)
        return None if step is Step.LOOK and self._has_looked(code) else step

    def _has_looked(self, code: str) -> bool:
        """Whether what the refusal asked to look at is known by now, and is not in the way any more."""
        if code == rule.STOP_EXISTS:
            return self.position.pk in self.looks
        return code != rule.WOULD_TRIGGER

    def _place_hard(self, _view: ProtectionView) -> Bells:
        if self.rows.refused_since(self.now - LOOK_AGAIN) >= AT_ONCE:
            return Bells()
        if self._is_place_taken():
            return _sent(stops.order_second_stop(self.position, self.now))
        return _sent(stops.order_hard_stop(self.position, self.now))

    def _is_place_taken(self) -> bool:
        """Whether a stranger's close-position stop rests there: beside it only a quantity is accepted."""
        return any(stop.purpose is None and stop.quantity is None for stop in self.seen or ())

    def _place_second(self, _view: ProtectionView) -> Bells:
        self._alarm_unseen(_view)
        return _sent(stops.order_second_stop(self.position, self.now))

    def _move_working(self, view: ProtectionView) -> Bells:
        """Place the stop at the plan's present price; on spot the old one first has to free its coins."""
        if self.position.is_closing and not failed_attempts(self.position):
            return Bells()  # the leg is sold first, so that the stop is for what is left
        if stops.is_spot(self.position):
            return Bells(cancel=[order.pk for order in self.rows.resting])
        if self.rows.refused_since(self.now - LOOK_AGAIN) >= AT_ONCE or self._awaits_listing(view):
            return Bells()
        return _sent(stops.order_working_stop(self.position, self.now))

    def _awaits_listing(self, view: ProtectionView) -> bool:
        """Whether the very stop was just accepted and no list has it yet; each look would place one more."""
        lately = self.now - timedelta(seconds=settings.LIMITS.second_stop_seconds)
        return any(
            order.trigger_price == view.plan.stop_price
            and (order.quantity or ZERO) >= view.open_quantity
            and order.created_at > lately
            and not (order.is_seen or order.client_order_id in self._listed)
            for order in self.rows.resting
        )

    def _cancel_leftovers(self, view: ProtectionView) -> Bells:
        names = [stop.client_order_id for stop in rule.leftovers(view)]
        leftovers = Order.objects.filter(client_order_id__in=names, account_id=self.position.account_id)
        self._note("LEFTOVER_STOP", orders=names)
        return Bells(cancel=list(leftovers.values_list("pk", flat=True)), positions=[self.position.pk])

    def _cancel_previous(self, view: ProtectionView) -> Bells:
        names = {stop.client_order_id for stop in rule.superseded(view)}
        return Bells(cancel=[order.pk for order in self.rows.resting if order.client_order_id in names])

    def _adopt(self, view: ProtectionView) -> Bells:
        """A close-position stop of ours rests already and is right: it is this position's now."""
        names = [stop.client_order_id for stop in view.seen or () if stop.quantity is None]
        Order.objects.filter(client_order_id__in=names, account_id=self.position.account_id).update(
            position=self.position, is_seen=True
        )
        self._note("STOP_ADOPTED", orders=names)
        return Bells()

    def _close_failed(self, why: str) -> Bells:
        """The incident "closed at failed stop"."""
        self._alert("stop-failed", Severity.CRITICAL, "STOP_FAILED", f"closed at failed stop: {why}")
        self._note("STOP_FAILED", why=why)
        self._keep(want(self.position, CloseReason.STOP_FAILED, self.now))
        return Bells(positions=[self.position.pk])

    def _close_unprotected(self, view: ProtectionView) -> Bells:
        how = "no stop was accepted" if not view.unseen_seconds else "a successful list has none of its stops"
        self._alert("unprotected", Severity.CRITICAL, "UNPROTECTED", f"closed at market: {how}")
        self._keep(want(self.position, CloseReason.UNPROTECTED, self.now))
        return Bells(positions=[self.position.pk])

    def _alarm_unseen(self, view: ProtectionView) -> Bells:
        seconds = round(view.unseen_seconds)
        text = f"its stop was accepted {seconds} s ago and was seen nowhere since"
        self._alert("stop-unseen", Severity.WARNING, "STOP_UNSEEN", text)
        return Bells()

    def _tell_refused(self, code: str) -> None:
        self._alert(
            "stop-refused", Severity.WARNING, "STOP_REFUSED", f"the exchange refused its stop: {code}"
        )

    def _alert(self, cause: str, severity: Severity, code: str, text: str) -> None:
        raise_alert(
            f"{cause}:{self.position.pk}",
            severity,
            code,
            f"{self.position.symbol}: {text}",
            account=self.position.account.name,
            symbol=self.position.symbol,
            now=self.now,
        )


def _sent(order: Order | None) -> Bells:
    return Bells(exits=[order.pk]) if order else Bells()
