"""The verdicts of a run by program and start, so that an equal program is judged once (``same_program``).

``verdicts.db`` in the run's folder has a row a program: it is found by its key, whatever number of rollouts
the run has, and nothing of it is in memory. A verdict is true whether its step was committed or not, so the
file needs no part in a step's transaction. Between two processes it may be deleted; then programs are judged
again.

Equal programs are those of one text. :mod:`ttd_core.run.novelty` tells which programs *repeat* another, and
those that differ in layout alone are repeats as well: they bring no news. But their verdicts may differ:
messages name lines, programs may read their own text, and a problem may count its characters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from ttd_core.errors import StorageError
from ttd_core.problem import Problem
from ttd_core.run.evaluate import NOT_OF_THE_PROGRAM
from ttd_core.run.files import LARGEST_LINE, require_plain_file, storage_errors
from ttd_core.run.pending_lines import UNREADABLE, parsed, read_verdict, verdict_line
from ttd_core.run.row_encoding import exact_json
from ttd_core.run.tables import connect_writer
from ttd_core.types import Action, State, Verdict

#: In a run's folder, where equal programs are judged once.
VERDICTS = "verdicts.db"
# Rows in the order in which they come, found through an index of the keys alone: in the order of their keys,
# which is none, they would take more than twice the room.
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    verdict BLOB NOT NULL
)
"""
#: How SQLite calls a file that is damaged, is none of its own, or has other tables.
_NOT_OURS = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR"})
#: Entry of a verdict's metrics: seconds that the program ran when it was judged.
REUSED_SECONDS = "reused_seconds"


def can_be_reused(verdict: Verdict) -> bool:
    """Whether a verdict is one on the program, not on the sandbox or the problem's own code."""
    return verdict.status not in NOT_OF_THE_PROGRAM


def reused(verdict: Verdict) -> Verdict:
    """A verdict as another rollout has it: nothing was run for that one."""
    return attrs.evolve(verdict, seconds=0.0, metrics={**verdict.metrics, REUSED_SECONDS: verdict.seconds})


def is_reused(verdict: Verdict) -> bool:
    """Whether a verdict was taken over from an equal program's."""
    return REUSED_SECONDS in verdict.metrics


class KnownVerdicts:
    """Verdicts by program and start, in a file. Thread-safe; while it is closed it knows and keeps nothing.

    :param folder: the run's.
    :param problem: of the run.
    :param identity: text that changes with the problem's code: verdicts of another are not found.
    """

    def __init__(self, folder: pathlib.Path, problem: Problem, identity: str) -> None:
        self._path = folder / VERDICTS
        self._problem = problem
        options = attrs.asdict(problem.options)
        self._identity = hashlib.sha256(json.dumps([identity, options], default=repr).encode()).hexdigest()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def key(self, start: State, action: Action) -> bytes | None:
        """What equal programs from equal starts under equal options share; ``None`` where it cannot be told.

        A reply of parts or edits stands for the whole program that they make of the start's.
        """
        try:
            whole = self._problem.complete(start, action)
        except Exception:  # noqa: BLE001 (the problem's own code; it fails again where that is counted)
            return None
        if isinstance(whole, Verdict):
            return None
        of = [self._identity, whole.language, whole.code, start.digest, start.code, start.output]
        return hashlib.sha256(json.dumps(of).encode()).digest()

    def get(self, key: bytes) -> Verdict | None:
        """The verdict on a program; ``None`` where it was not judged, or the row is damaged.

        :raises StorageError: when the file cannot be read.
        """
        found = self._execute("read", "SELECT verdict FROM verdicts WHERE key = ?", (key,))
        if not found:
            return None
        try:
            # One cut at that length is no JSON.
            return read_verdict(parsed(zlib.decompressobj().decompress(found[0][0], LARGEST_LINE)))
        except (*UNREADABLE, zlib.error):
            return None

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Keep the verdict on a program, where it is one (:func:`can_be_reused`).

        :raises StorageError: when the disk is full or read-only.
        """
        if not can_be_reused(verdict):
            return
        text = zlib.compress(exact_json(verdict_line("", (0, 0), verdict)).encode())
        self._execute("written", "INSERT OR REPLACE INTO verdicts (key, verdict) VALUES (?, ?)", (key, text))

    def open(self) -> None:
        """Open the file; made when missing.

        :raises StorageError: when it cannot be written, or is no file of verdicts.
        """
        with self._lock, self._errors("written"):
            if self._connection is None:
                require_plain_file(self._path)
                with contextlib.ExitStack() as unless_opened:
                    connection = connect_writer(self._path)
                    unless_opened.callback(connection.close)
                    # What a power cut takes is judged again.
                    connection.execute("PRAGMA synchronous = NORMAL")
                    connection.execute(_TABLE)
                    # A table of this name that another program made is found here, not by the first program.
                    connection.execute("SELECT key, verdict FROM verdicts LIMIT 0")
                    unless_opened.pop_all()
                self._connection = connection

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextlib.contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """As :func:`storage_errors`; a file that is damaged, or another's, holds nothing that is missed."""
        try:
            with storage_errors(self._path, action):
                yield
        except StorageError as error:
            if getattr(error.__cause__, "sqlite_errorname", "") in _NOT_OURS:
                raise StorageError(
                    f"{self._path} is damaged, or another program's. Remove it and go on: what it had is "
                    "judged again"
                ) from error
            raise

    def _execute(self, action: str, statement: str, values: Sequence[Any]) -> list[Any]:
        """Rows of a statement; none while the file is closed."""
        with self._lock, self._errors(action):
            return [] if self._connection is None else self._connection.execute(statement, values).fetchall()
