import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from exchange.quirks import VENUES
from project.env import SettingsRefused
from project.environment_accounts import EXPERIMENTAL
from project.secret_files import kept_key_pair

LoadSettings = Callable[..., SimpleNamespace]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / ".env.example"
ASSIGNMENT = re.compile(r"#[A-Z][A-Z0-9_]*=")
LONG_KEY = "a secret key that nobody else knows, of enough length"


def live(tmp_path: Path, **told: str) -> dict[str, str]:
    pair = kept_key_pair(tmp_path / "told")
    return {
        "MODE": "live",
        "SECRET_KEY": LONG_KEY,
        "HPKE_PUBLIC_KEY": pair.public,
        "HPKE_PRIVATE_KEY": pair.private,
        **told,
    }


def test_the_defaults_are_an_embedded_paper_desk(load_settings: LoadSettings, tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.MODE, settings.WEB_PORT, settings.FLOWER_PORT) == ("paper", 8000, 5555)
    assert (settings.PAPER_PORT, settings.VALKEY_PORT, settings.PAPER_ACCOUNTS) == (18080, 6390, 20)
    assert settings.DEMO_SIGNALS
    assert settings.PAPER_EXCHANGE_URL == "http://127.0.0.1:18080"
    assert settings.DATABASES["default"]["NAME"] == str(tmp_path / "var" / "phalanx.sqlite3")
    assert settings.DATABASES["default"]["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_made_secrets_are_kept_and_only_for_their_owner(load_settings: LoadSettings, tmp_path: Path) -> None:
    first, second = load_settings(), load_settings()
    assert first.SECRET_KEY == second.SECRET_KEY
    assert first.HPKE_PRIVATE_KEY == second.HPKE_PRIVATE_KEY
    assert first.REDIS_URL == second.REDIS_URL
    kept = list((tmp_path / "var" / "keys").iterdir())
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_the_web_process_cannot_open_credentials(load_settings: LoadSettings) -> None:
    account = {"TRADING_ACCOUNT_1_API_KEY": "key-of-one", "TRADING_ACCOUNT_1_API_SECRET": "secret-of-one"}
    web = load_settings(PROCESS_ROLE="web", **account)
    assert web.HPKE_PUBLIC_KEY
    assert web.HPKE_PRIVATE_KEY == ""
    assert web.ENVIRONMENT_ACCOUNTS[0].secrets == ("", "", "")


def test_accounts_are_read_from_the_environment(load_settings: LoadSettings) -> None:
    settings = load_settings(
        TRADING_ACCOUNT_2_NAME="second",
        TRADING_ACCOUNT_2_API_KEY="key-of-two",
        TRADING_ACCOUNT_2_API_SECRET="secret-of-two",
        TRADING_ACCOUNT_2_LEVERAGE="5",
    )
    (account,) = settings.ENVIRONMENT_ACCOUNTS
    assert (account.number, account.name, account.exchange, account.mode) == (2, "second", "binance", "paper")
    assert account.leverage == Decimal(5)
    assert "secret-of-two" not in repr(account)


def test_a_secret_may_come_from_a_file(load_settings: LoadSettings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{LONG_KEY}\n")
    assert load_settings(SECRET_KEY_FILE=str(tmp_path / "secret")).SECRET_KEY == LONG_KEY


def test_limits_are_set_by_name_in_percent(load_settings: LoadSettings) -> None:
    settings = load_settings(LIMIT_RISK_BUDGET="4", LIMIT_MAX_POSITIONS="3")
    assert settings.LIMITS.risk_budget == Decimal("0.04")
    assert settings.LIMITS.max_positions == 3


def test_the_runner_is_a_limit_of_every_exit_plan(load_settings: LoadSettings) -> None:
    assert load_settings().LIMITS.runner is False
    assert load_settings(RUNNER="on").LIMITS.runner is True


def test_postgres_is_pooled_and_its_connections_checked(load_settings: LoadSettings) -> None:
    database = load_settings(DATABASE_URL="postgres://desk:word@db:5432/desk").DATABASES["default"]
    assert database["CONN_HEALTH_CHECKS"]
    assert database["OPTIONS"]["pool"]["max_size"] == 16


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"MODE": "real"}, "MODE='real' is none of paper, testnet, live"),
        ({"WEB_PORT": "many"}, "WEB_PORT='many' is not a whole number"),
        ({"WEB_PORT": "70000"}, "WEB_PORT=70000 is outside 1 to 65535"),
        ({"WEB_PORT": "18080"}, "WEB_PORT and PAPER_PORT are both 18080"),
        ({"RUNNER": "perhaps"}, "RUNNER='perhaps' is not on or off"),
        ({"LIMIT_MAX_POSITION": "3"}, "max_position"),
        ({"LIMIT_MAX_POSITIONS": "NaN"}, "max_positions"),
        (
            {"STAGED": "on", "ROUTE_POLICY": "cascade"},
            "STAGED is on beside ROUTE_POLICY=cascade: a cascade is not staged",
        ),
        ({"LIMIT_CANARY_REJECT_SHARE": "0"}, "canary_reject_share: 0 is outside 1 to 100"),
        ({"DESK_ID_PREFIX": "p-x"}, "DESK_ID_PREFIX='p-x' is not one to 8 letters or digits"),
        ({"GATE_OFF": "SPREAD,NONSENSE"}, "GATE_OFF names NONSENSE, which is no gate rule"),
        ({"GATE_OFF": "DUPLICATE"}, "GATE_OFF names DUPLICATE"),
        ({"EXPERIMENTAL_VENUES": "okx,binance"}, "EXPERIMENTAL_VENUES names binance, which is none of bybit"),
        ({"TRADING_ACCOUNT_1_API_KEY": "only"}, "TRADING_ACCOUNT_1_API_SECRET is missing"),
        ({"TRADING_ACCOUNT_ONE_API_KEY": "x"}, "TRADING_ACCOUNT_ONE_API_KEY is not a setting of the desk"),
        (
            {"SECRET_KEY": "a", "SECRET_KEY_FILE": "b"},
            "SECRET_KEY and SECRET_KEY_FILE are both set: give one of them",
        ),
        ({"SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY_FILE cannot be read"),
        ({"MODE": "testnet", "CLOCK": "replay"}, "CLOCK=replay is set while MODE=testnet: only paper has it"),
        (
            {"MODE": "testnet", "PAPER_EXCHANGE_URL": "http://x"},
            "PAPER_EXCHANGE_URL is set while MODE=testnet",
        ),
        ({"HPKE_PRIVATE_KEY": "abc"}, "HPKE_PRIVATE_KEY is set without HPKE_PUBLIC_KEY"),
        ({"HPKE_PUBLIC_KEY": "abc"}, "only PROCESS_ROLE=web runs without it"),
        (
            {"HPKE_PUBLIC_KEY": "abc", "HPKE_PRIVATE_KEY": "abc"},
            "HPKE_PRIVATE_KEY is not the base64 of 32 bytes",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    load_settings: LoadSettings, told: dict[str, str], fault: str
) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(**told)
    assert fault in str(refused.value)


def test_every_fault_is_named_at_once(load_settings: LoadSettings) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(MODE="real", WEB_PORT="many", LIMIT_NONSENSE="1")
    assert len(refused.value.faults) == 3


def test_live_starts_when_it_is_told_its_secrets(load_settings: LoadSettings, tmp_path: Path) -> None:
    settings = load_settings(**live(tmp_path))
    assert settings.MODE == "live"
    assert not settings.DEMO_SIGNALS


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY must be told when MODE=live"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY has under 50 characters"),
        ({"SECRET_KEY": "changeme"}, "SECRET_KEY holds a default password"),
        ({"HPKE_PUBLIC_KEY": "", "HPKE_PRIVATE_KEY": ""}, "HPKE_PUBLIC_KEY must be told when MODE=live"),
        ({"DATABASE_URL": "postgres://desk:postgres@db/desk"}, "DATABASE_URL holds a default password"),
        ({"REDIS_URL": "redis://:redis@broker/0"}, "REDIS_URL holds a default password"),
        ({"REDIS_URL": "redis://broker/0"}, "REDIS_URL has no password"),
        ({"FLOWER_PASSWORD": "admin"}, "FLOWER_PASSWORD holds a default password"),
        ({"DEMO_SIGNALS": "on"}, "DEMO_SIGNALS is on while MODE=live"),
        ({"DEBUG": "on"}, "DEBUG is on while MODE=live"),
        ({"GATE_OFF": "SPREAD"}, "GATE_OFF is set while MODE=live"),
        ({"LIMIT_MAX_POSITIONS": "3"}, "LIMIT_MAX_POSITIONS set while MODE=live"),
    ],
)
def test_live_is_refused_with_what_is_safe_only_on_paper(
    load_settings: LoadSettings, tmp_path: Path, told: dict[str, str], fault: str
) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(**live(tmp_path, **told))
    assert fault in str(refused.value)


