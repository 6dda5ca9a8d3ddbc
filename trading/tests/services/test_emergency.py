"""Stopping everything: each level does what it says, flat is the exchange's word, and only people resume."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from pytest_django import Settings

from accounts.models import Account, AccountGroup, Mode
from accounts.services.gateways import close_gateways
from alerts.models import Alert
from exchange.port import OrderSide, PositionReport
from tests.processes import PaperExchange, Valkey
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus
from trading.models import Halt, Order, Position
from trading.services import audits, emergency, halts, monitoring, pictures
from trading.services.execution import claiming
from trading.services.halts import ScopeUnknown
from trading.services.valkey import valkey as connection
from trading.tests.services.holding import (
    answer,
    at_exchange,
    fresh,
    held_there,
    hold,
    orders_of,
    stops_there,
    stranger,
)
from trading.tests.services.journey import BTC, ETH, WEATHER, a_position, fit_accounts, now, set_columns
from trading.tests.services.sending import PLACE, an_entry, send, told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults", "redis")]

POSITIONS = "GET /fapi/v*/positionRisk"


@pytest.fixture(autouse=True)
def pinned(paper_exchange: PaperExchange, settings: Settings) -> None:
    settings.GATE_OFF = WEATHER
    paper_exchange.set_mark("BTCUSDT", "100000")
    paper_exchange.set_mark("ETHUSDT", "4000")


def raise_halt(scope: str, level: str, *, includes_foreign: bool = False) -> Halt:
    halt, bells = emergency.raise_halt(
        scope, level, "because", "a test", now(), includes_foreign=includes_foreign
    )
    answer(bells)
    return halt


def until_flat(halt: Halt, rounds: int = 4) -> Halt:
    """Monitor's visits to a standing flatten."""
    for _ in range(rounds):
        answer(emergency.continue_flattening(now()))
        halt.refresh_from_db()
        if halt.result.get("flat_at"):
            break
    return halt


def of(position: Position) -> str:
    return f"account:{position.account.name}"


# ── the levels ───────────────────────────────────────────────────────────────
def test_halting_entries_leaves_what_is_open_alone() -> None:
    position = hold()
    raise_halt(of(position), "HALT_ENTRIES")
    assert fresh(position).status == PositionStatus.OPEN
    assert len(stops_there(position.account)) == 1


def test_cancelling_orders_takes_entries_back_and_leaves_every_stop(paper_exchange: PaperExchange) -> None:
    position = hold()
    before = [one.client_order_id for one in stops_there(position.account)]
    entry = an_entry(position.account)
    raise_halt("desk", "CANCEL_ORDERS")
    entry.refresh_from_db()
    assert entry.status == OrderStatus.CANCELLED
    assert [one.client_order_id for one in stops_there(position.account)] == before
    assert told_of(paper_exchange, position.account, "CANCELED") == []
    assert fresh(position).status == PositionStatus.OPEN


def test_flatten_closes_proves_flat_tells_how_long_it_took_and_only_then_removes_stops() -> None:
    position = hold()
    halt = until_flat(raise_halt(of(position), "FLATTEN"))
    result = halt.result["accounts"][position.account.name]
    assert held_there(position.account) == []
    assert (result["is_flat"], result["residuals"]) == (True, [])
    assert 0 < result["seconds_to_flat"] == halt.result["seconds_to_flat"] < 30
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.FLATTEN)
    answer(monitoring.audit([position.account], audits.watched_symbols([position.account], now()), now()))
    assert stops_there(position.account) == []


def test_flatten_proves_flat_with_the_broker_gone_and_the_budget_on(
    settings: Settings, valkey: Valkey
) -> None:
    position = hold()
    valkey.stop()
    try:
        with override_settings(WEIGHT_LIMIT_PER_MINUTE=2400):
            close_gateways()
            call_command("close_all", account=position.account.name, timeout=20.0)
    finally:
        valkey.start()
        close_gateways()
        connection.cache_clear()
    assert held_there(position.account) == []
    halt = Halt.objects.get(target=position.account.name)
    assert halt.result["accounts"][position.account.name]["is_flat"]
    assert halt.resumed_at is None


