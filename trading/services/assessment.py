"""One account's answer to one decision on one executor: a sized entry, or the first reason against it."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from accounts.models import MarginMode
from accounts.services.entrants import Trader
from exchange.port import Market
from trading.domain.gate import (
    AccountState,
    Book,
    GateInput,
    Proposal,
    Refusal,
    refusal_after_sizing,
    refusal_before_sizing,
)
from trading.domain.instrument import Instrument
from trading.domain.percent import ONE, ZERO
from trading.domain.sizing import SizingInput, risk_equity, size
from trading.domain.states import DenyCode, SkipCode
from trading.domain.values import value
from trading.services.exposure import Exposure, Wallet
from trading.services.market import TAKER_FEES
from trading.services.scene import AtCap, ReadBack, Scene, unhealthy_reasons

NOTHING = Wallet(ZERO, ZERO, ZERO)
ISOLATED = MarginMode.ISOLATED.value


@value
class Assessment:
    """What gate and sizing say of one account and market: an entry, a refusal, or a skip.

    `asked` is what the gate was asked, None where the market alone answers. `planned_risk` is the loss the
    account is meant to bear at its stop, in quote units; a fill that would lose much more is reduced at once.
    `refused_by` are the answers of the account's other executors.
    """

    account: Trader
    market: Market
    executor: str
    asked: GateInput | None = None
    proposal: Proposal | None = None
    refusal: Refusal | None = None
    skipped: SkipCode | None = None
    planned_risk: Decimal = ZERO
    leverage: Decimal = ONE
    refused_by: tuple["Assessment", ...] = ()

    @property
    def is_entry(self) -> bool:
        """Whether an order follows."""
        return self.proposal is not None and self.refusal is None

    @property
    def code(self) -> str:
        """Why no order follows; empty when one does."""
        return self.refusal.code if self.refusal else self.skipped or ""

    @property
    def detail(self) -> dict[str, str]:
        """The numbers behind it, as the allocation keeps them."""
        if self.refusal is not None:
            return dict(self.refusal.detail)
        return _sizing_detail(self.proposal, self.leverage) if self.proposal else {}


def assess(scene: Scene, account: Trader, market: Market, executor: str) -> Assessment:
    """Ask the gate about one account and executor, and size its entry under every cap but the desk's."""
    blank = Assessment(account, market, executor)
    if market == Market.SPOT and not scene.is_long:
        return replace(blank, skipped=SkipCode.NO_MARKET)
    if scene.decision.cap_price is None:
        return replace(blank, refusal=Refusal(DenyCode.STALE_DATA, {"missing": "mark_price"}))
    instrument = scene.market.instruments.get(market)
    if instrument is None:
        detail = {"missing": f"not listed on {market.value}"}
        return replace(blank, refusal=Refusal(DenyCode.SYMBOL_CLOSED, detail))
    asked = question(scene, account, market, instrument)
    if (refusal := refusal_before_sizing(asked)) is not None:
        return replace(blank, asked=asked, refusal=refusal)
    return assess_sized(scene, blank, asked, None)


def resized(scene: Scene, one: Assessment, desk_notional: Decimal) -> Assessment:
    """The entry once the account's part of what the desk may take in the coin is known; never larger."""
    assert one.asked is not None  # noqa: S101 -- an entry was asked about
    return assess_sized(scene, one, one.asked, desk_notional)


def assess_sized(
    scene: Scene, blank: Assessment, asked: GateInput, desk_notional: Decimal | None
) -> Assessment:
    """Size the entry and ask the rules that weigh it; the scene's decision must have a cap.

    `desk_notional` is the account's part of what the desk may take in the coin; None before it is shared.
    """
    leverage = asked.account.leverage or asked.account.asked_leverage
    at_cap = scene.at_cap(asked.instrument, blank.market, leverage, asked.limits)
    wanted = _sizing_input(scene, blank, asked, at_cap, leverage, desk_notional)
    sizing = size(wanted)
    proposal = Proposal(at_cap.cap_price, at_cap.stop_price, at_cap.distances, sizing, wanted.taker_fee)
    budget = risk_equity(wanted.wallet, wanted.unrealized) * asked.limits.risk_per_trade
    return Assessment(
        blank.account,
        blank.market,
        blank.executor,
        asked=asked,
        proposal=proposal,
        refusal=refusal_after_sizing(asked, proposal),
        planned_risk=max(budget, sizing.loss_at_stop),
        leverage=leverage,
        refused_by=blank.refused_by,
    )


