"""When an allocation may be offered to the account's secondary executor (domain rules, section 5).

Only when the exchange certainly does not have the order, and only for what another market can cure. What is
unknown is looked up, never offered again.
"""

from trading.domain.states import DenyCode, ExpireCode, OrderStatus

PRIMARY, SECONDARY = "primary", "secondary"

CURABLE_DENIALS = frozenset(
    {
        DenyCode.MARGIN,
        DenyCode.MIN_NOTIONAL,
        DenyCode.MAX_ORDER,
        DenyCode.SYMBOL_CLOSED,
        DenyCode.LEVERAGE_BRACKET,
    }
)
"""What we refused on one market and another may allow."""

CURABLE_REJECTIONS = {
    "-2019": DenyCode.MARGIN,
    "-2027": DenyCode.LEVERAGE_BRACKET,
    "-4140": DenyCode.SYMBOL_CLOSED,
    "-4141": DenyCode.SYMBOL_CLOSED,
    "-4164": DenyCode.MIN_NOTIONAL,
}
"""The exchange's numeric codes for the same refusals, each with its twin of ours."""

UNAVAILABLE = frozenset(
    {"-1016", "HTTP_403", "HTTP_404", "HTTP_405", "HTTP_451", "HTTP_503", "CONNECTION_REFUSED"}
)
"""The request certainly never reached the matching engine; the other market may be up."""


def may_be_offered_on(code: str) -> bool:
    """Whether an allocation that ended with `code`, ours or the exchange's, may go to the secondary.

    The caller has made sure that the exchange does not have the order: a code alone is no proof of absence.
    """
    return code in CURABLE_DENIALS or code in CURABLE_REJECTIONS or code in UNAVAILABLE


def leaves_share_to_offer(status: OrderStatus, code: str) -> bool:
    """Whether an attempt that filled nothing and ended so leaves its share to be offered once more.

    Proven absent: to the same executor. Refused for what another market can cure: to the next one.
    """
    if status == OrderStatus.EXPIRED:
        return code == ExpireCode.NOT_PLACED
    return status == OrderStatus.REJECTED and may_be_offered_on(code)
