"""The product's settings, and an application that takes a safeguard out."""

from project.settings import *  # noqa: F403 -- settings are laid over settings
from project.settings import INSTALLED_APPS as PRODUCT_APPS

INSTALLED_APPS = [*PRODUCT_APPS, "tests.chaos.sabotage.apps.Sabotage"]
