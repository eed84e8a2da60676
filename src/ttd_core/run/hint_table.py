"""Which steps' prompts carry which hints: the table ``hints`` as the run writes it.

A step's hints are noted before it samples, so that a step that is made again has those it had.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ttd_core.run.requests import Hint

#: The last step whose hints are noted, in the table ``meta``.
_DECIDED = "hints_decided"
#: Leaves alone a hint that is known already.
_INSERT_NEW = "INSERT OR IGNORE INTO hints (number, written, began, text) VALUES (?, ?, ?, ?)"


def note_hints(connection: sqlite3.Connection, step: int, present: Sequence[Hint]) -> None:
    """Begin the hints that are new with a step, and end those removed; a step made again keeps its own.

    :param connection: in a transaction.
    :param present: every hint that was left for the run, the removed ones too.
    """
    decided = connection.execute("SELECT value FROM meta WHERE key = ?", (_DECIDED,)).fetchone()
    if decided and step <= int(decided[0]):
        return
    removed = [(step, each.number) for each in present if each.removed]
    connection.executemany("UPDATE hints SET ended = ? WHERE number = ? AND ended IS NULL", removed)
    connection.executemany(_INSERT_NEW, _rows(step, present))
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_DECIDED, str(step)))


def revise_hints(connection: sqlite3.Connection, step: int, present: Sequence[Hint]) -> None:
    """After going back to ``step``: later steps are without what was removed, and have what is new.

    They are made anew, so that what is asked for while they are counts from the next one on.

    :param connection: in a transaction.
    :param present: every hint that was left for the run.
    """
    removed = [(step + 1, each.number) for each in present if each.removed]
    connection.executemany("DELETE FROM hints WHERE began >= ? AND number = ?", removed)
    connection.executemany("UPDATE hints SET ended = min(coalesce(ended, ?1), ?1) WHERE number = ?2", removed)
    connection.executemany(_INSERT_NEW, _rows(step + 1, present))
    connection.execute("UPDATE meta SET value = ? WHERE key = ?", (str(step), _DECIDED))


def _rows(step: int, present: Sequence[Hint]) -> list[tuple[int, float, int, str]]:
    return [(each.number, each.written, step, each.text) for each in present if not each.removed]
