"""What can be wrong with an account, drawn by who must act.

* AccountRefused       what was asked for cannot be: the operator changes the request; nothing was stored
* AccountUnusable      nothing can be sent for the account as it stands: certainly not placed
  - CredentialError    its keys cannot be used until they are replaced
"""

from exchange.errors import OrderRejected


class AccountRefused(Exception):
    """The request cannot be granted (SAME_KEY, NAME_TAKEN, NO_KEYS, ...); nothing was stored.

    `code` is stable; `message` is safe to show.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class AccountUnusable(OrderRejected):
    """Nothing can be sent for the account as it stands (MODE_DIFFERS, ARCHIVED); no byte has left."""


class CredentialError(AccountUnusable):
    """Keys are missing, cannot be opened, or are not this account's. Never carries a byte of them."""