# ── what is left, and why ────────────────────────────────────────────────────
def test_an_account_that_cannot_be_read_is_not_flat(paper_exchange: PaperExchange) -> None:
    position = hold()
    name = position.account.name
    paper_exchange.add_fault(kind="http", endpoint=POSITIONS, account=name, status=500, count=0)
    halt = until_flat(raise_halt(of(position), "FLATTEN"), rounds=1)
    assert halt.result["accounts"][name] == {"is_flat": False, "residuals": [{"reason": "UNREACHABLE"}]}
    assert "flat_at" not in halt.result
    paper_exchange.delete("/paper/faults")
    assert until_flat(halt).result["accounts"][name]["is_flat"]


def one_of_two_flat(paper: PaperExchange) -> tuple[Halt, Account, Position]:
    """A desk's flatten with one account proven flat and one held up; neither can be read any more."""
    held_up = hold()
    (flat,) = fit_accounts(1)
    halt, _ = emergency.raise_halt("desk", "FLATTEN", "because", "a test", now())
    assert not emergency.prove_flat(halt, now())
    paper.add_fault(kind="http", endpoint=POSITIONS, status=500, count=0)
    return halt, flat, held_up


def test_an_account_proven_flat_is_not_read_again_while_the_others_are(paper_exchange: PaperExchange) -> None:
    halt, flat, held_up = one_of_two_flat(paper_exchange)
    emergency.prove_flat(halt, now())
    assert halt.result["accounts"][flat.name]["is_flat"]
    assert halt.result["accounts"][held_up.account.name]["residuals"] == [{"reason": "UNREACHABLE"}]


@pytest.mark.parametrize("what", ["position", "entry"])
def test_an_account_proven_flat_is_read_again_once_something_is_open_there(
    paper_exchange: PaperExchange, what: str
) -> None:
    halt, flat, _ = one_of_two_flat(paper_exchange)
    if what == "position":
        a_position(flat, BTC)
    else:
        claiming.mark_submitted(claiming.claim([an_entry(flat).pk]), now())
    emergency.prove_flat(halt, now())
    assert halt.result["accounts"][flat.name]["residuals"] == [{"reason": "UNREACHABLE"}]


def test_whoever_asks_again_after_all_was_flat_has_everybody_read(paper_exchange: PaperExchange) -> None:
    position = hold()
    halt = until_flat(raise_halt(of(position), "FLATTEN"))
    paper_exchange.add_fault(kind="http", endpoint=POSITIONS, status=500, count=0)
    assert not emergency.prove_flat(halt, now())


def test_a_close_the_exchange_refuses_is_a_residual_with_its_code(paper_exchange: PaperExchange) -> None:
    position = hold()
    name = position.account.name
    paper_exchange.add_fault(kind="http", endpoint=PLACE, account=name, status=400, code=-4131, count=0)
    halt = raise_halt(of(position), "FLATTEN")
    emergency.prove_flat(halt, now())
    (residual,) = halt.result["accounts"][name]["residuals"]
    assert (residual["symbol"], residual["reason"]) == (BTC, "-4131")
    assert Decimal(residual["quantity"]) == position.quantity
    assert len(stops_there(position.account)) == 1, "not flat: the stop is what protects"


