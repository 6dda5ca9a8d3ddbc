"""The chart of a position: where its numbers fall, and that nothing covers or leaves it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from desk.chart import LABEL_HEIGHT, NARROW, WIDE, Chart, draw
from exchange.port import Candle
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Position
from trading.services.candle_window import CandleWindow
from trading.services.position_story import StopMove, Story, Trade
from trading.tests.busy_desk import PLAN

OPENED = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
D = Decimal


def candles(count: int = 60) -> CandleWindow:
    rows = []
    for number in range(count):
        at, base = OPENED - 20 * MINUTE + number * MINUTE, D(97_600) + number * 10
        way = 1 if number % 3 else -1
        rows.append(Candle(at, at + MINUTE, base, base + 40, base - 40, base + 15 * way, D(1)))
    return CandleWindow("1m", MINUTE, tuple(rows))


def story(**changes: object) -> Story:
    position = Position(is_long=True, entry_price=D("97650.2"), opened_at=OPENED, status=PositionStatus.OPEN)
    told = Story(
        position=position,
        plan=replace(PLAN, stop_price=D("97796.6"), stop_reason=CloseReason.BREAK_EVEN),
        since=OPENED - 20 * MINUTE,
        until=OPENED + 40 * MINUTE,
        moves=[
            StopMove(OPENED, D("96704.9"), "STOP_LOSS"),
            StopMove(OPENED + 10 * MINUTE, D("97796.6"), "BREAK_EVEN"),
        ],
        trades=[
            Trade(OPENED, D("97650.2"), D("0.034"), is_entry=True, reason=""),
            Trade(OPENED + 10 * MINUTE, D("98700"), D("0.010"), is_entry=False, reason="TAKE_PROFIT_1"),
        ],
        guarded=[],
        stops=[],
        steps=[],
    )
    return replace(told, **changes)  # type: ignore[arg-type]


@pytest.fixture
def wide() -> Chart:
    return draw(story(), candles(), D(98_100))[0]


def test_a_chart_is_drawn_for_a_desk_and_for_a_phone() -> None:
    assert [chart.box for chart in draw(story(), candles(), D(98_100))] == [WIDE, NARROW]


def test_higher_prices_stand_higher_and_later_moments_further_right(wide: Chart) -> None:
    by_name = {line.name: line.y for line in wide.lines}
    names = ("TP2", "TP1", "Mark", "Stop", "Entry", "Hard")
    assert sorted(by_name, key=by_name.__getitem__) == list(names)
    assert [bar.x for bar in wide.bars] == sorted(bar.x for bar in wide.bars)


def test_a_candle_says_which_way_it_went_and_is_never_invisible(wide: Chart) -> None:
    assert {bar.tone for bar in wide.bars} == {"up", "down"}
    assert all(bar.high <= bar.top and bar.top + bar.height <= bar.low + 1 for bar in wide.bars)
    assert all(bar.height >= 1 and bar.width >= 1 for bar in wide.bars)


@pytest.mark.parametrize("number", [0, 1])
def test_names_of_levels_never_meet_and_stay_inside(number: int) -> None:
    crowd = replace(PLAN, stop_price=D("97650.3"), break_even_price=D("97650.4"))
    chart = draw(story(plan=crowd), candles(), D("97650.5"))[number]
    labels = sorted(line.label_y for line in chart.lines)
    assert all(below - above >= LABEL_HEIGHT - 0.11 for above, below in pairwise(labels))
    assert labels[0] >= 0
    assert labels[-1] <= chart.box.plot_height


def test_the_stop_walks_in_steps_and_each_fill_points_the_way_it_went(wide: Chart) -> None:
    walked = [tuple(map(float, point.split(","))) for point in wide.stop_path.split()]
    assert len(walked) == 4
    assert all(one[0] == two[0] or one[1] == two[1] for one, two in pairwise(walked))
    assert walked[-1][1] < walked[0][1]  # a long's stop only rises
    entry, exit_ = wide.marks
    assert (entry.kind, exit_.kind) == ("in", "out")
    assert exit_.title == "TAKE_PROFIT_1: 0.01 at 98700"
    tip, base = (float(point.split(",")[1]) for point in entry.points.split()[:2])
    assert tip < base  # a purchase points up from beneath


def test_between_stop_and_entry_stands_what_is_at_risk_and_then_what_is_locked_in(wide: Chart) -> None:
    entry = next(line.y for line in wide.lines if line.name == "Entry")
    risked, locked = (
        [float(point.split(",")[1]) for point in area.split()] for area in (wide.at_risk, wide.locked_in)
    )
    assert min(risked) == entry < max(risked)  # the first stop lay below the entry
    assert min(locked) < entry == max(locked)  # break-even lies above it


def test_without_candles_levels_and_fills_still_stand() -> None:
    chart = draw(story(), CandleWindow("1m", MINUTE, ()), None)[0]
    assert (list(chart.bars), len(chart.marks)) == ([], 2)
    assert "Mark" not in {line.name for line in chart.lines}


def test_a_closed_position_shows_its_exit_and_the_end_of_its_life() -> None:
    told = story()
    told.position.closed_at, told.position.exit_price = OPENED + 30 * MINUTE, D("97800")
    told.position.status = PositionStatus.CLOSED
    chart = draw(told, candles(), None)[0]
    assert "Exit" in {line.name for line in chart.lines}
    assert chart.life_x + chart.life_width < chart.box.plot_width


def test_a_price_that_never_moved_is_drawn_all_the_same() -> None:
    told = story(plan=None, moves=[], trades=[])
    charts = draw(told, CandleWindow("1m", MINUTE, ()), None)
    assert charts[0].lines[0].y == pytest.approx(WIDE.plot_height / 2, abs=1)
