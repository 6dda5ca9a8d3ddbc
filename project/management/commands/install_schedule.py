from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from project.schedule import install


class Command(BaseCommand):
    """Install the default schedule."""

    help = "Adds the schedules that are missing; one that exists is left as an operator set it."

    def handle(self, *_args: Any, **_options: Any) -> None:
        for name in install(timezone.now()):
            self.stdout.write(f"installed: {name}")