def test_an_entry_of_unknown_fate_keeps_flat_unproven(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    claiming.mark_submitted(claiming.claim([order.pk]), now())
    halt = until_flat(raise_halt(f"account:{order.account.name}", "FLATTEN"), rounds=1)
    (residual,) = halt.result["accounts"][order.account.name]["residuals"]
    assert (residual["symbol"], residual["reason"]) == (BTC, "ENTRY_SUBMITTED")
    assert "flat_at" not in halt.result


def test_what_fills_after_flat_was_proven_is_closed_like_the_rest() -> None:
    (account,) = fit_accounts(1)
    halt = until_flat(raise_halt(f"account:{account.name}", "FLATTEN"))
    assert halt.result["flat_at"]
    late = an_entry(account)
    Order.objects.filter(pk=late.pk).update(purpose=OrderPurpose.EXIT)  # past the gate, as one already sent
    send(late)
    Order.objects.filter(pk=late.pk).update(purpose=OrderPurpose.ENTRY)
    assert len(held_there(account)) == 1
    until_flat(halt, rounds=1)
    until_flat(halt)
    assert held_there(account) == []
    assert Position.objects.get(account=account).status == PositionStatus.CLOSED


# ── strangers ────────────────────────────────────────────────────────────────
def a_foreign_position(account: Account) -> Position:
    place = Position(account=account, market="futures", symbol=ETH, is_long=True)
    at_exchange(place, stranger(place, OrderSide.BUY, Decimal("0.500")))
    monitoring.audit([account], audits.watched_symbols([account], now()), now())
    return Position.objects.get(account=account, is_foreign=True)


def test_a_foreign_position_is_named_and_goes_only_when_the_operator_includes_it() -> None:
    position = hold()
    foreign = a_foreign_position(position.account)
    halt = until_flat(raise_halt(of(position), "FLATTEN"))
    result = halt.result["accounts"][position.account.name]
    assert result["is_flat"]
    assert [(one["symbol"], Decimal(one["quantity"])) for one in result["foreign"]] == [
        (ETH, foreign.quantity)
    ]
    assert [one.symbol for one in held_there(position.account)] == [ETH]

    same = until_flat(raise_halt(of(position), "FLATTEN", includes_foreign=True))
    assert same.pk == halt.pk
    assert held_there(position.account) == []


def test_foreign_positions_included_while_flatness_is_being_proved_go_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    position = hold()
    a_foreign_position(position.account)
    halt = raise_halt(of(position), "FLATTEN")
    read = pictures.positions_of

    def included_meanwhile(accounts: Iterable[Account]) -> dict[int, Sequence[PositionReport]]:
        monkeypatch.setattr(pictures, "positions_of", read)
        reading = read(accounts)
        raise_halt(of(position), "FLATTEN", includes_foreign=True)
        return reading

    monkeypatch.setattr(pictures, "positions_of", included_meanwhile)
    emergency.prove_flat(halt, now())
    halt.refresh_from_db()
    assert halt.result["includes_foreign"]
    assert "flat_at" not in halt.result
    until_flat(halt)
    assert held_there(position.account) == []


# ── scopes ───────────────────────────────────────────────────────────────────
def test_a_symbols_flatten_closes_that_coin_and_no_other() -> None:
    (account,) = fit_accounts(1, BTC, ETH)
    bitcoin, ether = hold(symbol=BTC, account=account), hold(symbol=ETH, account=account)
    halt = until_flat(raise_halt("symbol:BTCUSDT", "FLATTEN"))
    assert halt.result["accounts"][account.name]["is_flat"]
    assert [one.symbol for one in held_there(account)] == [ETH]
    assert (fresh(bitcoin).status, fresh(ether).status) == (PositionStatus.CLOSED, PositionStatus.OPEN)


def test_a_groups_flatten_closes_its_accounts_and_no_other() -> None:
    inside, outside = hold(), hold(symbol=ETH)
    group = AccountGroup.objects.create(name=f"g-{inside.account.name}")
    set_columns(inside.account, group=group)
    halt = until_flat(raise_halt(f"group:{group.name}", "FLATTEN"))
    assert set(halt.result["accounts"]) == {inside.account.name}
    assert held_there(inside.account) == []
    assert len(held_there(outside.account)) == 1


def test_accounts_of_another_mode_do_not_keep_the_desk_from_being_flat() -> None:
    (account, other) = fit_accounts(2)
    set_columns(other, mode=Mode.TESTNET)
    halt = until_flat(raise_halt("desk", "FLATTEN"))
    assert account.name in halt.result["accounts"]
    assert other.name not in halt.result["accounts"]
    assert halt.result["flat_at"]


@pytest.mark.parametrize("scope", ["", "all", "account:nobody", "group:none", "symbol:NOPE", "desk:x"])
def test_a_scope_that_names_nothing_is_refused_and_halts_nothing(scope: str) -> None:
    with pytest.raises(ScopeUnknown):
        emergency.raise_halt(scope, "FLATTEN", "because", "a test", now())
    assert not Halt.objects.exists()


# ── once, and until a person resumes ─────────────────────────────────────────
def test_the_same_halt_raised_twice_is_one() -> None:
    assert raise_halt("desk", "HALT_ENTRIES").pk == raise_halt("desk", "HALT_ENTRIES").pk
    assert Halt.objects.count() == 1


def test_a_flatten_asked_twice_closes_once(paper_exchange: PaperExchange) -> None:
    position = hold()
    raise_halt(of(position), "FLATTEN")
    raise_halt(of(position), "FLATTEN")
    (exit_order,) = orders_of(position, OrderPurpose.EXIT)
    assert exit_order.status == OrderStatus.FILLED


def test_flat_does_not_resume_a_person_does() -> None:
    position = hold()
    account = position.account
    halt = until_flat(raise_halt(of(position), "FLATTEN"))
    assert halts.standing(now()).blocks_entry(account, BTC)
    assert Alert.objects.get(cause=f"halt:{halt.pk}").cleared_at is None
    assert emergency.resume("desk", "another scope", "a test", now()) == 0
    assert halts.standing(now()).blocks_entry(account, BTC)
    assert emergency.resume(of(position), "all is well", "a test", now()) == 1
    halt.refresh_from_db()
    assert (halt.resumed_by, halt.resume_reason) == ("a test", "all is well")
    assert not halts.standing(now()).blocks_entry(account, BTC)
    assert Alert.objects.get(cause=f"halt:{halt.pk}").cleared_at is not None


def test_a_resumed_flatten_closes_nothing_any_more() -> None:
    position = hold()
    emergency.raise_halt(of(position), "FLATTEN", "because", "a test", now())
    Order.objects.filter(position=position, purpose=OrderPurpose.EXIT).delete()
    Position.objects.filter(pk=position.pk).update(closing_for="")
    emergency.resume(of(position), "a mistake", "a test", now())
    assert not emergency.continue_flattening(now())
    assert len(held_there(position.account)) == 1


def test_the_command_fails_when_flat_is_not_proven(paper_exchange: PaperExchange) -> None:
    position = hold()
    name = position.account.name
    paper_exchange.add_fault(kind="http", endpoint=PLACE, account=name, status=400, code=-4131, count=0)
    with pytest.raises(CommandError, match="not flat"):
        call_command("close_all", account=name, timeout=0.5)
    assert len(held_there(position.account)) == 1


def test_a_halt_of_one_account_is_none_of_another() -> None:
    halted, free = fit_accounts(2)
    raise_halt(f"account:{halted.name}", "CANCEL_ORDERS")
    board = halts.standing(now() - timedelta(hours=1))
    assert (board.level_for(halted, BTC), board.level_for(free, BTC)) == ("CANCEL_ORDERS", None)


def test_a_strangers_other_side_does_not_hide_ours() -> None:
    position = hold()
    Position.objects.create(
        account=position.account,
        market="futures",
        symbol=BTC,
        base="BTC",
        is_long=False,
        is_foreign=True,
        quantity=1,
        initial_quantity=1,
        entry_price=1,
        opened_at=now(),
    )
    halt, _ = emergency.raise_halt(of(position), "FLATTEN", "because", "a test", now())
    assert not emergency.prove_flat(halt, now())
    assert held_there(position.account) != []
