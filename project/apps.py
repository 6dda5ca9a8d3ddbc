from django.apps import AppConfig

# Imported so that every task called from any process of the desk goes to our broker.
from project.celery import app as celery_app

__all__ = ["ProjectConfig", "celery_app"]


class ProjectConfig(AppConfig):
    """The wiring: its commands, no models."""

    name = "project"
    label = "project"
