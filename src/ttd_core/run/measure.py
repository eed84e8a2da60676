"""The numbers of one step, for progress, the database and reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttd_core.metrics import Metric
from ttd_core.problem import Problem
from ttd_core.run.novelty import fingerprint
from ttd_core.run.totals import StepTotals
from ttd_core.search.archive import Archive
from ttd_core.types import Group, Status, StopReason, Verdict


class Measure:
    """Computes a step's metrics.

    :param problem: says which score is better.
    :param starting_codes: the programs a run started from; a rollout that equals one merely repeats it.
    """

    def __init__(self, problem: Problem, starting_codes: Sequence[str]) -> None:
        self._problem = problem
        self._starting = {fingerprint(code) for code in starting_codes}

    def step(self, groups: Sequence[Group], totals: StepTotals, archive: Archive) -> dict[str, float]:
        """Metrics of a step's groups, with the archive before it admits them.

        :param totals: those of the groups.
        :return: numbers by name (:class:`~ttd_core.metrics.Metric`): what the rollouts came to, and tokens.
        """
        rollouts = [rollout for group in groups for rollout in group]
        completions = [rollout.completion for rollout in rollouts]
        lost = sum(rollout.verdict.status is Status.INFRASTRUCTURE for rollout in rollouts)
        metrics: dict[str, float] = {
            Metric.VALID_SHARE: totals.valid_share,
            Metric.REWARD_MEAN: totals.mean_value,
            Metric.TRUNCATED_SHARE: float(np.mean([c.stop is StopReason.LENGTH for c in completions])),
            Metric.TOKENS: float(sum(len(completion.tokens) for completion in completions)),
            Metric.TOKENS_FORCED: float(sum(int((~completion.trained).sum()) for completion in completions)),
            Metric.INFRASTRUCTURE: float(lost),
        }
        metrics.update(self._against_starts(groups, archive))
        return metrics

    def _against_starts(self, groups: Sequence[Group], archive: Archive) -> dict[str, float]:
        metrics: dict[str, float] = {}
        repeats = programs = 0
        gains: list[float] = []
        novel: list[tuple[float, float | None]] = []
        for group in groups:
            start = archive[group.start]
            own = fingerprint(start.state.code) if start.state.code else None
            start_score = start.reward.score if start.reward is not None else None
            for rollout in group:
                verdict = rollout.verdict
                if not verdict.code:
                    continue
                programs += 1
                mark = fingerprint(verdict.code)
                repeated = mark == own or mark in self._starting
                repeats += repeated
                gain = self._gain(verdict, start_score)
                if gain is not None:
                    gains.append(gain)
                if verdict.reward is not None and not repeated:
                    novel.append((verdict.reward.score, gain))
        metrics[Metric.PROGRAMS] = float(programs)
        metrics[Metric.REPEATS] = float(repeats)
        metrics[Metric.REPEAT_SHARE] = repeats / programs if programs else 0.0
        starts = [node.reward.score for g in groups if (node := archive[g.start]).reward is not None]
        if starts:
            metrics[Metric.SCORE_START] = self._problem.best_of(starts)
        if gains:
            metrics[Metric.SCORE_GAIN] = max(gains)
        if novel:
            best = self._problem.best_of([score for score, _ in novel])
            metrics[Metric.SCORE_NOVEL] = best
            gained = [gain for score, gain in novel if score == best and gain is not None]
            if gained:
                metrics[Metric.GAIN_NOVEL] = max(gained)
        return metrics

    def _gain(self, verdict: Verdict, start: float | None) -> float | None:
        """How much better than its start a rollout scored; positive is better."""
        if verdict.reward is None or start is None:
            return None
        return self._problem.gain(start, verdict.reward.score)
