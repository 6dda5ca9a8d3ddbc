from base64 import b64encode
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from accounts.credentials import Field, Opener, Sealer, fingerprint, last4
from accounts.errors import CredentialError

SECRET = "canary-3f9a71c2"
ACCOUNT = uuid4()


def key_pair() -> tuple[Sealer, str]:
    private = X25519PrivateKey.generate()
    return Sealer(private.public_key()), b64encode(private.private_bytes_raw()).decode()


SEALER, PRIVATE = key_pair()


@given(st.text())
def test_whatever_is_sealed_opens_to_the_same_text(secret: str) -> None:
    sealed = SEALER.seal(secret, ACCOUNT, Field.API_KEY)
    assert Opener(PRIVATE).open(sealed, SEALER.key_id, ACCOUNT, Field.API_KEY) == secret


def test_sealing_twice_gives_two_ciphertexts_and_neither_holds_the_secret() -> None:
    first, second = (SEALER.seal(SECRET, ACCOUNT, Field.API_KEY) for _ in range(2))
    assert first != second
    assert SECRET.encode() not in first + second


@pytest.mark.parametrize(
    ("account", "field"),
    [(uuid4(), Field.API_SECRET), (ACCOUNT, Field.API_KEY), (ACCOUNT, Field.PASSPHRASE)],
    ids=["another account", "another field", "a third field"],
)
def test_a_ciphertext_moved_elsewhere_does_not_open(account: object, field: Field) -> None:
    sealed = SEALER.seal(SECRET, ACCOUNT, Field.API_SECRET)
    with pytest.raises(CredentialError) as refused:
        Opener(PRIVATE).open(sealed, SEALER.key_id, account, field)  # type: ignore[arg-type]  # a table of UUIDs
    assert refused.value.code == "SEALED_OTHERWISE"
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("index", [0, 31, 32, -1])
def test_one_altered_byte_does_not_open(index: int) -> None:
    sealed = bytearray(SEALER.seal(SECRET, ACCOUNT, Field.API_SECRET))
    sealed[index] ^= 1
    with pytest.raises(CredentialError, match="SEALED_OTHERWISE"):
        Opener(PRIVATE).open(bytes(sealed), SEALER.key_id, ACCOUNT, Field.API_SECRET)


@pytest.mark.parametrize("ciphertext", [b"", b"short", SECRET.encode() * 10])
def test_bytes_that_are_no_ciphertext_are_never_returned_as_a_key(ciphertext: bytes) -> None:
    with pytest.raises(CredentialError, match="SEALED_OTHERWISE"):
        Opener(PRIVATE).open(ciphertext, SEALER.key_id, ACCOUNT, Field.API_SECRET)


def test_another_private_key_is_refused_by_its_id_and_by_its_bytes() -> None:
    sealed = SEALER.seal(SECRET, ACCOUNT, Field.API_SECRET)
    other_sealer, other_private = key_pair()
    with pytest.raises(CredentialError, match="UNKNOWN_KEY_ID"):
        Opener(other_private).open(sealed, SEALER.key_id, ACCOUNT, Field.API_SECRET)
    with pytest.raises(CredentialError, match="SEALED_OTHERWISE"):
        Opener(other_private).open(sealed, other_sealer.key_id, ACCOUNT, Field.API_SECRET)


def test_a_process_without_a_private_key_opens_nothing() -> None:
    sealed = SEALER.seal(SECRET, ACCOUNT, Field.API_SECRET)
    with pytest.raises(CredentialError, match="UNKNOWN_KEY_ID"):
        Opener("").open(sealed, SEALER.key_id, ACCOUNT, Field.API_SECRET)


def test_during_a_rotation_both_keys_open_what_they_sealed() -> None:
    newer, newer_private = key_pair()
    opener = Opener(newer_private, PRIVATE)
    for sealer in (SEALER, newer):
        assert (
            opener.open(sealer.seal(SECRET, ACCOUNT, Field.API_KEY), sealer.key_id, ACCOUNT, Field.API_KEY)
            == SECRET
        )


def test_an_opener_shows_which_keys_it_has_and_nothing_of_them() -> None:
    assert repr(Opener(PRIVATE)) == f"<Opener of {SEALER.key_id}>"
    assert repr(Opener("")) == "<Opener of nothing>"


@pytest.mark.parametrize("text", ["", "not base64!", "c2hvcnQ="])
def test_a_public_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CredentialError, match="BAD_PUBLIC_KEY"):
        Sealer.from_text(text)


def test_a_private_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(CredentialError, match="BAD_PRIVATE_KEY") as refused:
        Opener("c2hvcnQ=")
    assert "c2hvcnQ=" not in str(refused.value)


def test_a_fingerprint_is_stable_and_tells_keys_apart() -> None:
    assert fingerprint("paper-0001") == fingerprint("paper-0001")
    assert fingerprint("paper-0001") != fingerprint("paper-0002")
    assert len(fingerprint("paper-0001")) == 64


def test_only_the_end_of_a_long_key_is_shown() -> None:
    assert last4("vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A") == "Eh8A"
    assert last4("seven77") == ""
