"""The lineage tree: every state once, the path straight, edges from parent to child."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.problem import Problem
from ttd_core.report.lineage import LEAF, MOST_DRAWN, TALLEST, drawn_states, lineage_tree
from ttd_core.run.records import StateRecord


class Any(Problem):
    name = title = metric = "any"
    direction = "max"

    def task(self):
        return ""

    def construct(self, value):
        return {}

    def check(self, state):
        return []

    def reward(self, state):
        raise NotImplementedError


def state(node: int, parent: int | None, step: int, value: float | None = None) -> StateRecord:
    reward = None if value is None else json.dumps({"value": value, "score": value})
    return StateRecord(node, parent, step, parent is None, str(node), reward, "", "", 0, None, 0, 0, "held")


def nodes(svg: str) -> dict[int, tuple[float, float, str]]:
    root = ET.fromstring(svg)
    found = {}
    for circle in root.iter("circle"):
        match = re.match(r"node (\d+):", circle[0].text or "")
        assert match is not None
        found[int(match[1])] = (float(circle.get("cx")), float(circle.get("cy")), circle.get("class", ""))
    return found


@st.composite
def forests(draw: st.DrawFn) -> list[StateRecord]:
    # Ids leave gaps, as those of states that did not outlive their step do.
    ids = sorted(draw(st.sets(st.integers(0, 200), min_size=1, max_size=60)))
    made = [state(ids[0], None, 0)]
    for place, node in enumerate(ids[1:]):
        parent = draw(st.sampled_from([None, *made]))
        value = draw(st.none() | st.floats(0, 1))
        made.append(state(node, parent.id if parent else None, 0 if parent is None else place + 1, value))
    return made


def path_to(states: list[StateRecord], node: int) -> set[int]:
    known = {each.id: each for each in states}
    path = set()
    current: int | None = node
    while current is not None:
        path.add(current)
        current = known[current].parent
    return path


@settings(max_examples=60, deadline=None)
@given(forests(), st.data())
def test_every_state_is_drawn_once_inside(states: list[StateRecord], data: st.DataObject) -> None:
    path = path_to(states, data.draw(st.sampled_from(states)).id)
    svg = lineage_tree(states, path, Any(), 600, "a tree")
    places = nodes(svg)
    assert set(places) == {each.id for each in states}
    height = float(ET.fromstring(svg).get("height"))
    assert all(0 <= x <= 600 and 0 <= y <= height for x, y, _ in places.values())
    assert height <= TALLEST + 60
    assert len({round(places[node][1], 3) for node in path}) == 1
    assert {node for node, (_, _, name) in places.items() if "on-path" in name} == path
    edges = ET.fromstring(svg).findall("path")
    drawn = sum(each.get("d", "").count("M") for each in edges if "edge" in each.get("class", ""))
    assert drawn == sum(each.parent is not None for each in states)


def test_steps_go_right_and_siblings_do_not_touch() -> None:
    states = [state(0, None, 0, 0.1), *(state(n, 0, n, n / 10) for n in range(1, 6))]
    places = nodes(lineage_tree(states, {0, 5}, Any(), 600, "a tree"))
    xs = [places[n][0] for n in range(6)]
    assert xs == sorted(xs)
    ys = sorted(places[n][1] for n in range(1, 6))
    assert min(b - a for a, b in itertools.pairwise(ys)) >= LEAF - 0.2
    assert "s5" in places[5][2]
    assert "s1" in places[0][2]


def test_a_long_lineage_needs_no_recursion() -> None:
    states = [state(0, None, 0), *(state(n, n - 1, n) for n in range(1, 3000))]
    assert len(nodes(lineage_tree(states, {2999}, Any(), 600, "a tree"))) == 3000


@given(forests(), st.integers(1, 30), st.data())
@settings(max_examples=25, deadline=None)
def test_of_a_large_archive_those_are_drawn_that_tell_most(states, most, data):
    states = [
        attrs.evolve(each, place=data.draw(st.sampled_from(["held", "dropped"])), reward=as_json(each))
        for each in states
    ]
    by_id = {each.id: each for each in states}
    path, node = set(), data.draw(st.sampled_from(sorted(by_id)))
    while node is not None:
        path.add(node)
        node = by_id[node].parent
    drawn = drawn_states(states, path, most)
    ids = {each.id for each in drawn}
    assert path <= ids
    assert len(drawn) <= max(most, len(path), 0 if len(states) > most else len(states))
    assert all(each.parent is None or each.parent in ids for each in drawn)
    assert [each.id for each in drawn] == sorted(ids)
    if len(states) <= most:
        assert list(drawn) == states


def as_json(record: StateRecord) -> str | None:
    """A record's reward as its column has it."""
    return None if record.reward is None else json.dumps(attrs.asdict(record.reward))


def test_a_tree_of_a_great_many_states_stays_small():
    # A line of steps with a fan of children at each, the last of them held.
    states = [state(0, None, 0)]
    for step in range(1, 301):
        parent = states[0].id if step == 1 else states[-40].id
        states += [state(len(states) + more, parent, step, step + more / 100) for more in range(40)]
    path = {0, *(40 * (step - 1) + 1 for step in range(1, 301))}
    svg = lineage_tree(states, path, Any(), 820.0, "many", told=300)
    assert len(states) == 12_001 > MOST_DRAWN
    assert len(svg) < 400_000
    assert path <= set(nodes(svg))
