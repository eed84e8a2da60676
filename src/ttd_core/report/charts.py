"""The page's charts: lines over steps, stacked bars, a map of rewards, and reward distributions.

Drawn here as plain SVG rather than with a charting library: the smallest that could draw these would weigh
more than the page's whole data, need scripts, and leave nothing for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.report.drawing import Drawing, Frame, frame, path_of
from ttd_core.report.scales import domain, spread_apart

Floats = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Line:
    """One series over steps.

    :param label: for tips.
    :param steps: where it has values.
    :param values: one a step; NaN leaves a gap.
    :param colour: 1 to 6, a colour of the style sheet.
    :param kind: ``line``, ``stairs`` (a value holds until the next) or ``dots``.
    :param low: one a step: lower edge of a band around the line, and :param high: the upper.
    """

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    colour: int = 1
    kind: str = "line"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@attrs.frozen
class Rule:
    """A level to compare with: a published score."""

    label: str
    value: float


def line_chart(
    size: tuple[float, float],
    lines: Sequence[Line],
    labels: tuple[str, str],
    summary: str,
    *,
    rules: Sequence[Rule] = (),
    ends: tuple[float, float] | None = None,
    tips: Mapping[int, str] | None = None,
) -> str:
    """Series over steps.

    :param size: width and height, pixels.
    :param labels: what the axes show.
    :param summary: the chart in a sentence.
    :param rules: dashed levels with their names.
    :param ends: of the vertical axis; all values and rules by default.
    :param tips: words for each step.
    """
    drawing = Drawing(*size, summary)
    steps = [step for line in lines for step in line.steps]
    if ends is None:
        shown = [value for line in lines for value in [*line.values, *(line.low or ()), *(line.high or ())]]
        ends = domain([*shown, *(rule.value for rule in rules)])
    first, last = (min(steps), max(steps)) if steps else (0, 1)
    made = frame(drawing, (first, max(last, first + 1)), ends, labels)
    for line in lines:
        _band(drawing, made, line)
    _rules(drawing, made, rules)
    for line in lines:
        _line(drawing, made, line)
    _hover(drawing, made, tips or {})
    return drawing.svg()


def _band(drawing: Drawing, made: Frame, line: Line) -> None:
    if line.low is None or line.high is None:
        return
    upper = [(made.x(s), made.y(v)) for s, v in zip(line.steps, line.high, strict=True) if math.isfinite(v)]
    lower = [(made.x(s), made.y(v)) for s, v in zip(line.steps, line.low, strict=True) if math.isfinite(v)]
    if len(upper) > 1:
        drawing.add("path", d=path_of([*upper, *reversed(lower)]) + "Z", class_=f"band c{line.colour}")


def _line(drawing: Drawing, made: Frame, line: Line) -> None:
    points = [(s, v) for s, v in zip(line.steps, line.values, strict=True) if math.isfinite(v)]
    places = [(made.x(step), made.y(value)) for step, value in points]
    if line.kind == "dots":
        for (_, value), (x, y) in zip(points, places, strict=True):
            if made.y.holds(value):
                drawing.add("circle", cx=x, cy=y, r=2.6, class_=f"dot c{line.colour}")
            else:
                # Beyond the edge: an arrow says that way.
                turn = "l3,5h-6z" if value > made.y.high else "l3,-5h-6z"
                drawing.add("path", d=f"M{x:.1f},{y:.1f}{turn}", class_=f"beyond c{line.colour}")
        return
    if len(places) == 1:
        drawing.add("circle", cx=places[0][0], cy=places[0][1], r=3, class_=f"dot c{line.colour}")
    drawing.add("path", d=path_of(places, stairs=line.kind == "stairs"), class_=f"line c{line.colour}")


def _rules(drawing: Drawing, made: Frame, rules: Sequence[Rule]) -> None:
    inside = [rule for rule in rules if made.y.holds(rule.value)]
    labels: list[tuple[float, list[str]]] = []
    for rule in inside:
        y = made.y(rule.value)
        drawing.add("path", d=f"M{made.left:.1f},{y:.1f}H{made.right:.1f}", class_="rule")
        # Lines that cannot be told apart share a label; the first given names them.
        near = next((names for place, names in labels if abs(place - y) < 3), None)
        if near is None:
            labels.append((y, [rule.label]))
        else:
            near.append(rule.label)
    places = spread_apart([y - 4 for y, _ in labels], 13, made.top + 8, made.bottom - 3)
    for (_, names), place in zip(labels, places, strict=True):
        more = f" and {len(names) - 1} more" if len(names) > 2 else "".join(f", {name}" for name in names[1:])
        drawing.text(made.left + 6, place, names[0] + more, class_="rule-label")


def _hover(drawing: Drawing, made: Frame, tips: Mapping[int, str]) -> None:
    """An invisible column over each step: pointing anywhere in it tells the step's numbers."""
    if not tips:
        return
    half = 0.5 * (made.right - made.left) / max(1.0, made.x.high - made.x.low)
    for step, tip in tips.items():
        x = max(made.left, made.x(step) - half)
        width = min(made.right, made.x(step) + half) - x
        height = made.bottom - made.top
        drawing.add("rect", tip=tip, class_="hover", x=x, y=made.top, width=width, height=height)


