"""What a column of ``run.db`` may hold, by its name, and the one line where it holds something else.

SQLite keeps a text or a blob in a column of numbers as it stands, so a database that was edited by hand, or
damaged, may hand out anything. Whole columns are looked at, for runs have millions of rows; what a text
column says as JSON is checked where it is decoded (:mod:`ttd_core.run.records`).
"""

from __future__ import annotations

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from ttd_core.errors import StorageError, one_line
from ttd_core.run.pending_lines import UNREADABLE
from ttd_core.text import showable_line

_WHOLE, _NUMBER, _TEXT = frozenset({int}), frozenset({float, int}), frozenset({str})
#: Of texts that may have what UTF-8 has not, which are kept as bytes (:func:`.records.decode_row`).
_ANY_TEXT = frozenset({str, bytes})
_MISSING = frozenset({NoneType})
_NAMES = {
    _WHOLE: (
        "step rollouts valid expansions next_node id seed visits attempts duplicates group_index start "
        "prompt_tokens rollout_index tokens trained_tokens number began token entries"
    ),
    _WHOLE | _MISSING: "parent node ended first_node",
    _NUMBER: "finished mean_value seconds written",
    _NUMBER | _MISSING: "measured value score best_value best_score best_child advantage",
    _TEXT: "key entry metric data place prompt status fate stop level metrics kind body",
    _TEXT | _MISSING: "digest reward",
    _ANY_TEXT: "code output message text",
}
#: Types that each column may have, by its name, which means the same in every table that has it.
TYPES: Mapping[str, frozenset[type]] = {
    name: types for types, names in _NAMES.items() for name in names.split()
}
_IN_WORDS = {_WHOLE: "a whole number from 0", _NUMBER: "a finite number", _TEXT: "text", _ANY_TEXT: "text"}
#: Numbers of which a run may write an infinite one.
_ANY_NUMBER = "measured"
#: Columns that say which row it is.
_KEYS = ("step", "group_index", "rollout_index", "id", "number", "metric")


def require_types(names: Sequence[str], rows: Sequence[Sequence[Any]], path: pathlib.Path) -> None:
    """Refuse rows of which a column holds something of another type.

    :param names: of the columns.
    :param path: the database's, for the message.
    :raises StorageError: names the column, the row, and what belongs there.
    """
    for name, column in zip(names, zip(*rows, strict=True), strict=False):
        types = TYPES.get(name, frozenset())
        if not types or (types.issuperset(map(type, column)) and _within_bounds(name, column)):
            continue
        place = next(place for place, value in enumerate(column) if not _belongs(name, value))
        keys = [
            f"{key} {rows[place][names.index(key)]!r:.40}" for key in _KEYS if key in names and key != name
        ]
        of_row = f" ({', '.join(keys)})" if keys else ""
        belongs = _IN_WORDS[types - _MISSING]
        raise damaged(
            path, f"the column {name} holds {_shown(column[place])} where {belongs} belongs{of_row}"
        )


def damaged(path: pathlib.Path, how: str) -> StorageError:
    """The error for a database that holds what no run writes.

    :param path: the database's.
    :param how: what is wrong with it.
    """
    return StorageError(f"{path} is damaged: {how}. Restore the run folder from a copy")


def _belongs(name: str, value: Any) -> bool:
    return type(value) in TYPES[name] and _within_bounds(name, [value])


def _within_bounds(name: str, column: Sequence[Any]) -> bool:
    """Whether numbers of the right types are finite, and whole ones not below 0."""
    if float in TYPES[name]:
        return name == _ANY_NUMBER or all(map(math.isfinite, filter(None, column)))
    return int not in TYPES[name] or min(filter(None, column), default=0) >= 0


def _shown(value: Any) -> str:
    """A value for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bytes):
        return "bytes"
    return f"'{showable_line(value)[:40]}'" if isinstance(value, str) else f"{value!r:.40}"


@contextlib.contextmanager
def damaged_rows(path: pathlib.Path, what: str) -> Iterator[None]:
    """Turn what goes wrong with decoding rows into one line.

    :param path: the database's.
    :param what: was decoded, for the message.
    :raises StorageError: for anything that reading other values than those written may raise.
    """
    try:
        yield
    except UNREADABLE as error:
        reason = showable_line(one_line(error, 120))
        raise damaged(path, f"{what} cannot be read ({reason})") from error
