"""What a call to an exchange can end in, drawn by what the caller may do next.

* GatewayError
  + OrderNotPlaced        the exchange certainly does not have the order: falling back is safe
    - OrderRejected       it said no; asking again will not help before something changes
    - VenueUnavailable    it never took the request; asking again later may help
    - Throttled           too fast, or out of step with its clock; the same id may be sent again later
  + OutcomeUnknown        it may have the order: look it up before anything else
  + ReadFailed            a read did not answer: nothing is known, nothing may be changed on its account

The translation is an allow-list by numeric code (`exchange.outcomes`): whatever is not certainly
"not placed" is `OutcomeUnknown`, an answer without an order id included.
"""


class GatewayError(Exception):
    """Any end of an exchange call other than the answer asked for.

    `code` is the venue's numeric code as text (``"-2019"``), an HTTP status (``"HTTP_503"``) or a transport
    word (``"TIMEOUT"``, ``"CONNECTION_REFUSED"``); `message` is safe to store and show: no signature, no key.
    """

    def __init__(self, code: str, message: str = "") -> None:
        """Keep the code and the redacted message."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class OrderNotPlaced(GatewayError):
    """The exchange certainly does not have the order; another executor may be offered it."""


class OrderRejected(OrderNotPlaced):
    """The exchange refused the order; the same request will be refused again."""


class VenueUnavailable(OrderNotPlaced):
    """The request certainly never reached the matching engine; it may be offered again later."""


class Throttled(OrderNotPlaced):
    """Refused for speed or clock (429, 418, -1003, -1008, -1015, -1021); the same id may be sent again.

    `retry_after_seconds` is what the exchange asked for, or 0 when it did not say.
    """

    def __init__(self, code: str, message: str = "", retry_after_seconds: float = 0.0) -> None:
        """Keep the wait the exchange asked for."""
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(GatewayError):
    """The exchange may have the order. The only legal next step is a lookup by client order id."""


class ReadFailed(GatewayError):
    """A read failed. Error is not empty: the caller keeps what it knew and marks it stale."""
