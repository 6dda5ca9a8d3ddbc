"""The durable identity of one attempt to place one order."""

from hashlib import sha256
from uuid import UUID

from trading.domain.states import OrderPurpose

MAX_LENGTH = 32
"""The shortest limit among the venues; [A-Za-z0-9] is what all of them accept."""

_MAX_PREFIX = 8


def client_order_id(prefix: str, subject: UUID, purpose: OrderPurpose, leg: int | str, attempt: int) -> str:
    """Return the id of an attempt: the same intent always has the same id, another attempt another one.

    `subject` is the uuid4 of the allocation or the position. Nothing that drifts (prices, quantities, time)
    enters, because an intent with two ids is bought twice. Raises ValueError for a prefix that is not
    1 to 8 ASCII letters or digits.
    """
    if not (prefix.isascii() and prefix.isalnum() and len(prefix) <= _MAX_PREFIX):
        message = f"client order id prefix {prefix!r} must be 1 to {_MAX_PREFIX} ASCII letters or digits"
        raise ValueError(message)
    digest = sha256(f"{subject.hex}:{purpose}:{leg}:{attempt}".encode()).hexdigest()
    return (prefix + digest)[:MAX_LENGTH]
