"""What to look for among a run's rollouts, and the SQL that finds it in ``run.db``."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator

import attrs

from ttd_core.errors import UsageError
from ttd_core.types import Status

#: What rollouts may be sorted by, with the expression that does; all but the first have the place break ties.
SORTS = {
    "place": "",
    "reward": "value",
    **{name: name for name in ("status", "score", "advantage", "tokens", "seconds")},
}
#: Which texts a search looks into.
FIELDS = {
    "anything": ("message", "output", "code", "text"),
    "reply": ("text",),
    "program": ("code",),
    "output": ("output",),
    "message": ("message",),
}
#: Steps of SQLite's virtual machine between looks at the clock.
_LOOK_EVERY = 20_000


@attrs.frozen
class RolloutQuery:
    """Which rollouts, in which order.

    :param status: only those that ended so; all when ``None``.
    :param step: only those of this step; all when ``None``.
    :param group: only those of this group of each step.
    :param text: only those that hold it, in any case of its ASCII letters; all when empty.
    :param within: where the text is looked for, one of :data:`FIELDS`.
    :param sort: one of :data:`SORTS`.
    :param descending: the largest first; those without a value come last either way.
    :raises ValueError: for a field or an order that is not known.
    """

    status: Status | None = None
    step: int | None = None
    group: int | None = None
    text: str = ""
    within: str = attrs.field(default="anything", validator=attrs.validators.in_(FIELDS))
    sort: str = attrs.field(default="place", validator=attrs.validators.in_(SORTS))
    descending: bool = False

    def statement(self) -> tuple[str, list[object]]:
        """A SELECT of the places, and its values."""
        conditions: list[str] = []
        values: list[object] = []
        for name, value in (("status", self.status), ("step", self.step), ("group_index", self.group)):
            if value is not None:
                conditions.append(f"{name} = ?")
                values.append(str(value) if name == "status" else value)
        if self.text:
            # LIKE reads texts and its own pattern up to a NUL; a text with one is rare, and read slower.
            pattern = "%" + re.sub(r"([\\%_])", r"\\\1", self.text.partition("\0")[0]) + "%"
            fields = FIELDS[self.within]
            has_nul = "length(CAST(printf('%s', {0}) AS BLOB)) < length(CAST({0} AS BLOB))"
            slower = has_nul + " AND instr(lower({0}), lower(?))"
            quicker = "{0} LIKE ? ESCAPE '\\'"
            if "\0" in self.text:
                quicker = "0 AND ?"
            condition = f"{quicker} OR {slower}"
            conditions.append("(" + " OR ".join(condition.format(each) for each in fields) + ")")
            values += [pattern, self.text] * len(fields)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        way = " DESC" if self.descending else ""
        place = f"step{way}, group_index{way}, rollout_index{way}"
        key = SORTS[self.sort]
        order = f"{key} IS NULL, {key}{way}, step, group_index, rollout_index" if key else place
        return f"SELECT step, group_index, rollout_index FROM rollouts{where} ORDER BY {order}", values


@contextlib.contextmanager
def limited(connection: sqlite3.Connection, seconds: float | None) -> Iterator[None]:
    """Bound the time that queries inside take.

    :param seconds: wall seconds; any number of them when ``None``.
    :raises UsageError: when they are used up.
    """
    if seconds is None:
        yield
        return
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        raise UsageError(
            f"the search took more than {seconds:g} s; name a step, a status, or a narrower place to look"
        ) from error
    finally:
        connection.set_progress_handler(None, 0)
