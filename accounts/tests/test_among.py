"""`Among` is `__in` with one parameter."""

import pytest
from django.db.models import Q

from accounts.models import Account
from accounts.services.among import Among

pytestmark = pytest.mark.django_db


@pytest.fixture
def names() -> list[str]:
    return [Account.objects.create(name=name).name for name in ("one", "two", "'; three {\"}", "four")]


def test_it_finds_what_in_finds(names: list[str]) -> None:
    ids = list(Account.objects.values_list("pk", flat=True))

    assert set(Account.objects.filter(Among("name", names[1:3]))) == set(
        Account.objects.filter(name__in=names[1:3])
    )
    assert set(Account.objects.filter(Among("pk", ids[:2]), Among("name", names))) == set(
        Account.objects.filter(pk__in=ids[:2])
    )
    assert Account.objects.filter(~Q(Among("name", names[1:]))).get().name == "one"


def test_among_nothing_there_is_nothing(names: list[str]) -> None:
    assert len(names) == Account.objects.count()

    assert not Account.objects.filter(Among("pk", [])).exists()


def test_any_number_of_values_is_one_parameter() -> None:
    _, values = Account.objects.filter(Among("pk", range(1000))).query.sql_with_params()

    assert len(values) == 1
