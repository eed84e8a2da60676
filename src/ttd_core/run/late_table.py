"""Late rollouts between their own step and the one that they join: the table ``late`` as the run writes it.

A row is written in the transaction of the step that ended without the rollout, and marked in that of the step
which it joined. So whenever a run is killed, each rollout is in ``rollouts``, or waits here, or is sampled
again with its step; never two of these.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import attrs

from ttd_core.errors import StorageError
from ttd_core.policy.base import Sample
from ttd_core.run.pending_lines import UNREADABLE, finite_number, parsed, prompt_line, read_sample, reply_line
from ttd_core.run.records import Place, RolloutIndex, place_name
from ttd_core.run.row_encoding import exact_json
from ttd_core.stages import Counted
from ttd_core.types import Message

_WAITING = """
    SELECT late.step, late.group_index, late.rollout_index, start, prompt, policy_step, others, prompt_line,
        reply_line
    FROM late JOIN groups ON groups.step = late.step AND groups.group_index = late.group_index
    WHERE joined IS NULL ORDER BY 1, 2, 3
"""


@attrs.frozen(eq=False)
class LateRollout:
    """A reply whose step ended before it was judged.

    :param step: the step in which it was sampled.
    :param start: node of its group's start.
    :param prompt: its group's chat messages.
    :param sample: the reply, with the indices that it has in its step.
    :param policy_step: the step that the policy which gave it had learned last.
    :param others: the rollouts of its group that were judged in time and count.
    """

    step: int
    start: int
    prompt: Sequence[Message]
    sample: Sample
    policy_step: int
    others: Sequence[Counted]

    @property
    def index(self) -> RolloutIndex:
        """Of its group in its step, and in that group."""
        return self.sample.prompt, self.sample.index

    @property
    def place(self) -> Place:
        """Where it was sampled."""
        return self.step, *self.index

    @property
    def name(self) -> str:
        """Where it was sampled, as STEP/GROUP/INDEX."""
        return place_name(self.place)


def write_late(
    connection: sqlite3.Connection, step: int, new: Sequence[LateRollout], joined: Sequence[Place]
) -> None:
    """Note which rollouts a step ended without, and which of earlier steps are among its own.

    :param connection: in the step's transaction.
    """
    connection.executemany(
        "INSERT INTO late (step, group_index, rollout_index, policy_step, others, prompt_line, reply_line) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *each.place,
                each.policy_step,
                json.dumps(list(map(_other_line, each.others))),
                exact_json(prompt_line("", each.sample)),
                exact_json(reply_line("", each.sample)),
            )
            for each in new
        ],
    )
    connection.executemany(
        "UPDATE late SET joined = ? WHERE step = ? AND group_index = ? AND rollout_index = ?",
        [(step, *place) for place in joined],
    )


def read_waiting(connection: sqlite3.Connection, where: str = "run.db") -> list[LateRollout]:
    """The late rollouts that no step had yet.

    :param where: the database's path, for messages.
    :raises StorageError: when a row holds what no run writes.
    """
    return [_read_row(row, where) for row in connection.execute(_WAITING)]


def _read_row(row: Sequence[Any], where: str) -> LateRollout:
    step, group, index, start, prompt, policy_step, others, of_prompt, reply = row
    try:
        sample = read_sample(parsed(reply.encode()), parsed(of_prompt.encode()))
        read = [_read_other(other) for other in json.loads(others)]
        if (sample.prompt, sample.index) != (group, index) or type(policy_step) is not int:
            raise ValueError("it is another rollout's")
        return LateRollout(step, start, json.loads(prompt), sample, policy_step, read)
    except UNREADABLE as error:
        raise StorageError(
            f"{where} cannot be read: the late rollout {step}/{group}/{index} is damaged. Restore the run "
            f"folder from a copy, or go back before it with --back-to {step - 1}"
        ) from error


def _other_line(other: Counted) -> float | list[float]:
    """The reward of a rollout; where it ran with shares of its budget, how far it went as well."""
    return [other.value, other.runs, int(other.valid)] if other.runs else other.value


def _read_other(line: float | list[float]) -> Counted:
    """Inverse of :func:`_other_line`."""
    value, runs, valid = line if isinstance(line, list) else (line, 0, 0)
    if type(runs) is not int:
        raise TypeError("runs are counted in whole numbers")
    return Counted(finite_number(value), runs, bool(valid))


def rewind_late(connection: sqlite3.Connection, step: int) -> None:
    """Forget what steps after ``step`` ended without; what they took in waits again.

    :param connection: in a transaction.
    """
    connection.execute("DELETE FROM late WHERE step > ?", (step,))
    connection.execute("UPDATE late SET joined = NULL WHERE joined > ?", (step,))
