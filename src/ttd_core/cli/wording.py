"""How scores, finished steps and durations are written for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttd_core.metrics import Metric
from ttd_core.problem import Baseline, Problem


def compare_with_published(problem: Problem, score: float) -> str:
    """A score beside the best published one that was measured on the same.

    ``"0.4 (above the published 0.380876 of TTT-Discover by 0.0191: worse)"``; the score alone when nothing is
    published. Where the target is another result than the best, it stands beside the best of those that it
    reaches, too.
    """
    shown = problem.format_score(score)
    if caution := problem.score_caution():
        shown += f" ({caution})"
    published = problem.comparable_baselines()
    if not published:
        nothing = (
            f" (nothing published on {problem.measured_on()} to compare with)" if problem.baselines else ""
        )
        return f"{shown}{nothing}"
    best, *others = published
    said = _beside(problem, score, best, "the published ")
    reaches = best.equals(score) or problem.better(score, best.score)
    if problem.default_target is not None and not reaches:
        reached = (each for each in others if each.equals(score) or problem.better(score, each.score))
        second = next(reached, None)
        said += f"; {_beside(problem, score, second, '')}" if second is not None else ""
    return f"{shown} ({said})"


def _beside(problem: Problem, score: float, baseline: Baseline, what: str) -> str:
    """How a score compares with one published result."""
    known = f"{what}{problem.format_baseline(baseline)} of {baseline.by}"
    if baseline.equals(score):
        rounded = baseline.decimals is not None and score != baseline.score
        return f"equal to {known}{' to all published digits' if rounded else ''}"
    side = "below" if score < baseline.score else "above"
    comparison = "better" if problem.better(score, baseline.score) else "worse"
    return f"{side} {known} by {abs(score - baseline.score):.3g}: {comparison}"


def caution_about_scores(problem: Problem) -> str:
    """A sentence about scores that were made beside the candidate; empty for those that were not."""
    caution = problem.score_caution()
    return f"scores are {caution}: made beside the candidate, which can forge them" if caution else ""


def step_line(problem: Problem, event: Mapping[str, Any], steps: int) -> str:
    """One finished step in one line: shares in percent, rewards, scores, KL, advantage spread, speed.

    :param event: a ``step_finished`` event.
    :param steps: how many the run shall have.
    """
    metrics: Mapping[str, Any] = event["metrics"]
    rollouts, valid = event["rollouts"], event["valid"]
    parts = [f"step {event['step']}/{steps}", f"valid {valid}/{rollouts} ({_percent(valid, rollouts)})"]
    parts.append(f"reward mean {event['mean_value']:.6g}")
    if event["best_value"] is not None:
        parts[-1] += f" best {event['best_value']:.6g}"
    if metrics.get(Metric.PROBLEM_ERRORS):
        parts.append(f"errors of the problem {metrics[Metric.PROBLEM_ERRORS]:.0f}")
    for key, words in ((Metric.LATE, "late rollouts"), (Metric.JOINED, "joined by late ones")):
        if metrics.get(key):
            parts.append(f"{words} {metrics[key]:.0f}")
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
    """``1:02:03``, ``2:03``, or a dash for ``None``."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _scores(problem: Problem, best: float | None, metrics: Mapping[str, Any]) -> list[str]:
    """The step's best score, the best start and the largest gain; the best of a program that repeats nothing.

    The three are over all groups: a gain is a rollout's on the start of its own group.
    """
    parts = []
    start = metrics.get(Metric.SCORE_START)
    if best is not None:
        # Of one group each, and seldom of the same: in these words none is taken for another's.
        notes = [] if start is None else [f"best start {problem.format_score(start)}"]
        notes += _gain("largest gain", metrics.get(Metric.SCORE_GAIN))
        parts.append(f"score {problem.format_score(best)}" + (f" ({', '.join(notes)})" if notes else ""))
    novel = metrics.get(Metric.SCORE_NOVEL)
    if novel is not None and novel != best:
        notes = _gain("gain on its start", metrics.get(Metric.GAIN_NOVEL))
        parts.append(
            f"new program {problem.format_score(novel)}" + (f" ({', '.join(notes)})" if notes else "")
        )
    return parts


def _gain(words: str, gain: float | None) -> list[str]:
    return [] if gain is None else [f"{words} {gain:+.3g}"]


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
