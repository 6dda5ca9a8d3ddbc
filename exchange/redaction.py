"""What may not be stored, shown or logged, taken out of a text.

ccxt puts whole request addresses into its errors, signature included; this is the one place that takes
such things out again. It errs on the side of taking out too much.
"""

import re
from collections.abc import Iterable

MASK = "[redacted]"

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"((?:https?|wss?|redis|rediss|postgres|postgresql)://)[^\s/@'\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"((?:https?|wss?)://[^\s?'\"<>]+)\?[^\s'\"<>]*", re.IGNORECASE)
_NAMED = re.compile(
    r"((?:x-mbx-)?(?:api[-_]?key|api[-_]?secret|secret|passphrase|password|signature|listen[-_]?key|token"
    r"|authorization)\w*[\"']?\s*[:=]\s*[\"']?(?:bearer\s+|basic\s+)?)([^\s&\"',;})\]]+)",
    re.IGNORECASE,
)
# Keys, secrets, signatures and listen keys are 64 characters; client order ids at most 36, UUIDs 36.
_LONG = re.compile(r"[A-Za-z0-9_+-]{40,}")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without signatures, keys, address queries and the given secrets."""
    for secret in sorted((secret for secret in secrets if secret), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _PEM.sub(MASK, text)
    text = _ADDRESS.sub(rf"\1{MASK}@", text)
    text = _QUERY.sub(rf"\1?{MASK}", text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    return _LONG.sub(MASK, text)
