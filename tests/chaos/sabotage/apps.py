"""The application that takes a safeguard out of a desk's programs."""

import importlib

from django.apps import AppConfig


class Sabotage(AppConfig):
    """Puts itself between the desk and its safeguards when everything is loaded."""

    name = "tests.chaos.sabotage"
    label = "sabotage"

    def ready(self) -> None:
        """The desk's services load only when every application has its models."""
        importlib.import_module("tests.chaos.sabotage.safeguards").take_out()
