"""The chart of a position, as numbers a template draws: candles, levels, the way of its stop, its fills.

Drawn on the server so that it needs no script and no second request. Everything is in the units of the
picture's own box; two boxes are drawn, one for a desk and one for a phone, where words keep their size.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from trading.services.candle_window import CandleWindow
from trading.services.position_story import Story, Trade

MARGIN = 0.08
"""Of the price range, free above and below."""

LABEL_HEIGHT = 15.0
FEWEST_PIXELS = 1.0
HOURS_TOLD_BELOW = timedelta(hours=36)


@dataclass(frozen=True, slots=True)
class Box:
    """A picture's size in its own units; `right` is left free for the names of levels, `bottom` for times."""

    name: str
    width: int
    height: int
    right: int
    bottom: int
    times: int

    @property
    def plot_width(self) -> float:
        """The width of the prices' ground."""
        return float(self.width - self.right)

    @property
    def plot_height(self) -> float:
        """The height of the prices' ground."""
        return float(self.height - self.bottom)


WIDE = Box("wide", width=1160, height=400, right=150, bottom=24, times=8)
NARROW = Box("narrow", width=380, height=300, right=122, bottom=22, times=3)


@dataclass(frozen=True, slots=True)
class Bar:
    """One candle: its wick from `high` to `low`, its body from `top` over `height`."""

    x: float
    left: float
    width: float
    high: float
    low: float
    top: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True)
class Line:
    """A level across the picture, named at the right; `label_y` is moved where names would meet."""

    kind: str
    name: str
    price: Decimal
    y: float
    label_y: float
    since_x: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A fill: its place, what it was, and the words shown on hovering."""

    kind: str
    points: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A time under the picture."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What a template needs to draw one box; between stop and entry stands what is at risk or locked in."""

    box: Box
    bars: Sequence[Bar]
    lines: Sequence[Line]
    stop_path: str
    at_risk: str
    locked_in: str
    marks: Sequence[Mark]
    ticks: Sequence[Tick]
    life_x: float
    life_width: float


@dataclass(frozen=True, slots=True)
class _Scale:
    """From prices and moments to a box."""

    box: Box
    since: datetime
    until: datetime
    low: Decimal
    high: Decimal

    def x(self, at: datetime) -> float:
        share = (at - self.since) / (self.until - self.since)
        return round(min(1.0, max(0.0, share)) * self.box.plot_width, 1)

    def y(self, price: Decimal) -> float:
        share = float((self.high - price) / (self.high - self.low))
        return round(min(1.0, max(0.0, share)) * self.box.plot_height, 1)


def draw(story: Story, window: CandleWindow, mark_price: Decimal | None) -> list[Chart]:
    """The chart in both boxes; none while there is no price to draw."""
    prices = list(_prices(story, window, mark_price))
    if not prices:
        return []
    low, high = min(prices), max(prices)
    room = (high - low) * Decimal(str(MARGIN)) or high * Decimal("0.001")
    until = max(story.until, story.since + timedelta(minutes=1))
    scales = (_Scale(box, story.since, until, low - room, high + room) for box in (WIDE, NARROW))
    return [_draw(scale, story, window, mark_price) for scale in scales]


def _prices(story: Story, window: CandleWindow, mark_price: Decimal | None) -> Iterable[Decimal]:
    """What must be inside the picture: candles, trades, stops, and every level still ahead."""
    for candle in window.candles:
        yield candle.low
        yield candle.high
    yield from (trade.price for trade in story.trades)
    yield from (move.price for move in story.moves)
    if story.plan is not None:
        yield story.plan.hard_stop_price
        yield from (level.price for level in story.plan.levels)
    if mark_price is not None:
        yield mark_price
    yield story.position.entry_price


def _draw(scale: _Scale, story: Story, window: CandleWindow, mark_price: Decimal | None) -> Chart:
    opened = scale.x(story.position.opened_at)
    ended = scale.x(story.position.closed_at or story.until)
    path = _stop_path(scale, story)
    entry_y = scale.y(story.position.entry_price)
    behind = max if story.position.is_long else min
    ahead = min if story.position.is_long else max
    return Chart(
        box=scale.box,
        bars=[*_bars(scale, window)],
        lines=_apart(_lines(scale, story, mark_price), scale.box),
        stop_path=_points(path),
        at_risk=_points(_area(path, entry_y, behind)),
        locked_in=_points(_area(path, entry_y, ahead)),
        marks=[_mark(scale, trade, is_long=story.position.is_long) for trade in story.trades],
        ticks=_ticks(scale),
        life_x=opened,
        life_width=max(FEWEST_PIXELS, round(ended - opened, 1)),
    )


