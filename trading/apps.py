from typing import Any

from django.apps import AppConfig
from django.db.models.signals import pre_save


class TradingConfig(AppConfig):
    """The `trading` app."""

    name = "trading"
    label = "trading"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let halts follow accounts and groups that are renamed, whoever renames them."""
        for model in ("accounts.Account", "accounts.AccountGroup"):
            pre_save.connect(_follow_rename, sender=model, dispatch_uid=f"halts of {model}")


def _follow_rename(sender: Any, instance: Any, **_: Any) -> None:
    from trading.models.operations import HaltScope  # noqa: PLC0415 -- models are not loaded before apps are
    from trading.services.halts import follow_rename  # noqa: PLC0415 -- as above

    before = sender.objects.filter(pk=instance.pk).values_list("name", flat=True).first()
    if before is not None and before != instance.name:
        scope = HaltScope.ACCOUNT if sender.__name__ == "Account" else HaltScope.GROUP
        follow_rename(scope, before, instance.name)
