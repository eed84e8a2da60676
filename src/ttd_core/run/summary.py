"""What a whole run came to, read from its folder: shares, the best new program, and what it gained."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from ttd_core.metrics import Metric
from ttd_core.problem import Problem
from ttd_core.run.reading import RunReader


@attrs.frozen
class RunSummary:
    """Totals of a run.

    :param rollouts: all of them.
    :param valid: how many were ok.
    :param programs: how many replies held one.
    :param repeats: share of programs that repeat a starting program or their own start's, 0 to 1.
    :param best_score: best score of all; ``None`` when nothing is scored.
    :param start_score: best score among the states the run started from; ``None`` when none has one.
    :param novel_score: best score from a program that repeats nothing; ``None`` when there is none.
    :param novel_gain: how much better than ``start_score`` that is; positive is better.
    :param update_norm: how far training moved the adapter, summed over steps; 0 without training.
    """

    rollouts: int
    valid: int
    programs: int
    repeats: float
    best_score: float | None
    start_score: float | None
    novel_score: float | None
    novel_gain: float | None
    update_norm: float

    @property
    def valid_share(self) -> float:
        """Valid rollouts over all, 0 to 1."""
        return self.valid / self.rollouts if self.rollouts else 0.0


def summarise(run: RunReader, problem: Problem) -> RunSummary:
    """Add up a run's committed steps."""
    steps = run.steps()
    metrics = run.metrics()
    seeds = [state.reward.score for state in run.states() if state.seed and state.reward is not None]
    novel = [values[Metric.SCORE_NOVEL] for values in metrics.values() if Metric.SCORE_NOVEL in values]
    programs, repeated = (_total(metrics, name) for name in (Metric.PROGRAMS, Metric.REPEATS))
    best = run.best(1)
    start = problem.best_of(seeds) if seeds else None
    best_novel = problem.best_of(novel) if novel else None
    gain = None if start is None or best_novel is None else problem.gain(start, best_novel)
    return RunSummary(
        rollouts=sum(step.rollouts for step in steps),
        valid=sum(step.valid for step in steps),
        programs=round(programs),
        repeats=repeated / programs if programs else 0.0,
        best_score=best[0].reward.score if best and best[0].reward is not None else None,
        start_score=start,
        novel_score=best_novel,
        novel_gain=gain,
        update_norm=_total(metrics, Metric.UPDATE_NORM),
    )


def _total(metrics: Mapping[int, Mapping[str, float]], name: str) -> float:
    """The sum of a metric over the steps that have it as a finite number."""
    numbers = [values.get(name, 0.0) for values in metrics.values()]
    return sum(number for number in numbers if math.isfinite(number))
