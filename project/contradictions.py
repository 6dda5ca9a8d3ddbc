"""Settings that may not stand together. Each rule leaves its faults, by name, with the environment."""

from collections.abc import Mapping

from project.env import Environment
from project.secret_files import public_key_of

WEAK_SECRETS = frozenset(
    {"admin", "changeme", "default", "password", "phalanx", "postgres", "redis", "secret"}
)
SHORTEST_SECRET_KEY = 50


def refuse_default_secrets(
    env: Environment, required: Mapping[str, str], passwords: Mapping[str, str | None]
) -> None:
    """Live: what must be told is told, and no password is one everybody knows."""
    for name, value in required.items():
        if not value:
            env.fault(f"{name} must be told when MODE=live: one the desk made for itself is not enough")
    secrets: dict[str, str | None] = {**required, **passwords}
    for name, secret in secrets.items():
        if (secret or "").lower() in WEAK_SECRETS:
            env.fault(f"{name} holds a default password, refused when MODE=live")
    if 0 < len(required["SECRET_KEY"]) < SHORTEST_SECRET_KEY:
        env.fault(f"SECRET_KEY has under {SHORTEST_SECRET_KEY} characters, refused when MODE=live")


def refuse_broken_key_pair(env: Environment, public: str, private: str, *, opens: bool) -> None:
    """The credential keys are a pair; only a process that opens no credential runs without the private."""
    if private and not public:
        env.fault("HPKE_PRIVATE_KEY is set without HPKE_PUBLIC_KEY")
    if public and not private and opens:
        env.fault("HPKE_PUBLIC_KEY is set without HPKE_PRIVATE_KEY: only PROCESS_ROLE=web runs without it")
    if not (public and private):
        return
    try:
        if public_key_of(private) != public:
            env.fault("HPKE_PUBLIC_KEY is not the public half of HPKE_PRIVATE_KEY")
    except ValueError:
        env.fault("HPKE_PRIVATE_KEY is not the base64 of 32 bytes")


def refuse_shared_ports(env: Environment, ports: Mapping[str, int]) -> None:
    """Two servers of the desk cannot listen on one port."""
    owners: dict[int, str] = {}
    for name, port in ports.items():
        if port in owners:
            env.fault(f"{owners[port]} and {name} are both {port}")
        owners.setdefault(port, name)


def refuse_play_with_real_money(env: Environment, mode: str, switches: Mapping[str, bool]) -> None:
    """Live: none of these switches is on."""
    for name, is_on in switches.items():
        if mode == "live" and is_on:
            env.fault(f"{name} is on while MODE=live")


def refuse_staged_cascade(env: Environment, *, is_staged: bool, route_policy: str) -> None:
    """A cascade goes by steps of its own; canaries would be waited for in none of them."""
    if is_staged and route_policy == "cascade":
        env.fault("STAGED is on beside ROUTE_POLICY=cascade: a cascade is not staged")


def refuse_paper_outside_paper(env: Environment, mode: str, switches: Mapping[str, bool]) -> None:
    """Testnet and live: nothing that only paper has is set."""
    for name, is_on in switches.items():
        if mode != "paper" and is_on:
            env.fault(f"{name} is set while MODE={mode}: only paper has it")
