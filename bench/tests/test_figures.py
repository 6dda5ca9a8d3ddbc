import json

import pytest

from bench.figures import Bound, Figure, middle


def told(figure: Figure) -> dict[str, object]:
    answer: dict[str, object] = json.loads(figure.as_json())
    return answer


def test_a_figure_is_told_with_its_floor_its_ratio_and_whether_its_bound_holds() -> None:
    assert told(Figure("last", 400.0, "ms", 250.0, Bound(1.8, of_ratio=True))) == {
        "name": "last",
        "value": 400.0,
        "unit": "ms",
        "floor": 250.0,
        "ratio": 1.6,
        "bound": "<= 1.8 x floor",
        "bound_met": True,
        "note": None,
    }


def test_a_figure_that_was_not_measured_says_why_and_meets_no_bound() -> None:
    skipped = told(Figure("last", None, "ms", 250.0, Bound(1.8, of_ratio=True), "no database"))
    assert (skipped["value"], skipped["ratio"], skipped["bound_met"]) == (None, None, None)
    assert skipped["note"] == "no database"


def test_a_figure_without_floor_or_bound_says_so() -> None:
    alone = told(Figure("orders", 12.0, "orders/s"))
    assert (alone["floor"], alone["ratio"], alone["bound"], alone["bound_met"]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("bound", "value", "ratio", "is_met"),
    [
        (Bound(40), 40.0, None, True),
        (Bound(40), 40.1, None, False),
        (Bound(1.8, of_ratio=True), 900.0, 1.8, True),
        (Bound(1.8, of_ratio=True), 1.0, 1.81, False),
        (Bound(1.8, of_ratio=True), 1.0, None, None),
        (Bound(12, is_least=True), 12.0, None, True),
        (Bound(12, is_least=True), 11.9, None, False),
    ],
)
def test_a_bound_is_judged_by_what_it_names(
    bound: Bound, value: float, ratio: float | None, is_met: bool | None
) -> None:
    assert bound.is_met(value, ratio) is is_met


def test_one_slow_round_does_not_move_the_middle() -> None:
    assert middle([3.0, 1.0, 900.0, 2.0, 4.0]) == 3.0
