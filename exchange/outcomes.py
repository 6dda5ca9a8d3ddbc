"""Did the order happen? One answer per error, by numeric code, never by class alone.

The codes here are Binance's; another venue has a `CodeBook` of its own, which its answers carry.

An allow-list: only what certainly left no order is `OrderNotPlaced`. Everything else, a code nobody has
seen before included, is `OutcomeUnknown`. ccxt's classes are not asked, because they depend on the address
the request went to, and call three definite refusals (-1021, 429, 418) network errors.
"""

import re
import socket
from dataclasses import dataclass

import aiohttp
from ccxt.base.errors import RequestTimeout

from exchange.codes import CodeBook
from exchange.errors import (
    GatewayError,
    OrderRejected,
    OutcomeUnknown,
    ReadFailed,
    Throttled,
    VenueUnavailable,
)
from exchange.redaction import redact

MESSAGE_LIMIT = 400


# The state asked for is the state there is: success for a setting, and no order either way.
ALREADY_SET = frozenset({"-4046", "-4059", "-4171", "-5027"})

# An order with this client id is open: look it up, it is ours.
DUPLICATE = frozenset({"-4116", "-20132"})
DUPLICATE_TEXT = "duplicate order sent"

# The venue has no such open order (cancel), or no such order at all (query).
NOT_OPEN = frozenset({"-2011", "-2013", "-4117"})
NOT_FOUND = frozenset({"-2013"})

OUT_OF_STEP = frozenset({"-1021", "-5028"})
TOO_MANY_ORDERS = frozenset({"-1015"})
THROTTLED = frozenset({"-1003", "-1008", "-1015", "-1021", "-5028"})
UNAVAILABLE = frozenset({"-1016"})


def _span(first: int, last: int) -> frozenset[str]:
    """Codes from `first` down to `last`, as the venue numbers them."""
    return frozenset(str(-code) for code in range(-first, -last + 1))


REJECTED = (
    frozenset(
        [
            "-1002",
            "-1010",
            "-1013",
            "-1014",
            "-1020",
            "-1022",
            "-1099",
            "-1109",
            "-1111",
            "-1120",
            "-1121",
            "-1122",
            "-1128",
            "-1130",
            "-1136",
        ]
    )
    | _span(-1100, -1106)
    | _span(-1115, -1118)
    | frozenset(["-2010", "-2014", "-2015", "-2017"])
    | _span(-2018, -2028)
    | _span(-4001, -4007)
    | _span(-4013, -4016)
    | frozenset(
        [
            "-4023",
            "-4024",
            "-4028",
            "-4045",
            "-4047",
            "-4048",
            "-4050",
            "-4051",
            "-4060",
            "-4061",
            "-4062",
            "-4067",
            "-4068",
        ]
    )
    | frozenset(
        [
            "-4087",
            "-4088",
            "-4109",
            "-4118",
            "-4120",
            "-4130",
            "-4131",
            "-4137",
            "-4138",
            "-4139",
            "-4140",
            "-4141",
            "-4142",
        ]
    )
    | frozenset(["-4161", "-4164", "-4183", "-4184", "-4192", "-4202", "-4203", "-4210", "-4211"])
    | _span(-4400, -4402)
    | frozenset(["-4509", "-4517", "-4518", "-4519", "-4531", "-5021", "-5022", "-5041"])
    | ALREADY_SET
)

# Answers that come from in front of the matching engine and carry no code.
UNAVAILABLE_STATUS = frozenset({403, 404, 405, 451})
THROTTLED_STATUS = frozenset({418, 429})
UNAVAILABLE_TEXT = re.compile(r"\bservice unavailable\.", re.IGNORECASE)

# ccxt raises these by their text and drops the code; the codes are the venue's own for them.
_TEXT_CODES = {
    "account has insufficient balance": "-2010",
    "order would trigger immediately": "-2010",
    "stop price would trigger immediately": "-2010",
    "order would immediately match and take": "-2010",
    "this account may not place or cancel orders": "-2010",
    "market is closed": "-2010",
    "too many requests. please try again later": "-1003",
    "system is under maintenance": "-1016",
}

_CODE = re.compile(r'"code"\s*:\s*"?(-\d+)')
_STATUS = re.compile(r"(?:^\w+|https?://\S+)\s(\d{3})\s")
_BANNED_UNTIL = re.compile(r"until (\d{13})")


def numeric_code(text: str) -> str | None:
    """The venue's negative code in an answer, or None."""
    found = _CODE.search(text)
    if found:
        return found.group(1)
    lowered = text.lower()
    return next((code for words, code in _TEXT_CODES.items() if words in lowered), None)


