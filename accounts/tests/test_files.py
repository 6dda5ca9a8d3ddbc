"""Accounts as a file: what leaves comes back, no key is ever in it, and a bad line stops all of it."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, AccountSource, LimitChange, LimitOverride, Tag
from accounts.services import bulk
from accounts.services.files import CSV, JSON, export_accounts, import_accounts
from accounts.services.limits import effective_limits, set_override
from accounts.services.registry import create_account, create_paper_accounts

KEY, SECRET, PHRASE = "keycanary-77aa-ab12", "secretcanary-77aa-7788", "phrasecanary-77aa-9900"

pytestmark = pytest.mark.django_db


@pytest.fixture
def accounts() -> list[Account]:
    made = [
        create_account("alpha", KEY, SECRET, PHRASE, group="swing", leverage=5),
        *create_paper_accounts(2),
    ]
    bulk.tag_all(made[:2], "slow")
    bulk.tag_all(made[:1], "big")
    set_override(made[0], "max_positions", "2", "olga")
    set_override(made[0], "risk_per_trade", "0.5", "olga")
    return made


def everything() -> list[Account]:
    return list(Account.objects.all())


@pytest.mark.parametrize("kind", [CSV, JSON])
def test_what_is_exported_is_imported_as_no_change(accounts: list[Account], kind: str) -> None:
    told = export_accounts(accounts, kind)
    before = LimitChange.objects.count()
    done = import_accounts(told, kind, "oleg")
    assert (done.changed, done.unchanged) == ([], 3)
    assert export_accounts(accounts, kind) == told
    assert LimitChange.objects.count() == before


@pytest.mark.parametrize("kind", [CSV, JSON])
def test_a_file_brings_back_what_was_changed_since(accounts: list[Account], kind: str) -> None:
    told = export_accounts(accounts, kind)
    bulk.pause_all(accounts, "storm")
    bulk.move_all(everything(), "")
    bulk.untag_all(accounts, "slow")
    bulk.tag_all(accounts, "new")
    bulk.set_limit_for_all(accounts, "max_positions", "7", "olga")
    done = import_accounts(told, kind, "oleg")
    assert sorted(done.changed) == ["alpha", "paper-0001", "paper-0002"]
    assert export_accounts(accounts, kind) == told
    assert effective_limits(Account.objects.get(name="alpha")).limits.max_positions == 2
    assert LimitChange.objects.filter(changed_by="oleg").count() == 3


@pytest.mark.parametrize("kind", [CSV, JSON])
def test_no_byte_of_a_key_leaves(accounts: list[Account], kind: str) -> None:
    told = export_accounts(accounts, kind)
    account = accounts[0]
    for secret in (KEY, SECRET, PHRASE, account.key_last4, str(account.key_fingerprint), account.key_id):
        assert secret not in told


def test_a_column_that_is_left_out_stays_as_it_is(accounts: list[Account]) -> None:
    done = import_accounts("name,leverage\nalpha,4\npaper-0001,3\n", CSV, "oleg")
    alpha = Account.objects.get(name="alpha")
    assert (done.changed, done.unchanged) == (["alpha"], 1)
    assert (alpha.leverage, alpha.group.name if alpha.group else "", alpha.tags.count()) == (4, "swing", 2)
    assert effective_limits(alpha).limits.max_positions == 2


def test_a_trial_changes_nothing(accounts: list[Account]) -> None:
    done = import_accounts("name,leverage,group,tags\nalpha,4,other,odd\n", CSV, "oleg", is_trial=True)
    assert done.changed == ["alpha"]
    assert Account.objects.get(name="alpha").leverage == 5
    assert not AccountGroup.objects.filter(name="other").exists()
    assert not Tag.objects.filter(name="odd").exists()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"name": "nobody"}, "no active account is called 'nobody'"),
        ({"name": "alpha", "leverage": 126}, "leverage is not a whole number from 1 to 125"),
        ({"name": "alpha", "leverage": "5x"}, "leverage is not"),
        ({"name": "alpha", "time_zone": "Mars/Olympus"}, "time_zone is not a time zone"),
        ({"name": "alpha", "is_enabled": "maybe"}, "is_enabled is not on or off"),
        ({"name": "alpha", "is_enabled": False}, "paused without a pause_reason"),
        ({"name": "alpha", "is_enabled": False, "pause_reason": " "}, "paused without a pause_reason"),
        ({"name": "alpha", "mode": "live"}, "its mode is chosen once"),
        ({"name": "alpha", "exchange": "bybit"}, "its exchange is chosen once"),
        ({"name": "alpha", "tags": ["x" * 41]}, "tags is not a list of words"),
        ({"name": "alpha", "limits": {"max_positions": "0"}}, "max_positions"),
        ({"name": "alpha", "limits": {"leverage": "3"}}, "is the desk's"),
        ({"name": "alpha", "api_secret": SECRET}, "Keys are typed, never imported"),
    ],
)
def test_one_bad_line_stops_the_whole_file(
    accounts: list[Account], line: dict[str, Any], problem: str
) -> None:
    before = export_accounts(accounts, JSON)
    told = json.dumps({"accounts": [{"name": "paper-0001", "leverage": 9}, line]})
    with pytest.raises(AccountRefused) as refused:
        import_accounts(told, JSON, "oleg")
    assert problem in refused.value.message
    assert SECRET not in refused.value.message
    assert export_accounts(accounts, JSON) == before
    assert not LimitOverride.objects.filter(changed_by="oleg").exists()


def test_every_problem_is_told_with_its_line(accounts: list[Account]) -> None:
    told = "name,leverage\nalpha,0\nnobody,3\nalpha,3\n"
    with pytest.raises(AccountRefused) as refused:
        import_accounts(told, CSV, "oleg")
    assert [part.split(":")[0] for part in refused.value.message.split("; ")] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "kind"), [("{", JSON), ("[]", JSON), ('{"accounts": [1]}', JSON), ('name\n"x', CSV)]
)
def test_what_is_no_such_file_is_refused(text: str, kind: str) -> None:
    with pytest.raises(AccountRefused) as refused:
        import_accounts(text, kind, "oleg")
    assert refused.value.code == "BAD_FILE"


def test_what_the_environment_tells_is_not_imported(accounts: list[Account]) -> None:
    Account.objects.filter(name="alpha").update(source=AccountSource.ENVIRONMENT)
    with pytest.raises(AccountRefused, match="its leverage is told by the environment"):
        import_accounts("name,leverage,is_canary\nalpha,4,on\n", CSV, "oleg")
    import_accounts("name,is_canary\nalpha,on\n", CSV, "oleg")
    assert Account.objects.get(name="alpha").is_canary


def test_a_name_that_a_spreadsheet_would_calculate_is_written_as_text() -> None:
    made = [
        create_account(name, f"{place}-key-1", f"{place}-secret") for place, name in enumerate(("=1+1", "'s"))
    ]
    told = export_accounts(made, CSV)
    assert "\n'=1+1," in told
    assert import_accounts(told, CSV, "oleg").unchanged == 2


@pytest.mark.parametrize("kind", [CSV, JSON])
def test_a_tag_is_read_back_whatever_stands_in_it(accounts: list[Account], kind: str) -> None:
    for tag in ("=1+1", "a;b", "c\\", "d\\;e", "f'", "g, h"):
        bulk.tag_all(accounts, tag)
    told = export_accounts(accounts, kind)
    assert import_accounts(told, kind, "oleg").unchanged == 3
    assert kind == JSON or "'=1+1;" in told


def test_an_export_asks_the_database_as_often_for_many_accounts_as_for_few(accounts: list[Account]) -> None:
    counts = []
    for count in (2, 20):
        create_paper_accounts(count)
        chosen = everything()
        with CaptureQueriesContext(connection) as asked:
            export_accounts(chosen, CSV)
        counts.append(len(asked))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"accounts": [{"name": "alpha", "time_zone": ["UTC"]}]}',
        '{"accounts": [{"name": "alpha", "time_zone": {}}]}',
        '{"accounts": [{"name": "alpha", "limits": {"max_positions": "' + "1" * 99 + '"}}]}',
        '{"accounts": [{"name": "alpha", "limits": {"' + "x" * 99 + '": "1"}}]}',
        '{"accounts": [{"name": "alpha", "limits": {"max_positions": "1\\u0000"}}]}',
        '{"accounts": ' + "[" * 100_000,
    ],
    ids=["list", "object", "long value", "long name", "nul", "deep"],
)
def test_an_odd_file_is_refused_and_changes_nothing(accounts: list[Account], text: str) -> None:
    before = export_accounts(accounts, JSON)
    with pytest.raises(AccountRefused):
        import_accounts(text, JSON, "oleg")
    assert export_accounts(accounts, JSON) == before


def test_a_blank_name_is_no_group(accounts: list[Account]) -> None:
    bulk.move_all(accounts, "  ")
    assert not Account.objects.exclude(group=None).exists()
    assert not AccountGroup.objects.filter(name__regex=r"^\s*$").exists()
