"""The polygon rules and the points inside, against direct forms that compare everything with everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_ahc.ahc039 import SIDE, Fishing, check_polygon, read_polygon
from ttd_ahc.rectilinear import Grid, InvalidPolygon, check_edges

RECTANGLE = "4\n0 0\n5 0\n5 5\n0 5\n"


def _touch(first, second) -> bool:
    """Whether two closed axis-parallel segments share a point."""
    return all(
        max(min(a, b), min(c, d)) <= min(max(a, b), max(c, d))
        for a, b, c, d in zip(*first, *second, strict=True)
    )


def direct_violation(corners: list[tuple[int, int]]) -> bool:
    """Whether a polygon breaks a rule, edge by edge and pair by pair."""
    edges = [(corners[i], corners[(i + 1) % len(corners)]) for i in range(len(corners))]
    if len(set(corners)) < len(corners) or not 4 <= len(corners) <= 1000:
        return True
    if any((a[0] != b[0]) == (a[1] != b[1]) for a, b in edges):
        return True
    if sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in edges) > 400_000:
        return True
    for i, j in itertools.combinations(range(len(edges)), 2):
        if j - i in (1, len(edges) - 1):
            first, second = (i, j) if j - i == 1 else (j, i)
            (a, b), (_, c) = edges[first], edges[second]
            if (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < 0:
                return True
        elif _touch(edges[i], edges[j]):
            return True
    return False


def direct_inside(corners: list[tuple[int, int]], point: tuple[int, int]) -> bool:
    """Whether a point is on an edge, or a ray from it crosses an odd number of edges."""
    odd = False
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if _touch(((ax, ay), (bx, by)), (point, point)):
            return True
        if ax == bx > point[0] and min(ay, by) <= point[1] < max(ay, by):
            odd = not odd
    return odd


def outline(cells: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The vertices of the edge of a simply connected set of unit cells without cells touching at a corner."""
    following = {}
    for x, y in cells:
        for a, b, beside in (
            ((x, y), (x + 1, y), (x, y - 1)),
            ((x + 1, y), (x + 1, y + 1), (x + 1, y)),
            ((x + 1, y + 1), (x, y + 1), (x, y + 1)),
            ((x, y + 1), (x, y), (x - 1, y)),
        ):
            if beside not in cells:
                following[a] = b
    start = min(following)
    corners, at = [], start
    while True:
        corners.append(at)
        at = following.pop(at)
        if at == start:
            return corners


def _simple(cells: set[tuple[int, int]], new: tuple[int, int]) -> bool:
    """Whether adding a cell keeps the set without holes and without touching corners."""
    x, y = new
    ring = [(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)]
    inside = [(x + a, y + b) in cells for a, b in ring]
    changes = sum(inside[i] != inside[i - 1] for i in range(8))
    sides = sum(inside[i] for i in (0, 2, 4, 6))
    # Exactly one run of neighbours, and it holds a side: corners alone would touch.
    return (
        changes == 2
        and sides >= 1
        and not any(inside[i] and not inside[i - 1] and not inside[(i + 1) % 8] for i in (1, 3, 5, 7))
    )


@st.composite
def polygons(draw) -> list[tuple[int, int]]:
    """Valid polygons grown cell by cell; lines at random distances; some collinear vertices kept."""
    cells = {(0, 0)}
    for pick in draw(st.lists(st.integers(0, 10**6), max_size=25)):
        rim = sorted(
            {(x + a, y + b) for x, y in cells for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))} - cells
        )
        new = rim[pick % len(rim)]
        if _simple(cells, new):
            cells.add(new)
    corners = outline(cells)
    keep = draw(st.randoms(use_true_random=False))
    kept = [
        here
        for before, here, after in zip(
            corners[-1:] + corners, corners, corners[1:] + corners[:1], strict=False
        )
        if not (before[0] == here[0] == after[0] or before[1] == here[1] == after[1]) or keep.random() < 0.3
    ]
    steps = draw(st.lists(st.integers(1, 1500), min_size=60, max_size=60))
    places = list(itertools.accumulate(steps))
    shifted = [(places[x + 30], places[y + 30]) for x, y in kept]
    return shifted if draw(st.booleans()) else shifted[::-1]


@given(corners=polygons(), data=st.data())
def test_points_inside_are_those_the_direct_form_finds(corners, data) -> None:
    array = np.array(corners)
    lines = st.sampled_from([x for x, _ in corners] + [y for _, y in corners])
    coordinate = st.one_of(
        lines, lines.map(lambda v: v + 1), lines.map(lambda v: v - 1), st.integers(0, 90_000)
    )
    points = data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=60))
    inside = check_polygon(array).contains(np.array(points))
    assert inside.tolist() == [direct_inside(corners, point) for point in points]


@given(corners=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12))
def test_any_list_of_points_is_judged_as_the_direct_form_judges_it(corners) -> None:
    assert _refused(corners) == direct_violation(corners)


@given(
    start=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=9),
)
@settings(max_examples=400)
def test_random_rectilinear_walks_are_judged_as_the_direct_form_judges_them(start, moves) -> None:
    corners = [start]
    for upright, to in moves:
        x, y = corners[-1]
        corners.append((x, to) if upright else (to, y))
    corners.append((corners[-1][0], start[1]))
    assert _refused(corners) == direct_violation(corners)


