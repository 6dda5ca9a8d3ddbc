"""When entries of an account, or of one symbol on it, are held back because the exchange keeps refusing them.

Only exchange rejections of entries count, by numeric code. Three of one code in a row open the breaker for 5,
then 15, then 60 minutes; a credential code opens it at once. Once the time is over one more rejection of that
code opens it again, a success closes it. Exits are never held back.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

REJECTIONS_TO_OPEN = 3
OPEN_FOR = (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=60))

VENUE_CODE = re.compile(r"-?\d+")
# Binance's codes are negative, Bybit's and OKX's positive; none of them is another's.
CREDENTIAL_CODES = frozenset(
    {
        "-1002", "-1022", "-1099", "-1109", "-2014", "-2015", "-2017",
        "10003", "10004", "10005", "10007", "10010", "33004",
        "50101", "50105", "50110", "50111", "50113", "50119", "50120",
    }
)  # fmt: skip
# The account is short of money or not allowed to open anything: every symbol is refused alike.
ACCOUNT_CODES = CREDENTIAL_CODES | {
    "-2018", "-2019", "-2023", "-4050", "-4051", "-4061", "-4087", "-4088", "-4109",
    "-4192", "-4202", "-4203", "-4400", "-4401", "-4402",
    "10008", "10024", "10027", "10028", "110004", "110006", "110007", "110012", "110044", "110045",
    "50007", "50008", "50009", "50012", "50027", "51008", "51009", "51010", "51024", "51119", "51127",
    "51131",
}  # fmt: skip
# Money, and nothing else, was missing: what puts it right is seen in the balance.
MONEY_CODES = frozenset(
    {
        "-2018", "-2019", "110004", "110006", "110007", "110012", "110044", "110045",
        "51008", "51119", "51127", "51131",
    }
)  # fmt: skip
MONEY_CAME = Decimal("0.01")
"""Of the wallet: a rise of what is available by less is the market's doing."""
# The account's modes were in the way; verification reads them.
MODE_CODES = frozenset({"-4061", "110028", "110024"})
# Speed, clock, lookups, cancels, duplicates and reduce-only orders say nothing against the next entry.
NEVER_COUNTED = frozenset(
    {
        "-1003", "-1008", "-1015", "-1016", "-1021", "-5028", "-2011", "-2013", "-2022", "-4116", "-4118",
        "10002", "10006", "10017", "10018", "110001", "110008", "110010", "110017", "110072",
        "50011", "50036", "50037", "50040", "50061", "50102", "51016", "51112", "51113", "51169", "51170",
        "51400", "51401", "51402", "51603",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Rejections of one code in a row, and until when entries are held back for them."""

    code: str = ""
    rejections: int = 0
    openings: int = 0
    opened_at: datetime | None = None
    open_until: datetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Whether entries are held back."""
        return self.open_until is not None and now < self.open_until

    def is_half_open(self, now: datetime) -> bool:
        """Whether the time is over, but nothing has succeeded since."""
        return self.open_until is not None and now >= self.open_until


CLOSED = BreakerState()


def counts(code: str) -> bool:
    """Whether a code is a rejection that may open a breaker: the venue's own, and none of `NEVER_COUNTED`."""
    return VENUE_CODE.fullmatch(code) is not None and code not in NEVER_COUNTED


def has_money_come(available: Decimal | None, before: Decimal | None, wallet: Decimal) -> bool:
    """Whether what is available rose by enough between two readings to be money that came or was set free."""
    if available is None or before is None or available <= before:
        return False
    return available - before >= MONEY_CAME * wallet


def scope(symbol: str, code: str) -> str:
    """The symbol a code holds back; empty when it holds back the whole account."""
    return "" if code in ACCOUNT_CODES else symbol


def after_rejection(
    state: BreakerState, code: str, now: datetime, *, rejections_to_open: int = REJECTIONS_TO_OPEN
) -> BreakerState:
    """The state after one counted rejection. What was on its way while open does not open it further."""
    if state.is_open(now):
        return state
    is_same = code == state.code
    counted = replace(state, code=code, rejections=state.rejections + 1 if is_same else 1)
    is_retried_in_vain = is_same and state.is_half_open(now)
    if code in CREDENTIAL_CODES or is_retried_in_vain or counted.rejections >= rejections_to_open:
        return _opened(counted, now)
    return counted


def _opened(state: BreakerState, now: datetime) -> BreakerState:
    open_for = OPEN_FOR[min(state.openings, len(OPEN_FOR) - 1)]
    return replace(state, openings=state.openings + 1, opened_at=now, open_until=now + open_for)
