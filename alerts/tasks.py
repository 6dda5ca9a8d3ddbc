from celery import shared_task
from django.conf import settings

from alerts.services.delivery import deliver_due


@shared_task(name="alerts.tasks.deliver_alerts")
def deliver_alerts() -> None:
    """Tell people what they were not told yet."""
    deliver_due(settings.CLOCK.now())
