import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import ROOT

OURS = {
    "migrate", "web", "worker_orders", "worker_exits", "worker_lookups", "worker_monitor",
    "worker_default",
    "beat", "beat_standby", "watcher", "watcher_2", "flower", "paper",
}  # fmt: skip


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    described = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return dict(described["services"])


def test_compose_is_what_the_compose_schema_says() -> None:
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_the_schema_refuses_a_service_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {web: {imaage: phalanx}}\n")
    words = [
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(tmp_path / "compose.yml"),
    ]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1


def test_every_part_of_the_desk_is_there(services: dict[str, Any]) -> None:
    assert set(services) == OURS | {"database", "broker"}
    assert services["paper"]["profiles"] == ["paper"]


def test_everything_that_stays_up_is_asked_whether_it_lives(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}


def test_nothing_listens_beyond_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_secrets_are_files_and_never_values(services: dict[str, Any]) -> None:
    for service in services.values():
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in ("SECRET", "PASSWORD", "PRIVATE", "URL_FILE")):
                assert key.endswith("_FILE")
                assert str(value).startswith("/run/secrets/")


def test_only_what_opens_credentials_holds_the_private_key(services: dict[str, Any]) -> None:
    holders = {name for name, service in services.items() if "hpke_private_key" in service.get("secrets", [])}
    assert holders == OURS - {"web", "flower", "paper"}


def test_our_containers_write_nowhere_but_where_they_are_told(services: dict[str, Any]) -> None:
    for name in OURS:
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]


def test_every_queue_has_a_worker(services: dict[str, Any]) -> None:
    commands = [service["command"] for name, service in services.items() if name.startswith("worker_")]
    assert {command[command.index("-Q") + 1] for command in commands} == {
        "orders",
        "exits",
        "lookups",
        "monitor",
        "default",
    }
