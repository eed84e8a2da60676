"""The run folder as the loop writes it: every step is one durable transaction, or never happened.

Constructions are written first, as files named by their content; the step's transaction then refers to
them. So a run killed at any moment opens as its last committed step, and files that a step under way had
written already are found again when it is repeated. See ``docs/run-folder.md`` for the tables.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ttd_core.metrics import SECONDS
from ttd_core.run import hint_table, late_table
from ttd_core.run.events import DURABLE_KINDS, ROLLOUT_KINDS, Event, EventLog, to_line
from ttd_core.run.files import WriterLock, storage_errors, sync_folder
from ttd_core.run.late_table import LateRollout
from ttd_core.run.reading import ARRAYS, DATABASE, LOG, RunReader
from ttd_core.run.records import HintRecord, Place
from ttd_core.run.requests import Hint, forget_stop
from ttd_core.run.row_encoding import (
    DROPPED,
    INSERT_NODE_STATISTICS,
    INSERT_ROLLOUT,
    INSERT_STATE,
    NodeStatistics,
    changed_statistics,
    encode_number,
    rollout_columns,
    state_row,
)
from ttd_core.run.tables import (
    NODES,
    check_version,
    connect_writer,
    make_run,
    make_tables,
    require_database,
)
from ttd_core.run.tokens import KeptTokens
from ttd_core.run.totals import StepTotals
from ttd_core.search.archive import Admission, Archive, Node
from ttd_core.types import Group

#: For each group float64 [rollouts], NaN where a rollout is not counted.
Advantages = Sequence[npt.NDArray[np.float64]]


class RunStore(RunReader):
    """A run folder, for the one process that writes it; reads like any :class:`RunReader`.

    Made by :meth:`create` or :meth:`open`. Any thread may call any method.
    """

    def __init__(self, folder: pathlib.Path, connection: sqlite3.Connection, lock: WriterLock) -> None:
        super().__init__(folder, connection)
        self._writer = lock
        #: What the database has of the nodes that are not dropped: those that an archive may still change.
        self._written = self._read_statistics()
        # Opened last: nothing closes it where the database is refused.
        self._log = EventLog(folder / LOG)
        #: Events that are in the log but not yet in the database: they wait for their step's commit.
        self._pending_events: list[Event] = []

    @classmethod
    def create(cls, folder: pathlib.Path | str, config: str) -> Self:
        """Begin a run.

        :param folder: the run's folder; made when missing.
        :param config: the resolved config as text, returned by :meth:`config` to the letter.
        :raises ResumeError: when the folder holds a run already, or another process is writing there.
        :raises StorageError: when it cannot be written.
        """
        folder = pathlib.Path(folder)
        is_new = not folder.exists()
        with contextlib.ExitStack() as undo:
            if is_new:
                # A folder that could not become a run would be in the way of the next try.
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
            with storage_errors(folder):
                (folder / ARRAYS).mkdir(parents=True, exist_ok=True)
                lock = WriterLock(folder)
            undo.callback(lock.release)
            connection = connect_writer(folder / DATABASE)
            undo.callback(connection.close)
            with storage_errors(folder / DATABASE):
                make_run(connection, folder, config)
                sync_folder(folder)
            store = cls(folder, connection, lock)
            undo.pop_all()
        return store

    @classmethod
    def open(cls, folder: pathlib.Path | str) -> Self:
        """Open an existing run to continue it; see :meth:`RunReader.open` for reading alone.

        :raises ResumeError: when the folder holds no run, or another process is writing it.
        :raises StorageError: when it cannot be written.
        """
        folder = pathlib.Path(folder)
        require_database(folder / DATABASE)
        with storage_errors(folder):
            lock = WriterLock(folder)
        with contextlib.ExitStack() as undo:
            undo.callback(lock.release)
            connection = connect_writer(folder / DATABASE)
            undo.callback(connection.close)
            check_version(connection, folder / DATABASE)
            with storage_errors(folder / DATABASE):
                make_tables(connection)
            forget_stop(folder)
            store = cls(folder, connection, lock)
            store.arrays.sweep()
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the database and let the next writer in. What is not committed is dropped."""
        super().close()
        self._log.close()
        self._writer.release()

    # -- writing ------------------------------------------------------------------------------------

    def commit_seeds(self, archive: Archive) -> None:
        """Commit the states the run starts from, before its first step.

        :raises StorageError: when the disk is full or read-only; nothing has changed then.
        """
        self._save_arrays(archive)
        with self._transaction():
            changed = self._write_nodes(0, archive)
        self._note_written(changed)

    def commit_step(
        self,
        step: int,
        groups: Sequence[Group],
        archive: Archive,
        metrics: Mapping[str, float],
        timings: Mapping[str, float],
        *,
        advantages: Advantages | None = None,
        totals: StepTotals | None = None,
        checkpoint: str | None = None,
        tokens: KeptTokens | None = None,
        late: Sequence[LateRollout] = (),
        joined: Sequence[Place] = (),
    ) -> None:
        """Commit one step, durably and whole: what was sampled, what became of it, the archive after it.

        :param step: one more than the last committed.
        :param groups: as given to ``archive.admit`` for this step, which must have happened.
        :param archive: as that left it.
        :param metrics: the step's numbers by name.
        :param timings: seconds by name; kept among the metrics as ``seconds/NAME``.
        :param advantages: kept with the rollouts, where given.
        :param totals: of the groups, where the caller has added them up already.
        :param checkpoint: digest of the checkpoint written after the step, if one was.
        :param tokens: of the rollouts, where they are kept.
        :param late: rollouts that the step ended without.
        :param joined: where late ones of earlier steps, which are among its groups, were sampled.
        :raises StorageError: when the disk is full or read-only. Nothing has changed then, and the same
            call may be made again once there is room.
        :raises ValueError: when the step is not the next, or its groups are not those last admitted.
        """
        admission = self._admission(step, groups, archive)
        numbers = {**metrics, **{f"{SECONDS}{name}": value for name, value in timings.items()}}
        self._save_arrays(archive)
        if tokens is not None:
            self.arrays.save(tokens.arrays)
        with self._transaction():
            self._write_step(step, totals or StepTotals.of(groups), archive)
            changed = self._write_nodes(step, archive)
            self._write_groups(step, groups, admission, advantages)
            self._connection.executemany(
                "INSERT INTO metrics (step, name, value) VALUES (?, ?, ?)",
                [(step, name, encode_number(value)) for name, value in numbers.items()],
            )
            self._write_checkpoint(step, checkpoint)
            if tokens is not None:
                tokens.write(self._connection, step)
            late_table.write_late(self._connection, step, late, joined)
            events_written = self._write_events()
        del self._pending_events[:events_written]
        self._note_written(changed)

    def note_checkpoint(self, step: int, digest: str) -> None:
        """Note a checkpoint that was written after its step had been committed.

        :raises StorageError: when the disk is full or read-only.
        """
        with self._transaction():
            self._write_checkpoint(step, digest)

    def record(self, event: Event) -> None:
        """Keep an event: in ``log.jsonl`` at once, in the database with its step (see ``events.py``).

        :raises StorageError: when the disk is full or read-only.
        """
        with self._lock:
            self._log.append(event)
            if event["kind"] in ROLLOUT_KINDS:
                return
            self._pending_events.append(event)
            if event["kind"] not in DURABLE_KINDS:
                return
            with self._transaction():
                events_written = self._write_events()
            del self._pending_events[:events_written]

    def set_config(self, config: str) -> None:
        """Replace the config's text, on a resume that changes what may change.

        :raises StorageError: when the disk is full or read-only.
        """
        with self._transaction():
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'config'", (config,))

    def note_problem(self, record: str, change: str = "") -> None:
        """Note what the run's problem is.

        :param record: of :class:`~ttd_core.run.problem_record.ProblemRecord`, as JSON.
        :param change: how it differs from what was noted before, where that was accepted.
        :raises StorageError: when the disk is full or read-only.
        """
        rows = [("problem", record)]
        if change:
            rows.append((f"problem_changed:{self.last_step()}", change))
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", rows)

    def note_hints(self, step: int, present: Sequence[Hint]) -> list[HintRecord]:
        """Note before a step which hints its prompts carry (:mod:`ttd_core.run.hint_table`); returns them.

        :param present: every hint that was left for the run, the removed ones too.
        :raises StorageError: when the disk is full or read-only; nothing has changed then.
        """
        with self._transaction():
            hint_table.note_hints(self._connection, step, present)
        return self.hints(step)

    def revise_hints(self, step: int, present: Sequence[Hint]) -> None:
        """Note, after going back to ``step``, which hints later steps have by what is asked for now.

        :raises StorageError: when the disk is full or read-only; nothing has changed then.
        """
        with self._transaction():
            hint_table.revise_hints(self._connection, step, present)

    def late_rollouts(self) -> list[LateRollout]:
        """The late rollouts that no committed step has yet.

        :raises StorageError: when they cannot be read.
        """
        with self._snapshot():
            return late_table.read_waiting(self._connection, str(self.folder / DATABASE))

    def rewind(self, step: int) -> None:
        """Forget every step after ``step``: to continue from a checkpoint older than the last step.

        Events stay: they tell what happened. Array files stay too: a repeated step may want them again.

        :param step: a committed step, or 0 to keep the seeds alone.
        :raises StorageError: when the disk is full or read-only; nothing has changed then.
        """
        with self._transaction():
            for table in ("metrics", "tokens", "rollouts", "groups", "node_stats"):
                self._connection.execute(f"DELETE FROM {table} WHERE step > ?", (step,))
            self._connection.execute("DELETE FROM steps WHERE step > ?", (step,))
            late_table.rewind_late(self._connection, step)
            self._connection.execute(
                "DELETE FROM meta WHERE key LIKE 'checkpoint:%' AND CAST(substr(key, 12) AS INTEGER) > ?",
                (step,),
            )
            self._connection.execute("DELETE FROM states WHERE id NOT IN (SELECT node FROM node_stats)")
        self._written = self._read_statistics()

    # -- one transaction ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, storage_errors(self.folder / DATABASE):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some failures, a full disk among them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _admission(self, step: int, groups: Sequence[Group], archive: Archive) -> Admission:
        expected = self.last_step() + 1
        if step != expected:
            raise ValueError(f"{self.folder}: step {step} cannot be committed, the next is {expected}")
        admission = archive.admission
        sizes = [len(group.rollouts) for group in groups]
        if admission is None or admission.step != step or [len(row) for row in admission.outcomes] != sizes:
            raise ValueError(
                f"{self.folder}: admit the groups of step {step} to the archive, then commit them"
            )
        return admission

    def _save_arrays(self, archive: Archive) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for node in self._new_nodes(archive):
            node.state.to_json(arrays)
        self.arrays.save(arrays)

    def _new_nodes(self, archive: Archive) -> list[Node]:
        """Nodes that are not in the database yet."""
        return [node for node in archive.nodes.values() if node.id not in self._written]

    def _write_step(self, step: int, totals: StepTotals, archive: Archive) -> None:
        self._connection.execute(
            "INSERT INTO steps (step, finished, rollouts, valid, mean_value, best_value, best_score,"
            " expansions, next_node) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                step,
                time.time(),
                totals.rollouts,
                totals.valid,
                totals.mean_value,
                totals.best_value,
                totals.best_score,
                archive.expansions,
                archive.next_id,
            ),
        )

    def _write_checkpoint(self, step: int, digest: str | None) -> None:
        if digest is not None:
            self._connection.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (f"checkpoint:{step}", digest)
            )

    def _write_nodes(self, step: int, archive: Archive) -> dict[int, NodeStatistics]:
        """The new states, and the statistics that changed; returns these."""
        self._connection.executemany(INSERT_STATE, [state_row(node) for node in self._new_nodes(archive)])
        changed = changed_statistics(archive, self._written)
        self._connection.executemany(
            INSERT_NODE_STATISTICS, [(node, step, *row) for node, row in changed.items()]
        )
        return changed

    def _note_written(self, changed: Mapping[int, NodeStatistics]) -> None:
        """The statistics that changed are committed."""
        self._written.update(changed)
        for node in [node for node, row in changed.items() if row[-1] == DROPPED]:
            del self._written[node]

    def _write_groups(
        self, step: int, groups: Sequence[Group], admission: Admission, advantages: Advantages | None
    ) -> None:
        for group_index, group in enumerate(groups):
            self._connection.execute(
                "INSERT INTO groups (step, group_index, start, prompt_tokens, prompt) VALUES (?, ?, ?, ?, ?)",
                (step, group_index, group.start, len(group.prompt_tokens), json.dumps(list(group.prompt))),
            )
            of_group = (
                [None] * len(group.rollouts) if advantages is None else advantages[group_index].tolist()
            )
            rollouts = zip(group.rollouts, admission.outcomes[group_index], of_group, strict=True)
            self._connection.executemany(
                INSERT_ROLLOUT,
                [(step, group_index, index, *rollout_columns(*each)) for index, each in enumerate(rollouts)],
            )

    def _write_events(self) -> int:
        """Write the pending events; return how many, to be forgotten once they are committed."""
        rows = [
            (event["time"], event["kind"], event.get("step"), to_line(event))
            for event in self._pending_events
        ]
        self._connection.executemany("INSERT INTO events (time, kind, step, body) VALUES (?, ?, ?, ?)", rows)
        return len(rows)

    def _read_statistics(self) -> dict[int, NodeStatistics]:
        rows = self._rows(
            f"SELECT id, visits, best_child, attempts, duplicates, place FROM ({NODES}) WHERE place <> ?",
            (DROPPED,),
        )
        return {row[0]: tuple(row[1:]) for row in rows}