def stacked_bars(
    size: tuple[float, float],
    steps: Sequence[int],
    parts: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
    summary: str,
    *,
    classes: Mapping[str, str],
    whole: bool = False,
    tips: Mapping[int, str] | None = None,
) -> str:
    """One bar a step, split into parts.

    :param parts: by name, from the bottom up, one value a step.
    :param classes: the style of each part.
    :param whole: whether they are counts.
    """
    drawing = Drawing(*size, summary)
    totals = [sum(values[place] for values in parts.values()) for place in range(len(steps))]
    highest = max(totals, default=0.0) * 1.04 or 1.0
    first, last = (min(steps), max(steps)) if steps else (1, 1)
    made = frame(drawing, (first - 0.5, last + 0.5), (0.0, highest), labels, y_whole=whole)
    width = (made.right - made.left) / (last - first + 1)
    gap = min(2.0, 0.2 * width)
    base = [0.0] * len(steps)
    for name, values in parts.items():
        # One path a part keeps the page small however many steps there are.
        bars = []
        for place, step in enumerate(steps):
            if values[place] > 0:
                low, high = made.y(base[place]), made.y(base[place] + values[place])
                x = made.x(step) - 0.5 * width + 0.5 * gap
                bars.append(f"M{x:.1f},{low:.1f}h{width - gap:.1f}V{high:.1f}h-{width - gap:.1f}z")
            base[place] += values[place]
        if bars:
            drawing.add("path", d="".join(bars), class_=f"bar {classes[name]}")
    _hover(drawing, made, tips or {})
    return drawing.svg()


def reward_map(
    size: tuple[float, float],
    rewards: Mapping[int, Floats],
    ends: tuple[float, float],
    summary: str,
    bins: int = 28,
) -> str:
    """Every step's rewards as a column of cells; the darker, the more rollouts of that step.

    :param rewards: by step, float64 [valid rollouts].
    :param ends: of the vertical axis; what lies beyond is counted at the edge.
    """
    drawing = Drawing(*size, summary)
    steps = sorted(rewards)
    first, last = (steps[0], steps[-1]) if steps else (1, 1)
    made = frame(drawing, (first - 0.5, last + 0.5), ends, ("step", "reward"))
    width = (made.right - made.left) / (last - first + 1)
    height = (made.bottom - made.top) / bins
    for step in steps:
        values = np.clip(rewards[step], *ends)
        if not values.size:
            continue
        counts, edges = np.histogram(values, bins=bins, range=ends)
        for place in np.flatnonzero(counts):
            drawing.add(
                "rect",
                tip=f"step {step}: {counts[place]} of {values.size} valid, "
                f"reward {edges[place]:.6g} to {edges[place + 1]:.6g}",
                x=made.x(step) - width / 2,
                y=made.y(float(edges[place + 1])),
                width=max(1.0, width - 0.5),
                height=max(1.0, height - 0.5),
                class_="cell",
                fill_opacity=f"{0.18 + 0.82 * math.sqrt(counts[place] / values.size):.2f}",
            )
    return drawing.svg()


def ridges(
    size: tuple[float, float],
    rows: Sequence[tuple[str, Floats]],
    ends: tuple[float, float],
    summary: str,
    bins: int = 48,
) -> str:
    """Reward distributions below each other on one axis, as in the paper's Figure 1.

    :param rows: name and float64 [valid rollouts], from the top down.
    :param ends: of the axis; what lies beyond is counted at the edge.
    """
    drawing = Drawing(*size, summary)
    made = frame(drawing, ends, (0.0, float(len(rows))), ("reward", ""), whole=False, y_ticks=())
    height = (made.bottom - made.top) / max(1, len(rows))
    for place, (name, values) in enumerate(rows):
        base = made.top + (place + 1) * height
        if values.size:
            counts, edges = np.histogram(np.clip(values, *ends), bins=bins, range=ends)
            tall = (height - 22) / counts.max()
            points = [(made.x(float(edges[0])), base)]
            for index, count in enumerate(counts):
                level = base - float(count) * tall
                points += [(made.x(float(edges[index])), level), (made.x(float(edges[index + 1])), level)]
            points.append((made.x(float(edges[-1])), base))
            drawing.add("path", d=path_of(points) + "Z", class_="ridge")
            middle = made.x(float(np.median(values)))
            tip = f"median {np.median(values):.6g}"
            drawing.add("path", tip=tip, d=f"M{middle:.1f},{base:.1f}v-{0.3 * height:.1f}", class_="median")
        drawing.add("path", d=f"M{made.left:.1f},{base:.1f}H{made.right:.1f}", class_="axis")
        drawing.text(made.left, base - height + 17, name, class_="rule-label")
    return drawing.svg()
