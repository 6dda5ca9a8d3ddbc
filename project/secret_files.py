"""Secrets the embedded desk makes for itself, once, under `VAR_DIR`: never default, never in the code."""

import os
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

OWNER_ONLY = 0o600
OWNER_ONLY_DIRECTORY = 0o700


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 pair for HPKE: each half is the base64 of its 32 raw bytes."""

    public: str
    private: str


def kept_token(path: Path) -> str:
    """The random token kept in this file, made on first use."""
    return _kept(path, secrets.token_urlsafe(48))


def kept_key_pair(directory: Path) -> KeyPair:
    """The credential keys kept in this directory, made on first use; the public half follows the private."""
    private = _kept(directory / "hpke_private.key", _new_private_key())
    public = public_key_of(private)
    _kept(directory / "hpke_public.key", public)
    return KeyPair(public, private)


def public_key_of(private: str) -> str:
    """The public half of a base64 X25519 private key. Raises ValueError when it is none."""
    from_raw = X25519PrivateKey.from_private_bytes(_decoded(private))
    return b64encode(from_raw.public_key().public_bytes_raw()).decode()


def _decoded(key: str) -> bytes:
    return b64decode(key, validate=True)


def _new_private_key() -> str:
    return b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode()


def _kept(path: Path, fresh: str) -> str:
    """What the file holds; `fresh` is written when there is none yet."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=OWNER_ONLY_DIRECTORY)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(fresh)
    # Several processes start at once: a link either makes the whole file or finds the winner's.
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
