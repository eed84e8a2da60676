"""Reading a run: the committed steps, rollouts, states, metrics and events, and the archive as it was.

Any number of readers, in any process, work beside the one that writes; each method sees whole steps only.
"""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import SearchConfig
from ttd_core.run.arrays import ArrayFiles, LazyArrays
from ttd_core.run.events import Event, decode_event
from ttd_core.run.files import storage_errors
from ttd_core.run.pending_lines import finite_number
from ttd_core.run.records import (
    GroupRecord,
    HintRecord,
    Outcomes,
    RolloutRecord,
    StateRecord,
    StepRecord,
    columns,
    decode_object,
    decode_reward,
    decode_row,
    require_parents,
)
from ttd_core.run.row_types import damaged, damaged_rows, require_types
from ttd_core.run.tables import FAILURES_AT, NODES, NODES_AT, check_version, connect_reader, has_table
from ttd_core.run.tokens import TokenRecord, read_tokens
from ttd_core.search.archive import Archive, Node
from ttd_core.types import Failure, State, Status

Record = TypeVar("Record", bound=attrs.AttrsInstance)

#: Columns of ``rollouts`` but the completions' texts, by far the widest.
_WITHOUT_TEXT = ", ".join(field.name for field in attrs.fields(RolloutRecord) if field.name != "text")
#: Columns of a :class:`StateRecord` but the programs and what they printed.
_NARROW_NODES = ", ".join(
    field.name for field in attrs.fields(StateRecord) if field.name not in ("code", "output")
)

DATABASE = "run.db"
ARRAYS = "arrays"
LOG = "log.jsonl"


