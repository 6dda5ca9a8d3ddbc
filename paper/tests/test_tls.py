"""Encrypted and under a name of its own: unmodified clients raise what they raise in production."""

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import ccxt.async_support as ccxt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from paper.tests.clients import addresses
from paper.tests.conftest import launch
from paper.tests.wire import Wire

BTC = "BTC/USDT:USDT"
NAMES = ("localhost", "fapi.paper.test")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the names, signed by itself, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "paper.test")])
    begins = datetime.now(UTC) - timedelta(minutes=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in NAMES]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def encrypted(certificate: Path) -> Iterator[Wire]:
    key = certificate.with_name("key.pem")
    wire = launch("--tls-cert", str(certificate), "--tls-key", str(key), "--symbols", "BTCUSDT")
    yield wire
    wire.stop()


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name leads here, as an entry of a hosts file would make it."""
    known = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return known("127.0.0.1" if host in {*NAMES, NAMES[1].encode()} else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@asynccontextmanager
async def client(encrypted: Wire, certificate: Path) -> AsyncIterator[Any]:
    port = encrypted.url.rsplit(":", 1)[1]
    url = f"https://fapi.paper.test:{port}"
    words = {"apiKey": "tls", "secret": "tls", "urls": addresses(url), "cafile": str(certificate)}
    options = {"fetchCurrencies": False, "fetchMargins": False}
    made = ccxt.binanceusdm({**words, "hostname": f"paper.test:{port}", "options": options})
    try:
        yield made
    finally:
        await made.close()


def test_it_listens_encrypted_when_given_a_certificate(encrypted: Wire, certificate: Path) -> None:
    port = int(encrypted.url.rsplit(":", 1)[1])
    trusting = ssl.create_default_context(cafile=str(certificate))
    connection = HTTPSConnection("localhost", port, timeout=5, context=trusting)
    connection.request("GET", "/fapi/v1/ping")
    assert connection.getresponse().read() == b"{}"
    connection.close()


async def test_unmodified_clients_raise_the_classes_of_production(
    encrypted: Wire, certificate: Path, named: None
) -> None:
    async with client(encrypted, certificate) as ex:
        price = (await ex.fetch_ticker(BTC))["last"]
        far = {"clientOrderId": "far", "timeInForce": "GTC"}
        with pytest.raises(ccxt.InsufficientFunds, match="-2019"):
            await ex.create_order(BTC, "market", "buy", 100)
        with pytest.raises(ccxt.InvalidOrder, match="-4164"):
            await ex.create_order(BTC, "limit", "buy", 0.001, price * 0.4, far)
        with pytest.raises(ccxt.InvalidOrder, match="-2022"):
            await ex.create_order(BTC, "market", "sell", 0.01, None, {"reduceOnly": True})
        with pytest.raises(ccxt.OrderImmediatelyFillable, match="-2021"):
            await ex.create_order(BTC, "market", "sell", 0.01, None, {"stopLossPrice": price * 1.1})
        with pytest.raises(ccxt.OrderNotFillable, match="-5022"):
            await ex.create_order(BTC, "limit", "buy", 0.01, price * 1.01, {"postOnly": True})
        await ex.create_order(BTC, "limit", "buy", 0.01, price * 0.9, far)
        with pytest.raises(ccxt.InvalidOrder, match="-4116"):
            await ex.create_order(BTC, "limit", "buy", 0.01, price * 0.9, far)
