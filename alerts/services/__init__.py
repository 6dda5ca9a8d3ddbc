"""What people must be told: record, acknowledge, clear."""

from alerts.services.record import acknowledge, clear_alert, clear_alerts, raise_alert

__all__ = ["acknowledge", "clear_alert", "clear_alerts", "raise_alert"]
