from collections.abc import Callable

import pytest
from django.test import Client

from trading.services.tokens import Scope, create_token

Asker = Callable[..., Client]


@pytest.fixture
def asking(db: None) -> Asker:
    """A client whose token has the given scopes."""

    def with_scopes(*scopes: Scope) -> Client:
        token = create_token("+".join(scopes), scopes, replace=True)
        return Client(headers={"Authorization": f"Bearer {token}"})

    return with_scopes
