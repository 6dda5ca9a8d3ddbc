from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """The `alerts` app."""

    name = "alerts"
    label = "alerts"
    default_auto_field = "django.db.models.BigAutoField"
