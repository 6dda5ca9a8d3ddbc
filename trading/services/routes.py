"""Which accounts a decision covers, step by step: all at once, or a cascade that stops at the first fill.

The cascade: environment accounts; if nothing filled or is unknown, database accounts; then the dual executor
on the house account, on the market its rule chooses. An account is asked through its executors by rank, the
dual executor's by the order of its rule; one that is switched off is never asked.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from django.conf import settings
from django.db.models import QuerySet

from accounts.models import Account, AccountSource, Executor
from accounts.services.entrants import Trader
from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.port import Market
from trading.domain import dual, instrument
from trading.domain.fallback import PRIMARY, SECONDARY
from trading.domain.states import UNDECIDED, AllocationOutcome, SkipCode
from trading.models import Decision, Signal

CASCADE = "cascade"
REACHED = frozenset({AllocationOutcome.FILLED, AllocationOutcome.PARTIAL, AllocationOutcome.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a route; without accounts it is skipped, by `skipped` where a rule says so."""

    number: int
    name: str
    account_ids: Sequence[int]
    skipped: str = ""


class Way(NamedTuple):
    """A market an account may be asked on, and the name of the executor that does it."""

    market: Market
    executor: str


StepMaker = Callable[[int, Decision], Step]


def steps_from(decision: Decision, number: int) -> Iterator[Step]:
    """The steps of the decision's route from `number` on, each read when it is asked for."""
    makers = _CASCADE if decision.route_policy == CASCADE else _ALL
    for at, maker in list(enumerate(makers))[number:]:
        yield maker(at, decision)


def may_go_on(decision: Decision, now: datetime) -> bool:
    """Whether the next step of a cascade is due: all known, nothing filled, time left."""
    if decision.route_policy != CASCADE or is_late(decision, now):
        return False
    outcomes = set(decision.allocations.values_list("outcome", flat=True))
    return not outcomes & (REACHED | UNDECIDED)


def is_late(decision: Decision, now: datetime) -> bool:
    """Whether nothing unsent of it may be sent any more."""
    return decision.deadline_at is None or now >= decision.deadline_at


def note_skipped(decision: Decision, step: Step) -> None:
    """Keep on the decision that a step had nobody to offer to, and by which rule."""
    _note(decision, step, {"step": step.name, "skipped": step.skipped or SkipCode.ROUTE})


def note_taken(decision: Decision, step: Step) -> None:
    """Keep on the decision how far its route has got; a cascade keeps each step, with how many it asked."""
    if decision.route_policy == CASCADE:
        _note(decision, step, {"step": step.name, "accounts": len(step.account_ids)})
    elif decision.route_step != step.number:
        Decision.objects.filter(pk=decision.pk).update(route_step=step.number)


_ENABLED = FixedQuery(
    lambda: (
        Executor.objects.filter(AmongGiven("account_id", "ids"), is_enabled=True)
        .order_by("rank")
        .values_list("account_id", "market", "rank")
    )
)


def own_ways(account_ids: Sequence[int]) -> dict[int, list[Way]]:
    """The ways of each account to its markets, by its enabled executors, the first before the second."""
    found: dict[int, list[Way]] = {account_id: [] for account_id in account_ids}
    for account_id, market, rank in _ENABLED.ask(ids=account_ids):
        found[account_id].append(_way(market, rank))
    return found


@cache
def _way(market: str, rank: int) -> Way:
    return Way(Market(market), PRIMARY if rank == 1 else SECONDARY)


def ways(decision: Decision, account: Trader, own: Sequence[Way]) -> Sequence[Way]:
    """The ways to ask an account in this decision, the first before the second, given its own."""
    if not _is_dual(decision, account):
        return own
    fitting = possible_markets(decision.signal, decision.mark_price) if decision.signal else ()
    enabled = {way.market for way in own}
    chosen = [Market(market) for market in fitting if Market(market) in enabled]
    return [Way(market, name) for market, name in zip(chosen, (PRIMARY, SECONDARY), strict=False)]


def _is_dual(decision: Decision, account: Trader) -> bool:
    """Whether the dual executor's rule chooses: on the house account, which only its own step covers."""
    return decision.route_policy == CASCADE and account.name == settings.HOUSE_ACCOUNT


def _note(decision: Decision, step: Step, told: dict[str, str | int]) -> None:
    decision.inputs = {**decision.inputs, "route": [*decision.inputs.get("route", []), told]}
    Decision.objects.filter(pk=decision.pk).update(inputs=decision.inputs, route_step=step.number)


def active_accounts() -> QuerySet[Account]:
    """Accounts that take part in decisions: neither paused nor archived, whatever their health."""
    return Account.objects.filter(is_enabled=True, archived_at__isnull=True).select_related("group")


def _ids(accounts: QuerySet[Account]) -> list[int]:
    return list(accounts.values_list("pk", flat=True))


def _everyone(number: int, _decision: Decision) -> Step:
    return Step(number, "all", _ids(active_accounts()))


def _environment(number: int, _decision: Decision) -> Step:
    accounts = active_accounts().filter(source=AccountSource.ENVIRONMENT)
    return Step(number, "environment", _ids(accounts.exclude(name=settings.HOUSE_ACCOUNT)))


def _database(number: int, _decision: Decision) -> Step:
    accounts = active_accounts().filter(source=AccountSource.DATABASE)
    return Step(number, "database", _ids(accounts.exclude(name=settings.HOUSE_ACCOUNT)))


def _house(number: int, decision: Decision) -> Step:
    """The dual executor: the markets that fit the signal, the preferred first."""
    house = active_accounts().filter(name=settings.HOUSE_ACCOUNT).first() if settings.HOUSE_ACCOUNT else None
    if house is None:
        return Step(number, "house", [], skipped=SkipCode.HOUSE_ACCOUNT_UNSET)
    possible = ways(decision, house, own_ways([house.pk])[house.pk])
    return Step(number, "house", [house.pk], "" if possible else SkipCode.NO_MARKET)


def possible_markets(signal: Signal, mark_price: Decimal | None) -> tuple[instrument.Market, ...]:
    """The markets that fit a signal by its score, side and span; a signal without an entry means the mark."""
    entry_price = signal.entry_price or mark_price
    if entry_price is None or signal.stop_price is None or signal.take_profit_price is None:
        return ()
    span = dual.signal_range(
        entry_price=entry_price, stop_price=signal.stop_price, take_profit_price=signal.take_profit_price
    )
    return dual.possible_markets(score=signal.score, is_long=signal.is_long, span=span)


_ALL: tuple[StepMaker, ...] = (_everyone,)
_CASCADE: tuple[StepMaker, ...] = (_environment, _database, _house)
