"""The trading rules as the environment bends them, outside live: limits by name, gate rules by code."""

from project.env import Environment
from trading.domain.limits import LimitError, Limits
from trading.domain.protections import Protection, read_protection
from trading.domain.states import DenyCode

LIMIT_PREFIX = "LIMIT_"
NEVER_OFF = frozenset({DenyCode.HALTED, DenyCode.DUPLICATE, DenyCode.OUTCOME_UNKNOWN})


def read_limits(env: Environment, mode: str) -> Limits:
    """The limits of the mode with every `LIMIT_<NAME>` laid over; faults are left with `env`."""
    keys = env.keys_starting(LIMIT_PREFIX)
    overrides = {key.removeprefix(LIMIT_PREFIX).lower(): env.env_str(key) for key in keys}
    if mode == "live" and keys:
        env.fault(
            f"{', '.join(keys)} set while MODE=live: live limits are set in the desk, where they are recorded"
        )
    try:
        return Limits.for_mode(mode, overrides)
    except LimitError as error:
        for problem in error.problems:
            env.fault(f"{LIMIT_PREFIX}*: {problem}")
        return Limits.for_mode(mode)


def read_protections(env: Environment) -> tuple[Protection, ...]:
    """The protections in force, apart by commas; in every mode, for they only hold entries back."""
    found = []
    for word in env.env_str("PROTECTIONS").split(","):
        if not word.strip():
            continue
        try:
            found.append(read_protection(word))
        except ValueError as error:
            env.fault(f"PROTECTIONS: {error}")
    return tuple(found)


def read_gate_off(env: Environment, mode: str) -> frozenset[DenyCode]:
    """The gate rules that are switched off."""
    words = [word.strip() for word in env.env_str("GATE_OFF").split(",") if word.strip()]
    if mode == "live" and words:
        env.fault("GATE_OFF is set while MODE=live: the gate is whole where money is real")
    for word in words:
        if word not in DenyCode.__members__:
            env.fault(f"GATE_OFF names {word}, which is no gate rule")
        elif DenyCode[word] in NEVER_OFF:
            env.fault(f"GATE_OFF names {word}: it keeps orders from being placed twice and is never off")
    return frozenset(DenyCode[word] for word in words if word in DenyCode.__members__)
