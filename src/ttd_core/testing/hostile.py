"""Values that have fooled verifiers, as plain lists: what `ttd check-problem` feeds to every problem.

Needs nothing beyond numpy. Random values in the same spirit are :mod:`ttd_core.testing.strategies`' part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

#: Deeper than any answer, and still let through by the sandbox.
_DEPTH = 30


class LyingFloat(float):
    """A float that claims to be smaller than everything and equal to anything."""

    def __lt__(self, other: object) -> bool:
        return True

    def __le__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return False

    def __ge__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


class Unwilling:
    """An object whose every conversion raises."""

    def __float__(self) -> float:
        raise RuntimeError("no")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise RuntimeError("no")


def values() -> list[Any]:
    """JSON values and plain arrays of every kind that can come out of the sandbox."""
    deep: list[Any] = []
    for _ in range(_DEPTH):
        deep = [deep]
    singles = [None, True, False, 0, -1, 7, 10**400, 0.5, -0.0, 1e308, *_specials(), "", "0.5", "a" * 5000]
    lists = [
        *([], [[]], [[], []], [None], [0.5, "x"], [[1.0, 2.0], [3.0]], [True, False], [10**400], ["0.5"] * 3),
        *([0.5] * 2000, [float("nan")] * 3, deep),
    ]
    tables = [{}, {"": None}, {"score": 1e9}, {"x": {"y": [1, {"z": []}]}}, [{}], [{"a": 1}, 2]]
    arrays = [
        *(np.zeros(0), np.zeros(()), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 2, 2, 2))),
        *(np.full(3, special) for special in _specials()),
        *(np.array([0, 255], np.uint8), np.array([-(2**63)]), np.array([2**64 - 1], np.uint64)),
        *(
            np.array([True, False]),
            np.full((4, 4), 1e308),
            np.full(1000, 1.7e308),
            np.full(3, 1e-320),
            np.full(99, 5e-324),
            np.ones(5000, np.float32),
        ),
    ]
    return [*singles, *lists, *tables, *arrays]


def spoiled_entries(array: npt.NDArray[np.float64]) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Copies of an array with one entry, the first or the last, that is no finite number; each named.

    :param array: any shape, not empty.
    """
    for special in _specials():
        for place in (0, -1):
            copy = np.array(array, dtype=np.float64)
            copy.reshape(-1)[place] = special
            index = np.unravel_index(place % copy.size, copy.shape)
            yield f"{special} at [{', '.join(str(int(each)) for each in index)}]", copy


def with_nan(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A copy whose last entry is NaN.

    :param array: any shape, not empty.
    """
    copy = np.array(array, dtype=np.float64)
    copy.reshape(-1)[-1] = np.nan
    return copy


def hiding_arrays(array: npt.NDArray[np.float64]) -> Iterator[tuple[str, Any]]:
    """Arrays that hide a NaN in their last entry, each named: masked, and of objects that lie.

    :param array: any shape, not empty.
    """
    copy = with_nan(array)
    mask = np.zeros(copy.shape, bool)
    mask.reshape(-1)[-1] = True
    yield "a masked array", np.ma.masked_array(copy, mask=mask)
    objects = copy.astype(object)
    objects.reshape(-1)[-1] = LyingFloat("nan")
    yield "an object array", objects


def wrong_shapes(array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The same numbers in shapes that cannot be meant, each named.

    :param array: any shape, not empty.
    """
    yield "an array without entries", array.reshape(-1)[:0]
    yield f"an array of {array.ndim + 1} dimensions", array[np.newaxis]
    if array.ndim:
        yield "a single number in place of an array", array.reshape(-1)[0].reshape(())


def broken_replies(program: str) -> list[str]:
    """Replies without a usable program: prose, half fences, half programs.

    :param program: a program that works; its halves are used.
    """
    half = program[: len(program) // 2]
    return [
        *(
            "",
            " \n",
            "I cannot do that.",
            "```",
            "```python",
            "```python\n```",
            "```\n\n```",
            "~~~\nx = (\n~~~",
        ),
        *("```python\ndef run(:\n```", "```python\nx = 1\n```", "```bash\nls\n```", "```python\n\0\n```"),
        *(f"```python\n{half}((\n```", "```python\n" + "(" * 5000 + "\n```", "\ud800", "`" * 10_000),
    ]


def _specials() -> tuple[float, float, float]:
    return float("nan"), float("inf"), float("-inf")
