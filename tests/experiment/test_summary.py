"""Which arm is ahead, by scores as they are shown: the last digits of one optimum decide nothing."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ttd_core.experiment.summary import pair, time_to
from ttd_core.plugin.registry import load


def arm(label: str, scores: list[float | None]) -> Any:
    """As much of an arm as a pair reads."""
    problem = load("cp26", {})
    runs = [
        types.SimpleNamespace(problem=problem, best_score=score, config=types.SimpleNamespace(seed=seed))
        for seed, score in enumerate(scores)
    ]
    return types.SimpleNamespace(label=label, runs=runs)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ([2.5, 2.6], [2.4, 2.4], "a is ahead of b in 2 of 2 seeds, by 0.15 on average (0.1 to 0.2)"),
        ([2.634292402000001], [2.634292402], "a and b are level in 1 of 1 seed"),
        (
            [2.5, 2.6],
            [2.5, 2.7],
            "a is ahead of b in 0 of 2 seeds and level in 1, by -0.05 on average (-0.1 to 0)",
        ),
        ([2.5, None], [None, 2.5], "a and b have no seed in common"),
    ],
)
def test_a_pair_is_told_seed_by_seed(first: list[Any], second: list[Any], sentence: str) -> None:
    assert pair(arm("a", first), arm("b", second)).sentence() == sentence


def timed_run(seed: int, best: list[float], seconds: list[float], waiting: list[float]) -> Any:
    """As much of a run as its time to a score reads: scores and seconds by step, step 0 first."""
    series = {"seconds/waiting": waiting, "tokens_per_s": [1000.0, 3000.0]}
    return types.SimpleNamespace(
        problem=load("erdos", {}),
        config=types.SimpleNamespace(seed=seed),
        seconds=seconds[-1],
        best_by_step=lambda: (list(range(len(best))), best),
        spent_by_step=lambda what: seconds,
        series=lambda name: ([], series.get(name, [])),
        total=lambda name: sum(series.get(name, [])),
    )


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        (
            [timed_run(1, [0.4, 0.39, 0.38], [0, 10, 30], [3, 9]), timed_run(2, [0.4, 0.39], [0, 30], [12])],
            "a, time to 0.39: seed 1 10 s, seed 2 30 s, mean 20 s; the policy waited 40% of the time; "
            "2,000 tokens/s while sampling",
        ),
        (
            [timed_run(1, [float("nan"), 0.3], [0, 9], []), timed_run(2, [0.4, 0.391], [0, 30], [12])],
            "a, time to 0.39: seed 1 9 s, seed 2 not in 30 s; 2,000 tokens/s while sampling",
        ),
        (
            [timed_run(1, [0.35, 0.3], [0, 9], [0])],
            "a, time to 0.39: seed 1 0 s; the policy waited 0% of the time; 2,000 tokens/s while sampling",
        ),
    ],
    ids=["reached", "not reached, and a run that did not measure its waiting", "reached by the start"],
)
def test_the_time_to_a_score_is_that_of_the_step_that_reached_it(runs: list[Any], sentence: str) -> None:
    arm = types.SimpleNamespace(label="a", runs=runs)
    assert time_to(arm, 0.39).sentence() == sentence
