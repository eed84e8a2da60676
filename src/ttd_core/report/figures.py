"""The figures of one run: what each shows, its words, and its legend.

Each is drawn twice, for wide and for narrow pages, since shrinking a drawing would shrink its words too; the
style sheet shows one of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
from markupsafe import Markup

from ttd_core.metrics import Metric, Timing
from ttd_core.problem import Problem
from ttd_core.report.charts import Line, ReferenceLine, line_chart, reward_heatmap, ridge_plot, stacked_bars
from ttd_core.report.facts import RunFacts, against_published
from ttd_core.report.lineage import MOST_DRAWN, lineage_tree
from ttd_core.report.scales import domain
from ttd_core.scores import which_is_better
from ttd_core.text import counted
from ttd_core.types import Status

Size = tuple[float, float]

WIDE, NARROW = 820.0, 344.0
SMALL = (344.0, 190.0)
#: Rollouts that one distribution should hold; small steps are put together until they do.
ENOUGH = 48
#: Nodes of a tree that tell their numbers when they are pointed at.
TOLD = 300
#: Metrics with a small chart each, where a run has them.
CHARTED = (
    *(Metric.KL, Metric.ADVANTAGE_STD, Metric.REPEAT_SHARE, Metric.TRUNCATED_SHARE, Metric.BETA_MEAN),
    *(Metric.LOSS, Metric.GRAD_NORM, Metric.UPDATE_NORM, Metric.TOKENS, Metric.TOKENS_PER_S),
)
#: Those that say nothing where they are 0 throughout.
EMPTY_AT_ZERO = frozenset({Metric.TOKENS, Metric.TOKENS_PER_S, Metric.TRUNCATED_SHARE})
STATUS_CLASSES = {
    Status.OK: "ok",
    Status.INVALID: "f1",
    Status.CRASH: "f2",
    Status.TIMEOUT: "f3",
    Status.PARSE_ERROR: "f4",
    Status.SYNTAX_ERROR: "f5",
    Status.EDIT_ERROR: "f7",
}


@attrs.frozen
class Figure:
    """One figure.

    :param title: its heading.
    :param wide: the drawing for wide pages, and :param narrow: for narrow ones; the same where it fits both.
    :param caption: what is seen, for people.
    :param legend: style class and name of each colour.
    """

    title: str
    wide: Markup
    narrow: Markup
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()


def figure(
    title: str,
    draw: Callable[[Size], str],
    caption: str = "",
    legend: Sequence[tuple[str, str]] = (),
    heights: Size = (320.0, 260.0),
) -> Figure:
    """A figure drawn at both widths.

    :param heights: of the wide and the narrow drawing, pixels.
    """
    # Drawings escape every text they are given.
    wide, narrow = draw((WIDE, heights[0])), draw((NARROW, heights[1]))
    return Figure(title, Markup(wide), Markup(narrow), caption, tuple(legend))


def published_lines(problem: Problem) -> list[ReferenceLine]:
    """The published scores that compare with a run's, as lines, the best first."""
    return [
        ReferenceLine(f"{each.label} {problem.format_baseline(each)}", each.score)
        for each in problem.comparable_baselines()
    ]


