"""Keys of one account, as long as they are needed and no longer."""

import hashlib
from typing import NoReturn


class Credentials:
    """An API key with its secret; never printed, compared by fingerprint, never pickled."""

    __slots__ = ("api_key", "passphrase", "secret")

    def __init__(self, api_key: str, secret: str, passphrase: str = "") -> None:
        """Keep the three; venues without a passphrase leave it empty."""
        self.api_key = api_key
        self.secret = secret
        self.passphrase = passphrase

    @property
    def fingerprint(self) -> str:
        """A digest of the API key, the same wherever the key is met; safe to store and log."""
        return hashlib.sha256(self.api_key.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Credentials({self.fingerprint})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Credentials):
            return NotImplemented
        return self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials do not travel")

    def _all(self) -> tuple[str, str, str]:
        return (self.api_key, self.secret, self.passphrase)