def _sizing_input(
    scene: Scene,
    blank: Assessment,
    asked: GateInput,
    at_cap: AtCap,
    leverage: Decimal,
    desk_notional: Decimal | None,
) -> SizingInput:
    exposure = scene.exposures[blank.account.pk]
    return SizingInput(
        instrument=asked.instrument,
        limits=asked.limits,
        is_long=scene.is_long,
        mark_price=asked.market.mark_price or at_cap.cap_price,
        cap_price=at_cap.cap_price,
        stop_price=at_cap.stop_price,
        taker_fee=TAKER_FEES[blank.market],
        leverage=leverage,
        wallet=asked.account.wallet,
        unrealized=asked.account.unrealized,
        available=asked.account.available,
        gross_notional=exposure.notional(),
        symbol_notional=exposure.notional(asked.instrument.base),
        desk_notional=desk_notional,
        kelly=scene.kelly,
    )


# ── the question put to the gate ─────────────────────────────────────────────


def question(scene: Scene, account: Trader, market: Market, instrument: Instrument) -> GateInput:
    """What the gate is asked of one account and market, before a quantity is known."""
    pk = account.pk
    exposure = scene.exposures[pk]
    return GateInput(
        now=scene.now,
        limits=scene.limits[pk],
        is_long=scene.is_long,
        instrument=instrument,
        signal=scene.signal_terms,
        account=_account_state(scene, account, market, exposure),
        market=scene.market_state,
        book=_book(exposure, scene.market.correlations),
        gate_off=scene.gate_off,
    )


def _account_state(scene: Scene, account: Trader, market: Market, exposure: Exposure) -> AccountState:
    wallet = exposure.wallets.get(market)
    unread = () if wallet else ("balance never read",)
    read_back = scene.settings_read.get(account.pk)
    is_spot = market == Market.SPOT
    asked_leverage = ONE if is_spot else Decimal(account.leverage)
    money = wallet or NOTHING
    return AccountState(
        wallet=money.wallet,
        unrealized=money.unrealized,
        available=money.available,
        day_profit=exposure.day_profit,
        day_baseline=account.day_baseline_equity,
        # Never read back is no leverage to plan by, but SETTINGS is its name: the margin mode tells it.
        leverage=Decimal(read_back.leverage) if read_back and not is_spot else asked_leverage,
        asked_leverage=asked_leverage,
        margin_mode=ISOLATED if is_spot else _margin_mode(read_back),
        asked_margin_mode=ISOLATED if is_spot else account.margin_mode,
        trades_today=exposure.entries_today,
        picture_age_seconds=(scene.now - account.fresh_at).total_seconds() if account.fresh_at else None,
        is_long_only=scene.is_long_only(account),
        halted_by=scene.halted_by(account),
        unhealthy=(*unhealthy_reasons(scene, account), *unread),
    )


def _margin_mode(read_back: ReadBack | None) -> str | None:
    if read_back is None:
        return None
    return ISOLATED if read_back.is_isolated else MarginMode.CROSS


def _book(exposure: Exposure, correlations: Mapping[str, Decimal | None]) -> Book:
    in_flight = exposure.in_flight
    return Book(
        held=tuple(exposure.held),
        in_flight=tuple(in_flight),
        unknown_bases=frozenset([entry.base for entry in in_flight if entry.is_unknown]),
        pending_bases=exposure.foreign_bases.union([one.base for one in in_flight if not one.is_unknown]),
        open_bases=frozenset([held.base for held in exposure.held]),
        correlations=correlations,
    )


def _sizing_detail(proposal: Proposal, leverage: Decimal) -> dict[str, str]:
    sizing = proposal.sizing
    return {
        "quantity": f"{sizing.quantity:f}",
        "wanted_quantity": f"{sizing.wanted_quantity:.8f}",
        "bound_by": sizing.bound_by or "",
        "notional": f"{sizing.notional:.8f}",
        "loss_at_stop": f"{sizing.loss_at_stop:.8f}",
        "margin_required": f"{sizing.margin_required:.8f}",
        "cap_price": str(proposal.cap_price),
        "stop_price": str(proposal.stop_price),
        "leverage": str(leverage),
    }
