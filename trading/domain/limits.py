"""Every tunable of the trading rules, with its default, its bounds and its contradictions.

Inside, ratios are fractions. From outside (`LIMIT_<NAME>`, overrides of a group or an account) a tunable of
kind PERCENT is given in percent: `LIMIT_RISK_BUDGET=5` means `risk_budget == Decimal("0.05")`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from trading.domain.percent import from_percent, to_percent

LimitValue = Decimal | int | bool | str


class LimitError(ValueError):
    """Limits that cannot be used; `problems` names each one."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class SizingModel(StrEnum):
    """How the wanted quantity is found, before the caps that hold for all models."""

    RISK = "risk"
    FIXED_NOTIONAL = "fixed_notional"
    FIXED_MARGIN = "fixed_margin"
    EQUITY_SHARE = "equity_share"
    CAPPED_KELLY = "capped_kelly"


class Kind(StrEnum):
    """How a tunable is written at the edge."""

    PERCENT = "percent"
    FACTOR = "factor"
    COUNT = "count"
    FLAG = "flag"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Tunable:
    """Kind and inclusive bounds of one field of `Limits`; bounds are as stored, not in percent."""

    kind: Kind
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The effective limits of a desk, a group or an account.

    Fields that end in a unit are in that unit; PERCENT fields of `TUNABLES` are fractions; `gross_notional`
    and `symbol_notional` are multiples of equity, the other notionals are quote units.
    """

    # Selection (section 2)
    min_score: Decimal = Decimal("0.65")
    min_quality: Decimal = Decimal("0.50")
    signal_max_age_seconds: int = 86_400
    cooldown_seconds: int = 300
    fruitless_seconds: int = 60
    decisions_per_tick: int = 1
    duplicate_seconds: int = 30
    candidates: int = 10
    history_days: int = 30
    desk_risk_budget: Decimal = Decimal("0.05")
    desk_daily_trades: int = 100
    # Gate (section 3)
    mark_max_age_seconds: int = 3
    account_max_age_seconds: int = 30
    delivery_hours: int = 72
    max_positions: int = 5
    daily_trades: int = 20
    daily_loss: Decimal = Decimal("0.05")
    risk_budget: Decimal = Decimal("0.05")
    gross_notional: Decimal = Decimal(3)
    symbol_notional: Decimal = Decimal(1)
    same_direction: Decimal = Decimal("0.70")
    correlation: Decimal = Decimal("0.8")
    correlated_positions: int = 2
    correlation_min_hours: int = 100
    max_volatility: Decimal = Decimal("0.15")
    counter_trend: bool = False
    funding_minutes: int = 10
    funding_share: Decimal = Decimal("0.10")
    max_spread: Decimal = Decimal("0.0020")
    price_away: Decimal = Decimal("0.25")
    min_reward_risk: Decimal = Decimal(1)
    min_stop_distance: Decimal = Decimal("0.0015")
    liquidation_share: Decimal = Decimal("0.80")
    margin_buffer: Decimal = Decimal("0.20")
    margin_reserve: Decimal = Decimal("0.10")
    breaker_rejections: int = 3
    venue_circuit_accounts: int = 5
    venue_circuit_share: Decimal = Decimal("0.20")
    # Sizing and entry price (section 4)
    entry_slippage: Decimal = Decimal("0.0020")
    entry_stop_share: Decimal = Decimal("0.25")
    stop_slippage: Decimal = Decimal("0.0005")
    risk_per_trade: Decimal = Decimal("0.01")
    sizing_model: SizingModel = SizingModel.RISK
    fixed_notional: Decimal = Decimal(100)
    fixed_margin: Decimal = Decimal("0.02")
    equity_share: Decimal = Decimal("0.10")
    kelly_share: Decimal = Decimal("0.25")
    kelly_min_decisions: int = 30
    max_order_notional: Decimal = Decimal(100_000)
    desk_symbol_notional: Decimal = Decimal(5_000_000)
    desk_volume_share: Decimal = Decimal("0.001")
    desk_depth_share: Decimal = Decimal("0.20")
    min_notional_buffer: Decimal = Decimal("0.02")
    leverage: int = 3
    excess_loss: Decimal = Decimal("1.25")
    # Execution (section 5)
    deadline_seconds: int = 15
    canary_reject_share: Decimal = Decimal("0.20")
    unknown_alarm_seconds: int = 60
    # Exit plan (section 6)
    base_take_profit: Decimal = Decimal("0.010")
    base_stop: Decimal = Decimal("0.005")
    stop_floor: Decimal = Decimal("0.0015")
    stop_ceiling: Decimal = Decimal("0.020")
    take_profit_floor: Decimal = Decimal("0.003")
    min_stop: bool = True
    min_stop_costs: Decimal = Decimal(5)
    fixed_stop: Decimal = Decimal("0.010")
    fixed_take_profit: Decimal = Decimal("0.020")
    runner: bool = False
    runner_distance: Decimal = Decimal("0.005")
    trail_from: Decimal = Decimal("0.040")
    trail_distance: Decimal = Decimal("0.015")
    trail_step: Decimal = Decimal("0.001")
    time_limit_hours: int = 48
    loss_guard: Decimal = Decimal("1.5")
    # Protection (section 7)
    unprotected_seconds: int = 10
    unseen_alarm_seconds: int = 10
    second_stop_seconds: int = 30
    stop_priority_seconds: int = 2
    stop_hung_seconds: int = 3
    spot_stop_limit: Decimal = Decimal("0.03")
    # Automatic halts (section 8)
    halt_drawdown: Decimal = Decimal("0.15")
    account_stop_outs: int = 3
    account_stop_out_minutes: int = 60
    desk_stop_outs: int = 3
    desk_stop_out_minutes: int = 15
    halted_accounts_share: Decimal = Decimal("0.25")
    stream_max_age_seconds: int = 5
    unknown_accounts: int = 3
    unknown_accounts_share: Decimal = Decimal("0.01")
    venue_error_share: Decimal = Decimal("0.20")
    venue_error_seconds: int = 30
    venue_error_answers: int = 20
    # Alerts (section 9)
    stop_approach: Decimal = Decimal("0.80")
    day_warning: Decimal = Decimal("0.02")

    @classmethod
    def for_mode(cls, mode: str, overrides: Mapping[str, str] | None = None) -> "Limits":
        """Return the limits of a desk in `mode` (paper, testnet, live) with overrides by name.

        Raises LimitError for an unknown mode, an unknown name, a bad or absurd value, or a contradiction.
        """
        if mode not in MODE_DEFAULTS:
            raise LimitError((f"mode {mode!r} is none of {', '.join(MODE_DEFAULTS)}",))
        return overlay(_with_values(cls(), MODE_DEFAULTS[mode]), overrides or {})

    @classmethod
    def from_mapping(cls, values: Mapping[str, str]) -> "Limits":
        """Return the paper defaults with `values` laid over; raises LimitError as `for_mode` does."""
        return overlay(cls(), values)

    def validate(self) -> "Limits":
        """Return self; raises LimitError naming every bound left and every contradiction."""
        problems = (*_out_of_bounds(self), *_contradictions(self))
        if problems:
            raise LimitError(problems)
        return self

    @property
    def desk_only(self) -> frozenset[str]:
        """The limits that no group or account can have otherwise."""
        return DESK_ONLY

    @property
    def setting_only(self) -> frozenset[str]:
        """The limits that only a setting changes, for every process at its start."""
        return SETTING_ONLY

    def unit(self, name: str) -> str:
        """What stands behind the value of a limit as it is written: ``%``, or nothing."""
        return "%" if TUNABLES[name].kind is Kind.PERCENT else ""

    def as_edge(self) -> dict[str, str]:
        """Return every tunable as it would be written in a setting, percent where the kind says so."""
        return {name: _write(tunable.kind, getattr(self, name)) for name, tunable in TUNABLES.items()}


def overlay(limits: Limits, overrides: Mapping[str, object]) -> Limits:
    """Lay overrides (written as at the edge, names in any case) over `limits`; the effective limits.

    Raises LimitError naming every unknown name, unreadable value, bound left and contradiction.
    """
    problems: list[str] = []
    read: dict[str, LimitValue] = {}
    for written_name, written in overrides.items():
        name = written_name.lower()
        tunable = TUNABLES.get(name)
        value = _read(tunable.kind, str(written)) if tunable else None
        if tunable is None:
            problems.append(f"{written_name}: no such limit")
        elif value is None:
            problems.append(f"{written_name}: {written!r} is not a {tunable.kind.value}")
        else:
            read[name] = value
    if problems:
        raise LimitError(tuple(problems))
    return _with_values(limits, read).validate()


def _with_values(limits: Limits, values: Mapping[str, LimitValue]) -> Limits:
    return replace(limits, **values)  # type: ignore[arg-type]  # kinds were checked against TUNABLES


def _read(kind: Kind, written: str) -> LimitValue | None:
    try:
        return _READERS[kind](written.strip())
    except (ValueError, InvalidOperation, KeyError):
        return None


def _read_number(written: str) -> Decimal:
    number = Decimal(written)
    if not number.is_finite():
        raise ValueError(written)
    return number


_FLAGS = {
    "on": True,
    "true": True,
    "1": True,
    "yes": True,
    "off": False,
    "false": False,
    "0": False,
    "no": False,
}

_READERS: Mapping[Kind, Callable[[str], LimitValue]] = {
    Kind.PERCENT: lambda written: from_percent(_read_number(written)),
    Kind.FACTOR: _read_number,
    Kind.COUNT: int,
    Kind.FLAG: lambda written: _FLAGS[written.lower()],
    Kind.CHOICE: SizingModel,
}


def _write(kind: Kind, value: LimitValue) -> str:
    if isinstance(value, Decimal):
        return format((to_percent(value) if kind is Kind.PERCENT else value).normalize(), "f")
    if kind is Kind.FLAG:
        return "on" if value else "off"
    return str(value)


def _percent(low: str, high: str) -> Tunable:
    return Tunable(Kind.PERCENT, from_percent(Decimal(low)), from_percent(Decimal(high)))


def _factor(low: str, high: str) -> Tunable:
    return Tunable(Kind.FACTOR, Decimal(low), Decimal(high))


def _count(low: int, high: int) -> Tunable:
    return Tunable(Kind.COUNT, Decimal(low), Decimal(high))


_FLAG = Tunable(Kind.FLAG)
_CHOICE = Tunable(Kind.CHOICE)

TUNABLES: Mapping[str, Tunable] = {
    "min_score": _factor("0", "1"),
    "min_quality": _factor("0", "1"),
    "signal_max_age_seconds": _count(10, 604_800),
    "cooldown_seconds": _count(0, 86_400),
    "fruitless_seconds": _count(0, 86_400),
    "decisions_per_tick": _count(1, 10),
    "duplicate_seconds": _count(1, 3_600),
    "candidates": _count(1, 100),
    "history_days": _count(1, 365),
    "desk_risk_budget": _percent("0.25", "100"),
    "desk_daily_trades": _count(1, 10_000),
    "mark_max_age_seconds": _count(1, 60),
    "account_max_age_seconds": _count(5, 600),
    "delivery_hours": _count(0, 720),
    "max_positions": _count(1, 100),
    "daily_trades": _count(1, 1_000),
    "daily_loss": _percent("0.75", "50"),
    "risk_budget": _percent("0.25", "50"),
    "gross_notional": _factor("0.1", "50"),
    "symbol_notional": _factor("0.05", "50"),
    "same_direction": _percent("10", "100"),
    "correlation": _factor("0", "1"),
    "correlated_positions": _count(1, 100),
    "correlation_min_hours": _count(2, 168),
    "max_volatility": _percent("1", "100"),
    "counter_trend": _FLAG,
    "funding_minutes": _count(0, 480),
    "funding_share": _percent("0", "100"),
    "max_spread": _percent("0.01", "5"),
    "price_away": _factor("0.01", "2"),
    "min_reward_risk": _factor("0", "20"),
    "min_stop_distance": _percent("0.05", "5"),
    "liquidation_share": _percent("10", "95"),
    "margin_buffer": _percent("0", "200"),
    "margin_reserve": _percent("0", "90"),
    "breaker_rejections": _count(1, 100),
    "venue_circuit_accounts": _count(1, 1_000),
    "venue_circuit_share": _percent("1", "100"),
    "entry_slippage": _percent("0.01", "2"),
    "entry_stop_share": _factor("0", "1"),
    "stop_slippage": _percent("0", "2"),
    "risk_per_trade": _percent("0.25", "2"),
    "sizing_model": _CHOICE,
    "fixed_notional": _factor("1", "10000000"),
    "fixed_margin": _percent("0.1", "50"),
    "equity_share": _percent("0.1", "300"),
    "kelly_share": _percent("1", "100"),
    "kelly_min_decisions": _count(30, 10_000),
    "max_order_notional": _factor("1", "100000000"),
    "desk_symbol_notional": _factor("1", "1000000000"),
    "desk_volume_share": _percent("0.001", "5"),
    "desk_depth_share": _percent("1", "100"),
    "min_notional_buffer": _percent("0", "50"),
    "leverage": _count(1, 125),
    "excess_loss": _factor("1", "3"),
    "deadline_seconds": _count(1, 120),
    "canary_reject_share": _percent("1", "100"),
    "unknown_alarm_seconds": _count(11, 600),
    "base_take_profit": _percent("0.1", "20"),
    "base_stop": _percent("0.1", "10"),
    "stop_floor": _percent("0.15", "10"),
    "stop_ceiling": _percent("0.15", "20"),
    "take_profit_floor": _percent("0.1", "20"),
    "min_stop": _FLAG,
    "min_stop_costs": _factor("0", "20"),
    "fixed_stop": _percent("0.15", "20"),
    "fixed_take_profit": _percent("0.1", "100"),
    "runner": _FLAG,
    "runner_distance": _percent("0.1", "10"),
    "trail_from": _percent("0.2", "50"),
    "trail_distance": _percent("0.1", "20"),
    "trail_step": _percent("0.01", "2"),
    "time_limit_hours": _count(0, 8_760),
    "loss_guard": _factor("1", "5"),
    "unprotected_seconds": _count(1, 60),
    "unseen_alarm_seconds": _count(1, 300),
    "second_stop_seconds": _count(2, 600),
    "stop_priority_seconds": _count(0, 10),
    "stop_hung_seconds": _count(1, 30),
    "spot_stop_limit": _percent("0.5", "20"),
    "halt_drawdown": _percent("1", "90"),
    "account_stop_outs": _count(1, 100),
    "account_stop_out_minutes": _count(1, 1_440),
    "desk_stop_outs": _count(1, 100),
    "desk_stop_out_minutes": _count(1, 1_440),
    "halted_accounts_share": _percent("1", "100"),
    "stream_max_age_seconds": _count(1, 60),
    "unknown_accounts": _count(1, 1_000),
    "unknown_accounts_share": _percent("0.1", "100"),
    "venue_error_share": _percent("1", "100"),
    "venue_error_seconds": _count(10, 60),
    "venue_error_answers": _count(1, 10_000),
    "stop_approach": _percent("10", "100"),
    "day_warning": _percent("0.1", "50"),
}

DESK_ONLY = frozenset(
    {
        "min_score",
        "min_quality",
        "signal_max_age_seconds",
        "cooldown_seconds",
        "fruitless_seconds",
        "decisions_per_tick",
        "candidates",
        "history_days",
        "desk_risk_budget",
        "desk_daily_trades",
        "correlation_min_hours",
        "venue_circuit_accounts",
        "venue_circuit_share",
        "entry_slippage",
        "entry_stop_share",
        "desk_symbol_notional",
        "desk_volume_share",
        "desk_depth_share",
        "leverage",
        "deadline_seconds",
        "canary_reject_share",
        "unknown_alarm_seconds",
        "unprotected_seconds",
        "unseen_alarm_seconds",
        "second_stop_seconds",
        "stop_priority_seconds",
        "stop_hung_seconds",
        "desk_stop_outs",
        "desk_stop_out_minutes",
        "halted_accounts_share",
        "stream_max_age_seconds",
        "unknown_accounts",
        "unknown_accounts_share",
        "venue_error_share",
        "venue_error_seconds",
        "venue_error_answers",
        "stop_approach",
        "day_warning",
    }
)
"""What is decided once for all accounts: a group or an account cannot have it otherwise."""

SETTING_ONLY = frozenset(
    {
        "correlation_min_hours",
        "unprotected_seconds",
        "unseen_alarm_seconds",
        "second_stop_seconds",
        "stop_priority_seconds",
        "stop_hung_seconds",
        "stream_max_age_seconds",
    }
)
"""What the watcher, protection and the market's readers go by at every tick: told at start only."""

