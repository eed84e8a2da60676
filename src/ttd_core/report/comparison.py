"""The figures of a comparison: curves of several runs in one chart each, seeds pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ttd_core.metrics import Metric
from ttd_core.report.charts import Line, ReferenceLine, line_chart, values_shown
from ttd_core.report.facts import RunFacts
from ttd_core.report.figures import Figure, figure, published_lines
from ttd_core.report.pooling import Arm
from ttd_core.report.scales import domain

#: Colours of the style sheet.
COLOURS = 6

Series = Callable[[RunFacts], tuple[Sequence[int], Sequence[float]]]


@attrs.frozen
class Curve:
    """One quantity to compare.

    :param title: of its figure.
    :param axis: label of the vertical axis.
    :param series: gives its steps and values in one run.
    :param ends: of the vertical axis, where they are known beforehand.
    """

    title: str
    axis: str
    series: Series
    ends: tuple[float, float] | None = None


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
    best_score = Curve("Best score by step", problem.metric, RunFacts.best_by_step)
    figures = [
        _figure(arms, best_score, published_lines(problem)),
        *(_figure(arms, curve, []) for curve in CURVES),
    ]
    return [each for each in figures if each is not None]


def _figure(arms: Sequence[Arm], curve: Curve, published: Sequence[ReferenceLine]) -> Figure | None:
    """One quantity of all arms; ``None`` where none has it.

    :param published: lines to compare with.
    """
    lines = []
    for index, arm in enumerate(arms):
        steps, mean, low, high = arm.pooled(curve.series)
        if steps:
            colour = index % COLOURS + 1
            band = (low, high) if len(arm.runs) > 1 else (None, None)
            kind = "stairs" if published and len(arm.runs) == 1 else "line"
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
        caption if pooled and published else "",
        [(f"c{line.colour}", line.label) for line in lines],
        heights=(280.0, 240.0),
    )
