"""Webhooks of TradingView: who may post, and what an alert leads to: signals of the webhook's one source.

TradingView sends no header of its own and signs nothing, so a random path and a token in the message stand
in for a signature. What is refused is logged, counted on its webhook and told to people; no signal is stored.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import RedisError

from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.redaction import redact
from trading.domain import tradingview
from trading.domain.tradingview import Advice, AlertRefused
from trading.models import Signal, SignalSource, Webhook
from trading.services import market
from trading.services.bells import Bells
from trading.services.signals import SignalDraft, SignalRefused, intake
from trading.services.tokens import USE_NOTED_EVERY, hashed
from trading.services.valkey import valkey

log = structlog.get_logger(__name__)

TOKEN_MARK = "pht_"  # noqa: S105 - what every token starts with, so that a leaked one can be found by search
MINUTE = 60
WHY_LENGTH = 300


class WebhookRefused(ValueError):
    """The webhook cannot be made; the message says why."""


class TooManyAlerts(Exception):
    """More entries in this minute than a webhook takes; the signal is not stored."""


class NotCounted(Exception):
    """Valkey does not answer: entries are not taken, closes and cancels are, and all are to be sent again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A webhook with the two secrets that can be read this once."""

    webhook: Webhook
    path_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What an alert led to: the signal it names, one that closes first where it turned round, whether new."""

    signal: Signal
    closing: Signal | None
    is_new: bool


# ── webhooks ─────────────────────────────────────────────────────────────────


def create_webhook(
    name: str,
    source: SignalSource,
    by: str,
    *,
    symbols: str = "",
    side: str = "",
    max_age_seconds: int = 120,
) -> Opened:
    """Make a webhook and return its secrets: the only time they can be read.

    Raises WebhookRefused for a name in use or a symbol nobody lists, ReadFailed when no market was ever read.
    """
    path_id, token = secrets.token_urlsafe(32), TOKEN_MARK + secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            webhook = Webhook.objects.create(
                name=name,
                source=source,
                path_start=path_id[:6],
                path_hash=hashed(path_id),
                token_hash=hashed(token),
                symbols=read_symbols(symbols),
                side=side,
                max_age_seconds=max_age_seconds,
                created_by=by,
            )
    except IntegrityError as error:
        raise WebhookRefused(f"a webhook named {name} exists") from error
    return Opened(webhook, path_id, token)


def read_symbols(written: str) -> str:
    """Symbols in any accepted spelling as the desk spells them, apart by blanks.

    Raises WebhookRefused for one nobody lists, ReadFailed when no market was ever read.
    """
    symbols = []
    for word in written.replace(",", " ").split():
        symbol = market.unified_symbol(word)
        if symbol is None:
            raise WebhookRefused(f"{word[:40]!r} is no perpetual market of this exchange")
        symbols.append(symbol)
    return " ".join(dict.fromkeys(symbols))


def revoke_webhook(webhook: Webhook, now: datetime) -> bool:
    """End a webhook at once; False when it had ended before."""
    return Webhook.objects.filter(pk=webhook.pk, revoked_at__isnull=True).update(revoked_at=now) == 1


def find_webhook(path_id: str) -> Webhook | None:
    """The living webhook of this path. Every one is compared, each in constant time."""
    told, found = hashed(path_id), None
    for webhook in Webhook.objects.select_related("source").filter(revoked_at__isnull=True):
        if compare_digest(webhook.path_hash, told):
            found = webhook
    return found


def is_its_token(webhook: Webhook | None, token: str) -> bool:
    """Whether this is the webhook's token; as long in the looking where there is no webhook."""
    is_same = compare_digest(webhook.token_hash if webhook else hashed(""), hashed(token))
    return is_same and webhook is not None


def note_refusal(webhook: Webhook | None, code: str, message: str, address: str) -> None:
    """Keep that an alert was refused, and why: in the log, and where its webhook is known, there and told."""
    named = webhook.name if webhook else ""
    log.warning("webhook_refused", webhook=named, code=code, address=address, why=message)
    if webhook is None:
        return
    now, why = timezone.now(), redact(f"{code}: {message}")[:WHY_LENGTH]
    Webhook.objects.filter(pk=webhook.pk).update(
        refused_count=F("refused_count") + 1, refused_at=now, refused_why=why
    )
    text = f"{webhook.name} refused an alert. {why}"
    raise_alert(_cause(webhook), Severity.WARNING, "WEBHOOK_REFUSED", text, now=now)


# ── alerts ───────────────────────────────────────────────────────────────────


def take_alert(
    webhook: Webhook,
    fields: Mapping[str, str],
    now: datetime,
    *,
    most_per_minute: int,
    ring: Callable[[Bells], None],
) -> Taken:
    """Store what the alert advises by the intake every signal takes, and ring for closes and cancels.

    The same alert again gives the rows it gave before. Raises SignalRefused, TooManyAlerts and ReadFailed
    with no entry stored; NotCounted when Valkey does not answer, closes being stored all the same: they are
    rows that the sweep finds.
    """
    try:
        advised = tradingview.read_advice(fields)
        # Stored before Valkey is asked anything: a close must not wait for one that does not answer.
        taken = [_leave(webhook, one, fields, now, ring) for one in advised if one.action != "open"]
        count = _count(webhook)
        taken += [
            _enter(webhook, one, fields, now, is_beyond=count > most_per_minute)
            for one in advised
            if one.action == "open"
        ]
    except AlertRefused as refused:
        raise SignalRefused(refused.code, refused.message) from refused
    _note_use(webhook)
    signal, is_new = taken[-1]
    return Taken(signal, taken[0][0] if len(taken) > 1 else None, is_new)


