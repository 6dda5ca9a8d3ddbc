"""API keys at rest: sealed for the desk's public key, bound to one account and one field.

HPKE (RFC 9180) base mode with X25519, HKDF-SHA256 and AES-256-GCM. The `info` of every seal is
``acct:<uuid>:<field>:v1``, so a ciphertext moved to another row or column does not open. A process that only
holds the public half can seal and can never open.
"""

import hashlib
import hmac
from base64 import b64decode
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from accounts.errors import CredentialError

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
KEY_ID_LENGTH = 16
LAST_SHOWN = 4
# Not a secret: an API key has the entropy of one. Kept fixed, so that a key is recognised as the same one
# after every other secret of the desk was replaced.
FINGERPRINT_KEY = b"phalanx:api-key:v1"


class Field(StrEnum):
    """Which secret of an account a ciphertext holds."""

    API_KEY = "api_key"
    API_SECRET = "api_secret"  # noqa: S105 - the name of a field
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True)
class Sealer:
    """The public half: turns secrets into ciphertext."""

    public_key: X25519PublicKey

    @classmethod
    def from_text(cls, public: str) -> "Sealer":
        """From the base64 of 32 raw bytes. Raises CredentialError(BAD_PUBLIC_KEY)."""
        try:
            return cls(X25519PublicKey.from_public_bytes(b64decode(public, validate=True)))
        except ValueError as error:
            raise CredentialError(
                "BAD_PUBLIC_KEY", "The HPKE public key is not 32 bytes of base64."
            ) from error

    @property
    def key_id(self) -> str:
        """Which key pair sealed: the start of the SHA-256 of the public key."""
        return hashlib.sha256(self.public_key.public_bytes_raw()).hexdigest()[:KEY_ID_LENGTH]

    def seal(self, secret: str, account: UUID, field: Field) -> bytes:
        """The ciphertext of one secret, for this account and field only."""
        return SUITE.encrypt(secret.encode(), self.public_key, info=_info(account, field))


class Opener:
    """The private half, or several while keys are being rotated. Absent in the web process."""

    __slots__ = ("_keys",)

    def __init__(self, *private: str) -> None:
        self._keys = dict(map(_private_key, filter(None, private)))

    def __repr__(self) -> str:
        return f"<Opener of {', '.join(self._keys) or 'nothing'}>"

    def open(self, ciphertext: bytes, key_id: str, account: UUID, field: Field) -> str:
        """The secret. Raises CredentialError (UNKNOWN_KEY_ID, SEALED_OTHERWISE); never bytes as text."""
        key = self._keys.get(key_id)
        if key is None:
            raise CredentialError("UNKNOWN_KEY_ID", f"No private key {key_id or '(none)'} here.")
        try:
            return SUITE.decrypt(ciphertext, key, info=_info(account, field)).decode()
        except (InvalidTag, ValueError) as error:
            raise CredentialError(
                "SEALED_OTHERWISE", f"The {field.value} was not sealed for this account."
            ) from error


def fingerprint(api_key: str) -> str:
    """HMAC-SHA256 of an API key: finds the same key twice, tells nothing of it."""
    return hmac.new(FINGERPRINT_KEY, api_key.encode(), hashlib.sha256).hexdigest()


def last4(api_key: str) -> str:
    """What may be shown of an API key; nothing of one too short to hide the rest."""
    return api_key[-LAST_SHOWN:] if len(api_key) >= 2 * LAST_SHOWN else ""


def _private_key(private: str) -> tuple[str, X25519PrivateKey]:
    try:
        key = X25519PrivateKey.from_private_bytes(b64decode(private, validate=True))
    except ValueError as error:
        raise CredentialError("BAD_PRIVATE_KEY", "An HPKE private key is not 32 bytes of base64.") from error
    return Sealer(key.public_key()).key_id, key


def _info(account: UUID, field: Field) -> bytes:
    return f"acct:{account}:{field.value}:v1".encode()
