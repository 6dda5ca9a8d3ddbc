"""The venue circuit: when one decision is stopped because the exchange refuses it everywhere (section 3).

The breaker of a single account or symbol is kept with the account.
"""

from collections.abc import Mapping

from trading.domain.limits import Limits


def venue_circuit(rejections: Mapping[str, int], offered: int, limits: Limits) -> str | None:
    """Return the code that stops the rest of a decision, None while it goes on.

    `rejections` counts accounts of this decision by exchange code, `offered` the accounts it was sent for.
    """
    return next(
        (
            code
            for code, accounts in rejections.items()
            if accounts >= limits.venue_circuit_accounts and accounts >= limits.venue_circuit_share * offered
        ),
        None,
    )
