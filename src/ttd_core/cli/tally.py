"""What a run's events add up to: the numbers that progress shows, and their wording.

A tally is fed every event and knows nothing of terminals, so a live view, plain lines and a log reader can
share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ttd_core.metrics import Metric
from ttd_core.problem import Problem


class Tally:
    """Counts of the run and of the step under way.

    :param problem: names the metric, the published results and which score is better.
    :param clock: seconds; any steady clock.
    """

    def __init__(self, problem: Problem, clock: Callable[[], float] = time.monotonic) -> None:
        self.problem = problem
        self.run = ""
        self.policy = ""
        self.sandbox = ""
        self.step = 0
        #: Steps done before the process that goes on now.
        self.began = 0
        self.done = 0
        self.steps = 0
        self.per_step = 0
        self.sampled = 0
        self.evaluated = 0
        self.valid = 0
        self.tokens = 0
        self.best: float | None = None
        self._clock = clock
        self._step_began: float | None = None
        self._step_seconds: list[float] = []

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one event in; kinds that say nothing about progress pass."""
        kind = event["kind"]
        if kind == "run_started":
            self.run, self.policy = event["run"], event["policy"]
            self.sandbox = event.get("sandbox", "")
            self.began = self.done = event["step"]
            self.steps = event["steps"]
            self.per_step = event["groups"] * event["group_size"]
        elif kind == "step_started":
            self.step = event["step"]
            self.sampled = self.evaluated = self.valid = self.tokens = 0
            self._step_began = self._clock()
        elif kind == "rollout_sampled":
            self.sampled += 1
            self.tokens += event["tokens"]
        elif kind == "rollout_evaluated":
            self.evaluated += 1
            self.valid += event["status"] == "ok"
            self._offer(event["score"])
        elif kind == "step_finished":
            self.done = event["step"]
            self._step_began = None
            self._step_seconds.append(event["seconds"])
            self._offer(event["best_score"])
            self._offer(event["metrics"].get(Metric.RUN_SCORE_BEST))

    @property
    def tokens_per_second(self) -> float | None:
        """Sampled tokens a second in the step under way."""
        elapsed = self._elapsed()
        return self.tokens / elapsed if elapsed > 0 and self.tokens else None

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the run; ``None`` before there is anything to judge by."""
        left = self.steps - self.done
        if self._step_seconds:
            return max(0.0, sum(self._step_seconds) / len(self._step_seconds) * left - self._elapsed())
        if not self.evaluated or not self.per_step:
            return None
        return max(0.0, self._elapsed() * self.per_step / self.evaluated * left - self._elapsed())

    @property
    def phase(self) -> str:
        """What the run is busy with, in words."""
        if self._step_began is None:
            return "starting" if self.done < self.steps else "done"
        return "learning" if self.evaluated >= self.per_step else "sampling and evaluating"

    def facts(self) -> list[tuple[str, str]]:
        """What a view shows beside the bars: name and value, in words."""
        share = f"{self.valid / self.evaluated:.0%}" if self.evaluated else "-"
        speed = self.tokens_per_second
        return [
            ("now", self.phase),
            ("valid", share),
            ("best", self.standing()),
            ("tokens/s", f"{speed:.0f}" if speed else "-"),
            ("time left", duration(self.seconds_left)),
        ]

    def standing(self) -> str:
        """The best score beside the best published one, in words."""
        if self.best is None:
            return f"no valid {self.problem.metric} yet"
        return compare_with_published(self.problem, self.best)

    def _elapsed(self) -> float:
        return 0.0 if self._step_began is None else self._clock() - self._step_began

    def _offer(self, score: float | None) -> None:
        if score is not None and (self.best is None or self.problem.better(score, self.best)):
            self.best = score


def compare_with_published(problem: Problem, score: float) -> str:
    """``"0.38090 (worse than the published 0.380876 of TTT-Discover by 2.4e-05)"``, above or below said."""
    shown = problem.format_score(score)
    published = problem.best_baseline()
    if published is None:
        return shown
    known = problem.format_score(published.score)
    if score == published.score:
        return f"{shown} (equal to the published {known} of {published.label})"
    side = "below" if score < published.score else "above"
    judged = "better" if problem.better(score, published.score) else "worse"
    gap = abs(score - published.score)
    return f"{shown} ({side} the published {known} of {published.label} by {gap:.3g}: {judged})"


def step_line(problem: Problem, event: Mapping[str, Any], steps: int) -> str:
    """One finished step in one line: shares in percent, rewards, scores, KL, advantage spread, speed."""
    metrics: Mapping[str, Any] = event["metrics"]
    rollouts, valid = event["rollouts"], event["valid"]
    parts = [f"step {event['step']}/{steps}", f"valid {valid}/{rollouts} ({_percent(valid, rollouts)})"]
    parts.append(f"reward mean {event['mean_value']:.6g}")
    if event["best_value"] is not None:
        parts[-1] += f" best {event['best_value']:.6g}"
    parts += _scores(problem, event["best_score"], metrics)
    for key, label, form in (
        (Metric.KL, "KL", ".3g"),
        (Metric.ADVANTAGE_STD, "advantage std", ".3g"),
        (Metric.REPEAT_SHARE, "repeats", ".0%"),
        (Metric.TOKENS_PER_S, "tokens/s", ".0f"),
    ):
        if metrics.get(key) is not None:
            parts.append(f"{label} {metrics[key]:{form}}")
    return "  ".join([*parts, f"{event['seconds']:.1f} s"])


def duration(seconds: float | None) -> str:
    """``1:02:03``, ``2:03``, or a dash when unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scores(problem: Problem, best: float | None, metrics: Mapping[str, Any]) -> list[str]:
    """The step's best score beside its start's, and the best from a program that repeats nothing."""
    parts = []
    start = metrics.get(Metric.SCORE_START)
    if best is not None:
        notes = [] if start is None else [f"start {problem.format_score(start)}"]
        notes += _gain(metrics.get(Metric.SCORE_GAIN))
        parts.append(f"score {problem.format_score(best)}" + (f" ({', '.join(notes)})" if notes else ""))
    novel = metrics.get(Metric.SCORE_NOVEL)
    if novel is not None and novel != best:
        notes = _gain(metrics.get(Metric.GAIN_NOVEL))
        parts.append(
            f"new program {problem.format_score(novel)}" + (f" ({', '.join(notes)})" if notes else "")
        )
    return parts


def _gain(gain: float | None) -> list[str]:
    return [] if gain is None else [f"gain {gain:+.3g}"]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