def score_figures(facts: RunFacts) -> list[Figure]:
    """Best score by step against the published ones; a close-up where the beginning hides the rest."""
    problem = facts.problem
    steps, best = facts.best_by_step()
    references = published_lines(problem)
    scored = [(record.step, record.best_score) for record in facts.steps if record.best_score is not None]
    lines = [
        Line("so far", steps, best, 1, "stairs"),
        # On top: a step that improves the best has its dot on the line.
        Line("of the step", [step for step, _ in scored], [score for _, score in scored], 2, "dots"),
    ]
    tips = {
        record.step: f"step {record.step}: best {_score(facts, record.best_score)}, so far "
        f"{_score(facts, best[index + 1])}, {record.valid} of {record.rollouts} valid"
        + _hints_at(facts, record.step)
        for index, record in enumerate(facts.steps)
    }
    known = [score for score in best if math.isfinite(score)]
    if not known:
        return []
    change = f"{problem.metric} from {_score(facts, known[0])} to {_score(facts, known[-1])}"
    summary = f"Best score by step: {change}, {against_published(problem, known[-1])}."
    legend = [("c1", "best so far"), ("c2", "best of the step")]
    legend += [("rule-key", "published")] if references else []
    last = facts.steps[-1].step if facts.steps else 0
    changes = [step for hint in facts.hints for step in (hint.began, hint.ended) if step is not None]
    marks = [step for step in changes if step <= last]
    legend += [("mark-key", "a hint begins or ends")] if marks else []
    labels = ("step", problem.metric)

    def score_figure(ends: tuple[float, float], title: str, caption: str) -> Figure:
        return figure(
            title,
            lambda size: line_chart(
                size,
                lines,
                labels,
                summary,
                references=references,
                ends=ends,
                tips=tips,
                marks=marks,
            ),
            caption,
            legend,
        )

    ends = domain([*known, *(line.value for line in references)], 0.08)
    aim = which_is_better(problem.direction).capitalize()
    beyond = any(not ends[0] <= score <= ends[1] for _, score in scored)
    caption = f"{aim}. Arrows at the edge: beyond the axis." if beyond else f"{aim}."
    figures = [score_figure(ends, "Best score by step", caption)]
    late = known[len(known) // 4 :]
    close = domain([*late, *(line.value for line in references[:1])], 0.1)
    if len(late) > 4 and close[1] - close[0] < 0.2 * (ends[1] - ends[0]):
        beside = " and the best published result" if references else ""
        figures.append(score_figure(close, "Close-up", f"The last {len(late)} steps{beside}."))
    return figures


def _hints_at(facts: RunFacts, step: int) -> str:
    """Which hints begin or end at a step, to follow a sentence."""
    began = [f"hint {hint.number} begins" for hint in facts.hints if hint.began == step]
    ended = [f"hint {hint.number} has ended" for hint in facts.hints if hint.ended == step]
    return "".join(f", {each}" for each in [*began, *ended])


def reward_figures(facts: RunFacts) -> list[Figure]:
    """Reward distributions of a few steps (the paper's Figure 1), and of all of them as a map."""
    parts = [values for values in facts.rewards.values() if values.size]
    values = np.concatenate(parts) if parts else np.zeros(0)
    if not values.size:
        return []
    # The worst few would leave no room for the rest.
    ends = domain([float(np.quantile(values, 0.02)), float(values.max())], 0.04)
    rows = []
    for first, last in step_ranges(len(facts.steps), facts.steps[0].rollouts):
        records = facts.steps[first:last]
        chosen = [facts.rewards[record.step] for record in records]
        span = f"{records[0].step}–{records[-1].step}" if len(records) > 1 else f"{records[0].step}"
        share = sum(record.valid for record in records) / max(1, sum(record.rollouts for record in records))
        rows.append(
            (f"step{'s' if len(records) > 1 else ''} {span}, {share:.0%} valid", np.concatenate(chosen))
        )
    medians = ", ".join(f"{name.partition(',')[0]} {np.median(v):.6g}" for name, v in rows if v.size)
    below = int((values < ends[0]).sum())
    edge = f" {below} of {values.size} lie further left and are counted at the edge." if below else ""
    summary = f"Rewards of valid rollouts; medians: {medians}."
    return [
        figure(
            "Reward distribution",
            lambda size: ridge_plot(size, rows, ends, summary),
            f"Valid rollouts only; the tick is the median.{edge}",
            heights=(64.0 + 74.0 * len(rows), 64.0 + 64.0 * len(rows)),
        ),
        figure(
            "Rewards of every step",
            lambda size: reward_heatmap(size, facts.rewards, ends, summary),
            "Each column is a step, or a few where there are many; the stronger a colour, the larger a share "
            "of its valid rollouts.",
            heights=(260.0, 230.0),
        ),
    ]


def step_ranges(steps: int, rollouts: int, count: int = 4) -> list[tuple[int, int]]:
    """Up to ``count`` ranges of steps, each [first, last) by index, from the run's start to its end.

    Between the first and the last the early steps are closer, as in the paper (0, 9, 24 and 49 of 50). A
    range has more than one step where a single one has too few rollouts to show a distribution.

    :param steps: of the run.
    :param rollouts: in one step.
    """
    length = max(1, min(math.ceil(ENOUGH / max(1, rollouts)), steps // count))
    shares = [0.0, 0.18, 0.49, 1.0] if count == 4 else list(np.linspace(0.0, 1.0, count))
    firsts = [round(share * (steps - length)) for share in shares]
    kept: list[int] = []
    for first in firsts:
        if not kept or first >= kept[-1] + length:
            kept.append(first)
    return [(first, first + length) for first in kept]


def validity_figure(facts: RunFacts) -> Figure:
    """How each step's rollouts ended."""
    steps = [record.step for record in facts.steps]
    present = [Status.OK, *(failure.status for failure in facts.failures)]
    classes = {str(status): STATUS_CLASSES.get(status, "f6") for status in present}
    parts = {str(s): [float(facts.statuses[step].get(s, 0)) for step in steps] for s in present}
    tips = {
        step: f"step {step}: " + ", ".join(f"{n} {status}" for status, n in facts.statuses[step].items())
        for step in steps
    }
    share = facts.summary.valid_share
    rest = ", ".join(f"{each.count} {str(each.status).replace('_', ' ')}" for each in facts.failures)
    summary = (
        f"{facts.summary.valid} of {counted(facts.summary.rollouts, 'rollout')} valid ({share:.0%}); "
        f"{rest or 'no failures'}."
    )
    return figure(
        "How rollouts ended",
        lambda size: stacked_bars(
            size, steps, parts, ("step", "rollouts"), summary, classes=classes, whole=True, tips=tips
        ),
        summary,
        [(classes[str(status)], str(status).replace("_", " ")) for status in present],
        heights=(240.0, 220.0),
    )


def tree_figure(facts: RunFacts) -> Figure:
    """The archive's lineage tree."""
    path = [state.id for state in facts.path_to_best()]
    held = sum(state.place == "held" for state in facts.states)
    seeds = sum(state.seed for state in facts.states)
    summary = (
        f"{counted(len(facts.states), 'state')} from {counted(seeds, 'seed')}, {held} still held; "
        f"the best came in {counted(max(0, len(path) - 1), 'step')} from a seed."
    )
    few = f" Pointing tells of the path and the best {TOLD} nodes." if len(facts.states) > TOLD else ""
    if len(facts.states) > MOST_DRAWN:
        few += (
            f" Drawn are {MOST_DRAWN:,} of them: the path, those held, then the best, with their ancestors."
        )
    return figure(
        "The archive's tree",
        lambda size: lineage_tree(
            facts.states, set(path), facts.problem, size[0], summary, TOLD if size[0] >= WIDE else TOLD // 4
        ),
        f"{summary} The stronger a node's colour, the better its score.{few}",
        [("on-path-key", "path to the best"), ("s5", "best fifth"), ("s1", "worst fifth")],
    )


def metric_figures(facts: RunFacts) -> list[Figure]:
    """Small charts of the learner's and the search's numbers, those that say something."""
    figures = []
    for metric in CHARTED:
        title, explanation = metric.label, f"{metric.unit}; {metric.meaning}"
        steps, values = facts.series(metric)
        known = [value for value in values if math.isfinite(value)]
        if not known or (metric in EMPTY_AT_ZERO and not any(known)):
            continue
        summary = f"{title}, {explanation}: {known[0]:.3g} at first, {known[-1]:.3g} at last."
        tips = {step: f"step {step}: {value:.4g}" for step, value in zip(steps, values, strict=True)}
        ends = (0.0, 1.0) if metric.unit.startswith("share") else None
        drawn = line_chart(SMALL, [Line(title, steps, values)], ("step", ""), summary, ends=ends, tips=tips)
        figures.append(Figure(title, Markup(drawn), Markup(drawn), explanation))
    return figures


#: Parts of a step's time as the page shows them, with the style class of each.
TIME_CLASSES = {"sampling": "c1", "judging": "c3", "learning": "c2", "search and storage": "c6"}


def time_parts(metrics: Mapping[str, float]) -> dict[str, float]:
    """Seconds of one step by part; one that was not measured counts as 0.

    :param metrics: the step's, timings among them.
    """
    measured = {timing: metrics.get(timing.key, math.nan) for timing in Timing}
    seconds = {timing: value if math.isfinite(value) else 0.0 for timing, value in measured.items()}
    # Runs of versions that did not measure it had no overlapping steps.
    after_sampling = max(0.0, seconds[Timing.ROLLOUTS] - seconds[Timing.SAMPLING])
    waiting = measured[Timing.WAITING]
    return {
        "sampling": seconds[Timing.SAMPLING],
        # What sampling waits for after its last reply; before that, it is beside sampling.
        "judging": waiting if math.isfinite(waiting) else after_sampling,
        "learning": seconds[Timing.LEARN],
        "search and storage": seconds[Timing.PREPARE] + seconds[Timing.ADMIT] + seconds[Timing.CHECKPOINT],
    }


def time_by_part(facts: RunFacts) -> dict[str, list[float]]:
    """Seconds of each step, by part."""
    by_step = [time_parts(facts.metrics.get(record.step, {})) for record in facts.steps]
    return {part: [seconds[part] for seconds in by_step] for part in TIME_CLASSES}


def time_figure(facts: RunFacts) -> Figure:
    """Where each step's time went."""
    parts = time_by_part(facts)
    steps = [record.step for record in facts.steps]
    tips = {
        step: f"step {step}: " + ", ".join(f"{name} {values[index]:.3g} s" for name, values in parts.items())
        for index, step in enumerate(steps)
    }
    total = sum(sum(values) for values in parts.values()) or 1.0
    summary = "Time by part: " + ", ".join(f"{n} {sum(v) / total:.0%}" for n, v in parts.items()) + "."
    return figure(
        "Where the time went",
        lambda size: stacked_bars(
            size, steps, parts, ("step", "seconds"), summary, classes=TIME_CLASSES, tips=tips
        ),
        "Judging counts from the last whole reply on; before that it goes on beside sampling.",
        [(TIME_CLASSES[name], name) for name in parts],
        heights=(240.0, 220.0),
    )


def _score(facts: RunFacts, score: float | None) -> str:
    return "none" if score is None or not math.isfinite(score) else facts.problem.format_score(score)