def _leave(
    webhook: Webhook,
    advice: Advice,
    fields: Mapping[str, str],
    now: datetime,
    ring: Callable[[Bells], None],
) -> tuple[Signal, bool]:
    signal, is_new = intake(webhook.source, _leaving(advice, fields), now)
    if is_new:
        ring(Bells(signals=[signal.pk]))
    return signal, is_new


def _enter(
    webhook: Webhook, advice: Advice, fields: Mapping[str, str], now: datetime, *, is_beyond: bool
) -> tuple[Signal, bool]:
    tradingview.refuse_unknown(fields)
    draft = _entering(advice, fields)
    _refuse_beyond(webhook, draft, now)
    if is_beyond:
        raise TooManyAlerts
    signal, is_new = intake(webhook.source, draft, now)
    if not is_new:
        _refuse_another(signal, draft, webhook)
    return signal, is_new


def _note_use(webhook: Webhook) -> None:
    """Once a minute, and at once where a refusal is over: each is a write, and a burst waits for them."""
    now, used, refused = timezone.now(), webhook.last_used_at, webhook.refused_at
    if used is None or now - used >= USE_NOTED_EVERY or (refused is not None and refused >= used):
        Webhook.objects.filter(pk=webhook.pk).update(last_used_at=now)
        clear_alert(_cause(webhook), now)


def _entering(advice: Advice, fields: Mapping[str, str]) -> SignalDraft:
    is_long = advice.side == "LONG"
    return SignalDraft(
        external_id=fields.get("id") or tradingview.content_id(fields, advice.action),
        symbol=fields.get("ticker", ""),
        side=advice.side,
        score=fields.get("score"),
        entry_price=fields.get("price"),
        stop_price=tradingview.exit_price(fields, "stop", is_above=not is_long),
        take_profit_price=tradingview.exit_price(fields, "take_profit", is_above=is_long),
        created_at=_time(fields),
        trace_id=_trace(),
    )


def _leaving(advice: Advice, fields: Mapping[str, str]) -> SignalDraft:
    """By its content alone: an id a strategy uses twice must not keep its second close from being one."""
    return SignalDraft(
        external_id=tradingview.content_id(fields, advice.action),
        symbol=fields.get("ticker", ""),
        side=advice.side,
        action=advice.action,
        created_at=_time(fields),
        trace_id=_trace(),
    )


def _time(fields: Mapping[str, str]) -> datetime:
    written = fields.get("time", "")
    try:
        return datetime.fromisoformat(written.strip())
    except ValueError:
        raise SignalRefused("TIME", f"time {written[:40]!r} is not a time; write {{{{timenow}}}}") from None


def _refuse_beyond(webhook: Webhook, draft: SignalDraft, now: datetime) -> None:
    if webhook.side and draft.side != webhook.side:
        raise SignalRefused("NOT_ALLOWED", f"{webhook.name} may enter {webhook.side} only")
    if webhook.symbols and market.unified_symbol(draft.symbol) not in webhook.symbols.split():
        raise SignalRefused("NOT_ALLOWED", f"{webhook.name} may not enter {draft.symbol[:40]!r}")
    made = draft.created_at
    if made is not None and made.tzinfo and now - made > timedelta(seconds=webhook.max_age_seconds):
        raise SignalRefused("STALE", f"created {(now - made).total_seconds():.0f} s ago")


def _refuse_another(known: Signal, draft: SignalDraft, webhook: Webhook) -> None:
    """An id that names an entry made before names no other: said again it is told, never lost in silence."""
    made = draft.created_at or known.created_at
    is_same = (known.symbol, known.side, known.action) == (
        market.unified_symbol(draft.symbol),
        draft.side,
        draft.action,
    )
    if not is_same or abs(made - known.created_at) > timedelta(seconds=webhook.max_age_seconds):
        raise SignalRefused(
            "ID_TAKEN", f"id {draft.external_id!r} names another signal; put {{{{timenow}}}} into it"
        )


def _count(webhook: Webhook) -> int:
    """How many alerts came in this minute, this one included. Raises NotCounted."""
    minute = int(timezone.now().timestamp()) // MINUTE
    key = f"desk:webhook:{webhook.pk}:{minute}"
    try:
        with valkey().pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, 2 * MINUTE)
            return int(pipe.execute()[0])
    except RedisError as error:
        raise NotCounted from error


def _trace() -> str:
    return str(structlog.contextvars.get_contextvars().get("trace_id", ""))


def _cause(webhook: Webhook) -> str:
    return f"webhook:{webhook.pk}"
