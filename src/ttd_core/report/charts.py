"""The page's charts: lines over steps, stacked bars, a heat map of rewards, and a ridge plot of rewards.

Drawn here as plain SVG rather than with a charting library: the smallest that could draw these would weigh
more than the page's whole data, need scripts, and leave nothing for screen readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.report.drawing import Axes, Drawing, draw_axes, path_of, with_corners
from ttd_core.report.scales import domain, spread_apart

Floats = npt.NDArray[np.float64]


@attrs.frozen(eq=False)
class Line:
    """One series over steps.

    :param label: its name.
    :param steps: where it has values: steps, or another amount that grows.
    :param values: one a step; NaN leaves a gap.
    :param colour: 1 to 6, a colour of the style sheet.
    :param kind: ``line``, ``stairs`` (a value holds until the next) or ``dots``.
    :param low: one a step: lower edge of a band around the line; no band when left out.
    :param high: one a step: its upper edge.
    """

    label: str
    steps: Sequence[float]
    values: Sequence[float]
    colour: int = 1
    kind: str = "line"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@attrs.frozen
class ReferenceLine:
    """A horizontal line to compare with: a published score.

    :param label: written above the line.
    :param value: on the vertical axis.
    """

    label: str
    value: float


def line_chart(
    size: tuple[float, float],
    lines: Sequence[Line],
    labels: tuple[str, str],
    summary: str,
    *,
    references: Sequence[ReferenceLine] = (),
    ends: tuple[float, float] | None = None,
    tips: Mapping[int, str] | None = None,
) -> str:
    """Series over steps.

    :param size: width and height, pixels.
    :param labels: of the horizontal and the vertical axis.
    :param summary: the chart in a sentence, for screen readers.
    :param references: dashed lines with their names.
    :param ends: of the vertical axis; room for all values and references by default.
    :param tips: by step, the text shown when its column is pointed at.
    :return: one ``<svg>`` element, as from every chart here.
    """
    drawing = Drawing(*size, summary)
    steps = [step for line in lines for step in line.steps]
    if ends is None:
        ends = domain([*values_shown(lines), *(reference.value for reference in references)])
    first, last = (min(steps), max(steps)) if steps else (0, 1)
    axes = draw_axes(drawing, (first, max(last, first + 1)), ends, labels)
    for line in lines:
        _band(drawing, axes, line)
    _reference_lines(drawing, axes, references)
    for line in lines:
        _line(drawing, axes, line)
    _hover(drawing, axes, tips or {})
    return drawing.svg()


def values_shown(lines: Sequence[Line]) -> list[float]:
    """All values of some lines and their bands."""
    return [value for line in lines for value in [*line.values, *(line.low or ()), *(line.high or ())]]


def _band(drawing: Drawing, axes: Axes, line: Line) -> None:
    if line.low is None or line.high is None:
        return
    upper = [(axes.x(s), axes.y(v)) for s, v in zip(line.steps, line.high, strict=True) if math.isfinite(v)]
    lower = [(axes.x(s), axes.y(v)) for s, v in zip(line.steps, line.low, strict=True) if math.isfinite(v)]
    if line.kind == "stairs":
        upper, lower = with_corners(upper), with_corners(lower)
    if len(upper) > 1:
        drawing.add("path", d=path_of([*upper, *reversed(lower)]) + "Z", class_=f"band c{line.colour}")


def _line(drawing: Drawing, axes: Axes, line: Line) -> None:
    points = [(s, v) for s, v in zip(line.steps, line.values, strict=True) if math.isfinite(v)]
    pixels = [(axes.x(step), axes.y(value)) for step, value in points]
    if line.kind == "dots":
        for (_, value), (x, y) in zip(points, pixels, strict=True):
            if axes.y.holds(value):
                drawing.add("circle", cx=x, cy=y, r=2.6, class_=f"dot c{line.colour}")
            else:
                # Beyond the edge: an arrow points that way.
                arrow = "l3,5h-6z" if value > axes.y.high else "l3,-5h-6z"
                drawing.add("path", d=f"M{x:.1f},{y:.1f}{arrow}", class_=f"beyond c{line.colour}")
        return
    if len(pixels) == 1:
        drawing.add("circle", cx=pixels[0][0], cy=pixels[0][1], r=3, class_=f"dot c{line.colour}")
    drawing.add("path", d=path_of(pixels, stairs=line.kind == "stairs"), class_=f"line c{line.colour}")


def _reference_lines(drawing: Drawing, axes: Axes, references: Sequence[ReferenceLine]) -> None:
    labels: list[tuple[float, list[str]]] = []
    for reference in references:
        if not axes.y.holds(reference.value):
            continue
        y = axes.y(reference.value)
        drawing.add("path", d=f"M{axes.left:.1f},{y:.1f}H{axes.right:.1f}", class_="rule")
        # Lines that cannot be told apart share a label; the first given names them.
        names_near = next((names for other_y, names in labels if abs(other_y - y) < 3), None)
        if names_near is None:
            labels.append((y, [reference.label]))
        else:
            names_near.append(reference.label)
    label_ys = spread_apart([y - 4 for y, _ in labels], 13, axes.top + 8, axes.bottom - 3)
    for (_, names), label_y in zip(labels, label_ys, strict=True):
        more = f" and {len(names) - 1} more" if len(names) > 2 else "".join(f", {name}" for name in names[1:])
        drawing.text(axes.left + 6, label_y, names[0] + more, class_="rule-label")


def _hover(drawing: Drawing, axes: Axes, tips: Mapping[int, str]) -> None:
    """An invisible column over each step: pointing anywhere in it shows the step's tip."""
    if not tips:
        return
    half = 0.5 * (axes.right - axes.left) / max(1.0, axes.x.high - axes.x.low)
    for step, tip in tips.items():
        x = max(axes.left, axes.x(step) - half)
        width = min(axes.right, axes.x(step) + half) - x
        height = axes.bottom - axes.top
        drawing.add("rect", tip=tip, class_="hover", x=x, y=axes.top, width=width, height=height)


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
    """One bar a step, split into parts; further parameters as in :func:`line_chart`.

    :param parts: by name, from the bottom up, one value a step.
    :param classes: the style class of each part, by name.
    :param whole: whether the values are counts.
    """
    drawing = Drawing(*size, summary)
    totals = [sum(values[index] for values in parts.values()) for index in range(len(steps))]
    highest = max(totals, default=0.0) * 1.04 or 1.0
    first, last = (min(steps), max(steps)) if steps else (1, 1)
    axes = draw_axes(drawing, (first - 0.5, last + 0.5), (0.0, highest), labels, y_whole=whole)
    width = (axes.right - axes.left) / (last - first + 1)
    gap = min(2.0, 0.2 * width)
    base = [0.0] * len(steps)
    for name, values in parts.items():
        # One path a part keeps the page small however many steps there are.
        bars = []
        for index, step in enumerate(steps):
            if values[index] > 0:
                low, high = axes.y(base[index]), axes.y(base[index] + values[index])
                x = axes.x(step) - 0.5 * width + 0.5 * gap
                bars.append(f"M{x:.1f},{low:.1f}h{width - gap:.1f}V{high:.1f}h-{width - gap:.1f}z")
            base[index] += values[index]
        if bars:
            drawing.add("path", d="".join(bars), class_=f"bar {classes[name]}")
    _hover(drawing, axes, tips or {})
    return drawing.svg()


