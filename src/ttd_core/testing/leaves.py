"""The leaves of an answer, a tree of lists and dictionaries: finding its numbers, and replacing them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt


@attrs.frozen(eq=False)
class Leaf:
    """Numbers somewhere in an answer.

    :param path: keys and indices that lead there.
    :param value: an array, a list of numbers (rectangular when nested), or one number.
    """

    path: tuple[str | int, ...]
    value: Any

    @property
    def is_array(self) -> bool:
        """Whether it is several numbers: an array or a list."""
        return isinstance(self.value, np.ndarray | list | tuple)

    @property
    def array(self) -> npt.NDArray[Any]:
        """The numbers as an array."""
        return np.asarray(self.value)

    def like(self, array: Any) -> Any:
        """The array as the leaf's kind of value: a list where the leaf is one."""
        return array if isinstance(self.value, np.ndarray) else array.tolist()

    def where(self, name: str) -> str:
        """``data['points']``, for sentences."""
        return name + "".join(f"[{step!r}]" for step in self.path)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Every array, list of numbers and single number in an answer, empty ones left out."""
    if isinstance(value, np.ndarray):
        if value.size and value.dtype.kind in "iuf":
            yield Leaf(path, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        if _numeric(value):
            yield Leaf(path, value)
        else:
            for index, item in enumerate(value):
                yield from leaves(item, (*path, index))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Leaf(path, value)


def replaced(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of an answer with the value at ``path`` replaced."""
    if not path:
        return new
    first, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return {key: replaced(item, rest, new) if key == first else item for key, item in value.items()}
    copy = [replaced(item, rest, new) if index == first else item for index, item in enumerate(value)]
    return tuple(copy) if isinstance(value, tuple) else copy


def _numeric(value: Any) -> bool:
    with contextlib.suppress(ValueError, OverflowError):  # ragged lists are no array: looked into instead
        array = np.asarray(value)
        return bool(array.size) and array.dtype.kind in "iuf"
    return False
