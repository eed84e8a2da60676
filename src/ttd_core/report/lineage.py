"""The lineage tree: which state came from which, found at which step, and how the best one came to be."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ttd_core.problem import Problem
from ttd_core.report.drawing import Drawing
from ttd_core.report.scales import Scale, tick_labels, ticks
from ttd_core.run.records import StateRecord
from ttd_core.text import counted

#: Pixels between leaves, at most; a large tree is drawn closer, to stay below :data:`TALLEST`.
LEAF = 12.0
TALLEST = 860.0
#: Shades of nodes, by rank of their score.
SHADES = 5
#: Nodes that a tree shows at most: more would make the page slow, and lie on top of one another.
MOST_DRAWN = 4000


def lineage_tree(
    states: Sequence[StateRecord],
    path: Collection[int],
    problem: Problem,
    width: float,
    summary: str,
    told: int | None = None,
) -> str:
    """The tree, steps to the right; each parent stands amid its children.

    :param states: oldest first.
    :param path: nodes from a seed to the best state, drawn on top.
    :param summary: the picture in a sentence.
    :param told: of how many nodes a tip tells at most, those on the path and then the best; default all.
    """
    shades = _shades(states)
    states = drawn_states(states, path)
    rows, leaves = node_rows(states, path)
    gap = min(LEAF, TALLEST / max(1, leaves))
    drawing = Drawing(width, max(60.0, leaves * gap) + 50.0, summary)
    last = max((state.step for state in states), default=1)
    x = Scale(0.0, max(1.0, float(last)), 14.0, width - 14.0)
    y = {node: 20.0 + (row + 0.5) * gap for node, row in rows.items()}
    bottom = drawing.height - 28
    marks = ticks(0.0, max(1.0, float(last)), max(2, int(width / 80)), whole=True)
    for step, text in zip(marks, tick_labels(marks), strict=True):
        drawing.add("path", d=f"M{x(step):.1f},14V{bottom:.1f}", class_="grid")
        drawing.text(x(step), bottom + 16, text, "middle", "tick")
    drawing.text(width - 4, drawing.height - 1, "step", "end", "label")
    positions = {state.id: (x(state.step), y[state.id]) for state in states}
    for class_, drawn in (
        ("edge", [state for state in states if state.id not in path]),
        ("edge on-path", [state for state in states if state.id in path]),
    ):
        edges = [_edge(positions[s.parent], positions[s.id]) for s in drawn if s.parent is not None]
        if edges:
            drawing.add("path", d="".join(edges), class_=class_)
    radius = max(1.6, min(4.0, 0.35 * gap))
    with_tip = _with_tip(states, path, told)
    rest: dict[int, dict[tuple[int, int], None]] = {}
    for state in states:
        if state.id not in with_tip:
            place = (round(x(state.step)), round(y[state.id]))
            rest.setdefault(shades[state.id], {})[place] = None
    for shade, places in sorted(rest.items()):
        dots = "".join(f"M{place[0]},{place[1]}h0" for place in places)
        drawing.add("path", d=dots, class_=f"nodes s{shade}", stroke_width=2 * radius)
    for state in sorted((each for each in states if each.id in with_tip), key=lambda each: each.id in path):
        drawing.add(
            "circle",
            tip=_tip(state, problem),
            cx=x(state.step),
            cy=y[state.id],
            r=radius + 1 if state.id in path else radius,
            class_=f"node s{shades[state.id]}" + (" on-path" if state.id in path else ""),
        )
    return drawing.svg("tree")


def drawn_states(
    states: Sequence[StateRecord], path: Collection[int], most: int = MOST_DRAWN
) -> Sequence[StateRecord]:
    """The states that a tree shows, oldest first: all, or of more than ``most`` those that tell most.

    These are the path to the best, then the states held, then the best of the others, each with those that it
    descends from.
    """
    if len(states) <= most:
        return states
    parents = {state.id: state.parent for state in states}
    chosen = set(path)
    for state in sorted(states, key=lambda each: (each.place != "held", _best_first(each))):
        if len(chosen) >= most:
            break
        line: list[int] = []
        node: int | None = state.id
        while node is not None and node not in chosen:
            line.append(node)
            node = parents[node]
        if len(chosen) + len(line) <= most:
            chosen.update(line)
    return [state for state in states if state.id in chosen]


def _best_first(state: StateRecord) -> float:
    """What sorts the best first, and those without a score last."""
    return math.inf if state.reward is None else -state.reward.value


def _with_tip(states: Sequence[StateRecord], path: Collection[int], told: int | None) -> set[int]:
    """The nodes that are elements of their own, with a tip."""
    if told is None or len(states) <= told:
        return {state.id for state in states}
    best = sorted(states, key=lambda each: (each.id not in path, _best_first(each)))
    return {state.id for state in best[: max(told, len(path))]}


def _edge(parent: tuple[float, float], child: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = parent, child
    middle = 0.5 * (x1 + x2)
    return f"M{x1:.1f},{y1:.1f}C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"


def node_rows(states: Sequence[StateRecord], path: Collection[int]) -> tuple[dict[int, float], int]:
    """The row of each node, leaves in whole numbers from the top, and how many leaves there are.

    The path runs straight through the middle: its nodes share one row, with their other children half above
    and half below.
    """
    children: dict[int | None, list[int]] = {}
    for state in states:
        children.setdefault(state.parent, []).append(state.id)
    ordered = {
        parent: _path_amid(below, path, number % 2) for number, (parent, below) in enumerate(children.items())
    }
    rows: dict[int, float] = {}
    leaves = 0
    # Depth first without recursion: a lineage may be longer than Python's stack.
    waiting = [(node, False) for node in reversed(ordered.get(None, []))]
    while waiting:
        node, seen = waiting.pop()
        below = ordered.get(node, [])
        if not below:
            rows[node] = float(leaves)
            leaves += 1
        elif seen:
            chosen = [child for child in below if child in path]
            rows[node] = rows[chosen[0]] if chosen else 0.5 * (rows[below[0]] + rows[below[-1]])
        else:
            waiting.append((node, True))
            waiting += [(child, False) for child in reversed(below)]
    return rows, leaves


def _path_amid(nodes: Sequence[int], path: Collection[int], odd: int) -> list[int]:
    """Children with the one on the path in their midst; the odd one out goes above where ``odd`` is 1."""
    others = [node for node in nodes if node not in path]
    half = (len(others) + odd) // 2
    return [*others[:half], *(node for node in nodes if node in path), *others[half:]]


def _shades(states: Sequence[StateRecord]) -> dict[int, int]:
    """A shade for each node by the rank of its reward: 1 for the lowest, 0 for those without."""
    scored = sorted(
        (state for state in states if state.reward is not None),
        key=lambda state: state.reward.value if state.reward is not None else 0.0,
    )
    shades = {state.id: 0 for state in states}
    shades |= {state.id: 1 + rank * SHADES // len(scored) for rank, state in enumerate(scored)}
    return shades


def _tip(state: StateRecord, problem: Problem) -> str:
    score = (
        "no score" if state.reward is None else f"{problem.metric} {problem.format_score(state.reward.score)}"
    )
    origin = "seed" if state.seed else f"step {state.step}, from node {state.parent}"
    return f"node {state.id}: {score}; {origin}; {counted(state.visits, 'visit')}, {state.place}"
