"""Which arm is ahead, by scores as they are shown: the last digits of one optimum decide nothing."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ttd_core.experiment.summary import pair
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