BINANCE_CODES = CodeBook(
    read=numeric_code,
    rejected=REJECTED,
    throttled=THROTTLED,
    unavailable=UNAVAILABLE,
    out_of_step=OUT_OF_STEP,
    too_many_orders=TOO_MANY_ORDERS,
    duplicate=DUPLICATE,
    already_set=ALREADY_SET,
    not_open=NOT_OPEN,
    not_found=NOT_FOUND,
    duplicate_text=DUPLICATE_TEXT,
    unavailable_text=UNAVAILABLE_TEXT,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the venue answered and how to read it, kept because ccxt's error drops parts of it."""

    status: int
    body: str
    retry_after_seconds: float = 0.0
    codes: CodeBook = BINANCE_CODES


def classify(exc: BaseException, now_ms: int | None = None) -> GatewayError:
    """The error of our tree that says what the caller may do next.

    `now_ms` turns a ban's end into seconds to wait; without it only ``Retry-After`` is told.
    """
    if isinstance(exc, GatewayError):
        return exc
    answer = _answer(exc)
    code = answer.codes.read(answer.body)
    message = _message(exc, answer)
    if code is not None and code in answer.codes.undecided:
        return OutcomeUnknown(code, message)
    if answer.status in THROTTLED_STATUS or code in answer.codes.throttled:
        return Throttled(code or f"HTTP_{answer.status}", message, _retry_after(answer, now_ms))
    if code is not None:
        return _by_code(code, answer, message)
    return _by_transport(exc, answer, message)


def classify_read(exc: BaseException) -> ReadFailed:
    """A failed read: nothing is known, whatever the reason was."""
    if isinstance(exc, ReadFailed):
        return exc
    error = classify(exc)
    return ReadFailed(error.code, error.message)


def is_already_set(error: GatewayError) -> bool:
    """Whether a refused setting is refused because it is already as asked."""
    return error.code in ALREADY_SET


def is_not_open(error: GatewayError) -> bool:
    """Whether a refused cancel says that there is nothing to cancel any more, or not now (-4117)."""
    return error.code in NOT_OPEN


def _answer(exc: BaseException) -> Answer:
    """The answer kept by our client, or what can be read out of ccxt's text."""
    kept = getattr(exc, "answer", None)
    if isinstance(kept, Answer):
        return kept
    text = str(exc)
    status = _STATUS.search(text)
    return Answer(status=int(status.group(1)) if status else 0, body=text)


def _message(exc: BaseException, answer: Answer) -> str:
    text = answer.body or str(exc) or type(exc).__name__
    return redact(text)[:MESSAGE_LIMIT]


def _retry_after(answer: Answer, now_ms: int | None) -> float:
    banned = _BANNED_UNTIL.search(answer.body)
    if answer.retry_after_seconds or banned is None or now_ms is None:
        return answer.retry_after_seconds
    return max(0.0, (int(banned.group(1)) - now_ms) / 1000)


def _by_code(code: str, answer: Answer, message: str) -> GatewayError:
    book = answer.codes
    if code in book.duplicate or (book.duplicate_text and book.duplicate_text in answer.body.lower()):
        return OutcomeUnknown(code, message)
    if code in book.unavailable:
        return VenueUnavailable(code, message)
    if code in book.rejected:
        return OrderRejected(code, message)
    if answer.status in UNAVAILABLE_STATUS:
        return VenueUnavailable(f"HTTP_{answer.status}", message)
    return OutcomeUnknown(code, message)


def _by_transport(exc: BaseException, answer: Answer, message: str) -> GatewayError:
    if answer.status in UNAVAILABLE_STATUS:
        return VenueUnavailable(f"HTTP_{answer.status}", message)
    text = answer.codes.unavailable_text
    if answer.status == 503 and text and text.search(answer.body):  # noqa: PLR2004 - the status is its own name
        return VenueUnavailable("HTTP_503", message)
    if answer.status:
        return OutcomeUnknown(f"HTTP_{answer.status}", message)
    return _without_answer(exc, message)


def _without_answer(exc: BaseException, message: str) -> GatewayError:
    # Only a connection that was never made proves that no byte left; a reset may come after the order.
    if isinstance(exc.__cause__, aiohttp.ClientConnectorError | socket.gaierror):
        return VenueUnavailable("CONNECTION_REFUSED", message)
    if isinstance(exc, RequestTimeout | TimeoutError):
        return OutcomeUnknown("TIMEOUT", message)
    if isinstance(exc.__cause__, aiohttp.ClientError):
        return OutcomeUnknown("CONNECTION_LOST", message)
    return OutcomeUnknown("UNREADABLE", message)
