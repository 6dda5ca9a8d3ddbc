"""The watchers that live: who leads, and who shares the accounts' streams."""

import uuid
from typing import ClassVar

from django.db import models

from accounts.rows import Row


class WatcherProcess(Row):
    """One watcher's process; it adds to `beats` while it lives, and whoever sees them stand still removes it.

    The first by `Meta.ordering` leads: one that hears marks before one that does not, then the oldest. No
    clock is compared: `beaten_at` is for people. A process that was removed and lives joins again as the
    youngest.
    """

    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120, help_text="Host and process id.")
    beats = models.BigIntegerField(default=0)
    hears_marks = models.BooleanField(default=False)
    joined_at = models.DateTimeField()
    beaten_at = models.DateTimeField()

    class Meta:
        """In the order in which they lead."""

        ordering: ClassVar = ["-hears_marks", "id"]

    def __str__(self) -> str:
        """Show where it runs."""
        return self.name
