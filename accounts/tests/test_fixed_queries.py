"""A fixed query finds what its queryset finds with each value, and its words are worked out once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import DateTimeField, F, Q
from django.test.utils import CaptureQueriesContext

from accounts.models import Account, AccountGroup
from accounts.services.fixed_queries import (
    AmongGiven,
    FixedQuery,
    FixedTake,
    FixedUpdate,
    Given,
    Statement,
    carry_out,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def accounts() -> list[Account]:
    group = AccountGroup.objects.create(name="fast")
    told = [("one", group, NOON), ("two", None, NOON + timedelta(hours=1)), ("three", None, None)]
    return [Account.objects.create(name=name, group=of, heard_at=at) for name, of, at in told]


def test_objects_come_as_django_makes_them_with_their_relations(accounts: list[Account]) -> None:
    query = FixedQuery(
        lambda: (
            Account.objects.filter(AmongGiven("pk", "ids"))
            .select_related("group")
            .only("name", "uuid", "heard_at", "wallet_balance", "group__name")
            .order_by("name")
        )
    )
    query.ask(ids=[])

    with CaptureQueriesContext(connection) as asked:
        found = query.ask(ids={account.pk for account in accounts[:2]})
        told = [(one.name, one.uuid, one.heard_at, one.wallet_balance, one.group) for one in found]

    assert len(asked) == 1
    assert told == [(one.name, one.uuid, one.heard_at, one.wallet_balance, one.group) for one in accounts[:2]]
    assert found[0].group.name == "fast"
    assert found[0].get_deferred_fields() >= {"health"}
    assert not found[0]._state.adding


def test_columns_come_with_their_values_as_the_fields_have_them(accounts: list[Account]) -> None:
    query = FixedQuery(
        lambda: (
            Account.objects.filter(heard_at__lte=Given("moment", DateTimeField()))
            .order_by("pk")
            .values_list("uuid", "heard_at", "is_enabled")
        )
    )

    assert query.ask(moment=NOON) == [(accounts[0].uuid, NOON, True)]
    assert len(query.ask(moment=NOON + timedelta(hours=2))) == 2
    assert query.ask(moment=NOON - timedelta(hours=2)) == []


def test_an_update_tells_which_rows_it_changed(accounts: list[Account]) -> None:
    change = FixedUpdate(
        lambda: Account.objects.filter(
            Q(heard_at=None) | Q(heard_at__lt=Given("moment", DateTimeField())), AmongGiven("pk", "ids")
        ),
        heard_at=Given("moment", DateTimeField()),
        clock_offset_ms=F("clock_offset_ms") + 1,
        is_enabled=False,
    )
    later = NOON + timedelta(minutes=30)

    changed = change.ask(ids=[one.pk for one in accounts], moment=later)

    assert sorted(changed) == [accounts[0].pk, accounts[2].pk]
    for account in accounts:
        account.refresh_from_db()
    assert [one.heard_at for one in accounts] == [later, NOON + timedelta(hours=1), later]
    assert [one.clock_offset_ms for one in accounts] == [1, 0, 1]
    assert [one.is_enabled for one in accounts] == [False, True, False]
    assert change.ask(ids=[one.pk for one in accounts], moment=NOON) == []


def test_a_value_that_is_not_told_is_missed(accounts: list[Account]) -> None:
    query = FixedQuery(lambda: Account.objects.filter(AmongGiven("pk", "ids")))

    with pytest.raises(KeyError):
        query.ask(other=[accounts[0].pk])


def test_a_queryset_is_made_once(accounts: list[Account]) -> None:
    made = []

    def meant() -> object:
        made.append(1)
        return Account.objects.filter(AmongGiven("pk", "ids")).values_list("name")

    query = FixedQuery(meant)  # type: ignore[arg-type]  # it counts

    assert [query.ask(ids=[one.pk]) for one in accounts] == [[("one",)], [("two",)], [("three",)]]
    assert made == [1]


def test_rows_that_are_changed_come_as_they_are_then_with_their_relations(accounts: list[Account]) -> None:
    take = FixedTake(
        lambda: Account.objects.filter(
            ~Q(heard_at=Given("moment", DateTimeField())), AmongGiven("pk", "ids"), group__isnull=False
        ),
        lambda: (
            Account.objects.select_related("group")
            .only("name", "clock_offset_ms", "group__name")
            .order_by("-pk")
        ),
        clock_offset_ms=F("clock_offset_ms") + 7,
        is_enabled=False,
    )
    Account.objects.filter(pk=accounts[1].pk).update(group=accounts[0].group)
    ids = [one.pk for one in accounts]

    found = take.ask(ids=ids, moment=NOON)
    assert [(one.name, one.clock_offset_ms, one.group.name) for one in found] == [("two", 7, "fast")]
    assert [one.is_enabled for one in Account.objects.order_by("pk")] == [True, False, True]
    found = take.ask(ids=ids, moment=NOON + timedelta(hours=3))
    assert [(one.name, one.clock_offset_ms) for one in found] == [("two", 14), ("one", 7)]
    assert take.ask(ids=[], moment=NOON) == []


def test_statements_are_carried_out_together_each_seeing_the_one_before(accounts: list[Account]) -> None:
    change = FixedUpdate(lambda: Account.objects.filter(AmongGiven("pk", "ids")), is_enabled=False)
    count = FixedQuery(lambda: Account.objects.filter(is_enabled=False).order_by("pk").values_list("name"))
    silent = Statement("UPDATE accounts_account SET is_enabled = %s", [False], lambda rows: rows)
    change.ask(ids=[])
    count.ask()

    with CaptureQueriesContext(connection) as asked:
        answers = carry_out(change.told(ids=[accounts[1].pk]), count.told(), silent, count.told())

    assert answers == [[accounts[1].pk], [("two",)], [], [("one",), ("two",), ("three",)]]
    assert len(asked) == (1 if connection.vendor == "postgresql" else 4)
    assert carry_out() == []


def test_of_statements_carried_out_together_the_first_that_fails_is_raised(accounts: list[Account]) -> None:
    change = FixedUpdate(lambda: Account.objects.filter(AmongGiven("pk", "ids")), is_enabled=False)
    twice = Statement("UPDATE accounts_account SET name = %s", ["one"], lambda rows: rows)
    told = change.told(ids=[accounts[0].pk])

    with pytest.raises(DatabaseError), transaction.atomic():
        carry_out(told, twice, told)

    assert Account.objects.get(pk=accounts[0].pk).is_enabled
