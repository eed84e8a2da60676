"""Simple polygons with edges parallel to the axes: are they valid, and which points are inside?

Both questions are answered on the grid of lines through the vertices, with at most one row and one column for
every two vertices. Marking an edge on it is a difference in two cells; one running sum then gives, for every
crossing of lines, how many edges lie on it (touching edges show as a count too high), and for every cell,
whether it is inside. Nothing compares edges pair by pair, nor points with edges.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class InvalidPolygon(ValueError):
    """A polygon breaks a rule; the message says which, and where."""


class Grid:
    """The lines through a polygon's vertices, its edges marked on them.

    :param vertices: int64 [m, 2], in order, each edge parallel to an axis and of positive length.
    """

    def __init__(self, vertices: Integers) -> None:
        self._xs, column = np.unique(vertices[:, 0], return_inverse=True)
        self._ys, row = np.unique(vertices[:, 1], return_inverse=True)
        self._column, self._row = column.reshape(-1), row.reshape(-1)
        self._upright = self._column == np.roll(self._column, -1)

    def _marked(self, upright: bool, closed: bool) -> npt.NDArray[np.int16]:
        """How many edges of one direction pass each crossing (closed) or each gap between two crossings."""
        along, across = (self._row, self._column) if upright else (self._column, self._row)
        chosen = self._upright if upright else ~self._upright
        one, other = along[chosen], np.roll(along, -1)[chosen]
        size = len(self._ys if upright else self._xs) + 1, len(self._xs if upright else self._ys)
        marks = np.zeros(size, np.int16)
        np.add.at(marks, (np.minimum(one, other), across[chosen]), 1)
        np.add.at(marks, (np.maximum(one, other) + closed, across[chosen]), -1)
        return np.cumsum(marks, axis=0, dtype=np.int16)[:-1]

    def touching_point(self) -> tuple[int, int] | None:
        """A point where edges touch that should not; ``None`` if there is none.

        On a vertex lie two edges, on any other crossing at most one.
        """
        count = self._marked(True, True) + self._marked(False, True).T
        count[self._row, self._column] -= 1
        row, column = np.divmod(int(count.argmax()), count.shape[1])
        if count[row, column] <= 1:
            return None
        return int(self._xs[column]), int(self._ys[row])

    def contains(self, points: Integers) -> Bools:
        """Which points lie inside or on the edge, for a polygon without touching edges.

        :param points: int64 [n, 2].
        :return: bool [n].
        """
        # Crossing an upright edge changes sides; the last line is outside of all, and pads the first cells.
        inside = np.zeros((len(self._ys) + 1, len(self._xs) + 1), np.bool_)
        inside[:-2, :-2] = (np.cumsum(self._marked(True, False)[:-1, :-1], axis=1) & 1).astype(np.bool_)
        left, right = _beside(self._xs, points[:, 0])
        below, above = _beside(self._ys, points[:, 1])
        return inside[below, left] | inside[below, right] | inside[above, left] | inside[above, right]


def _beside(lines: Integers, values: Integers) -> tuple[Integers, Integers]:
    """The gaps between lines on both sides of each value: different ones only for a value on a line."""
    return np.searchsorted(lines, values, "left") - 1, np.searchsorted(lines, values, "right") - 1


def check_edges(vertices: Integers) -> None:
    """Check edge by edge: positive lengths, directions, no folding back.

    :param vertices: int64 [m, 2].
    :raises InvalidPolygon: naming the first edge that breaks a rule.
    """
    steps = np.roll(vertices, -1, axis=0) - vertices
    moves = steps != 0
    _refuse(~moves.any(axis=1), vertices, "edge {} at ({}, {}) has no length")
    _refuse(moves.all(axis=1), vertices, "edge {} from ({}, {}) is not parallel to an axis")
    forward = (np.sign(steps) * np.sign(np.roll(steps, 1, axis=0))).sum(axis=1)
    _refuse(forward < 0, vertices, "edge {} from ({}, {}) folds back on the one before it")


def _refuse(wrong: Bools, vertices: Integers, message: str) -> None:
    if wrong.any():
        index = int(wrong.argmax())
        raise InvalidPolygon(message.format(index, *vertices[index].tolist()))


def perimeter(vertices: Integers) -> int:
    """Total length of the edges of a polygon with edges parallel to the axes."""
    return int(np.abs(np.roll(vertices, -1, axis=0) - vertices).sum())
