"""Leverage or margin mode that is not as asked under an open position: followed, told, never fought.

A change at the exchange moves the liquidation under a position that stands. Its row follows what was read
back, its plan is made again by the real leverage, which only ever tightens the stop, and a stop that would
lie beyond the liquidation's share is brought inside it. Entries on the symbol wait (`SETTINGS`).
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import BooleanField, Case, Exists, OuterRef, Q, QuerySet, Value, When

from accounts.models import Account, MarginMode, SymbolSetting
from alerts.models import Alert, Severity
from alerts.services import clear_alerts, raise_alert
from exchange.port import Market, PositionReport
from trading.domain.exit_plan import ExitPlan
from trading.domain.gate import liquidation_distance
from trading.domain.instrument import Instrument, round_stop
from trading.domain.limits import Limits
from trading.domain.percent import ONE, price_at
from trading.domain.states import PositionStatus
from trading.models import Position
from trading.services import plans
from trading.services.bells import Bells
from trading.services.position_rows import lock_many, note

CODE = "SETTINGS_CHANGED"
CAUSE = "settings-changed:"


def follow(now: datetime) -> Bells:
    """Bring open positions into line with the settings last read back, and tell which are not as asked."""
    held = Position.objects.filter(status=PositionStatus.OPEN, is_foreign=False, market=Market.FUTURES)
    bells = Bells()
    with transaction.atomic():
        for position in lock_many(held.filter(_runs_at_another_leverage()).values_list("pk", flat=True)):
            _follow_leverage(position, now)
            bells.positions.append(position.pk)
    _tell(held.filter(_is_not_as_asked()).select_related("account"), now)
    return bells


def note_margin_modes(account: Account, reports: Iterable[PositionReport], now: datetime) -> None:
    """What open positions show of their margin mode, where the venue tells it with them."""
    for report in reports:
        if report.is_isolated is not None:
            known = SymbolSetting.objects.filter(account=account, symbol=report.symbol)
            known.exclude(is_isolated=report.is_isolated).update(is_isolated=report.is_isolated, read_at=now)


def _of_position() -> QuerySet[SymbolSetting]:
    return SymbolSetting.objects.filter(account=OuterRef("account"), symbol=OuterRef("symbol"))


def _runs_at_another_leverage() -> Exists:
    return Exists(_of_position().exclude(leverage=OuterRef("leverage")))


def _is_not_as_asked() -> Exists:
    wants_isolated = Case(
        When(account__margin_mode=MarginMode.ISOLATED, then=Value(value=True)),
        default=Value(value=False),
        output_field=BooleanField(),
    )
    settings_of = _of_position().annotate(wants_isolated=wants_isolated)
    return Exists(settings_of.exclude(Q(leverage=OuterRef("account__leverage"), is_isolated=wants_isolated)))


def _follow_leverage(position: Position, now: datetime) -> None:
    setting = SymbolSetting.objects.get(account=position.account_id, symbol=position.symbol)
    instrument, plan = plans.instrument_of(position), plans.plan_of(position)
    if instrument is None:
        return  # without the market's filters no plan can be made: the next tick finds it still to be done
    before, position.leverage = position.leverage, setting.leverage
    if plan is not None:
        limits = plans.limits_of(position.account)
        planned = plans.plan_for(position, instrument, limits)
        kept = _inside_liquidation(position, planned, instrument, setting, limits)
        plans.keep_plan(position, kept)
    position.check_at = now
    position.save()
    note(position, "LEVERAGE_CHANGED", now, before=before, leverage=setting.leverage)
    if plan is not None and position.stop_price != plan.stop_price:
        note(position, "STOP_MOVED", now, stop_price=position.stop_price, reason=plan.stop_reason)


def _inside_liquidation(
    position: Position, plan: ExitPlan, instrument: Instrument, setting: SymbolSetting, limits: Limits
) -> ExitPlan:
    """Bring the stop before the liquidation, as an entry must have it; cross margin has none of its own."""
    bracket = instrument.bracket_at(position.quantity * position.entry_price)
    if bracket is None or not setting.is_isolated:
        return plan
    distance = liquidation_distance(
        is_long=plan.is_long,
        margin_ratio=ONE / setting.leverage,
        maint_margin_ratio=bracket.maint_margin_ratio,
    )
    farthest = max(Decimal(0), limits.liquidation_share * distance)
    price = price_at(is_long=plan.is_long, entry_price=plan.entry_price, move=-farthest)
    return plan.tighten(round_stop(price, plan.tick, is_long=plan.is_long), plan.stop_reason)


def _tell(others: Iterable[Position], now: datetime) -> None:
    standing = set()
    for position in others:
        setting = SymbolSetting.objects.get(account=position.account_id, symbol=position.symbol)
        account, cause = position.account, f"{CAUSE}{position.pk}"
        standing.add(cause)
        mode = MarginMode.ISOLATED if setting.is_isolated else MarginMode.CROSS
        raise_alert(
            cause,
            Severity.WARNING,
            CODE,
            f"{position.symbol}: the exchange runs it at {setting.leverage}x {mode}, asked for were"
            f" {account.leverage}x {account.margin_mode}; its plan follows, entries wait.",
            account=account.name,
            symbol=position.symbol,
            now=now,
        )
    told = Alert.objects.filter(code=CODE, cleared_at__isnull=True).values_list("cause", flat=True)
    clear_alerts(list(set(told) - standing), now)
