"""The book of sorted levels."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading.domain.exits import MarkSpan, WatchPrices
from trading.domain.watch import Breach, LevelBook, Watched
from trading.tests.domain.samples import D

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


def watched(
    position_id: int, adverse: str, favourable: str | None, *, is_long: bool = True, symbol: str = BTC
) -> Watched:
    prices = WatchPrices(D(adverse), None if favourable is None else D(favourable))
    return Watched(position_id, symbol, is_long, prices)


def reached(book: LevelBook, mark: str, symbol: str = BTC) -> list[tuple[int, bool]]:
    return [(breach.position_id, breach.level.is_adverse) for breach in book.breaches({symbol: D(mark)})]


def test_a_falling_mark_reaches_the_highest_stop_first() -> None:
    book = LevelBook([watched(1, "95", "110"), watched(2, "97", "108"), watched(3, "90", None)])
    assert reached(book, "97.01") == []
    assert reached(book, "97") == [(2, True)]
    assert reached(book, "94") == [(2, True), (1, True)]


def test_a_rising_mark_reaches_long_targets_and_short_stops() -> None:
    book = LevelBook([watched(1, "95", "110"), watched(2, "105", "90", is_long=False)])
    assert reached(book, "105") == [(2, True)]
    assert reached(book, "110") == [(2, True), (1, False)]
    assert reached(book, "90") == [(1, True), (2, False)]


def test_a_mark_of_another_symbol_reaches_nothing() -> None:
    book = LevelBook([watched(1, "95", "110")])
    assert reached(book, "1", ETH) == []
    assert book.symbols() == {BTC}


def test_replaced_levels_no_longer_fire_at_the_old_price() -> None:
    book = LevelBook([watched(1, "95", "110")])
    book.put(watched(1, "99", "112"))
    assert reached(book, "110") == []
    assert reached(book, "99") == [(1, True)]
    assert len(book) == 1


def test_a_removed_position_is_silent_and_removing_it_again_is_nothing() -> None:
    book = LevelBook([watched(1, "95", "110"), watched(2, "95", "110")])
    book.remove(1)
    book.remove(1)
    assert reached(book, "90") == [(2, True)]
    assert 1 not in book
    assert 2 in book


def test_a_breach_names_level_and_mark() -> None:
    book = LevelBook([watched(7, "95", "110")])
    (breach,) = book.breaches({BTC: D(94), ETH: D(1)})
    assert breach == Breach(7, BTC, breach.level, D(94))
    assert breach.level.price == D(95)


levels = st.decimals(min_value=1, max_value=30, places=1)
positions = st.lists(
    st.builds(
        Watched,
        position_id=st.integers(1, 12),
        symbol=st.sampled_from([BTC, ETH]),
        is_long=st.booleans(),
        prices=st.builds(WatchPrices, adverse=levels, favourable=st.none() | levels),
    ),
    max_size=30,
)


@given(changes=positions, removed=st.sets(st.integers(1, 12)), mark=levels)
def test_the_book_finds_exactly_what_looking_at_every_position_would(
    changes: list[Watched], removed: set[int], mark: D
) -> None:
    book, rows = LevelBook(changes[:5]), {each.position_id: each for each in changes[:5]}
    for each in changes[5:]:
        book.put(each)
        rows[each.position_id] = each
    for position_id in removed:
        book.remove(position_id)
        rows.pop(position_id, None)
    assert book.watched() == rows
    expected = set()
    for each in rows.values():
        falls = each.prices.adverse if each.is_long else each.prices.favourable
        rises = each.prices.favourable if each.is_long else each.prices.adverse
        if falls is not None and mark <= falls:
            expected.add((each.position_id, each.symbol, each.is_long))
        if rises is not None and mark >= rises:
            expected.add((each.position_id, each.symbol, not each.is_long))
    found = book.breaches({BTC: mark, ETH: mark})
    assert {(one.position_id, one.symbol, one.level.is_adverse) for one in found} == expected
    assert len(found) == len(expected)


def test_the_book_agrees_with_itself_however_it_was_filled() -> None:
    rows = [watched(number, str(90 + number % 7), str(110 - number % 5)) for number in range(1, 40)]
    at_once, one_by_one = LevelBook(rows), LevelBook()
    for row in reversed(rows):
        one_by_one.put(row)
    for mark in ("90", "93.5", "96", "106", "111"):
        assert sorted(reached(at_once, mark)) == sorted(reached(one_by_one, mark))


@given(positions, st.lists(st.integers(1, 12)))
def test_a_digest_tells_what_is_watched_however_it_came_to_be(rows: list[Watched], gone: list[int]) -> None:
    book = LevelBook(rows[: len(rows) // 2])
    for row in rows[len(rows) // 2 :]:
        book.put(row)
    for position_id in gone:
        book.remove(position_id)
    assert book.digest() == LevelBook(book.watched().values()).digest()
    assert sum(count for count, _ in book.digest().values()) == len(book)


def test_a_digest_differs_by_a_position_and_by_the_state_of_one() -> None:
    one, other = watched(1, "95", "110"), watched(2, "105", "90", is_long=False)
    both = LevelBook([one, other]).digest()
    assert set(both) == {f"{BTC} LONG", f"{BTC} SHORT"}
    assert LevelBook([one]).digest() == {f"{BTC} LONG": both[f"{BTC} LONG"]}
    assert LevelBook([replace(one, version=7), other]).digest() != both


@given(positions, levels, levels)
def test_a_span_crosses_a_position_exactly_when_one_of_its_ends_breaches_it(
    rows: list[Watched], one: Decimal, other: Decimal
) -> None:
    span = MarkSpan(min(one, other), max(one, other))
    for row in rows:
        book = LevelBook([row])
        breached = book.breaches({row.symbol: span.low}) or book.breaches({row.symbol: span.high})
        assert row.is_crossed_by(span) == bool(breached)
