"""Data that nobody can change: JSON values and arrays, copied once and read-only from then on.

Frozen lists and dictionaries are lists and dictionaries to all who read them (``isinstance``, ``json``,
``==``); whatever would change them raises ``TypeError``. ``list(value)``, ``dict(value)`` and
:func:`copy.deepcopy` give copies that may be changed; what another process receives is frozen again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

#: Array element types that may enter a state or cross the sandbox's boundary.
ALLOWED_DTYPES = frozenset(
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
)


def _refuse(self: Any, *_args: Any, **_kwargs: Any) -> NoReturn:
    kind = "list" if isinstance(self, list) else "dict"
    raise TypeError(f"this data cannot be changed; change a copy: {kind}(value), or copy.deepcopy(value)")


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    append = clear = extend = insert = pop = remove = reverse = sort = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(item, memo) for item in self]

    def __reduce__(self) -> tuple[Any, ...]:
        # By default a list is filled after it is made, which this one refuses.
        return freeze, (list(self),)


class FrozenDict(dict[str, Any]):
    """A dictionary that cannot be changed."""

    clear = pop = popitem = setdefault = update = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(item, memo) for key, item in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return freeze, (dict(self),)


def freeze(value: Any) -> Any:
    """A deep copy of JSON values and arrays that cannot be changed.

    Arrays become read-only C-contiguous plain ``ndarray`` copies (subclasses such as masked arrays
    are refused, since a mask can hide entries); lists and tuples become :class:`FrozenList`, mappings
    :class:`FrozenDict`, numpy scalars Python's. What is frozen already is returned as it is.

    :raises TypeError: for any value that is neither JSON nor an allowed array, or a dict key that is
        not a string or is ``$array``.
    """
    if value is None or isinstance(value, bool | str | FrozenList | FrozenDict):
        return value
    if isinstance(value, np.generic):
        return freeze(value.item())
    if type(value) in (int, float):
        return value
    if isinstance(value, np.ndarray):
        if type(value) is not np.ndarray:
            raise TypeError(f"array of type {type(value).__name__}: only plain numpy arrays are allowed")
        if value.dtype.name not in ALLOWED_DTYPES:
            raise TypeError(f"array of dtype {value.dtype}: allowed are {', '.join(sorted(ALLOWED_DTYPES))}")
        array = np.array(value, dtype=value.dtype.newbyteorder("="), order="C", copy=True)
        array.setflags(write=False)
        return array
    if isinstance(value, list | tuple):
        return FrozenList(freeze(item) for item in value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} is not a string")
            if key == "$array":
                raise TypeError("key '$array' is reserved for stored arrays")
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    raise TypeError(f"value of type {type(value).__name__} is neither JSON nor an array")
