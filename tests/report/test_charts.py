"""Charts as data: well-formed SVG, everything inside, the right lengths, and words escaped."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.report.charts import Line, ReferenceLine, line_chart, reward_heatmap, ridge_plot, stacked_bars

SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(svg: str) -> ET.Element:
    """The drawing as the browser sees it inline: the namespace is implied."""
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def coordinates(path: str) -> list[tuple[float, float]]:
    """Absolute points of a path of M, L, H and V."""
    points, x, y = [], 0.0, 0.0
    for command, first, second in re.findall(r"([MLHV])(-?[\d.]+)(?:,(-?[\d.]+))?", path):
        if command in "ML":
            x, y = float(first), float(second)
        elif command == "H":
            x = float(first)
        else:
            y = float(first)
        points.append((x, y))
    return points


@settings(max_examples=40, deadline=None)
@given(st.lists(numbers | st.just(math.nan), min_size=1, max_size=30), st.lists(numbers, max_size=4))
def test_a_line_chart_holds_all_it_is_given(values: list[float], rules: list[float]) -> None:
    steps = range(1, len(values) + 1)
    lines = [
        Line("a", steps, values),
        Line("b", steps, values, 2, "stairs"),
        Line("c", steps, values, 3, "dots"),
    ]
    svg = line_chart(
        (400, 200), lines, ("step", "y"), "a chart", references=[ReferenceLine("r", v) for v in rules]
    )
    root = parsed(svg)
    for path in of_class(root, "line"):
        for x, y in coordinates(path.get("d", "")):
            assert 0 <= x <= 400
            assert 0 <= y <= 200
    finite = sum(math.isfinite(value) for value in values)
    dots = [dot for dot in of_class(root, "dot") if "c3" in dot.get("class", "")]
    assert len(dots) == finite
    assert len(of_class(root, "rule")) == len(rules)


def test_lines_that_coincide_share_a_label() -> None:
    def labels(*values: float) -> list[str]:
        rules = [ReferenceLine(f"r{place}", value) for place, value in enumerate(values)]
        line = Line("a", [0, 1], [0.0, 100.0])
        root = parsed(line_chart((400, 200), [line], ("step", ""), "s", references=rules))
        return [each.text or "" for each in of_class(root, "rule-label")]

    assert labels(50, 20) == ["r0", "r1"]
    assert labels(50, 50.1, 20) == ["r0, r1", "r2"]
    assert labels(50, 50.1, 50.2) == ["r0 and 2 more"]


def test_heights_are_proportional() -> None:
    root = parsed(
        line_chart((400, 200), [Line("a", [0, 1, 2], [0.0, 1.0, 4.0])], ("step", ""), "s", ends=(0, 4))
    )
    ys = [y for _, y in coordinates(of_class(root, "line")[0].get("d", ""))]
    assert (ys[0] - ys[1]) / (ys[0] - ys[2]) == pytest.approx(0.25, abs=0.01)


def test_stairs_hold_a_value_until_the_next() -> None:
    root = parsed(line_chart((400, 200), [Line("a", [0, 1], [0.0, 4.0], 1, "stairs")], ("step", ""), "s"))
    start, corner, end = coordinates(of_class(root, "line")[0].get("d", ""))
    assert corner == (end[0], start[1])


def test_the_band_of_stairs_has_their_corners() -> None:
    line = Line("a", [0, 1, 2], [1.0, 2.0, 3.0], 1, "stairs", [0.0, 1.0, 2.0], [2.0, 3.0, 4.0])
    root = parsed(line_chart((400, 200), [line], ("step", ""), "s"))
    points = coordinates(of_class(root, "band")[0].get("d", ""))
    assert len(points) == 10
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        assert x == next_x or y == next_y


def test_what_lies_beyond_the_axis_is_an_arrow() -> None:
    line = Line("a", [1, 2, 3], [5.0, 0.5, -5.0], 2, "dots")
    root = parsed(line_chart((400, 200), [line], ("step", ""), "s", ends=(0, 1)))
    up, down = of_class(root, "beyond")
    assert "h-6z" in up.get("d", "")
    assert up.get("d", "").split("l")[1] != down.get("d", "").split("l")[1]
    assert len(of_class(root, "dot")) == 1


def test_words_are_escaped_and_the_drawing_has_a_name() -> None:
    svg = line_chart(
        (400, 200),
        [Line("a", [1, 2], [1.0, 2.0])],
        ("step", "<metric> & co"),
        'a "summary" <b>',
        references=[ReferenceLine("<i>who</i>", 1.5)],
        tips={1: "<script>"},
    )
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'a "summary" <b>'
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "<metric> & co" in texts
    assert "<i>who</i>" in texts
    assert [each.text for each in root.iter(f"{SVG}title")] == ["<script>"]


def test_stacked_bars_add_up() -> None:
    parts = {"ok": [2.0, 3.0, 0.0], "bad": [1.0, 0.0, 0.0]}
    svg = stacked_bars(
        (400, 200), [1, 2, 3], parts, ("step", "n"), "s", classes={"ok": "ok", "bad": "f1"}, whole=True
    )
    heights: dict[str, list[float]] = {}
    for bar in of_class(parsed(svg), "bar"):
        found = re.findall(r"M[\d.]+,([\d.]+)h[\d.]+V([\d.]+)", bar.get("d", ""))
        heights[bar.get("class", "")] = [float(low) - float(high) for low, high in found]
    assert len(heights["bar ok"]) == 2
    assert len(heights["bar f1"]) == 1
    unit = heights["bar f1"][0]
    assert heights["bar ok"] == pytest.approx([2 * unit, 3 * unit], abs=0.3)


def test_the_map_counts_every_reward_once() -> None:
    rewards = {1: np.array([0.1, 0.1, 0.9, -5.0]), 2: np.zeros(0), 3: np.array([0.5])}
    root = parsed(reward_heatmap((400, 200), rewards, (0.0, 1.0), "s"))
    told = [re.match(r"step (\d+): (\d+) of (\d+)", each.text or "") for each in root.iter(f"{SVG}title")]
    counts: dict[str, int] = {}
    for match in told:
        assert match is not None
        counts[match[1]] = counts.get(match[1], 0) + int(match[2])
    assert counts == {"1": 4, "3": 1}


def test_ridges_show_each_row_with_its_median() -> None:
    rows = [("early", np.array([0.1, 0.2, 0.3])), ("none", np.zeros(0)), ("late", np.array([0.8, 0.9]))]
    root = parsed(ridge_plot((400, 300), rows, (0.0, 1.0), "s"))
    assert len(of_class(root, "ridge")) == 2
    assert [each.text for each in root.iter(f"{SVG}title")] == ["median 0.2", "median 0.85"]
    assert {"early", "none", "late"} <= {each.text for each in root.iter(f"{SVG}text")}


def test_charts_of_nothing_are_drawn_too() -> None:
    for svg in (
        line_chart((400, 200), [], ("step", ""), "s"),
        stacked_bars((400, 200), [], {}, ("step", ""), "s", classes={}),
        reward_heatmap((400, 200), {}, (0.0, 1.0), "s"),
        ridge_plot((400, 200), [], (0.0, 1.0), "s"),
    ):
        parsed(svg)
