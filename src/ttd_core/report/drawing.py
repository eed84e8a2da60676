"""SVG elements and axes. Colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence

import attrs

from ttd_core.report.scales import Scale, tick_labels, ticks

#: Average width of a character of the charts' font, pixels.
CHARACTER = 6.4


class Drawing:
    """An SVG under construction.

    :param width: pixels.
    :param height: pixels.
    :param label: the picture in a sentence, for screen readers.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height, self._label = width, height, label
        self._parts: list[str] = []

    def add(self, tag: str, text: str = "", tip: str = "", **attributes: float | str) -> None:
        """Append an element.

        :param text: its content, escaped here.
        :param tip: shown when the element is pointed at.
        :param attributes: numbers and texts by name, where ``class_`` and ``text_anchor`` stand for ``class``
            and ``text-anchor``.
        """
        inner = (f"<title>{html.escape(tip, quote=False)}</title>" if tip else "") + html.escape(
            text, quote=False
        )
        written = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{_number(value)}"' for name, value in attributes.items()
        )
        self._parts.append(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")

    def text(self, x: float, y: float, text: str, anchor: str = "start", class_: str = "") -> None:
        """Append a text.

        :param x: pixels of its anchor, as is :param y: of its baseline.
        :param anchor: ``start``, ``middle`` or ``end``: which part of the text is at ``x``.
        """
        extra = {"class_": class_} if class_ else {}
        if anchor != "start":
            extra["text_anchor"] = anchor
        self.add("text", text, x=x, y=y, **extra)

    def svg(self, class_: str = "") -> str:
        """The whole ``<svg>`` element."""
        name = f"chart {class_}".strip()
        return (
            f'<svg class="{name}" viewBox="0 0 {_number(self.width)} {_number(self.height)}" '
            f'width="{_number(self.width)}" height="{_number(self.height)}" role="img" '
            f'aria-label="{html.escape(self._label)}">\n' + "\n".join(self._parts) + "\n</svg>"
        )


@attrs.frozen
class Axes:
    """The part of a drawing that holds the data: its edges in pixels, and the scale of either axis."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale


def draw_axes(
    drawing: Drawing,
    x: tuple[float, float],
    y: tuple[float, float],
    labels: tuple[str, str],
    *,
    whole: bool = True,
    y_whole: bool = False,
    y_ticks: Sequence[tuple[float, str]] | None = None,
) -> Axes:
    """Draw axes with grid lines.

    :param x: values at the ends of the horizontal axis.
    :param y: values at the ends of the vertical axis.
    :param labels: of the horizontal and the vertical axis.
    :param whole: whether the horizontal axis marks whole numbers only.
    :param y_whole: whether the vertical axis does.
    :param y_ticks: value and text of each mark on the vertical axis, instead of round numbers.
    :return: where the data goes.
    """
    top, bottom = 26.0, drawing.height - 34.0
    if y_ticks is None:
        values = ticks(*y, max(3, int((bottom - top) / 44)), y_whole)
        y_ticks = list(zip(values, tick_labels(values), strict=True))
    widest = max((len(text) for _, text in y_ticks), default=1)
    left, right = widest * CHARACTER + 10.0, drawing.width - 8.0
    axes = Axes(left, top, right, bottom, Scale(*x, left, right), Scale(*y, bottom, top))
    for value, text in y_ticks:
        tick_y = axes.y(value)
        drawing.add("path", d=f"M{_number(left)},{_number(tick_y)}H{_number(right)}", class_="grid")
        drawing.text(left - 6, tick_y + 4, text, "end", "tick")
    columns = ticks(*x, max(2, int((right - left) / 64)), whole=whole)
    for value, text in zip(columns, tick_labels(columns), strict=True):
        drawing.text(axes.x(value), bottom + 16, text, "middle", "tick")
    drawing.add("path", d=f"M{_number(left)},{_number(bottom)}H{_number(right)}", class_="axis")
    drawing.text(0, 12, labels[1], class_="label")
    drawing.text(right, drawing.height - 3, labels[0], "end", "label")
    return axes


def path_of(points: Sequence[tuple[float, float]], *, stairs: bool = False) -> str:
    """The ``d`` of a line through points, in pixels; ``stairs`` keeps a value until the next one."""
    if not points:
        return ""
    parts = [f"M{_number(points[0][0])},{_number(points[0][1])}"]
    for x, y in points[1:]:
        parts.append(f"H{_number(x)}V{_number(y)}" if stairs else f"L{_number(x)},{_number(y)}")
    return "".join(parts)


def with_corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of stairs through some, their corners among them: each holds until the next."""
    corners = list(points[:1])
    for (_, before), (x, y) in itertools.pairwise(points):
        corners += [(x, before), (x, y)]
    return corners


def _number(value: float | str) -> str:
    """An attribute's value as text: numbers to a tenth of a pixel, texts escaped."""
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