def test_the_exchanges_that_may_be_named_are_those_not_yet_tried() -> None:
    assert set(EXPERIMENTAL) == {name for name, venue in VENUES.items() if venue.is_experimental}


def test_a_refusal_never_shows_a_secret(load_settings: LoadSettings, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(**live(tmp_path, DATABASE_URL="postgres://desk:postgres@db/desk", WEB_PORT="many"))
    assert "desk:postgres" not in str(refused.value)
    assert LONG_KEY not in str(refused.value)


def test_an_unknown_key_of_the_env_file_is_refused(load_settings: LoadSettings, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# ours\nWEB_PORT=9000\nWEBPORT=9001\n")
    with pytest.raises(SettingsRefused, match="WEBPORT is not a setting of the desk"):
        load_settings(ENV_FILE=str(tmp_path / "env"))


def test_the_process_wins_over_the_env_file(load_settings: LoadSettings, tmp_path: Path) -> None:
    (tmp_path / "env").write_text('export WEB_PORT="9000"\nFLOWER_PORT=9001\n')
    settings = load_settings(ENV_FILE=str(tmp_path / "env"), WEB_PORT="9002")
    assert (settings.WEB_PORT, settings.FLOWER_PORT) == (9002, 9001)


def test_a_broken_line_of_the_env_file_is_named(load_settings: LoadSettings, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("WEB_PORT=9000\njust words\n")
    with pytest.raises(SettingsRefused, match="env line 2 is not KEY=value"):
        load_settings(ENV_FILE=str(tmp_path / "env"))


def test_the_example_names_every_setting_and_no_other(load_settings: LoadSettings) -> None:
    named = {line[1:].split("=")[0] for line in EXAMPLE.read_text().splitlines() if ASSIGNMENT.match(line)}
    settings = load_settings()
    known = settings.env.known_keys()
    generic = {key for key in named if key.startswith(("TRADING_ACCOUNT_", "LIMIT_"))}
    assert named - generic == {key for key in known if not key.endswith("_FILE")}