def _bars(scale: _Scale, window: CandleWindow) -> Iterable[Bar]:
    slot = scale.box.plot_width * (window.step / (scale.until - scale.since))
    width = round(max(FEWEST_PIXELS, min(slot * 0.68, 14.0)), 1)
    for candle in window.candles:
        middle = scale.x(candle.opened_at + window.step / 2)
        top, bottom = (scale.y(price(candle.open, candle.close)) for price in (max, min))
        yield Bar(
            x=middle,
            left=round(middle - width / 2, 1),
            width=width,
            high=scale.y(candle.high),
            low=scale.y(candle.low),
            top=top,
            height=round(max(FEWEST_PIXELS, bottom - top), 1),
            tone="up" if candle.close >= candle.open else "down",
        )


def _lines(scale: _Scale, story: Story, mark_price: Decimal | None) -> Iterable[Line]:
    position, plan = story.position, story.plan

    def line(kind: str, name: str, price: Decimal, since: datetime | None = None) -> Line:
        y = scale.y(price)
        return Line(kind, name, price, y, y, scale.x(since) if since else 0.0)

    yield line("entry", "Entry", position.entry_price, position.opened_at)
    if plan is not None:
        for level in plan.levels:
            kind = "target reached" if level.reached else "target"
            yield line(kind, f"TP{level.number}", level.price, position.opened_at)
        if plan.has_moved_stop:
            yield line("hard", "Hard", plan.hard_stop_price, position.opened_at)
        yield line("stop", "Stop", plan.stop_price, story.moves[-1].at if story.moves else None)
    if position.closed_at is not None and position.exit_price is not None:
        yield line("exit", "Exit", position.exit_price, position.closed_at)
    elif mark_price is not None:
        yield line("mark", "Mark", mark_price)


def _apart(lines: Iterable[Line], box: Box) -> list[Line]:
    """The names moved down where they would cover each other, and up again where they would fall out."""
    placed: list[Line] = []
    for line in sorted(lines, key=lambda line: line.y):
        lowest = placed[-1].label_y + LABEL_HEIGHT if placed else LABEL_HEIGHT / 2
        placed.append(replace(line, label_y=max(line.y, lowest)))
    limit = box.plot_height - 2
    for index in range(len(placed) - 1, -1, -1):
        if placed[index].label_y > limit:
            placed[index] = replace(placed[index], label_y=round(limit, 1))
        limit = placed[index].label_y - LABEL_HEIGHT
    return placed


def _stop_path(scale: _Scale, story: Story) -> list[tuple[float, float]]:
    """Steps: each stop from its move to the next one, the last to the end of the position's life."""
    if not story.moves:
        return []
    end = story.position.closed_at or story.until
    points = [(scale.x(story.moves[0].at), scale.y(story.moves[0].price))]
    for before, move in pairwise(story.moves):
        x = scale.x(move.at)
        points += [(x, scale.y(before.price)), (x, scale.y(move.price))]
    return [*points, (scale.x(end), points[-1][1])]


def _area(
    path: Sequence[tuple[float, float]], entry_y: float, side: Callable[[float, float], float]
) -> list[tuple[float, float]]:
    """The ground between the stop's way and the entry, on one side of the entry only."""
    if not path:
        return []
    return [*((x, side(y, entry_y)) for x, y in path), (path[-1][0], entry_y), (path[0][0], entry_y)]


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _mark(scale: _Scale, trade: Trade, *, is_long: bool) -> Mark:
    """A triangle the way the trade went: up beneath a purchase, down above a sale."""
    x, y = scale.x(trade.at), scale.y(trade.price)
    is_buy = trade.is_entry == is_long
    way = 1 if is_buy else -1
    corners = [(x, y + 2 * way), (x - 6, y + 12 * way), (x + 6, y + 12 * way)]
    what = "entry" if trade.is_entry else trade.reason
    return Mark(
        kind="in" if trade.is_entry else "out",
        points=_points((round(one, 1), round(other, 1)) for one, other in corners),
        title=f"{what}: {trade.quantity.normalize():f} at {trade.price.normalize():f}",
    )


def _ticks(scale: _Scale) -> list[Tick]:
    span = scale.until - scale.since
    form = "%H:%M" if span <= HOURS_TOLD_BELOW else "%d %b"
    moments = [scale.since + span * (number + 0.5) / scale.box.times for number in range(scale.box.times)]
    return [Tick(scale.x(at), at.strftime(form)) for at in moments]
