"""The forms in which constructions stand in files: what :mod:`ttd_core.input_files` read, made what is meant.

People hand in what other programs wrote: arrays by name or by position, a column, rows of x, y and radius,
objects with these names. What a program returns has one form only, see each problem's ``construct``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttd_core.text import showable_line

#: Names of a circle's numbers, and of lists of them.
_X, _Y, _RADIUS = ("x",), ("y",), ("r", "radius", "radii")
_CENTER = ("center", "centre", "position")


def found(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value under the first of some names; capital letters do not matter where nothing else fits.

    :raises ValueError: when none is there; says which are.
    """
    for known in (value, {name.lower(): item for name, item in value.items()}):
        for name in names:
            if name in known:
                return known[name]
    there = showable_line(", ".join(list(value)[:8]))[:100] or "none at all"
    raise ValueError(f"has none of the keys {', '.join(names)}; it has {there}")


def by_position(value: Mapping[str, Any]) -> list[Any] | None:
    """The arrays of an ``.npz`` written without names (``arr_0``, ``arr_1``, ...); else ``None``."""
    names = [f"arr_{index}" for index in range(len(value))]
    return [value[name] for name in names] if value and set(value) == set(names) else None


def as_row(value: Any) -> Any:
    """A single column, or a single row, as a plain row; anything else as it is.

    :raises ValueError: for several rows or columns: nothing says which of them is meant.
    """
    if isinstance(value, np.ndarray) and value.ndim == 2:
        if 1 not in value.shape:
            raise ValueError(f"one row or column of numbers is needed, not shape {value.shape}")
        return value.reshape(-1)
    if not isinstance(value, list) or not value:
        return value
    if len(value) == 1 and isinstance(value[0], list | np.ndarray):
        return as_row(value[0])
    if all(isinstance(row, list) and len(row) == 1 for row in value):
        return [row[0] for row in value]
    if any(isinstance(row, list | np.ndarray) for row in value[1:]):
        raise ValueError(f"one row or column of numbers is needed, not {len(value)} rows")
    return value


def as_packing(value: Any) -> Any:
    """Circles as ``[centers, radii]`` where they stand circle by circle, or as columns; else as they are.

    :raises ValueError: when an object lacks one of its numbers.
    """
    if isinstance(value, Mapping):
        names = {name.lower() for name in value}
        if "circles" in names and "centers" not in names:
            return as_packing(found(value, ("circles",)))
        if not names.isdisjoint(_X) and not names.isdisjoint(_Y):
            x, y = found(value, _X), found(value, _Y)
            return [_pairs(x, y), as_row(found(value, _RADIUS))]
        return [found(value, ("centers", "centres")), as_row(found(value, ("radii", "radius")))]
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3:
        return [value[:, :2], value[:, 2]]
    if isinstance(value, list) and len(value) > 3:
        if all(isinstance(row, list) and len(row) == 3 for row in value):
            return [[row[:2] for row in value], [row[2] for row in value]]
        if all(isinstance(circle, Mapping) for circle in value):
            circles = [_circle(circle, index) for index, circle in enumerate(value)]
            return [[center for center, _ in circles], [radius for _, radius in circles]]
    return value


def _circle(circle: Mapping[str, Any], index: int) -> tuple[Any, Any]:
    try:
        radius = found(circle, _RADIUS)
        if any(name.lower() in _CENTER for name in circle):
            return found(circle, _CENTER), radius
        return [found(circle, _X), found(circle, _Y)], radius
    except ValueError as error:
        raise ValueError(f"circle {index} {error}") from error


def _pairs(x: Any, y: Any) -> list[Any]:
    if not isinstance(x, list | np.ndarray) or not isinstance(y, list | np.ndarray):
        raise ValueError("x and y must be lists of numbers")
    first, second = (each.tolist() if isinstance(each, np.ndarray) else each for each in (x, y))
    if not isinstance(first, list) or not isinstance(second, list) or len(first) != len(second):
        raise ValueError("x and y must be lists of as many numbers")
    return [[a, b] for a, b in zip(first, second, strict=True)]
