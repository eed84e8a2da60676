"""Figures as SVG files of their own, each with its title, its legend and the style of charts."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from ttd_core.package_files import package_text
from ttd_core.report.comparison import comparison_figures
from ttd_core.report.drawing import CHARACTER
from ttd_core.report.facts import RunFacts
from ttd_core.report.figures import WIDE, Figure
from ttd_core.report.pooling import by_problem, pool_seeds
from ttd_core.text import showable

#: Pixels around the drawing, of a line of text, and of a mark of the legend.
_MARGIN, _LINE, _MARK = 16.0, 20.0, 10.0
#: What a file needs beside the style of charts: there is no page around it.
_STYLE = """
text { font: 12px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
text { fill: var(--soft); }
.title { font-size: 14px; font-weight: 600; fill: var(--ink); }
.page { fill: var(--page); }
.swatch { fill: currentColor; }
"""


def figure_files(runs: Sequence[RunFacts], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """The figures of a comparison as SVG files.

    :param names: what an arm is called, by the name of a run in it.
    :return: by file name the text; where there are several problems, the names begin with theirs, in the
        letters that every file system takes.
    """
    arms = by_problem(pool_seeds(runs, names))
    files = {}
    for problem, of_problem in arms.items():
        for figure in comparison_figures(of_problem):
            title = f"{problem}-{figure.title}" if len(arms) > 1 else figure.title
            name = slug = re.sub("[^a-z0-9_]+", "-", title.lower()).strip("-")
            number = 1
            while f"{name}.svg" in files:
                number += 1
                name = f"{slug}-{number}"
            files[f"{name}.svg"] = as_file(figure)
    return files


def as_file(figure: Figure) -> str:
    """One figure as the text of an SVG file; light or dark as the reader prefers."""
    legend, below = _legend(figure.legend, _MARGIN + 2 * _LINE)
    drawing = str(figure.wide)
    size = re.search(r'width="([0-9.]+)" height="([0-9.]+)"', drawing)
    assert size is not None
    width, height = WIDE + 2 * _MARGIN, below + float(size[2]) + _MARGIN
    style = package_text("ttd_core.report", "templates", "charts.css") + _STYLE
    return showable(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{html.escape(figure.title)}">\n<style>{style}</style>\n'
        f'<rect class="page" width="100%" height="100%" rx="4"/>\n'
        f'<text class="title" x="{_MARGIN:g}" y="{_MARGIN + 12:g}">{html.escape(figure.title)}</text>\n'
        f'{legend}\n<g transform="translate({_MARGIN:g} {below:g})">\n{drawing}\n</g>\n</svg>\n'
    )


def _legend(entries: Sequence[tuple[str, str]], top: float) -> tuple[str, float]:
    """The legend in as many lines as it takes.

    :param entries: style class and name of each colour.
    :param top: pixels of the first line.
    :return: its elements, and where what follows begins.
    """
    parts, x, y = [], _MARGIN, top
    for style, label in entries:
        width = _MARK + 6 + CHARACTER * len(label) + 18
        if x > _MARGIN and x + width > WIDE + _MARGIN:
            x, y = _MARGIN, y + _LINE
        middle = y - 4
        if style == "rule-key":
            parts.append(f'<path class="rule" d="M{x:g},{middle:g}h{_MARK:g}"/>')
        else:
            parts.append(
                f'<rect class="swatch {style}" x="{x:g}" y="{middle - _MARK / 2:g}" width="{_MARK:g}" '
                f'height="{_MARK:g}" rx="2"/>'
            )
        parts.append(f'<text x="{x + _MARK + 6:g}" y="{y:g}">{html.escape(label)}</text>')
        x += width
    return "\n".join(parts), y + _LINE / 2
