from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django_celery_beat.admin import ClockedScheduleAdmin as BeatClockedScheduleAdmin
from django_celery_beat.admin import CrontabScheduleAdmin as BeatCrontabScheduleAdmin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatPeriodicTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm, TaskSelectWidget
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


class DeskTaskSelectWidget(UnfoldAdminSelectWidget, TaskSelectWidget):  # type: ignore[misc]  # neither has types
    """The registered tasks in the admin's own style."""


class DeskPeriodicTaskForm(PeriodicTaskForm):  # type: ignore[misc]  # the library has no types
    """A tick in the admin's own style."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = DeskTaskSelectWidget()


@admin.register(PeriodicTask)
class DeskPeriodicTaskAdmin(BeatPeriodicTaskAdmin, ModelAdmin):  # type: ignore[misc]  # neither has types
    """The ticks of beat; what an operator changes here is kept."""

    form = DeskPeriodicTaskForm

    def get_actions(self, request: HttpRequest) -> Any:
        """The library's actions switch ticks off and run them: only for who may change them."""
        return super().get_actions(request) if self.has_change_permission(request) else {}


@admin.register(IntervalSchedule)
class DeskIntervalScheduleAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Every so often."""


@admin.register(CrontabSchedule)
class DeskCrontabScheduleAdmin(BeatCrontabScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # neither has types
    """At times of day."""


@admin.register(ClockedSchedule)
class DeskClockedScheduleAdmin(BeatClockedScheduleAdmin, ModelAdmin):  # type: ignore[misc]  # neither has types
    """Once, at a moment."""
