"""Which score is better, in either direction."""

from __future__ import annotations

import math

import pytest

from ttd_core import scores
from ttd_core.problem import Baseline, Problem


@pytest.mark.parametrize(
    ("direction", "best", "first_is_better", "gain", "words"),
    [("min", 1.0, True, -2.0, "smaller is better"), ("max", 3.0, False, 2.0, "larger is better")],
)
def test_scores(
    direction: scores.Direction, best: float, first_is_better: bool, gain: float, words: str
) -> None:
    assert scores.best_of(direction, [2.0, 1.0, 3.0]) == best
    assert scores.better(direction, 1.0, 3.0) is first_is_better
    assert scores.better(direction, 3.0, 1.0) is not first_is_better
    assert not scores.better(direction, 2.0, 2.0)
    assert not scores.better(direction, math.nan, 2.0)
    assert scores.gain(direction, 1.0, 3.0) == gain
    assert scores.which_is_better(direction) == words
    with pytest.raises(ValueError):
        scores.best_of(direction, [])


def test_equal_items_keep_their_order() -> None:
    items = [("a", 2.0), ("b", 1.0), ("c", 2.0)]
    assert scores.best_first("min", items, lambda item: item[1]) == [("b", 1.0), ("a", 2.0), ("c", 2.0)]
    assert scores.best_first("max", items, lambda item: item[1]) == [("a", 2.0), ("c", 2.0), ("b", 1.0)]


def test_published_results_are_ranked() -> None:
    class Larger(Problem):
        direction = "max"
        baselines = (Baseline("low", 1.0), Baseline("first", 2.0), Baseline("second", 2.0))

    class Smaller(Larger):
        direction = "min"

    class Nothing(Larger):
        baselines = ()

    assert [each.label for each in Larger.ranked_baselines()] == ["first", "second", "low"]
    assert [each.label for each in Smaller.ranked_baselines()] == ["low", "first", "second"]
    assert [kind.best_baseline() for kind in (Larger, Smaller, Nothing)] == [
        Baseline("first", 2.0),
        Baseline("low", 1.0),
        None,
    ]
