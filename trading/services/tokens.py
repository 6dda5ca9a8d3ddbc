"""Bearer tokens of the API: shown once, stored as a hash, each with the scopes it was made for.

The token is 256 random bits, so a plain SHA-256 is enough to store it: there is nothing to guess.
"""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import IntegrityError, transaction

from trading.models import ApiToken

TOKEN_MARK = "phx_"  # noqa: S105 - what every token starts with, so that a leaked one can be found by search
PREFIX_LENGTH = 12
USE_NOTED_EVERY = timedelta(minutes=1)


class Scope(StrEnum):
    """What a token may do; no scope includes another."""

    SIGNALS_WRITE = "signals:write"
    READ = "read"
    TRADE = "trade"
    ADMIN = "admin"


class TokenRefused(ValueError):
    """The token cannot be made; the message says why."""


def create_token(name: str, scopes: Iterable[str], *, replace: bool = False) -> str:
    """Make a token and return it: the only time it can be read. `replace` ends the former one of that name.

    Raises TokenRefused for an unknown scope, no scope, or a name in use.
    """
    granted = _read_scopes(scopes)
    token = TOKEN_MARK + secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            if replace:
                ApiToken.objects.filter(name=name).delete()
            ApiToken.objects.create(
                name=name,
                prefix=token[:PREFIX_LENGTH],
                token_hash=hashed(token),
                scopes=[str(scope) for scope in granted],
            )
    except IntegrityError as error:
        raise TokenRefused(f"a token named {name} exists; replace it, or choose another name") from error
    return token


def find_token(token: str, now: datetime) -> ApiToken | None:
    """The living token with this text, its use noted; None when unknown, revoked or expired (wall clock)."""
    found = ApiToken.objects.filter(token_hash=hashed(token), revoked_at__isnull=True).first()
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        return None
    if found.last_used_at is None or now - found.last_used_at >= USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
    return found


def revoke_token(token: ApiToken, now: datetime) -> bool:
    """End a token at once; False when it had ended before."""
    return ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now) == 1


def _read_scopes(scopes: Iterable[str]) -> list[Scope]:
    words = [word.strip() for word in scopes if word.strip()]
    unknown = [word for word in words if word not in set(Scope)]
    if unknown:
        raise TokenRefused(f"no such scope: {', '.join(unknown)}; there are {', '.join(Scope)}")
    if not words:
        raise TokenRefused(f"a token needs a scope of {', '.join(Scope)}")
    return sorted({Scope(word) for word in words})


def hashed(token: str) -> str:
    """What is stored of a random secret."""
    return hashlib.sha256(token.encode()).hexdigest()
