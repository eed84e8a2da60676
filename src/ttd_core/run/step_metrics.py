"""What the rollouts of one step came to, as metrics for progress, the database and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ttd_core.config import RunConfig
from ttd_core.metrics import Metric
from ttd_core.problem import Problem
from ttd_core.run.known_verdicts import is_reused
from ttd_core.run.totals import StepTotals
from ttd_core.search.archive import Archive
from ttd_core.types import Group, Status, StopReason, Verdict


class StepMetrics:
    """Computes a step's metrics.

    :param problem: says which score is better.
    :param config: of the run: says which metrics it has.
    """

    def __init__(self, problem: Problem, config: RunConfig) -> None:
        self._problem = problem
        self._reuses = config.same_program != "judge"
        self._cascades = config.cascade is not None

    def compute(
        self,
        groups: Sequence[Group],
        repeats: Sequence[npt.NDArray[np.bool_]],
        totals: StepTotals,
        archive: Archive,
    ) -> dict[str, float]:
        """Metrics of a step's groups, with the archive before it admits them.

        :param repeats: bool [rollouts] per group, which programs merely repeat what they started from.
        :param totals: those of the groups.
        :return: numbers by name (:class:`~ttd_core.metrics.Metric`): what the rollouts came to, and tokens.
        """
        rollouts = [rollout for group in groups for rollout in group]
        completions = [rollout.completion for rollout in rollouts]
        truncated = [completion.stop is StopReason.LENGTH for completion in completions]
        lost = sum(rollout.verdict.status is Status.INFRASTRUCTURE for rollout in rollouts)
        metrics: dict[str, float] = {
            Metric.VALID_SHARE: totals.valid_share,
            Metric.REWARD_MEAN: totals.mean_value,
            Metric.TRUNCATED_SHARE: float(np.mean(truncated)),
            Metric.TOKENS: float(sum(len(completion.tokens) for completion in completions)),
            Metric.TOKENS_FORCED: float(sum(int((~completion.trained).sum()) for completion in completions)),
            Metric.INFRASTRUCTURE: float(lost),
            Metric.PROBLEM_ERRORS: float(
                sum(rollout.verdict.status is Status.PROBLEM_ERROR for rollout in rollouts)
            ),
        }
        verdicts = [rollout.verdict for rollout in rollouts]
        if self._reuses:
            metrics[Metric.REUSED] = float(sum(map(is_reused, verdicts)))
        if self._cascades:
            metrics |= cascade_metrics(verdicts)
        return metrics | self._repeats_and_gains(groups, repeats, archive)

    def _repeats_and_gains(
        self, groups: Sequence[Group], repeats: Sequence[npt.NDArray[np.bool_]], archive: Archive
    ) -> dict[str, float]:
        """How the programs compare with what they started from: which repeat it, and what others gained."""
        programs = 0
        start_scores: list[float] = []
        gains: list[float] = []
        novel: list[tuple[float, float | None]] = []  # score and gain of programs that repeat nothing
        for group, group_repeats in zip(groups, repeats, strict=True):
            start = archive[group.start]
            start_score = start.reward.score if start.reward is not None else None
            start_scores += [] if start_score is None else [start_score]
            for rollout, repeated in zip(group, group_repeats, strict=True):
                verdict = rollout.verdict
                if not verdict.code:
                    continue
                programs += 1
                gain = self._gain(verdict, start_score)
                gains += [] if gain is None else [gain]
                if verdict.reward is not None and not repeated:
                    novel.append((verdict.reward.score, gain))
        repeated_programs = sum(int(of_group.sum()) for of_group in repeats)
        metrics: dict[str, float] = {
            Metric.PROGRAMS: float(programs),
            Metric.REPEATS: float(repeated_programs),
            Metric.REPEAT_SHARE: repeated_programs / programs if programs else 0.0,
        }
        if start_scores:
            metrics[Metric.SCORE_START] = self._problem.best_of(start_scores)
        if gains:
            metrics[Metric.SCORE_GAIN] = max(gains)
        return metrics | self._best_novel(novel)

    def _best_novel(self, novel: Sequence[tuple[float, float | None]]) -> dict[str, float]:
        """The best score among programs that repeat nothing, and what it gained over its start."""
        if not novel:
            return {}
        best = self._problem.best_of(score for score, _ in novel)
        metrics: dict[str, float] = {Metric.SCORE_NOVEL: best}
        gains = [gain for score, gain in novel if score == best and gain is not None]
        if gains:
            metrics[Metric.GAIN_NOVEL] = max(gains)
        return metrics

    def _gain(self, verdict: Verdict, start: float | None) -> float | None:
        """How much better than its start a rollout scored; ``None`` where either has no score."""
        if verdict.reward is None or start is None:
            return None
        return self._problem.gain(start, verdict.reward.score)


def cascade_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """How many of a step's programs ran with all of their budget, and what the others may have spared.

    What a program takes of its budget is not known before it ran, so this is the most that was spared: all of
    it. A program that failed early would have failed in one go as well, and spares nothing.
    """
    went_on, spared = 0, 0.0
    for verdict in verdicts:
        stages = verdict.stages
        if not stages:
            continue
        last = stages[-1]
        if last.share == 1:
            went_on += 1
            spared -= sum(stage.seconds for stage in stages[:-1])
        elif last.value is not None:
            spared += last.budget_s / last.share - sum(stage.seconds for stage in stages)
    return {Metric.WENT_ON: float(went_on), Metric.SECONDS_SPARED: spared}


def staleness(step: int, policy_steps: Iterable[int]) -> dict[str, float]:
    """By how many steps the policy that gave a step's replies is behind the one that learns from them.

    :param step: the step that learns from them.
    :param policy_steps: of each reply the step that its policy had learned last.
    """
    behind = [step - 1 - policy_step for policy_step in policy_steps]
    if not behind:
        return {}
    return {Metric.STALENESS: float(np.mean(behind)), Metric.STALENESS_MAX: float(max(behind))}
