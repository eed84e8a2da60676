"""Drawings as one ``<svg>`` element each, without a plotting library: the same bytes for the same answer."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

STYLE = 'font-family="sans-serif" font-size="12" fill="#333"'
_SIZE, _HEAD = 560, 24
_WIDTH, _HEIGHT, _MARGIN = 640, 220, 52
_COLORS = ("#1b6ca8", "#c1440e", "#2e8540", "#7a3e9d", "#b8860b", "#006d6f")


def document(width: int, height: int, body: Sequence[str]) -> str:
    """One ``<svg>`` element.

    :param width: in pixels.
    :param height: in pixels.
    :param body: elements inside it.
    """
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
    return f'{head} height="{height}">{"".join(body)}</svg>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """A line of text as a ``<text>`` element.

    :param x: in pixels, from the left.
    :param y: of the text's base line, in pixels, from the top.
    :param anchor: what ``x`` is of the text: ``start``, ``middle`` or ``end``.
    """
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {STYLE}>{html.escape(words)}</text>'


def polygon_over_points(
    vertices: npt.NDArray[np.int64],
    good: npt.NDArray[np.int64],
    bad: npt.NDArray[np.int64],
    side: int,
    title: str,
) -> str:
    """A polygon over two kinds of points.

    :param vertices: int64 [m, 2], of the polygon.
    :param good: int64 [n, 2], points to catch.
    :param bad: int64 [n, 2], points to avoid.
    :param side: coordinates reach from 0 to this.
    """

    def pixels(points: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        scaled = points * (_SIZE / side)
        return np.stack([scaled[:, 0], _HEAD + _SIZE - scaled[:, 1]], axis=1)

    outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels(vertices).tolist())
    body = [
        f'<rect x="0" y="{_HEAD}" width="{_SIZE}" height="{_SIZE}" fill="#fff" stroke="#ccc"/>',
        f'<polygon points="{outline}" fill="#1b6ca8" fill-opacity="0.15" stroke="#1b6ca8"/>',
    ]
    for points, color in ((bad, _COLORS[1]), (good, _COLORS[0])):
        # Every point as a dot of one path: a line of no length with round ends.
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in pixels(points).tolist())
        body.append(f'<path d="{dots}" stroke="{color}" stroke-width="1.6" stroke-linecap="round"/>')
    return document(_SIZE, _HEAD + _SIZE, [text(4, 16, title), *body])


@attrs.frozen
class Curve:
    """A named line.

    :param values: one for each turn.
    """

    name: str
    values: Sequence[float]


def log_panels(title: str, panels: Sequence[tuple[str, Sequence[Curve]]]) -> str:
    """Panels below each other, each with its curves on a logarithmic axis (powers of two); one ``<svg>``.

    :param panels: name and curves of each.
    """
    body = [text(4, 16, title)]
    for number, (name, curves) in enumerate(panels):
        body += _panel(name, curves, _HEAD + number * (_HEIGHT + 16))
    return document(_WIDTH, _HEAD + len(panels) * (_HEIGHT + 16), body)


def _panel(name: str, curves: Sequence[Curve], top: int) -> list[str]:
    logs = [[math.log2(max(value, 1)) for value in curve.values] for curve in curves]
    highest = max((max(values, default=0.0) for values in logs), default=0.0) or 1.0
    longest = max((len(values) for values in logs), default=2)
    wide, tall = _WIDTH - 2 * _MARGIN, _HEIGHT - 40
    bottom = top + 24 + tall
    parts = [
        text(_MARGIN, top + 14, name),
        f'<path d="M{_MARGIN} {top + 24}v{tall}h{wide}" fill="none" stroke="#999"/>',
        text(_MARGIN - 6, top + 30, f"2^{highest:.0f}", "end"),
        text(_MARGIN - 6, bottom, "1", "end"),
    ]
    for index, (curve, values) in enumerate(zip(curves, logs, strict=True)):
        step = wide / max(longest - 1, 1)
        points = " ".join(
            f"{_MARGIN + turn * step:.1f},{bottom - value / highest * tall:.1f}"
            for turn, value in enumerate(values)
        )
        color = _COLORS[index % len(_COLORS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        label = f'<text x="{_WIDTH - _MARGIN + 4}" y="{top + 30 + 14 * index}" font-family="sans-serif"'
        parts.append(f'{label} font-size="11" fill="{color}">{html.escape(curve.name)}</text>')
    return parts