def reward_heatmap(
    size: tuple[float, float],
    rewards: Mapping[int, Floats],
    ends: tuple[float, float],
    summary: str,
    bins: int = 28,
) -> str:
    """Every step's rewards as a column of cells; the darker, the more rollouts of that step.

    :param rewards: by step, float64 [valid rollouts].
    :param ends: of the vertical axis; what lies beyond is counted at the edge.
    :param bins: cells of a column.
    """
    drawing = Drawing(*size, summary)
    steps = sorted(rewards)
    first, last = (steps[0], steps[-1]) if steps else (1, 1)
    axes = draw_axes(drawing, (first - 0.5, last + 0.5), ends, ("step", "reward"))
    width = (axes.right - axes.left) / (last - first + 1)
    height = (axes.bottom - axes.top) / bins
    for step in steps:
        values = np.clip(rewards[step], *ends)
        if not values.size:
            continue
        counts, edges = np.histogram(values, bins=bins, range=ends)
        for cell in np.flatnonzero(counts):
            drawing.add(
                "rect",
                tip=f"step {step}: {counts[cell]} of {values.size} valid, "
                f"reward {edges[cell]:.6g} to {edges[cell + 1]:.6g}",
                x=axes.x(step) - width / 2,
                y=axes.y(float(edges[cell + 1])),
                width=max(1.0, width - 0.5),
                height=max(1.0, height - 0.5),
                class_="cell",
                fill_opacity=f"{0.18 + 0.82 * math.sqrt(counts[cell] / values.size):.2f}",
            )
    return drawing.svg()


def ridge_plot(
    size: tuple[float, float],
    rows: Sequence[tuple[str, Floats]],
    ends: tuple[float, float],
    summary: str,
    bins: int = 48,
) -> str:
    """Reward distributions below each other on one axis, as in the paper's Figure 1.

    :param rows: name and float64 [valid rollouts], from the top down.
    :param ends: of the axis; what lies beyond is counted at the edge.
    :param bins: of each distribution's histogram.
    """
    drawing = Drawing(*size, summary)
    axes = draw_axes(drawing, ends, (0.0, float(len(rows))), ("reward", ""), whole=False, y_ticks=())
    height = (axes.bottom - axes.top) / max(1, len(rows))
    for index, (name, values) in enumerate(rows):
        base = axes.top + (index + 1) * height
        if values.size:
            counts, edges = np.histogram(np.clip(values, *ends), bins=bins, range=ends)
            tall = (height - 22) / counts.max()
            points = [(axes.x(float(edges[0])), base)]
            for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
                level = base - float(count) * tall
                points += [(axes.x(float(left)), level), (axes.x(float(right)), level)]
            points.append((axes.x(float(edges[-1])), base))
            drawing.add("path", d=path_of(points) + "Z", class_="ridge")
            middle = axes.x(float(np.median(values)))
            tip = f"median {np.median(values):.6g}"
            drawing.add("path", tip=tip, d=f"M{middle:.1f},{base:.1f}v-{0.3 * height:.1f}", class_="median")
        drawing.add("path", d=f"M{axes.left:.1f},{base:.1f}H{axes.right:.1f}", class_="axis")
        drawing.text(axes.left, base - height + 17, name, class_="rule-label")
    return drawing.svg()
