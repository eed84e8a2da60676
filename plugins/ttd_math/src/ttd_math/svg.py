"""Small SVG drawings: curves over an axis, circles in a square.

Written here rather than with a plotting library, because a picture of a state is two polylines or some
circles: this needs no dependency, starts at once, gives the same bytes for the same state, and a few
kilobytes that a report can hold inline.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import attrs
import numpy as np

from ttd_math.plain import Floats

WIDTH, HEIGHT, MARGIN = 640, 200, 44
#: A curve is drawn with at most this many columns; each shows the lowest and highest value in it.
COLUMNS = 560
_STYLE = 'font-family="sans-serif" font-size="11" fill="#333"'


@attrs.frozen
class Panel:
    """One curve over its axis.

    :param title: written above.
    :param values: float64 [n], finite, at equal distances.
    :param left: the first position on the axis.
    :param right: the last position on the axis.
    :param steps: draw each value as a step rather than joining points.
    """

    title: str
    values: Floats
    left: float
    right: float
    steps: bool = False


def curves(panels: Sequence[Panel]) -> str:
    """One picture with the panels below each other."""
    parts = [_panel(panel, index * (HEIGHT + 10)) for index, panel in enumerate(panels)]
    return _document(
        WIDTH, len(panels) * (HEIGHT + 10), "\n".join(parts), " and ".join(p.title for p in panels)
    )


def circles(centers: Floats, radii: Floats, title: str) -> str:
    """Circles in the unit square, y upwards.

    :param centers: float64 [n, 2].
    :param radii: float64 [n].
    """
    side, margin = 440.0, 20.0
    parts = [
        f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" fill="none" stroke="#333"/>',
        f'<text x="{margin}" y="14" {_STYLE}>{html.escape(title)}</text>',
    ]
    for index, ((x, y), radius) in enumerate(zip(centers, radii, strict=True)):
        cx, cy = margin + x * side, margin + (1 - y) * side
        parts.append(
            f'<circle cx="{cx:.3f}" cy="{cy:.3f}" r="{radius * side:.3f}" fill="#cfe3f5" stroke="#1f5f99"/>'
            f'<text x="{cx:.1f}" y="{cy + 4:.1f}" text-anchor="middle" {_STYLE}>{index}</text>'
        )
    size = int(side + 2 * margin)
    return _document(size, size, "\n".join(parts), title)


def _panel(panel: Panel, top: float) -> str:
    values = panel.values
    low, high = min(0.0, float(values.min())), float(values.max())
    if -low < 1e-9 * high:  # rounding of a curve that is nowhere below 0
        low = 0.0
    span = high - low or 1.0
    inner_width, inner_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN + 20
    base = top + MARGIN - 10 + inner_height
    xs, ys = _outline(values, panel.steps)
    points = " ".join(
        f"{MARGIN + x * inner_width:.2f},{base - (y - low) / span * inner_height:.2f}"
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
    )
    right, peak = WIDTH - MARGIN, base - inner_height
    return "\n".join(
        [
            f'<text x="{MARGIN}" y="{top + 22:g}" {_STYLE}>{html.escape(panel.title)}</text>',
            f'<path d="M{MARGIN},{peak:g}V{base:g}H{right}" fill="none" stroke="#999"/>',
            f'<polyline points="{points}" fill="none" stroke="#1f5f99"/>',
            f'<text x="{MARGIN}" y="{base + 14:g}" text-anchor="middle" {_STYLE}>{panel.left:g}</text>',
            f'<text x="{right}" y="{base + 14:g}" text-anchor="middle" {_STYLE}>{panel.right:g}</text>',
            f'<text x="{MARGIN - 4}" y="{base:g}" text-anchor="end" {_STYLE}>{low:.4g}</text>',
            f'<text x="{MARGIN - 4}" y="{peak + 8:g}" text-anchor="end" {_STYLE}>{high:.4g}</text>',
        ]
    )


def _outline(values: Floats, steps: bool) -> tuple[Floats, Floats]:
    """Points of a curve in [0, 1] x values; long curves keep each column's lowest and highest value."""
    n = values.size
    if n > 2 * COLUMNS:
        edges = np.linspace(0, n, COLUMNS + 1).astype(int)[:-1]
        both = np.stack([np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)], axis=1)
        return np.repeat((np.arange(COLUMNS) + 0.5) / COLUMNS, 2), both.ravel()
    if steps:
        return np.repeat(np.arange(n + 1) / n, 2)[1:-1], np.repeat(values, 2)
    return np.arange(n) / max(1, n - 1), values


def _document(width: int, height: float, body: str, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" '
        f'height="{height:g}" role="img">\n<title>{html.escape(title)}</title>\n{body}\n</svg>\n'
    )
