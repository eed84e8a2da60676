"""The figures of a comparison: curves of several runs in one chart each, seeds pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.metrics import Metric
from ttd_core.report.charts import Line, ReferenceLine, line_chart, ridge_plot, values_shown
from ttd_core.report.facts import RunFacts, Spent
from ttd_core.report.figures import Figure, figure, published_lines
from ttd_core.report.pooling import Arm
from ttd_core.report.scales import domain

#: Colours of the style sheet.
COLOURS = 6
#: What the best score is drawn against, besides steps, with the label of that axis.
SPENT: dict[Spent, str] = {
    "rollouts": "rollouts, all of a run",
    "tokens": "tokens sampled, all of a run",
    "seconds": "wall seconds of a run",
}

Series = Callable[[RunFacts], tuple[Sequence[int], Sequence[float]]]


@attrs.frozen
class Curve:
    """One quantity to compare.

    :param title: of its figure.
    :param axis: label of the vertical axis.
    :param series: gives its steps and values in one run.
    :param ends: of the vertical axis, where they are known beforehand.
    :param stairs: whether a value holds until the next, as a best score does.
    """

    title: str
    axis: str
    series: Series
    ends: tuple[float, float] | None = None
    stairs: bool = False


def _curve_of(metric: Metric, ends: tuple[float, float] | None = None) -> Curve:
    return Curve(metric.label, metric.unit, lambda run: run.series(metric), ends)


#: What is compared besides the best score.
CURVES = (
    _curve_of(Metric.REWARD_MEAN),
    _curve_of(Metric.VALID_SHARE, (0.0, 1.0)),
    _curve_of(Metric.REPEAT_SHARE, (0.0, 1.0)),
    _curve_of(Metric.KL),
    _curve_of(Metric.ADVANTAGE_STD),
)


def comparison_figures(arms: Sequence[Arm]) -> list[Figure]:
    """Curves of one problem's arms: mean over seeds as a line, least to largest as a band.

    :param arms: all of one problem.
    """
    problem = arms[0].runs[0].problem
    best_score = Curve("Best score by step", problem.metric, RunFacts.best_by_step, stairs=True)
    figures = [
        _figure(arms, best_score, published_lines(problem)),
        *(_spent_figure(arms, what) for what in SPENT),
        _reward_figure(arms),
        *(_figure(arms, curve, []) for curve in CURVES),
    ]
    return [each for each in figures if each is not None]


def _spent_figure(arms: Sequence[Arm], what: Spent) -> Figure | None:
    """The best score against what was spent; ``None`` where no run has a score, or nothing was spent."""
    problem = arms[0].runs[0].problem
    published = published_lines(problem)
    lines = []
    for index, arm in enumerate(arms):
        amounts, mean, low, high = arm.best_by_spent(what)
        if amounts and amounts[-1] > 0:
            band = (low, high) if len(arm.runs) > 1 else (None, None)
            lines.append(Line(arm.label, amounts, mean, index % COLOURS + 1, "stairs", *band))
    if not lines:
        return None
    ends = domain([*values_shown(lines), *(line.value for line in published)], 0.08)
    title = f"Best score by {what}"
    last = "; ".join(f"{line.label} {line.values[-1]:.6g} after {line.steps[-1]:.0f}" for line in lines)
    labels = (SPENT[what], problem.metric)
    return figure(
        title,
        lambda size: line_chart(
            size, lines, labels, f"{title}, at last: {last}.", references=published, ends=ends
        ),
        legend=[(f"c{line.colour}", line.label) for line in lines],
        heights=(280.0, 240.0),
    )


def _reward_figure(arms: Sequence[Arm]) -> Figure | None:
    """Reward distributions of each arm's first and last step (the paper's Figure 1), seeds together."""
    rows: list[tuple[str, npt.NDArray[np.float64]]] = []
    for arm in arms:
        for place in (0, -1):
            steps = [(run, run.steps[place]) for run in arm.runs if len(run.steps) > 1]
            if not steps:
                continue
            rewards = np.concatenate([run.rewards.get(record.step, np.zeros(0)) for run, record in steps])
            share = rewards.size / max(1, sum(record.rollouts for _, record in steps))
            which = "last" if place else "first"
            rows.append((f"{arm.label}, {which} step, {share:.0%} valid", rewards))
    values = np.concatenate([rewards for _, rewards in rows]) if rows else np.zeros(0)
    if not values.size:
        return None
    # The worst tenth would leave no room for the rest.
    ends = domain([float(np.quantile(values, 0.1)), float(values.max())], 0.04)
    medians = "; ".join(f"{name} {np.median(rewards):.6g}" for name, rewards in rows if rewards.size)
    return figure(
        "Reward distribution, first and last step",
        lambda size: ridge_plot(size, rows, ends, f"Rewards of valid rollouts; medians: {medians}."),
        "Valid rollouts only, all seeds together; the tick is the median.",
        heights=(64.0 + 56.0 * len(rows), 64.0 + 50.0 * len(rows)),
    )


def _figure(arms: Sequence[Arm], curve: Curve, published: Sequence[ReferenceLine]) -> Figure | None:
    """One quantity of all arms; ``None`` where none has it.

    :param published: lines to compare with.
    """
    lines = []
    for index, arm in enumerate(arms):
        steps, mean, low, high = arm.pooled(curve.series, holds=curve.stairs)
        if steps:
            colour = index % COLOURS + 1
            band = (low, high) if len(arm.runs) > 1 else (None, None)
            kind = "stairs" if curve.stairs else "line"
            lines.append(Line(arm.label, steps, mean, colour, kind, *band))
    if not lines:
        return None
    ends = curve.ends or domain([*values_shown(lines), *(line.value for line in published)], 0.08)
    last = "; ".join(f"{line.label} {line.values[-1]:.6g}" for line in lines)
    summary = f"{curve.title}, at last: {last}."
    pooled = any(len(arm.runs) > 1 for arm in arms)
    caption = "Lines are means over seeds, bands reach from the least to the largest."
    return figure(
        curve.title,
        lambda size: line_chart(size, lines, ("step", curve.axis), summary, references=published, ends=ends),
        caption if pooled and curve.stairs else "",
        [(f"c{line.colour}", line.label) for line in lines],
        heights=(280.0, 240.0),
    )
