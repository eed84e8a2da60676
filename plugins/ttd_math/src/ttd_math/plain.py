"""Untrusted values to plain float64 arrays, or a ``ValueError`` that says what was wrong.

Every verifier starts here. A value passes only if it is a plain array or nested list of plain numbers: array
subclasses (a mask can hide entries), object arrays, and numbers of a foreign type (operators can lie) are
refused by exact type, before any of their methods runs. What comes back is a read-only copy with memory of
its own, so nothing that passed a check can change afterwards.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

#: A float64 array, its shape given where it is used.
Floats = npt.NDArray[np.float64]

_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
_NUMBERS = frozenset([int, float, np.float64, np.float32, np.float16, *_INTEGERS])


def plain_vector(value: Any, name: str, most: int) -> Floats:
    """A read-only float64 copy of a list or array of numbers.

    :param name: what to call it in messages.
    :param most: most entries to look at.
    :return: float64 [n], entries as given (finite or not).
    :raises ValueError: when it is anything else.
    """
    if type(value) is np.ndarray:
        return _frozen(_numeric(value, name, 1, most))
    if type(value) not in (list, tuple):
        raise ValueError(f"{name} must be a list or an array of numbers, not {_kind(value)}")
    return _frozen(_row(value, name, most))


def plain_points(value: Any, name: str, most: int) -> Floats:
    """A read-only float64 copy of a list or array of coordinate pairs.

    :param name: what to call it in messages.
    :param most: most pairs to look at.
    :return: float64 [n, 2].
    :raises ValueError: when it is anything else.
    """
    if type(value) is np.ndarray:
        array = _numeric(value, name, 2, 2 * most)
        if array.shape[1] != 2:
            raise ValueError(f"{name} must have shape (n, 2), not {array.shape}")
        return _frozen(array)
    if type(value) not in (list, tuple):
        raise ValueError(f"{name} must be a list of pairs or an array, not {_kind(value)}")
    if len(value) > most:
        raise ValueError(f"{name} has {len(value)} rows; at most {most} are read")
    rows = [plain_vector(row, f"{name}[{index}]", 2) for index, row in enumerate(value)]
    for index, row in enumerate(rows):
        if row.size != 2:
            raise ValueError(f"{name}[{index}] has {row.size} coordinates instead of 2")
    return _frozen(np.array(rows, dtype=np.float64).reshape(-1, 2))


def not_finite(values: Floats, name: str) -> str:
    """A sentence naming the first entry that is NaN or infinite; empty when there is none."""
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return ""
    index = tuple(int(i) for i in bad[0])
    return f"{name}{list(index)} is {values[index]}: {len(bad)} of {values.size} values are not finite"


def total(values: Floats) -> float:
    """The sum, rounded once; infinite where it, or what is added up on the way, is too large for a float.

    :param values: float64 [n], finite.
    """
    try:
        return math.fsum(values)
    except OverflowError:
        # `fsum` gives up when a partial sum overflows; 2^-60 of that leaves room.
        return math.fsum(values * 2.0**-60) * 2.0**60


def _numeric(value: npt.NDArray[Any], name: str, dimensions: int, most: int) -> npt.NDArray[Any]:
    if value.dtype.kind not in "iuf" or value.dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {value.dtype}; integers or floats of at most 64 bits are allowed")
    if value.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimension(s), not shape {value.shape}")
    if value.size > most:
        raise ValueError(f"{name} has {value.size} values; at most {most} are read")
    return value


def _row(value: list[Any] | tuple[Any, ...], name: str, most: int) -> Floats:
    if len(value) > most:
        raise ValueError(f"{name} has {len(value)} values; at most {most} are read")
    # `map(type, ...)` looks at exact types and calls nothing the value could have overloaded.
    if not frozenset(map(type, value)) <= _NUMBERS:
        index = next(i for i, item in enumerate(value) if type(item) not in _NUMBERS)
        raise ValueError(f"{name}[{index}] is {_kind(value[index])} instead of a number")
    try:
        return np.array([float(item) for item in value], dtype=np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} holds an integer too large for a float") from error


def _frozen(array: npt.NDArray[Any]) -> Floats:
    copy = np.array(array, dtype=np.float64, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
