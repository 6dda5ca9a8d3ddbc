"""The quality of a candidate, Q = 0.40 S + 0.30 P + 0.20 M + 0.10 R, with every part kept (section 2).

Parts are Decimals in [0, 1]. A part that cannot be computed is None, is named, and counts 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from trading.domain.percent import ONE, ZERO, clamp

WEIGHTS: Mapping[str, Decimal] = {
    "score": Decimal("0.40"),
    "performance": Decimal("0.30"),
    "market": Decimal("0.20"),
    "reward": Decimal("0.10"),
}

PRIOR_WINS = 5
PRIOR_DECISIONS = 10
TREND_STRENGTH = Decimal(20)
CALM_RANGE = Decimal("0.01")
WILD_RANGE = Decimal("0.06")
UNUSABLE_RANGE = Decimal("0.15")
THIN_VOLUME = Decimal(1_000_000)
WIDEST_SPREAD = Decimal("0.0010")
_HALF = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Quality:
    """A candidate's quality; `parts` and `market_parts` hold None where a figure was missing."""

    value: Decimal
    parts: Mapping[str, Decimal | None]
    market_parts: Mapping[str, Decimal | None]

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of what could not be computed, market parts included."""
        every = {**self.parts, **{f"market.{name}": part for name, part in self.market_parts.items()}}
        return tuple(name for name, part in every.items() if part is None)


def quality(
    *,
    score: Decimal,
    wins: int,
    decisions: int,
    market_parts: Mapping[str, Decimal | None],
    reward_risk: Decimal | None,
) -> Quality:
    """Return Q with its parts; `wins` of `decisions` are this symbol and side over the history period."""
    parts: dict[str, Decimal | None] = {
        "score": score,
        "performance": performance(wins, decisions),
        "market": _mean(market_parts),
        "reward": None if reward_risk is None else reward(reward_risk),
    }
    value = sum((WEIGHTS[name] * (part or ZERO) for name, part in parts.items()), ZERO)
    return Quality(value, parts, dict(market_parts))


def performance(wins: int, decisions: int) -> Decimal:
    """Return P = (wins + 5) / (n + 10): a half without history, never 0 or 1."""
    return Decimal(wins + PRIOR_WINS) / Decimal(decisions + PRIOR_DECISIONS)


def reward(reward_risk: Decimal) -> Decimal:
    """Return R: 0 at a net reward-risk of 1, 1 from 3 on."""
    return clamp((reward_risk - ONE) / 2, ZERO, ONE)


def market_parts(
    *,
    is_long: bool,
    ema50: Decimal | None,
    ema200: Decimal | None,
    adx14: Decimal | None,
    range_24h: Decimal | None,
    quote_volume_24h: Decimal | None,
    spread: Decimal | None,
) -> dict[str, Decimal | None]:
    """Return the four parts of M, each None where its figures are missing."""
    return {
        "trend": trend_agreement(is_long=is_long, ema50=ema50, ema200=ema200, adx14=adx14),
        "volatility": None if range_24h is None else volatility_fit(range_24h),
        "liquidity": None if quote_volume_24h is None else liquidity(quote_volume_24h),
        "spread": None if spread is None else spread_fit(spread),
    }


def trend_agreement(
    *,
    is_long: bool,
    ema50: Decimal | None,
    ema200: Decimal | None,
    adx14: Decimal | None,
) -> Decimal | None:
    """Return 1 with EMA50 on the entry's side of EMA200 and ADX(14) >= 20, 0.5 by the EMAs alone, else 0."""
    if ema50 is None or ema200 is None:
        return None
    agrees = ema50 > ema200 if is_long else ema50 < ema200
    if not agrees:
        return ZERO
    return ONE if adx14 is not None and adx14 >= TREND_STRENGTH else _HALF


def volatility_fit(range_24h: Decimal) -> Decimal:
    """Return 1 for a day's range of 1 to 6 % of the close, falling to 0 at 0 and at 15 %."""
    rising = range_24h / CALM_RANGE
    falling = (UNUSABLE_RANGE - range_24h) / (UNUSABLE_RANGE - WILD_RANGE)
    return clamp(min(rising, falling), ZERO, ONE)


def liquidity(quote_volume_24h: Decimal) -> Decimal:
    """Return clamp(log10(quote volume / 1e6) / 2): 0 up to a million, 1 from a hundred millions."""
    if quote_volume_24h <= THIN_VOLUME:
        return ZERO
    return clamp((quote_volume_24h / THIN_VOLUME).log10() / 2, ZERO, ONE)


def spread_fit(spread: Decimal) -> Decimal:
    """Return 1 without a spread, falling to 0 at 0.10 %."""
    return clamp(ONE - spread / WIDEST_SPREAD, ZERO, ONE)


def _mean(parts: Mapping[str, Decimal | None]) -> Decimal | None:
    """The mean over all parts, a missing one counting 0; None when every one is missing."""
    if all(part is None for part in parts.values()):
        return None
    return sum((part or ZERO for part in parts.values()), ZERO) / len(parts)
