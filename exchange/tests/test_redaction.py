import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.redaction import MASK, redact

KEY_LETTERS = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=64, max_size=64
)


@given(before=st.text(), canary=KEY_LETTERS, after=st.text())
def test_a_key_never_survives_whatever_stands_around_it(before: str, canary: str, after: str) -> None:
    assert canary not in redact(before + canary + after)


@given(before=st.text(), canary=st.text(min_size=1), after=st.text())
def test_a_secret_that_is_named_never_survives(before: str, canary: str, after: str) -> None:
    kept = redact(before + canary + after, [canary]).split(MASK)

    assert not [piece for piece in kept if canary in piece]


@pytest.mark.parametrize(
    "text",
    [
        "GET https://fapi.binance.com/fapi/v1/order?symbol=BTCUSDT&timestamp=1&signature=CANARY",
        "ws://127.0.0.1:1/private/ws?listenKey=CANARY",
        "symbol=BTCUSDT&signature=CANARY",
        "{'X-MBX-APIKEY': 'CANARY'}",
        '{"apiKey": "CANARY", "symbol": "BTCUSDT"}',
        "api_secret=CANARY",
        "Authorization: Bearer CANARY",
        "redis://:CANARY@127.0.0.1:6390/0",
        "postgres://desk:CANARY@db/phalanx",
        "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----",
    ],
)
def test_every_shape_a_secret_leaks_in_is_masked(text: str) -> None:
    assert "CANARY" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"code":-2019,"msg":"Margin is insufficient."}',
        "client_order_id=phx9f8e7d6c5b4a39281706f5e4d3c2b1 filled 0.013 at 91508.90",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    ],
)
def test_what_an_operator_needs_is_kept(text: str) -> None:
    assert redact(text) == text
