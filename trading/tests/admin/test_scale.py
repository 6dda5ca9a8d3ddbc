"""The admin over many accounts and orders: no list asks the database more for more rows."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from redis import Redis

from bench.admin import pages
from bench.history import fill
from trading.services.tokens import create_token

pytestmark = pytest.mark.django_db

MOST = 15


def questions(client: Client) -> dict[str, int]:
    """How many statements each page takes, by its name."""
    asked = {}
    for page in pages():
        with CaptureQueriesContext(connection) as seen:
            assert client.get(page.path).status_code == 200, page
            asked[page.name] = len(seen)
    return asked


def test_no_page_of_the_admin_asks_much_nor_a_list_more_for_more_rows(redis: Redis) -> None:
    """Once with a few rows, once with more than a page shows of nearly everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    call_command("install_schedule")
    create_token("bot", ["read"])
    fill(accounts=3, orders=6)
    few = questions(client)
    fill(accounts=60, orders=180)
    many = questions(client)

    assert {name: count for name, count in many.items() if count > MOST} == {}
    assert {name: (few[name], many[name]) for name in many if many[name] > few.get(name, MOST)} == {}
    assert len(many) > len(admin.site._registry)
