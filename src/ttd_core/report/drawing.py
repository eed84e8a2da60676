"""SVG elements and axes. Colours come from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence

import attrs

from ttd_core.report.scales import Scale, tick_labels, ticks

#: Average width of a character of the charts' font, pixels.
CHARACTER = 6.4


class Drawing:
    """An SVG under construction.

    :param width: pixels, as :param height:.
    :param label: what a screen reader says for it: the picture in a sentence.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height, self._label = width, height, label
        self._parts: list[str] = []

    def add(self, tag: str, text: str = "", tip: str = "", **attributes: float | str) -> None:
        """An element; ``class_`` and ``text_anchor`` become ``class`` and ``text-anchor``.

        :param text: its content, escaped here.
        :param tip: shown when pointed at.
        """
        inner = (f"<title>{html.escape(tip, quote=False)}</title>" if tip else "") + html.escape(
            text, quote=False
        )
        written = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{_written(value)}"' for name, value in attributes.items()
        )
        self._parts.append(f"<{tag}{written}>{inner}</{tag}>" if inner else f"<{tag}{written}/>")

    def text(self, x: float, y: float, text: str, anchor: str = "start", class_: str = "") -> None:
        """Words at a place."""
        extra = {"class_": class_} if class_ else {}
        if anchor != "start":
            extra["text_anchor"] = anchor
        self.add("text", text, x=x, y=y, **extra)

    def svg(self, class_: str = "") -> str:
        """The whole element."""
        name = f"chart {class_}".strip()
        return (
            f'<svg class="{name}" viewBox="0 0 {_written(self.width)} {_written(self.height)}" '
            f'width="{_written(self.width)}" height="{_written(self.height)}" role="img" '
            f'aria-label="{html.escape(self._label)}">\n' + "\n".join(self._parts) + "\n</svg>"
        )


@attrs.frozen
class Frame:
    """The part of a drawing that holds the data, with its two scales."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale
    y: Scale


def frame(
    drawing: Drawing,
    x: tuple[float, float],
    y: tuple[float, float],
    labels: tuple[str, str],
    *,
    whole: bool = True,
    y_whole: bool = False,
    y_ticks: Sequence[tuple[float, str]] | None = None,
) -> Frame:
    """Draw axes with grid lines, and say where the data goes.

    :param x: ends of the horizontal axis, and :param y: of the vertical.
    :param labels: what they show.
    :param whole: mark whole numbers only on the horizontal axis, and :param y_whole: on the vertical.
    :param y_ticks: value and text of each mark, instead of round numbers.
    """
    top, bottom = 26.0, drawing.height - 34.0
    if y_ticks is None:
        values = ticks(*y, max(3, int((bottom - top) / 44)), y_whole)
        y_ticks = list(zip(values, tick_labels(values), strict=True))
    widest = max((len(text) for _, text in y_ticks), default=1)
    left, right = widest * CHARACTER + 10.0, drawing.width - 8.0
    made = Frame(left, top, right, bottom, Scale(*x, left, right), Scale(*y, bottom, top))
    for value, text in y_ticks:
        place = made.y(value)
        drawing.add("path", d=f"M{_written(left)},{_written(place)}H{_written(right)}", class_="grid")
        drawing.text(left - 6, place + 4, text, "end", "tick")
    columns = ticks(*x, max(2, int((right - left) / 64)), whole=whole)
    for value, text in zip(columns, tick_labels(columns), strict=True):
        drawing.text(made.x(value), bottom + 16, text, "middle", "tick")
    drawing.add("path", d=f"M{_written(left)},{_written(bottom)}H{_written(right)}", class_="axis")
    drawing.text(0, 12, labels[1], class_="label")
    drawing.text(right, drawing.height - 3, labels[0], "end", "label")
    return made


def path_of(points: Sequence[tuple[float, float]], *, stairs: bool = False) -> str:
    """The ``d`` of a line through points, in pixels; ``stairs`` keeps a value until the next one."""
    if not points:
        return ""
    parts = [f"M{_written(points[0][0])},{_written(points[0][1])}"]
    for x, y in points[1:]:
        parts.append(f"H{_written(x)}V{_written(y)}" if stairs else f"L{_written(x)},{_written(y)}")
    return "".join(parts)


def _written(value: float | str) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:.1f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
