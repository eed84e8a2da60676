"""The page's charts: lines over steps, stacked bars, a heat map of rewards, and a ridge plot of rewards.

Drawn here as plain SVG rather than with a charting library: the smallest that could draw these would weigh
more than the page's whole data, need scripts, and leave nothing for screen readers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.report.drawing import CHARACTER, Axes, Drawing, draw_axes, path_of, with_corners
from ttd_core.report.scales import columns_of, domain, thinned

Floats = npt.NDArray[np.float64]
#: More dots than this are one element; so are those of one colour in a map whose steps share columns.
_MANY = 150
#: Pixels of a column that can be pointed at, on wide drawings and on narrow ones.
_POINTED_AT = (4.0, 8.0)
#: Pixels of a column of the map, and shades of its cells where steps share columns.
_MAP_COLUMN, _MAP_SHADES = 4.0, 8
#: Pixels between two lines that a label fits in.
_LABEL_ROOM = 15.0
#: Pixels of a drawing for wide pages, at least.
_WIDE = 500.0


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
    marks: Collection[float] = (),
) -> str:
    """Series over steps.

    :param size: width and height, pixels.
    :param labels: of the horizontal and the vertical axis.
    :param summary: the chart in a sentence, for screen readers.
    :param references: dashed lines with their names.
    :param ends: of the vertical axis; room for all values and references by default.
    :param tips: by step, the text shown when its column is pointed at.
    :param marks: steps that are marked on the horizontal axis.
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
    shown = [reference for reference in references if axes.y.holds(reference.value)]
    for reference in shown:
        drawing.add(
            "path", d=f"M{axes.left:.1f},{axes.y(reference.value):.1f}H{axes.right:.1f}", class_="rule"
        )
    for step in sorted(set(marks)):
        drawing.add("path", d=f"M{axes.x(step):.1f},{axes.bottom:.1f}l4,7h-8z", class_="mark")
    # Few dots lie on top of a line that they would hide under; many would hide it.
    for line in sorted(
        lines, key=lambda each: (each.kind == "dots") * (1 if len(each.steps) <= _MANY else -1)
    ):
        _line(drawing, axes, line)
    _reference_labels(drawing, axes, shown, lines)
    _hover(drawing, axes, tips or {})
    return drawing.svg()


def _layer(line: Line) -> int:
    """Lines of a lower layer are drawn first."""
    if line.kind != "dots":
        return 1
    return 2 if len(line.steps) <= _MANY else 0


def values_shown(lines: Sequence[Line]) -> list[float]:
    """All values of some lines and their bands."""
    return [value for line in lines for value in [*line.values, *(line.low or ()), *(line.high or ())]]


def _band(drawing: Drawing, axes: Axes, line: Line) -> None:
    if line.low is None or line.high is None:
        return
    upper, lower = (
        thinned([(axes.x(s), axes.y(v)) for s, v in zip(line.steps, edge, strict=True) if math.isfinite(v)])
        for edge in (line.high, line.low)
    )
    if line.kind == "stairs":
        upper, lower = with_corners(upper), with_corners(lower)
    if len(upper) > 1:
        drawing.add("path", d=path_of([*upper, *reversed(lower)]) + "Z", class_=f"band c{line.colour}")


def _line(drawing: Drawing, axes: Axes, line: Line) -> None:
    points = [(s, v) for s, v in zip(line.steps, line.values, strict=True) if math.isfinite(v)]
    pixels = [(axes.x(step), axes.y(value)) for step, value in points]
    if line.kind == "dots":
        _dots(drawing, axes, points, line.colour)
        return
    if len(pixels) == 1:
        drawing.add("circle", cx=pixels[0][0], cy=pixels[0][1], r=3, class_=f"dot c{line.colour}")
    stairs = line.kind == "stairs"
    drawing.add("path", d=path_of(thinned(pixels), stairs=stairs), class_=f"line c{line.colour}")


def _dots(drawing: Drawing, axes: Axes, points: Sequence[tuple[float, float]], colour: int) -> None:
    """A dot for each point within the axis, an arrow that points to each beyond it."""
    inside = [(axes.x(step), axes.y(value)) for step, value in points if axes.y.holds(value)]
    if len(inside) <= _MANY:
        for x, y in inside:
            drawing.add("circle", cx=x, cy=y, r=2.6, class_=f"dot c{colour}")
    else:
        # Lines of no length with round ends: of dots on one pixel one is seen.
        pixels = dict.fromkeys((round(x), round(y)) for x, y in inside)
        path = "".join(f"M{x},{y}h0" for x, y in pixels)
        drawing.add("path", d=path, class_="dots-edge")
        drawing.add("path", d=path, class_=f"dots c{colour}")
    beyond = {(round(axes.x(step)), value > axes.y.high) for step, value in points if not axes.y.holds(value)}
    for x, above in sorted(beyond):
        y, arrow = (axes.top, "l3,5h-6z") if above else (axes.bottom, "l3,-5h-6z")
        drawing.add("path", d=f"M{x},{y:.1f}{arrow}", class_=f"beyond c{colour}")


