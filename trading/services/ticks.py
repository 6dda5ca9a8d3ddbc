"""Ticks taken once: two beats, or a message that came late or twice, do nothing twice."""

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from trading.models import TickSlot

KEPT = timedelta(days=2)


def take(job: str, every_seconds: int, now: datetime) -> bool:
    """Take the slot of `job` that `now` falls in; False when somebody has it already."""
    slot = int(now.timestamp()) // every_seconds
    try:
        with transaction.atomic():
            TickSlot.objects.create(job=job, slot=slot, taken_at=now)
    except IntegrityError:
        return False
    return True


def forget_old(now: datetime) -> int:
    """Delete slots nobody can ask for any more; returns how many."""
    deleted, _ = TickSlot.objects.filter(taken_at__lt=now - KEPT).delete()
    return deleted
