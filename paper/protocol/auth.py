"""Keys, signatures and the receive window, on the wall clock and the raw bytes."""

import hashlib
import hmac
import re
import time

from paper.engine.refusals import Refusal, refuse
from paper.engine.venue import Portfolio
from paper.protocol.calls import Call, malformed

KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
AHEAD_MS = 1000
MAX_WINDOW_MS = 60_000
READING = "GET"
# What a key must be allowed to do before it changes anything there; reading is every key's right.
NEEDED = {"/fapi/": "enableFutures", "/api/": "enableSpotAndMarginTrading"}


def split_signature(part: bytes) -> tuple[bytes, bytes | None]:
    """The bytes without their signature parameter, and the signature."""
    if part.startswith(b"signature="):
        signature, _, rest = part[len(b"signature=") :].partition(b"&")
        return rest, signature
    before, found, after = part.rpartition(b"&signature=")
    if not found:
        return part, None
    signature, more, rest = after.partition(b"&")
    return before + more + rest, signature


def signed_payload(query: bytes, body: bytes) -> tuple[bytes, bytes | None]:
    """What was signed, query and body joined without a separator, and the signature."""
    rest, signature = split_signature(body)
    if signature is not None:
        return query + rest, signature
    rest, signature = split_signature(query)
    return rest + body, signature


def check_key(key: str) -> None:
    """-2014 unless it looks like a key."""
    if not KEY.fullmatch(key):
        raise refuse(-2014, status=401)


def check_window(call: Call) -> None:
    """-1021 for a request from the future or older than its receive window, -1131 for a window too long."""
    sent = call.need_integer("timestamp")
    window = call.integer("recvWindow", 5000)
    if not 0 < window <= MAX_WINDOW_MS:
        raise Refusal(-1131, f"recvWindow must be less than {MAX_WINDOW_MS}.")
    now = int(time.time() * 1000) + call.service.faults.skew_ms(call)
    if sent >= now + AHEAD_MS:
        raise Refusal(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now - sent > window:
        raise Refusal(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_signature(secret: str, payload: bytes, signature: bytes | None) -> None:
    """-1102 without a signature, -1022 with a wrong one."""
    if not signature:
        raise malformed("signature")
    right = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right.encode(), signature.lower()):
        raise refuse(-1022)


def check_permission(call: Call) -> None:
    """-2015 for an order or a setting with a key that may not trade on that market."""
    if call.method == READING:
        return
    for prefix, permission in NEEDED.items():
        if call.path.startswith(prefix) and not call.portfolio.account.permissions.get(permission, True):
            raise refuse(-2015, status=401)


def authenticate(call: Call, query: bytes, body: bytes) -> Portfolio:
    """The account behind a signed request; a key never seen before is opened and funded."""
    check_key(call.key)
    check_window(call)
    venue = call.service.exchange.venue
    known = venue.portfolios.get(call.key)
    payload, signature = signed_payload(query, body)
    check_signature(known.account.secret if known else call.key, payload, signature)
    if known is None:
        return venue.open_account(call.key)
    if known.account.revoked:
        raise refuse(-2015, status=401)
    return known


def identify(call: Call) -> Portfolio:
    """The account behind a key alone, as listen keys are asked for."""
    check_key(call.key)
    venue = call.service.exchange.venue
    known = venue.portfolios.get(call.key) or venue.open_account(call.key)
    if known.account.revoked:
        raise refuse(-2015, status=401)
    return known