@given(corners=polygons(), data=st.data())
def test_one_moved_vertex_is_judged_as_the_direct_form_judges_it(corners, data) -> None:
    index = data.draw(st.integers(0, len(corners) - 1))
    corners[index] = data.draw(st.sampled_from(corners))
    assert _refused(corners) == direct_violation(corners)


def _refused(corners) -> bool:
    try:
        check_polygon(np.array(corners))
    except InvalidPolygon:
        return True
    return False


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "nothing was printed"),
        ("4\n0 0\n5 0\n5 5\n", "6 coordinates follow a count of 4 vertices; 8 should"),
        (RECTANGLE + "4", "0 coordinates follow a count of 4 vertices; 8 should"),
        (RECTANGLE + "9 9", "1 coordinates follow a count of 9"),
        (RECTANGLE + "2", "2 vertices; 4 to 1000 are allowed"),
        ("3\n0 0\n5 0\n5 5\n", "3 vertices; 4 to 1000 are allowed"),
        ("1001\n" + "0 0\n" * 1001, "1001 vertices; 4 to 1000 are allowed"),
        ("-4\n", "-4 vertices"),
        ("4\n0 0\n5.0 0\n5 5\n0 5\n", "'5.0' is not an integer"),
        ("4\n0 0\nfive 0\n5 5\n0 5\n", "'five' is not an integer"),
        ("4\n0 0\n5_0 0\n5 5\n0 5\n", "'5_0' is not an integer"),
        ("4\n0 0\n٥ 0\n5 5\n0 5\n", "is not an integer"),
        ("4\n0 0\n5-0 0\n5 5\n0 5\n", "not an integer"),
        ("4\n0 0\n100001 0\n100001 5\n0 5\n", r"a coordinate is 100001; 0 to 100000"),
        ("4\n-1 0\n5 0\n5 5\n-1 5\n", "a coordinate is -1"),
        ("4\n0 0\n" + "9" * 5000 + " 0\n5 5\n0 5\n", "it has 5000 digits"),
        ("4\n0 0\n" + "9" * 500 + " 0\n5 5\n0 5\n", "it has 500 digits"),
        ("4\n0 0\n" + "9" * 18 + " 0\n5 5\n0 5\n", "a coordinate is 9+; 0 to"),
        ("4\n0 0\n5 1\n5 5\n0 5\n", r"edge 0 from \(0, 0\) is not parallel to an axis"),
        ("4\n0 0\n0 0\n5 0\n0 5\n", r"edge 0 at \(0, 0\) has no length"),
        ("6\n0 0\n9 0\n4 0\n4 4\n2 4\n0 4\n", r"edge 1 from \(9, 0\) folds back"),
        ("8\n0 0\n9 0\n9 9\n2 9\n2 5\n10 5\n10 7\n0 7\n", r"touch at \((2|9), (5|7)\)"),
        ("8\n0 0\n4 0\n4 4\n2 4\n2 0\n1 0\n1 4\n0 4\n", r"touch at \((1|2), 0\)"),
        ("8\n0 0\n2 0\n2 2\n4 2\n4 4\n2 4\n2 2\n0 2\n", "two vertices are at the same place"),
        (
            "8\n0 0\n100000 0\n100000 100000\n60000 100000\n60000 50000\n50000 50000\n50000 100000\n"
            "0 100000\n",
            "the edges are 500000 long in all; 400000 are allowed",
        ),
    ],
)
def test_every_broken_rule_has_its_own_message(output, message) -> None:
    with pytest.raises(InvalidPolygon, match=message):
        check_polygon(read_polygon(output.encode()).astype(np.int64))


@pytest.mark.parametrize(
    "output",
    [
        RECTANGLE,
        RECTANGLE.replace("\n", " "),
        "  +4\r\n0 0\t5 0 5 5 0 5",
        "4\n0 0\n1 1\n2 2\n3 3\n" + RECTANGLE,
        "5\n0 0\n3 0\n5 0\n5 5\n0 5\n",
        f"4\n0 0\n{SIDE} 0\n{SIDE} {SIDE}\n0 {SIDE}\n",
    ],
)
def test_what_the_contest_takes_is_taken(output) -> None:
    check_polygon(read_polygon(output.encode()).astype(np.int64))


def test_the_grid_says_nothing_of_a_polygon_that_touches_nowhere() -> None:
    corners = np.array([(0, 0), (5, 0), (5, 5), (0, 5)])
    check_edges(corners)
    assert Grid(corners).touching_point() is None


def test_a_polygon_of_a_thousand_vertices_is_scored_in_milliseconds(cpu_clock) -> None:
    contest = Fishing()
    case = contest.case(0)
    teeth = []
    for tooth in range(249):
        left = 20_000 + 240 * tooth
        teeth += [(left, 50_000), (left, 50_500), (left + 120, 50_500), (left + 120, 50_000)]
    corners = [*teeth, (80_000, 50_000), (80_000, 49_000), (20_000, 49_000)]
    corners = corners[-1:] + corners[:-1]
    answer = np.array(corners, np.int32)
    contest.score_answer(case, answer)
    start = cpu_clock()
    for _ in range(10):
        contest.score_answer(case, answer)
    # 150 of them take well under a second on a quiet machine.
    assert (cpu_clock() - start) / 10 < 0.05
