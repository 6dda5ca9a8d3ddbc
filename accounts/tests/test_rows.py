"""Rows made of their columns are the rows that Django would have made."""

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, AccountGroup
from accounts.rows import Row
from trading.services.many_rows import new_row

MODELS = [model for model in apps.get_models() if issubclass(model, Row)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_new_row_is_as_the_constructor_makes_it(model: type[Row]) -> None:
    made_anew = {"uuid", "uid"}
    made, ours = model().__dict__, new_row(model).__dict__
    assert made.keys() == ours.keys()
    kept = made.keys() - made_anew - {"_state"}
    assert {name: made[name] for name in kept} == {name: ours[name] for name in kept}
    assert (ours["_state"].adding, ours["_state"].db) == (True, None)


@pytest.mark.django_db
def test_a_row_that_was_read_is_saved_and_equal_to_what_was_written() -> None:
    written = Account.objects.create(name="one", group=AccountGroup.objects.create(name="house"))
    read = Account.objects.select_related("group").get(pk=written.pk)
    assert (read, read.group) == (written, written.group)
    assert (read._state.adding, read._state.db) == (False, "default")
    read.name = "another"
    read.save(update_fields=["name"])
    assert Account.objects.get().name == "another"


@pytest.mark.django_db
def test_a_column_that_was_not_asked_for_is_read_when_it_is_asked_for() -> None:
    Account.objects.create(name="one", leverage=7)
    row = Account.objects.only("name").get()
    assert "leverage" in row.get_deferred_fields()
    with CaptureQueriesContext(connection) as asked:
        assert (row.name, row.leverage) == ("one", 7)
    assert len(asked) == 1


@pytest.mark.django_db
def test_a_relation_that_was_given_is_as_one_that_was_assigned() -> None:
    house = AccountGroup.objects.create(name="house")
    given, assigned = Account.objects.create(name="one"), Account(name="two", group=house)
    given.relate(group=house)
    assert (given.group_id, given.group) == (assigned.group_id, assigned.group)
    with CaptureQueriesContext(connection) as asked:
        given.relate(group=None)
        assert (given.group_id, given.group) == (None, None)
    assert not asked


def test_the_key_of_a_row_is_its_column() -> None:
    row = Account()
    row.pk = 7
    assert (row.pk, row.id) == (7, 7)
