"""Bybit's codes, read at bybit-exchange.github.io/docs/v5/error ("UTA", 24 July 2026).

Only what refuses a linear order beyond doubt is definite. The placement is acknowledged before it is matched,
so an order the engine refuses later is told by a lookup, not by a code.
"""

from exchange.codes import CodeBook, answer_in, codes, span

# Keys, addresses, regions and accounts that may not trade.
_NOT_ALLOWED = codes(
    10003, 10004, 10005, 10007, 10008, 10009, 10010, 10024, 10027, 10028, 10029, 33004, 100028
)
# Lending rules, prices beyond the band, a contract that is being delisted.
_LENT_OR_BANDED = codes(30133, 30134, 30135, 30136, 30208, 30209, 30228)
# Margin, limits, price band, reduce-only, position mode, direction of a trigger.
_DERIVATIVES = (
    codes(110003, 110004, 110006, 110007, 110009, 110012, 110017, 110018, 110020, 110021, 110023, 110029)
    | codes(110031, 110032, 110039, 110040, 110042, 110044, 110045, 110049)
    | span(110051, 110053)
    | codes(110057, 110058, 110063, 110065, 110066, 110067, 110068, 110069, 110070, 110074, 110080)
    | span(110085, 110090)
    | span(110092, 110109)
    | codes(110118, 110119, 110120, 110121, 110123, 110124, 110125, 110131, 110132, 110135, 110136, 110137)
)
# Settings: the leverage or the mode asked for cannot be had.
_SETTINGS = codes(110011, 110013, 110024, 110028, 110036, 110038, 110046, 110073, 3400045)
_ALREADY_SET = codes(110025, 110026, 110027, 110043)


def bybit_code(text: str) -> str | None:
    """`retCode` of an answer that is not a success; None where there is none."""
    answer = answer_in(text) or {}
    code = str(answer.get("retCode", ""))
    return code if code.lstrip("-").isdigit() and code != "0" else None


BYBIT_CODES = CodeBook(
    read=bybit_code,
    rejected=codes(10001) | _NOT_ALLOWED | _LENT_OR_BANDED | _DERIVATIVES | _SETTINGS | _ALREADY_SET,
    # 10002 is the receive window's refusal: the request came too late, or our clock is wrong.
    throttled=codes(10002, 10006, 10018),
    out_of_step=codes(10002),
    too_many_orders=codes(10006),
    unavailable=codes(10017),
    # "Server Timeout", "Server error", a restart that may still process what it holds, load, spot twins.
    undecided=codes(-1, 429, 10000, 10016, 10019, 110079, 170001, 170007, 170032, 170146, 170149),
    duplicate=codes(10014, 110030, 110072, 170141),
    already_set=_ALREADY_SET,
    not_open=codes(110001, 110008, 110010, 110079),
    not_found=codes(110001),
)
