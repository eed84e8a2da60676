"""The numbers of one step, for progress, the database and reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttd_core.problem import Problem
from ttd_core.run.novelty import fingerprint
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

    def step(self, groups: Sequence[Group], archive: Archive) -> dict[str, float]:
        """Metrics of a step's groups, with the archive before it admits them.

        ``valid_share``, ``reward_mean``, ``score_start`` (best start), ``score_gain`` (best rollout over
        its own start, positive is better), ``repeat_share`` (programs equal to a starting one or to their
        own start's), ``programs`` and ``repeats`` (counts), ``score_novel`` and ``gain_novel`` (best program
        that repeats nothing), token counts.
        """
        verdicts = [rollout.verdict for group in groups for rollout in group]
        completions = [rollout.completion for group in groups for rollout in group]
        metrics = {
            "valid_share": float(np.mean([verdict.ok for verdict in verdicts])),
            "reward_mean": float(np.mean([verdict.value for verdict in verdicts])),
            "truncated_share": float(np.mean([c.stop is StopReason.LENGTH for c in completions])),
            "tokens": float(sum(len(completion.tokens) for completion in completions)),
            "tokens_forced": float(sum(int((~completion.trained).sum()) for completion in completions)),
            "infrastructure": float(sum(v.status is Status.INFRASTRUCTURE for v in verdicts)),
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
        metrics["programs"] = float(programs)
        metrics["repeats"] = float(repeats)
        metrics["repeat_share"] = repeats / programs if programs else 0.0
        starts = [node.reward.score for g in groups if (node := archive[g.start]).reward is not None]
        if starts:
            metrics["score_start"] = self._best(starts)
        if gains:
            metrics["score_gain"] = max(gains)
        if novel:
            best = self._best([score for score, _ in novel])
            metrics["score_novel"] = best
            gained = [gain for score, gain in novel if score == best and gain is not None]
            if gained:
                metrics["gain_novel"] = max(gained)
        return metrics

    def _gain(self, verdict: Verdict, start: float | None) -> float | None:
        """How much better than its start a rollout scored; positive is better."""
        if verdict.reward is None or start is None:
            return None
        difference = verdict.reward.score - start
        return -difference if self._problem.direction == "min" else difference

    def _best(self, scores: Sequence[float]) -> float:
        return min(scores) if self._problem.direction == "min" else max(scores)
