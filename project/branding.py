from django.conf import settings
from django.http import HttpRequest

BADGES = {"paper": "info", "testnet": "warning", "live": "danger"}


def mode_badge(_request: HttpRequest) -> list[str]:
    """The mode of the desk and its colour, for the head of every admin page."""
    return [settings.MODE.upper(), BADGES[settings.MODE]]
