"""Every list of the admin, and the forms behind them, over 2,000 accounts and 100,000 orders.

A page is asked for as a browser does, through every layer, by somebody signed in who may do everything.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account
from bench.figures import Bound, Figure, middle
from bench.history import fill
from bench.stage import Scale, Stage
from trading.models import Decision, Fill, Order, Position

ACCOUNTS, ORDERS = 2_000, 100_000
MOST_QUESTIONS, MOST_MS = Bound(15), Bound(500)
OK = 200
ON_A_PAGE = 50


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the admin by its name in the figures."""

    name: str
    path: str
    is_list: bool = True


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures, a page at a time."""
    stage.start_valkey()
    fill(scale.accounts_or(ACCOUNTS), 100 if scale.is_quick else ORDERS)
    client = signed_in("bench")
    for page in pages():
        yield _figures(client, page, scale.rounds_or(5))


def signed_in(name: str) -> Client:
    """A browser of somebody who may do everything."""
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser(name))
    return client


def pages() -> list[Page]:
    """Every list the admin has, then what people do with the long ones."""
    registered = sorted(admin.site._registry, key=_label)  # noqa: SLF001 -- Django has no other way to it
    lists = [Page(f"{_label(model)}_list", _path(model)) for model in registered]
    return [*lists, *_filtered(), *_forms()]


def _filtered() -> Iterator[Page]:
    accounts, orders = _path(Account), _path(Order)
    yield Page("accounts_searched", f"{accounts}?q=paper-01")
    yield Page("accounts_filtered", f"{accounts}?health__exact=HEALTHY&is_enabled__exact=1")
    yield Page("accounts_last_page", f"{accounts}?p={_pages(Account)}")
    yield Page("accounts_by_positions", f"{accounts}?o=-11")
    yield Page("orders_searched", f"{orders}?q=paper-0100")
    yield Page("orders_filtered", f"{orders}?status__exact=FILLED&market__exact=futures")
    yield Page("orders_in_the_middle", f"{orders}?p={max(1, _pages(Order) // 2)}")
    yield Page("fills_searched", f"{_path(Fill)}?q=paper-0100")
    yield Page("positions_open", f"{_path(Position)}?status__exact=OPEN")
    yield Page("positions_by_account", f"{_path(Position)}?o=1")


def _forms() -> Iterator[Page]:
    for model in (Account, Order, Position):
        row = model._default_manager.order_by("pk").first()  # noqa: SLF001 -- Django's own name for it
        if row is not None:
            yield Page(f"{_label(model)}_form", _path(model, "change", row.pk), is_list=False)
    filled = Decision.objects.filter(signal__isnull=False).first()
    if filled is not None:
        yield Page(f"{_label(Decision)}_form", _path(Decision, "change", filled.pk), is_list=False)


def _figures(client: Client, page: Page, rounds: int) -> list[Figure]:
    questions = _questions(client, page)
    wall, cpu = (middle(column) for column in zip(*(_open(client, page) for _ in range(rounds)), strict=True))
    return [
        Figure(f"admin_{page.name}_questions", questions, "", bound=MOST_QUESTIONS),
        Figure(
            f"admin_{page.name}",
            wall,
            "ms",
            bound=MOST_MS if page.is_list else None,
            note=f"CPU of this process {cpu:.0f} ms",
        ),
    ]


def _questions(client: Client, page: Page) -> int:
    """How many statements the page asks the database."""
    with CaptureQueriesContext(connection) as asked:
        _open(client, page)
        return len(connection.queries) - asked.initial_queries


def _open(client: Client, page: Page) -> tuple[float, float]:
    """Milliseconds until the whole page is there, and those that this process computed."""
    cpu, began = time.process_time(), time.perf_counter()
    status = client.get(page.path).status_code
    if status != OK:
        raise RuntimeError(f"{page.path} answered {status}")
    return (time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000


def _pages(model: type[Model]) -> int:
    """The number of the last page of fifty."""
    return max(1, -(-model._default_manager.count() // ON_A_PAGE))  # noqa: SLF001 -- Django's own name for it


def _path(model: type[Model], page: str = "changelist", *args: int) -> str:
    return reverse(f"admin:{_label(model)}_{page}", args=args)


def _label(model: type[Model]) -> str:
    return f"{model._meta.app_label}_{model._meta.model_name}"  # noqa: SLF001 -- Django's own name for it