MODE_DEFAULTS: Mapping[str, Mapping[str, LimitValue]] = {
    "paper": {},
    "testnet": {},
    "live": {
        "min_score": Decimal("0.80"),
        "min_quality": Decimal("0.60"),
        "signal_max_age_seconds": 900,
    },
}


def _out_of_bounds(limits: Limits) -> tuple[str, ...]:
    bounded = ((name, tunable) for name, tunable in TUNABLES.items() if tunable.high > 0)
    return tuple(
        f"{name}: {_write(tunable.kind, getattr(limits, name))} is outside "
        f"{_write(tunable.kind, tunable.low)} to {_write(tunable.kind, tunable.high)}"
        for name, tunable in bounded
        if not tunable.low <= getattr(limits, name) <= tunable.high
    )


_DAYS_WORTH_OF_STOPS = 3

_CONTRADICTIONS: tuple[tuple[str, Callable[[Limits], bool]], ...] = (
    (
        "daily_loss is under 3 x risk_per_trade: three stops would end the day before it began",
        lambda limits: limits.daily_loss < _DAYS_WORTH_OF_STOPS * limits.risk_per_trade,
    ),
    (
        "risk_budget is under risk_per_trade: no entry could ever pass",
        lambda limits: limits.risk_budget < limits.risk_per_trade,
    ),
    (
        "same_direction of risk_budget is under risk_per_trade: no entry could ever pass",
        lambda limits: limits.same_direction * limits.risk_budget < limits.risk_per_trade,
    ),
    (
        "symbol_notional is above gross_notional",
        lambda limits: limits.symbol_notional > limits.gross_notional,
    ),
    ("stop_floor is above stop_ceiling", lambda limits: limits.stop_floor > limits.stop_ceiling),
    (
        "stop_floor is under min_stop_distance: the plan's nearest stop would be refused",
        lambda limits: limits.stop_floor < limits.min_stop_distance,
    ),
    (
        "fixed_stop is under min_stop_distance: the fixed policy would always be refused",
        lambda limits: limits.fixed_stop < limits.min_stop_distance,
    ),
    (
        "trail_distance is not under trail_from: the first trailing stop would lie behind the entry",
        lambda limits: limits.trail_distance >= limits.trail_from,
    ),
    (
        "loss_guard is under excess_loss: the guard would close what the excess rule allows",
        lambda limits: limits.loss_guard < limits.excess_loss,
    ),
    (
        "second_stop_seconds is not above unseen_alarm_seconds",
        lambda limits: limits.second_stop_seconds <= limits.unseen_alarm_seconds,
    ),
    ("day_warning is not under daily_loss", lambda limits: limits.day_warning >= limits.daily_loss),
    (
        "fruitless_seconds is above cooldown_seconds",
        lambda limits: limits.fruitless_seconds > limits.cooldown_seconds,
    ),
)


def _contradictions(limits: Limits) -> tuple[str, ...]:
    return tuple(text for text, contradicts in _CONTRADICTIONS if contradicts(limits))