class RunReader:
    """A run folder, for reading.

    :param folder: the run's folder.
    :param connection: to its database.
    """

    def __init__(self, folder: pathlib.Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self.arrays = ArrayFiles(folder / ARRAYS)
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: pathlib.Path | str) -> Self:
        """Open an existing run for reading.

        :raises ResumeError: when the folder holds no run, or one of another schema.
        :raises StorageError: when it cannot be read.
        """
        folder = pathlib.Path(folder)
        connection = connect_reader(folder / DATABASE)
        try:
            check_version(connection, folder / DATABASE)
        except BaseException:
            connection.close()
            raise
        return cls(folder, connection)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what the run is ----------------------------------------------------------------------------

    def config(self) -> str:
        """The config's text, as it was given to ``create``."""
        return self._entry("config")

    def problem_record(self) -> str | None:
        """What was noted of the run's problem (:mod:`ttd_core.run.problem_record`), as JSON.

        ``None`` in runs of versions that noted nothing.
        """
        rows = self._rows("SELECT value AS entry FROM meta WHERE key = 'problem'")
        return rows[0][0] if rows else None

    def problem_changes(self) -> dict[int, str]:
        """Changes of the problem that were accepted on a resume: by the step they came after, in a line."""
        return self._meta_by_step("problem_changed")

    def created(self) -> float:
        """When the run was begun, in seconds since the epoch."""
        with damaged_rows(self.path, "when the run was begun"):
            return finite_number(float(self._entry("created")))

    def checkpoint_digests(self) -> dict[int, str]:
        """The checkpoints that the run wrote, by step (:meth:`~ttd_core.run.checkpoints.Checkpoints.digest`).

        Empty in runs of versions that did not note them; some may have been deleted since.
        """
        return self._meta_by_step("checkpoint")

    def _meta_by_step(self, name: str) -> dict[int, str]:
        """The entries ``NAME:STEP`` of the table ``meta``, by step."""
        rows = self._rows("SELECT key, value AS entry FROM meta WHERE key LIKE ?", (f"{name}:%",))
        with damaged_rows(self.path, f"an entry {name}:STEP"):
            return {int(key.partition(":")[2]): value for key, value in rows}

    def _entry(self, key: str) -> str:
        """An entry of the table ``meta`` that every run has.

        :raises StorageError: where this one has not.
        """
        for (value,) in self._rows("SELECT value AS entry FROM meta WHERE key = ?", (key,)):
            return str(value)
        raise damaged(self.path, f"the table meta has no entry '{key}'")

    def last_step(self) -> int:
        """Number of the last committed step; 0 before the first."""
        return int(self._rows("SELECT coalesce(max(step), 0) AS step FROM steps")[0][0])

    # -- what happened ------------------------------------------------------------------------------

    def steps(self) -> list[StepRecord]:
        """Committed steps, in order."""
        return self._records(StepRecord, "FROM steps ORDER BY step")

    def groups(self, step: int | None = None) -> list[GroupRecord]:
        """Groups of one step, or of all, in order."""
        where, values = ("", ()) if step is None else ("WHERE step = ?", (step,))
        return self._records(GroupRecord, f"FROM groups {where} ORDER BY step, group_index", values)

    def rollouts(self, step: int | None = None, *, text: bool = True) -> Iterator[RolloutRecord]:
        """Rollouts of one step, or of all, in order; read step by step.

        :param text: whether to read the completions' texts, by far the widest column.
        """
        source = "rollouts" if text else f"(SELECT {_WITHOUT_TEXT}, '' AS text FROM rollouts)"
        for each in [record.step for record in self.steps()] if step is None else [step]:
            yield from self._records(
                RolloutRecord, f"FROM {source} WHERE step = ? ORDER BY group_index, rollout_index", (each,)
            )

    def outcomes(self) -> list[Outcomes]:
        """How each step's rollouts ended and what they cost, those of a step in the order of their first."""
        # The sum of a column in which a text stands is no whole number.
        rows = self._rows(
            "SELECT step, status, count(*), sum(tokens) AS tokens, sum(seconds) AS seconds FROM rollouts"
            " GROUP BY step, status ORDER BY step, min(group_index * 1000000 + rollout_index)"
        )
        return self._decoded(Outcomes, rows)

    def rewards(self) -> dict[int, npt.NDArray[np.float64]]:
        """By step, float64 [valid rollouts], in their order; steps without any are left out."""
        rows = self._rows(
            "SELECT step, value FROM rollouts WHERE value IS NOT NULL"
            " ORDER BY step, group_index, rollout_index"
        )
        by_row = np.array(rows, dtype=np.float64).reshape(-1, 2)
        steps, firsts = np.unique(by_row[:, 0], return_index=True)
        ends = [*firsts[1:], len(by_row)]
        return {
            int(step): by_row[first:end, 1] for step, first, end in zip(steps, firsts, ends, strict=False)
        }

    def first_message(self, status: Status) -> str:
        """The message of the first rollout of a status that has one; empty where none has."""
        rows = self._rows(
            "SELECT message FROM rollouts WHERE status = ? AND message <> ''"
            " ORDER BY step, group_index, rollout_index LIMIT 1",
            (status.value,),
        )
        with damaged_rows(self.path, "a message"):
            return str(decode_row(rows[0])[0]) if rows else ""

    def tokens(self, step: int) -> dict[tuple[int, int], TokenRecord]:
        """The kept tokens of a step's rollouts, by the indices of group and rollout (``keep_tokens``).

        :raises StorageError: when their arrays are missing or damaged.
        """
        if not self._has_table("tokens"):
            return {}
        rows = self._rows("SELECT data FROM tokens WHERE step = ?", (step,))
        texts = dict(self._rows("SELECT token, text FROM vocabulary")) if rows else {}
        with damaged_rows(self.path, f"the tokens of step {step}"):
            return read_tokens(rows[0][0], LazyArrays(self.arrays), texts) if rows else {}

    def metrics(self) -> dict[int, dict[str, float]]:
        """Each step's metrics by name (:class:`~ttd_core.metrics.Metric`), NaN where one is stored as null.

        Among them are the timings, in seconds, named ``seconds/...`` (:class:`~ttd_core.metrics.Timing`).
        """
        result: dict[int, dict[str, float]] = {}
        query = "SELECT step, name AS metric, value AS measured FROM metrics ORDER BY step, name"
        for step, name, value in self._rows(query):
            result.setdefault(step, {})[name] = float("nan") if value is None else value
        return result

    def events(self, since: int = 0, *, kind: str | None = None) -> list[Event]:
        """Events of committed steps and of the run, in order, each with its ``number``.

        :param since: only those with a higher number: the last one seen.
        :param kind: only those of this kind.
        """
        rows = self._rows(
            "SELECT number, body FROM events WHERE number > ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY number",
            (since, kind),
        )
        with damaged_rows(self.path, "an event"):
            return [{"number": number, **decode_event(body)} for number, body in rows]

    def newest_event(self, *kinds: str) -> Event | None:
        """The newest event of some kinds; ``None`` where there is none."""
        marks = ", ".join("?" * len(kinds))
        rows = self._rows(
            f"SELECT body FROM events WHERE kind IN ({marks}) ORDER BY number DESC LIMIT 1", kinds
        )
        with damaged_rows(self.path, "an event"):
            return decode_event(rows[0][0]) if rows else None

    def hints(self, step: int | None = None) -> list[HintRecord]:
        """Hints of people that prompts carried, in the order of their numbers.

        The step under way counts. Those that no step has begun with yet are in the folder alone
        (:func:`ttd_core.run.requests.hints`).

        :param step: only those that the prompts of this step carry.
        """
        found: list[HintRecord] = []
        if self._has_table("hints"):
            found = self._records(HintRecord, "FROM hints ORDER BY number, written")
        return [hint for hint in found if step is None or hint.stands(step)]

    # -- what was found -----------------------------------------------------------------------------

    def states(self, *, text: bool = True) -> list[StateRecord]:
        """Every state that ever entered the archive, oldest first, seeds included.

        :param text: whether to read the programs and what they printed.
        """
        wide = "code, output" if text else "'' AS code, '' AS output"
        found = self._records(
            StateRecord, f"FROM (SELECT {_NARROW_NODES}, {wide} FROM ({NODES})) ORDER BY id"
        )
        with damaged_rows(self.path, "the states"):
            require_parents(found, {state.id for state in found})
        return found

    def best(self, count: int = 1) -> list[StateRecord]:
        """The ``count`` scored states of highest reward, best first; the older of equals first."""
        return self._records(
            StateRecord,
            f"FROM ({NODES}) WHERE value IS NOT NULL ORDER BY value DESC, id LIMIT ?",
            (count,),
        )

    def state(self, node: int) -> State:
        """One state, construction included.

        :raises KeyError: when there is none.
        :raises StorageError: when its arrays are missing or damaged.
        """
        rows = self._rows("SELECT code, output, data FROM states WHERE id = ?", (node,))
        if not rows:
            raise KeyError(node)
        with damaged_rows(self.path, f"state {node}"):
            return self._state(*decode_row(rows[0]))

    def node_with_program(self, code: str) -> int | None:
        """The first state that the run found with a program; ``None`` when there is none."""
        rows = self._rows("SELECT min(id) AS first_node FROM states WHERE code = ? AND seed = 0", (code,))
        return None if rows[0][0] is None else int(rows[0][0])

    def load_archive(self, config: SearchConfig, step: int | None = None) -> Archive:
        """The archive exactly as it was when a step was committed.

        :param config: the run's search config.
        :param step: any committed step, 0 for the seeds alone; the last one by default.
        :raises StorageError: when arrays are missing or damaged.
        """
        with self._snapshot():
            step = self.last_step() if step is None else step
            rows = self._rows(NODES_AT, (step,))
            counts = self._rows("SELECT expansions, next_node FROM steps WHERE step = ?", (step,))
            failures = self._rows(FAILURES_AT, (step,))
        arrays = LazyArrays(self.arrays)
        with damaged_rows(self.path, "the archive"):
            nodes = {row[0]: self._node(decode_row(row), arrays) for row in rows}
            require_parents(nodes.values(), nodes)
            for start, status, message, output in map(decode_row, failures):
                nodes[start].failures[Status(status)] = Failure.of(message, output)
        # Before the first step there are the seeds alone.
        expansions, next_node = counts[0] if counts else (0, len(rows))
        return Archive.from_nodes(config, nodes.values(), expansions, next_node)

    def _node(self, row: Sequence[Any], arrays: LazyArrays) -> Node:
        (
            node_id,
            parent,
            step,
            seed,
            digest,
            reward,
            code,
            output,
            data,
            visits,
            best_child,
            attempts,
            duplicates,
            place,
        ) = row
        return Node(
            id=node_id,
            state=self._state(code, output, data, arrays),
            reward=decode_reward(reward),
            parent=parent,
            step=step,
            seed=bool(seed),
            digest=digest,
            visits=visits,
            best_child=best_child,
            attempts=attempts,
            duplicates=duplicates,
            held=place == "held",
        )

    def _state(self, code: str, output: str, data: str, arrays: LazyArrays | None = None) -> State:
        value = {"code": code, "output": output, "data": decode_object(data)}
        return State.from_json(value, arrays if arrays is not None else LazyArrays(self.arrays))

    # -- the database -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads that see the same committed step."""
        with self._lock, storage_errors(self.path, "read"):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def _has_table(self, name: str) -> bool:
        """Whether there is a table, which runs of older versions may lack."""
        with self._lock, storage_errors(self.path, "read"):
            return has_table(self._connection, name)

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, storage_errors(self.path, "read"):
            cursor = self._connection.execute(query, values)
            rows = cursor.fetchall()
        require_types([name for name, *_ in cursor.description], rows, self.path)
        return rows

    def _records(self, record: type[Record], source: str, values: Sequence[Any] = ()) -> list[Record]:
        return self._decoded(record, self._rows(f"SELECT {columns(record)} {source}", values))

    def _decoded(self, record: type[Record], rows: Sequence[Sequence[Any]]) -> list[Record]:
        with damaged_rows(self.path, f"a {record.__name__}"):
            return [record(*decode_row(row)) for row in rows]
