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
from ttd_core.report.scales import thinned

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


def test_the_labels_of_close_lines_do_not_collide() -> None:
    for spread in (1.0, 8.0, 20.0, 60.0, 100.0):
        values = [100.0 - spread * share for share in (0, 0.1, 0.25, 0.6, 1.0)]
        rules = [ReferenceLine(f"a long name of somebody {value:g}", value) for value in values]
        for width, height in ((820, 320), (344, 260)):
            svg = line_chart(
                (width, height), [Line("a", [0, 1], [0.0, 100.0])], ("step", ""), "s", references=rules
            )
            root = parsed(svg)
            baselines = [float(each.get("y", "")) for each in of_class(root, "rule-label")]
            drawn = [coordinates(each.get("d", ""))[0][1] for each in of_class(root, "rule")]
            assert len(drawn) == 5
            for place, baseline in enumerate(baselines):
                assert all(abs(baseline - other) >= 13 for other in baselines[place + 1 :])
                # No line goes through the letters.
                assert not any(baseline - 9 < y < baseline + 2 for y in drawn)
            told = sum(
                1
                + int((re.findall(r"and (\d+) more", each.text or "") or [(each.text or "").count(", ")])[0])
                for each in of_class(root, "rule-label")
            )
            assert told == 5


def test_few_dots_lie_on_the_line_and_many_under_it() -> None:
    def order(count: int) -> list[str]:
        steps, values = list(range(count)), [float(step % 7) for step in range(count)]
        lines = [Line("dots", steps, values, 2, "dots"), Line("line", steps, values, 1, "stairs")]
        root = parsed(line_chart((820, 320), lines, ("step", ""), "s"))
        classes = [each.get("class", "").split()[0] for each in root]
        return [name for name, _ in itertools.groupby(classes) if name in ("dot", "dots", "line")]

    assert order(50) == ["line", "dot"]
    assert order(400) == ["dots", "line"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.integers(1, 40))
def test_thinned_points_keep_the_extremes_of_every_column(heights: list[float], columns: int) -> None:
    points = [(index * columns / len(heights), y) for index, y in enumerate(heights)]
    kept = thinned(points)
    assert set(kept) <= set(points)
    assert kept == sorted(kept, key=lambda point: point[0])
    for column in range(columns):
        before = [y for x, y in points if math.floor(x) == column]
        after = [y for x, y in kept if math.floor(x) == column]
        assert len(after) <= 4
        if before:
            assert (min(after), max(after)) == (min(before), max(before))
            assert (after[0], after[-1]) == (before[0], before[-1])


def test_a_map_of_many_steps_counts_every_reward() -> None:
    rewards = {step: np.linspace(0, 1, step % 5) for step in range(1, 401)}
    root = parsed(reward_heatmap((820, 260), rewards, (0.0, 1.0), "s"))
    told = [
        re.match(r"steps? (\d+)(?: to (\d+))?: (\d+) valid", each.text or "")
        for each in root.iter(f"{SVG}title")
    ]
    assert sum(int(match[3]) for match in told if match) == sum(step % 5 for step in range(1, 401))
    assert len(told) <= 820 / 4
    steps = [int(number) for match in told if match for number in (match[1], match[2]) if number]
    # The last step has no reward, and no column.
    assert (min(steps), max(steps)) == (1, 399)


def test_steps_too_narrow_to_be_pointed_at_share_a_tip() -> None:
    line = Line("a", list(range(400)), [0.0] * 400)
    tips = {step: f"step {step}" for step in range(400)}
    for width, least in ((820, 4), (344, 8)):
        root = parsed(line_chart((width, 200), [line], ("step", ""), "s", tips=tips))
        columns = of_class(root, "hover")
        assert min(float(each.get("width", "")) for each in columns[1:-1]) >= least - 0.2
        assert columns[-1][0].text == "step 399"


@pytest.mark.parametrize(("values", "anchor"), [([1.0, 1.0, 0.0], "end"), ([0.0, 0.5, 1.0], None)])
def test_a_label_stands_where_it_hides_less(values: list[float], anchor: str | None) -> None:
    line = Line("a", [0, 1, 2], values, 1, "line")
    rule = ReferenceLine("a name of some length", 0.97)
    root = parsed(line_chart((344, 260), [line], ("step", ""), "s", references=[rule]))
    [label] = of_class(root, "rule-label")
    assert label.get("text-anchor") == anchor