def _reference_labels(
    drawing: Drawing, axes: Axes, shown: Sequence[ReferenceLine], lines: Sequence[Line]
) -> None:
    """Name the lines, on the side where a label hides less of the series.

    Those between which no label has room share one, and the first given names them.
    """
    near: list[list[int]] = []
    for place in sorted(range(len(shown)), key=lambda place: axes.y(shown[place].value)):
        if near and axes.y(shown[place].value) - axes.y(shown[near[-1][-1]].value) < _LABEL_ROOM:
            near[-1].append(place)
        else:
            near.append([place])
    for places in near:
        names = [shown[place].label for place in sorted(places)]
        top, bottom = axes.y(shown[places[0]].value), axes.y(shown[places[-1]].value)
        label_y = top - 4 if top - _LABEL_ROOM >= axes.top - 8 else bottom + 13
        longest = (axes.right - axes.left - 12) / CHARACTER
        label = ", ".join(names[:2]) if len(names) == 2 else names[0]
        if len(names) > 2 or (len(names) == 2 and len(label) > longest):
            label = f"{names[0]} and {len(names) - 1} more"
        width = len(label) * CHARACTER
        left, right = axes.left + 6, axes.right - 6
        hidden = [_hidden(axes, lines, (start, start + width), label_y) for start in (left, right - width)]
        if hidden[1] < hidden[0]:
            drawing.text(right, label_y, label, "end", "rule-label")
        else:
            drawing.text(left, label_y, label, class_="rule-label")


def _hidden(axes: Axes, lines: Sequence[Line], ends: tuple[float, float], baseline: float) -> int:
    """How much of some lines a label would cover: points two pixels apart.

    :param ends: of the label, pixels.
    """
    covered = 0
    for line in lines:
        values = zip(line.steps, line.values, strict=True)
        points = [(axes.x(step), axes.y(value)) for step, value in values if math.isfinite(value)]
        points = with_corners(points) if line.kind == "stairs" else points
        for (x, y), (to_x, to_y) in itertools.pairwise(points):
            share = np.linspace(0, 1, 2 + int(math.hypot(to_x - x, to_y - y) / 2))
            xs, ys = x + share * (to_x - x), y + share * (to_y - y)
            inside = (ends[0] <= xs) & (xs <= ends[1]) & (baseline - 11 <= ys) & (ys <= baseline + 3)
            covered += int(inside.sum())
    return covered


def _hover(drawing: Drawing, axes: Axes, tips: Mapping[int, str]) -> None:
    """An invisible column over each step: pointing anywhere in it shows the step's tip.

    Where steps are too close to be pointed at, several share a column, which tells of the last of them.
    """
    if not tips:
        return
    pixels, steps = axes.right - axes.left, sorted(tips)
    half = 0.5 * pixels / max(1.0, axes.x.high - axes.x.low)
    shared = columns_of(round(0.5 * pixels / half), pixels, _POINTED_AT[drawing.width < _WIDE])
    for place in range(0, len(steps), shared):
        column = steps[place : place + shared]
        x = max(axes.left, axes.x(column[0]) - half)
        width = min(axes.right, axes.x(column[-1]) + half) - x
        height = axes.bottom - axes.top
        tip = tips[column[-1]]
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
    # A gap narrower than a pixel would be seen as stripes.
    gap = min(2.0, 0.2 * width) if width > 4 else 0.0
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
    shared = columns_of(last - first + 1, axes.right - axes.left, _MAP_COLUMN)
    if shared > 1:
        _shared_columns(drawing, axes, rewards, ends, bins, shared)
        return drawing.svg()
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


def _shared_columns(
    drawing: Drawing,
    axes: Axes,
    rewards: Mapping[int, Floats],
    ends: tuple[float, float],
    bins: int,
    shared: int,
) -> None:
    """The cells of a map whose columns hold ``shared`` steps each: one element a shade, one tip a column."""
    steps = sorted(rewards)
    pixel = (axes.right - axes.left) / (steps[-1] - steps[0] + 1)
    height = (axes.bottom - axes.top) / bins
    cells: dict[int, list[str]] = {}
    tips = []
    for place in range(0, len(steps), shared):
        column = steps[place : place + shared]
        values = np.concatenate([rewards[step] for step in column])
        if not values.size:
            continue
        x, width = axes.x(column[0]) - pixel / 2, pixel * (column[-1] - column[0] + 1)
        counts, edges = np.histogram(np.clip(values, *ends), bins=bins, range=ends)
        for cell in np.flatnonzero(counts):
            shade = math.ceil(_MAP_SHADES * math.sqrt(counts[cell] / values.size))
            y = axes.y(float(edges[cell + 1]))
            box = f"M{x:.1f},{y:.1f}h{width - 0.5:.1f}v{height - 0.5:.1f}h-{width - 0.5:.1f}z"
            cells.setdefault(shade, []).append(box)
        span = f"steps {column[0]} to {column[-1]}" if len(column) > 1 else f"step {column[0]}"
        tip = f"{span}: {values.size} valid, {values.min():.6g} to {values.max():.6g}"
        tips.append((x, width, f"{tip}, median {np.median(values):.6g}"))
    for shade, boxes in sorted(cells.items()):
        opacity = f"{0.18 + 0.82 * shade / _MAP_SHADES:.2f}"
        drawing.add("path", d="".join(boxes), class_="cell", fill_opacity=opacity)
    for x, width, tip in tips:
        height = axes.bottom - axes.top
        drawing.add("rect", tip=tip, class_="hover", x=x, y=axes.top, width=width, height=height)


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
