"""OKX's codes, read at www.okx.com/docs-v5/en/#error-code (REST, 50000 to 53999 and 59000 to 59999).

A placement's own code is `sCode`: the answer's outer code may be 0 where the order was refused, and 51149
("Order timed out") may come with an order id, so neither the outer code nor an id alone is an answer.
"""

from typing import Any

from exchange.codes import CodeBook, answer_in, codes, span

_REQUEST = codes(50000, 50002, 50006, 50014, 50015, 50016, 50024, 50025, 50030, 50035, 50038, 50053)
_ACCOUNT = codes(
    50007, 50008, 50009, 50010, 50012, 50027, 50028, 50029, 50032, 50033, 50051, 50052, 50059, 50060, 50062
) | span(50017, 50023)
_KEY = codes(50100, 50101, 50115, 50119, 50120, 50121, 50122) | span(50103, 50114)
_ORDER = (
    span(51000, 51010)
    | codes(51012, 51014, 51015, 51017)
    | span(51018, 51031)
    | codes(51046, 51047, 51051)
    | span(51100, 51112)
    | span(51115, 51139)
    | codes(51144, 51147, 51148, 51150, 51155, 51156, 51159, 51162, 51163, 51165, 51166, 51167, 51168, 51169)
    | codes(51170, 51174, 51185, 51186, 51187, 51196, 51197)
    | span(51201, 51207)
)
_ALGO = span(51250, 51252) | codes(51260, 51261, 51298, 51299) | span(51275, 51281) | span(51321, 51333)
_SETTINGS = codes(59000, 59001, 59004, 59101, 59102, 59103, 59105, 59106, 59107, 59108, 59109, 59112)


def okx_code(text: str) -> str | None:
    """The order's own `sCode` where the answer carries one, else the outer code; None for a success."""
    answer = answer_in(text) or {}
    code = str(answer.get("code", ""))
    own = (refusal_of(row) for row in rows_of(answer))
    return next((found for found in own if found), None) or (code if code.isdigit() and code != "0" else None)


def rows_of(answer: Any) -> list[Any]:
    """The rows of an answer, empty where it has none."""
    rows = answer.get("data") if isinstance(answer, dict) else None
    return rows if isinstance(rows, list) else []


def refusal_of(row: Any) -> str | None:
    """The code a row was refused with; None for a success and for a row that tells none."""
    code = str(row.get("sCode") or "0") if isinstance(row, dict) else "0"
    return None if code == "0" else code


OKX_CODES = CodeBook(
    read=okx_code,
    rejected=_REQUEST | _ACCOUNT | _KEY | _ORDER | _ALGO | _SETTINGS,
    # 50036 and 50037 are the deadline's refusals, 50102 the signature's: too late, or our clock is wrong.
    throttled=codes(50011, 50036, 50037, 50040, 50061, 50102, 51113),
    out_of_step=codes(50036, 50037, 50102),
    too_many_orders=codes(50061),
    # Upgrades, time-outs, "busy" (with HTTP 429) and system errors: they say nothing of the order.
    undecided=codes(1, 2, 50001, 50004, 50005, 50013, 50026, 51149),
    duplicate=codes(50042, 50071, 51011, 51016),
    not_open=codes(51400, 51401, 51402, 51405, 51410, 51603),
    not_found=codes(51603),
)
