import asyncio
import copy
import pickle

import pytest

from exchange.credentials import Credentials
from exchange.errors import ReadFailed
from exchange.factory import GatewayFactory
from exchange.port import Market
from exchange.quirks import BINANCE, VENUES, Fence, Hosts
from exchange.tests.conftest import RecordedVenue


@pytest.mark.parametrize(
    ("mode", "base_url"),
    [
        ("paper", ""),
        ("live", "http://127.0.0.1:1"),
        ("testnet", "http://127.0.0.1:1"),
        ("demo", ""),
        ("", ""),
    ],
)
def test_a_mode_and_an_address_that_contradict_each_other_are_refused(mode: str, base_url: str) -> None:
    with pytest.raises(ValueError, match="mode"):
        GatewayFactory(mode, base_url=base_url)


def test_an_unknown_venue_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="kraken"):
        GatewayFactory("live", "kraken")


@pytest.mark.parametrize("mode", ["paper", "testnet"])
@pytest.mark.parametrize("market", list(Market))
async def test_no_address_of_a_client_is_the_real_exchanges_outside_live(mode: str, market: Market) -> None:
    """One address left out would send a key to the real exchange."""
    factory = GatewayFactory(mode, base_url="http://127.0.0.1:1" if mode == "paper" else "")
    client = factory._connections[market]._build()
    await factory.close()

    addresses = client.urls["api"]
    assert set(addresses) >= {"sapi", "fapiPrivate", "private", "papi", "dapiPrivate", "eapiPrivate"}
    known = ("http://127.0.0.1:1/",) if mode == "paper" else ("https://demo-fapi.", "https://demo-api.")
    assert [url for url in addresses.values() if not url.startswith(known)] == []


async def test_in_live_the_addresses_are_the_venues_own() -> None:
    factory = GatewayFactory("live")
    client = factory._connections[Market.FUTURES]._build()
    await factory.close()

    assert client.urls["api"]["fapiPrivate"] == "https://fapi.binance.com/fapi/v1"
    assert client.urls["api"]["sapi"] == "https://api.binance.com/sapi/v1"


def test_streams_follow_the_address_they_belong_to() -> None:
    hosts = Hosts.single("https://paper.example:8443/")

    assert {hosts.mark_streams(market) for market in Market} == {"wss://paper.example:8443"}
    assert BINANCE.hosts["live"].user_streams(Market.FUTURES) == "wss://fstream.binance.com"
    assert BINANCE.hosts["live"].user_streams(Market.SPOT) == "wss://ws-api.binance.com:443"


async def test_ccxts_own_limiter_and_retries_are_off(factory: GatewayFactory) -> None:
    client = factory._connections[Market.FUTURES]._build()

    assert client.enableRateLimit is False
    assert client.options.get("maxRetriesOnFailure", 0) == 0
    assert client.exceptions["exact"]["-2019"].__name__ == "InsufficientFunds"


def test_the_same_keys_have_one_gateway_until_they_are_forgotten(
    factory: GatewayFactory, keys: Credentials
) -> None:
    gateway = factory.for_account(keys, Market.FUTURES)

    assert factory.for_account(Credentials("paper-0001", "paper-0001"), Market.FUTURES) is gateway
    assert factory.for_account(Credentials("paper-0001", "another"), Market.FUTURES) is not gateway
    factory.forget(keys)
    assert factory.for_account(keys, Market.FUTURES) is not gateway


async def test_a_clone_costs_about_a_kilobyte_not_a_client(
    factory: GatewayFactory, keys: Credentials
) -> None:
    gateway = factory.for_account(keys, Market.FUTURES)
    client = await gateway._ready()
    template = await factory._connections[Market.FUTURES].template()

    assert client.markets is template.markets
    assert client.session is template.session
    own = [name for name, value in vars(client).items() if value is not vars(template).get(name)]
    assert set(own) <= {
        "apiKey",
        "secret",
        "password",
        "options",
        "tokenBucket",
        "throttler",
        "order_rate",
        "headers",
        "last_request_headers",
        "last_request_body",
        "last_request_url",
    }
    assert (template.apiKey, template.secret) == (None, None) or (template.apiKey, template.secret) == (
        "",
        "",
    )


async def test_a_session_is_refused_to_a_second_loop(factory: GatewayFactory) -> None:
    factory._session.get()

    async def ask() -> None:
        factory._session.get()

    with pytest.raises(RuntimeError, match="belongs to the loop"):
        await asyncio.to_thread(asyncio.run, ask())


def test_credentials_never_print_and_never_travel() -> None:
    secret = Credentials("KEY-CANARY", "SECRET-CANARY", "PHRASE-CANARY")

    shown = f"{secret!r} {secret} {[secret]}"
    assert "CANARY" not in shown
    assert not hasattr(secret, "__dict__")
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            travel(secret)


def test_a_gateway_never_prints_its_keys(factory: GatewayFactory) -> None:
    assert "CANARY" not in repr(factory.for_account(Credentials("KEY-CANARY", "SECRET-CANARY"), Market.SPOT))


def test_every_venue_refuses_late_orders_and_takes_the_client_ids_of_the_desk() -> None:
    for venue in VENUES.values():
        assert Market.FUTURES in venue.markets
        assert venue.fence is not Fence.NONE
        assert venue.client_id_limit >= 32


async def test_an_unreadable_error_never_shows_keys(venue: RecordedVenue, factory: GatewayFactory) -> None:
    secret = "S" * 64
    gateway = factory.for_account(Credentials("K" * 64, secret), Market.FUTURES)
    venue.answer("GET /fapi/v3/positionRisk", "<html>", 504)

    with pytest.raises(ReadFailed) as failed:
        await gateway.fetch_positions()

    (asked,) = venue.asked_for("GET /fapi/v3/positionRisk")
    told = f"{failed.value} {failed.value.message}"
    assert not [canary for canary in (secret, "K" * 64, asked.params["signature"]) if canary in told]


async def test_signed_requests_are_not_logged_even_at_debug(
    venue: RecordedVenue, factory: GatewayFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    venue.answer("GET /fapi/v3/positionRisk", [])
    await factory.for_account(Credentials("KEY-CANARY", "SECRET-CANARY"), Market.FUTURES).fetch_positions()

    assert "CANARY" not in caplog.text
    assert "signature" not in caplog.text


async def test_a_market_table_that_cannot_be_read_is_asked_for_once_not_by_every_account(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    venue.answer("GET /fapi/v1/exchangeInfo", "", 502)
    gateways = [factory.for_account(Credentials(f"k{number}", "s"), Market.FUTURES) for number in range(50)]

    answers = await asyncio.gather(
        *(gateway.fetch_positions() for gateway in gateways), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {ReadFailed}
    assert len(venue.asked_for("GET /fapi/v1/exchangeInfo")) == 1


async def test_a_closed_factory_serves_again(
    venue: RecordedVenue, factory: GatewayFactory, keys: Credentials
) -> None:
    venue.answer("GET /fapi/v3/positionRisk", [])
    gateway = factory.for_account(keys, Market.FUTURES)
    await gateway.fetch_positions()
    await factory.close()

    assert list(await gateway.fetch_positions()) == []


def test_a_closed_factory_serves_on_the_next_loop(keys: Credentials) -> None:
    factory = GatewayFactory("paper", base_url="http://127.0.0.1:1")
    gateway = factory.for_account(keys, Market.FUTURES)

    async def ask() -> None:
        with pytest.raises(ReadFailed):
            await gateway.fetch_positions()
        await factory.close()

    asyncio.run(ask())
    asyncio.run(ask())
