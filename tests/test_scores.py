"""Which score is better, in either direction."""

from __future__ import annotations

import math

import pytest

from ttd_core import scores
from ttd_core.cli.wording import compare_with_published
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


@pytest.mark.parametrize(
    ("score", "decimals", "given", "equal"),
    [
        (2.635983, 6, 2.63598308491756, True),
        (1.50287, 5, 1.5028629, True),
        (0.9591, 4, 0.959180, True),
        (0.380876, 6, 0.380875, False),
        (0.380876, 6, 0.380877, False),
        (0.380876, 6, 0.38087501, True),
        (0.380876, None, 0.38087600000001, False),
        (0.380876, None, 0.380876, True),
        (0.380876, 6, math.nan, False),
        (0.380876, 6, math.inf, False),
        (567_062.0, 0, 567_062.5, True),
        (567_062.0, 0, 567_063.0, False),
    ],
)
def test_a_score_within_the_known_digits_of_a_published_one_is_equal(score, decimals, given, equal) -> None:
    assert Baseline("someone", score, decimals=decimals).equals(given) is equal


def test_only_what_was_measured_on_the_same_is_compared() -> None:
    class Measured(Problem):
        direction = "max"
        baselines = (Baseline("here", 1.0, on="ours"), Baseline("there", 3.0, on="theirs"))

        def measured_on(self) -> str:
            return "ours"

    Measured.__abstractmethods__ = frozenset()
    problem = Measured()
    assert [each.label for each in problem.comparable_baselines()] == ["here"]
    assert [each.label for each in problem.ranked_baselines()] == ["there", "here"]
    assert compare_with_published(problem, 2.0) == "2 (above the published 1 of here by 1: better)"
    assert problem.target == 3.0
    Measured.measured_on = lambda self: "others"
    assert problem.best_comparable() is None
    assert compare_with_published(problem, 2.0) == "2 (nothing published on others to compare with)"


def test_what_is_known_of_a_baseline_is_told() -> None:
    plain, full = Baseline("a", 1.0, "b"), Baseline("a", 0.5, "b", date="2026-07", decimals=4, on="c")
    assert plain.facts() == {"label": "a", "score": 1.0, "source": "b"}
    assert full.facts() == {**plain.facts(), "score": 0.5, "date": "2026-07", "decimals": 4, "on": "c"}
    assert (plain.by, plain.origin, full.by, full.origin) == ("a", "b", "a (2026-07)", "b, on c, 2026-07")
    assert Problem.format_baseline(Problem, full) == "0.5000"
