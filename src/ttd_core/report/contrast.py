"""Figures of several runs side by side, seeds pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ttd_core.metrics import Metric
from ttd_core.report.charts import Line, Rule, line_chart
from ttd_core.report.facts import RunFacts, ranked_baselines
from ttd_core.report.figures import Figure, figure
from ttd_core.report.pooling import Arm
from ttd_core.report.scales import domain

#: Colours of the style sheet.
COLOURS = 6

Series = Callable[[RunFacts], tuple[Sequence[int], Sequence[float]]]


@attrs.frozen
class Curve:
    """One quantity to compare: title, axis, how a run gives it, and the axis' ends where they are known."""

    title: str
    axis: str
    series: Series
    ends: tuple[float, float] | None = None


def _metric(name: str) -> Series:
    return lambda run: run.series(name)


def contrast_figures(arms: Sequence[Arm]) -> list[Figure]:
    """Curves of one problem's arms: mean over seeds as a line, least to largest as a band.

    :param arms: all of one problem.
    """
    problem = arms[0].runs[0].problem
    rules = [
        Rule(f"{each.label} {problem.format_score(each.score)}", each.score)
        for each in ranked_baselines(problem)
    ]
    curves = [
        Curve("Best score by step", problem.metric, RunFacts.best_by_step),
        Curve("Mean reward", "reward, failures as 0", _metric(Metric.REWARD_MEAN)),
        Curve("Valid share", "share of rollouts", _metric(Metric.VALID_SHARE), (0.0, 1.0)),
        Curve("Repeat share", "share of programs", _metric(Metric.REPEAT_SHARE), (0.0, 1.0)),
        Curve("KL to the base model", "nats a token", _metric(Metric.KL)),
        Curve("Spread of advantages", "standard deviation", _metric(Metric.ADVANTAGE_STD)),
    ]
    drawn = [_curve(arms, curve, rules if not place else []) for place, curve in enumerate(curves)]
    return [each for each in drawn if each is not None]


def _curve(arms: Sequence[Arm], curve: Curve, rules: Sequence[Rule]) -> Figure | None:
    lines = []
    for place, arm in enumerate(arms):
        steps, mean, low, high = arm.pooled(curve.series)
        if steps:
            colour = place % COLOURS + 1
            band = (low, high) if len(arm.runs) > 1 else (None, None)
            kind = "stairs" if rules and len(arm.runs) == 1 else "line"
            lines.append(Line(arm.label, steps, mean, colour, kind, *band))
    if not lines:
        return None
    shown = [value for line in lines for value in [*line.values, *(line.low or ()), *(line.high or ())]]
    ends = curve.ends or domain([*shown, *(rule.value for rule in rules)], 0.08)
    last = "; ".join(f"{line.label} {line.values[-1]:.6g}" for line in lines)
    summary = f"{curve.title}, at last: {last}."
    pooled = any(len(arm.runs) > 1 for arm in arms)
    return figure(
        curve.title,
        lambda size: line_chart(size, lines, ("step", curve.axis), summary, rules=rules, ends=ends),
        "Lines are means over seeds, bands reach from the least to the largest." if pooled and rules else "",
        [(f"c{line.colour}", line.label) for line in lines],
        heights=(280.0, 240.0),
    )
