"""A run looked at one thing at a time: one rollout, one state, a search, what the search knew at a step."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ttd_core.run.files import storage_errors
from ttd_core.run.reading import RunReader
from ttd_core.run.records import GroupRecord, HeldNode, Place, RolloutRecord, StateRecord
from ttd_core.run.rollout_query import RolloutQuery, limited
from ttd_core.run.row_types import require_types
from ttd_core.run.tables import KNOWN_AT, NODES


class RunBrowser(RunReader):
    """A run folder, for those who pick single things out of it."""

    def rollout(self, step: int, group: int, index: int) -> RolloutRecord:
        """One rollout.

        :raises KeyError: when there is none.
        """
        found = self._records(
            RolloutRecord,
            "FROM rollouts WHERE step = ? AND group_index = ? AND rollout_index = ?",
            (step, group, index),
        )
        if not found:
            raise KeyError((step, group, index))
        return found[0]

    def group(self, step: int, group: int) -> GroupRecord:
        """One group of a step.

        :raises KeyError: when there is none.
        """
        found = self._records(GroupRecord, "FROM groups WHERE step = ? AND group_index = ?", (step, group))
        if not found:
            raise KeyError((step, group))
        return found[0]

    def group_places(self, step: int, group: int) -> list[Place]:
        """The places of a group's rollouts, in order."""
        return self.find_rollouts(RolloutQuery(step=step, group=group))

    def groups_from(self, node: int) -> list[tuple[int, int]]:
        """Step and index of the groups that started from a node, in order."""
        return self._rows(
            "SELECT step, group_index FROM groups WHERE start = ? ORDER BY step, group_index", (node,)
        )

    def found_by(self, step: int, node: int) -> list[Place]:
        """The places of a step's rollouts that became a node, or repeat it."""
        return self._rows(
            "SELECT step, group_index, rollout_index FROM rollouts WHERE step = ? AND node = ?", (step, node)
        )

    def starts(self, step: int) -> list[int]:
        """The nodes that a step's groups started from, in order."""
        rows = self._rows("SELECT start FROM groups WHERE step = ? ORDER BY group_index", (step,))
        return [node for (node,) in rows]

    def find_rollouts(self, query: RolloutQuery, seconds: float | None = None) -> list[Place]:
        """Where the rollouts are that a query asks for, in its order.

        :param seconds: how long it may take.
        :raises UsageError: when it takes longer.
        """
        with self._lock, storage_errors(self.path, "read"), limited(self._connection, seconds):
            cursor = self._connection.execute(*query.statement())
            rows = cursor.fetchall()
        require_types([name for name, *_ in cursor.description], rows, self.path)
        return rows

    def short_rollouts(self, places: Sequence[Place]) -> list[RolloutRecord]:
        """The rollouts of some places, in their order, without program, output and text."""
        names = ", ".join(
            f"'' AS {field.name}" if field.name in ("code", "output", "text") else field.name
            for field in attrs.fields(RolloutRecord)
        )
        query = f"SELECT {names} FROM rollouts WHERE step = ? AND group_index = ? AND rollout_index = ?"
        rows = [row for place in places for row in self._rows(query, place)]
        return self._decoded(RolloutRecord, rows)

    def state_record(self, node: int) -> StateRecord:
        """One state as :meth:`states` has it.

        :raises KeyError: when there is none.
        """
        found = self._records(StateRecord, f"FROM ({NODES}) WHERE id = ?", (node,))
        if not found:
            raise KeyError(node)
        return found[0]

    def node_statistics(self, step: int) -> list[HeldNode]:
        """What the archive knew of its held states when a step was committed, oldest first."""
        rows = self._rows(
            f"SELECT states.id, value, seed, visits, best_child {KNOWN_AT}"
            " AND place = 'held' ORDER BY states.id",
            (step,),
        )
        return self._decoded(HeldNode, rows)

    def expansions(self, step: int) -> int:
        """T of PUCT when a step was committed; 0 before the first."""
        rows = self._rows("SELECT expansions FROM steps WHERE step = ?", (step,))
        return int(rows[0][0]) if rows else 0

    def version(self) -> tuple[float, int, int, int]:
        """Changes whenever what is read may have: the run's beginning, for another run may have taken its
        folder, then last step, last event, entries of the table ``meta``.
        """
        step, event, entries = self._rows(
            "SELECT (SELECT coalesce(max(step), 0) FROM steps),"
            " (SELECT coalesce(max(number), 0) FROM events), (SELECT count(*) FROM meta)"
        )[0]
        return self.created(), step, event, entries
