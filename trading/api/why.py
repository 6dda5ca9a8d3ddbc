# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from accounts.models import Account
from exchange.errors import ReadFailed
from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Computed, Text
from trading.services.tokens import Scope
from trading.services.why import Reading, read_why

router = Router(tags=["accounts"])


class RuleOut(Schema):
    """One rule of the gate, in its order: whether it refuses now, and the numbers it refuses by."""

    code: str
    refuses: bool
    is_off: bool
    numbers: dict[str, str]


class ReadingOut(Schema):
    """One executor's answer to one signal; `code` is what would be told, empty: it would enter.

    Rules that weigh a quantity are missing where none could be worked out.
    """

    symbol: str
    side: str
    about: str
    market: str
    executor: str
    code: str
    sizing: dict[str, str]
    rules: list[RuleOut]


class StandingOut(Schema):
    """One figure of the account beside its limit; null: none, or not known."""

    name: str
    value: Computed | None
    limit: Computed | None


class WhyOut(Schema):
    """What would be refused now and why. Nothing is reserved: a moment later it may be otherwise."""

    account: str
    at: datetime
    standings: list[StandingOut]
    readings: list[ReadingOut]


@router.get("multi-account/api-keys/{uuid:account_id}/why", auth=needs(Scope.READ), response=WhyOut)
def why(
    request: HttpRequest, account_id: UUID, symbol: Text = "", side: Literal["LONG", "SHORT"] = "LONG"
) -> WhyOut:
    """Ask the gate about the best open signals, or about `symbol` and `side` as if a signal came now."""
    account = get_object_or_404(Account.objects.select_related("group"), uuid=account_id)
    try:
        found = read_why(account, settings.CLOCK.now(), symbol, side)
    except ReadFailed as failure:
        raise ApiError(503, "MARKET_UNREAD", "the market could not be read; ask again") from failure
    except ValueError as error:
        raise ApiError(422, "SYMBOL", str(error)) from error
    return WhyOut(
        account=account.name,
        at=found.at,
        standings=[
            StandingOut(name=one.name, value=_decimal(one.value), limit=_decimal(one.limit))
            for one in found.standings
        ],
        readings=[_reading(one) for one in found.readings],
    )


def _reading(one: Reading) -> ReadingOut:
    return ReadingOut(
        symbol=one.symbol,
        side=one.side,
        about=one.about,
        market=one.market,
        executor=one.executor,
        code=one.code,
        sizing=dict(one.sizing),
        rules=[
            RuleOut(
                code=answer.code,
                refuses=answer.refuses,
                is_off=answer.is_off,
                numbers=dict(answer.detail or {}),
            )
            for answer in one.answers
        ],
    )


def _decimal(number: Decimal | int | None) -> Decimal | None:
    return None if number is None else Decimal(number)
