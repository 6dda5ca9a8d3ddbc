from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from trading.models import ApiToken
from trading.services.tokens import TokenRefused, create_token, find_token

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def printed(**options: object) -> list[str]:
    out = StringIO()
    call_command("create_token", stdout=out, **options)
    return out.getvalue().splitlines()


def test_the_command_prints_the_token_alone_on_its_last_line() -> None:
    token = printed(name="bot", scopes="read,trade")[-1]

    found = find_token(token, NOON)
    assert found is not None
    assert (found.name, found.scopes) == ("bot", ["read", "trade"])


def test_a_name_is_used_twice_only_by_replacing() -> None:
    first = printed(name="bot", scopes="read")[-1]
    with pytest.raises(CommandError, match="bot exists"):
        printed(name="bot", scopes="read")
    assert find_token(first, NOON) is not None

    second = printed(name="bot", scopes="read", replace=True)[-1]

    assert find_token(first, NOON) is None
    assert find_token(second, NOON) is not None
    assert ApiToken.objects.count() == 1


@pytest.mark.parametrize("scopes", [[], [""], ["reed"], ["read", "everything"]])
def test_a_token_without_a_known_scope_is_not_made(scopes: list[str]) -> None:
    with pytest.raises(TokenRefused):
        create_token("bot", scopes)
    assert not ApiToken.objects.exists()


def test_use_is_noted_at_most_once_a_minute() -> None:
    token = create_token("bot", ["read"])
    find_token(token, NOON)
    find_token(token, NOON + timedelta(seconds=59))
    assert ApiToken.objects.get().last_used_at == NOON

    find_token(token, NOON + timedelta(seconds=60))
    assert ApiToken.objects.get().last_used_at == NOON + timedelta(seconds=60)
