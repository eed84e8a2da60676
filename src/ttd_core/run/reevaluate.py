"""One state of a run judged again as the run judged it: its problem, its options, the state it came from.

What a program is given depends on the state that it starts from (a former construction, say), so elsewhere it
may come to another score.
"""

from __future__ import annotations

import pathlib

import attrs

from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import ResumeError, UsageError
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import resolve
from ttd_core.problem import Execute, Problem
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.run.problem_record import PROBLEM_FOLDER, ProblemRecord, require_problem_file
from ttd_core.run.reading import RunReader
from ttd_core.types import Action, Reward, State, Verdict

#: Nodes found from a start that a message names.
_MOST_TOLD = 12


@attrs.frozen
class NodeOfRun:
    """A state that a run found, with all that it was judged by.

    :param folder: the run's.
    :param node: its number.
    :param problem: the run's, with the run's options.
    :param config: the run's.
    :param parent: number of the state that it came from.
    :param start: that state.
    :param state: itself.
    :param reward: that the run gave it.
    """

    folder: pathlib.Path
    node: int
    problem: Problem
    config: RunConfig
    parent: int
    start: State
    state: State
    reward: Reward

    @classmethod
    def of(cls, folder: pathlib.Path, node: int) -> NodeOfRun:
        """A state of a run.

        :raises ResumeError: when there is no run, or its problem is missing or was changed since.
        :raises UsageError: when it has no such state, or the state is one that the run began with.
        """
        with RunReader.open(folder) as run:
            records = {record.id: record for record in run.states(text=False)}
            if node not in records:
                have = f"its nodes are 0 to {max(records)}" if records else "it has none yet"
                raise UsageError(f"{folder}: there is no node {node}: {have}")
            record = records[node]
            if record.parent is None:
                found = [str(each.id) for each in records.values() if each.parent == node]
                said = ", ".join(found[:_MOST_TOLD]) + (", ..." if len(found) > _MOST_TOLD else "")
                more = f"nodes found from it: {said}" if found else "nothing was found from it"
                raise UsageError(f"{folder}: node {node} is a start of the run, found from no state; {more}")
            assert record.reward is not None
            recorded = ProblemRecord.of_run(run)
            require_problem_file(folder, recorded)
            problem, config = resolve(configs.from_toml(run.config(), where=f"{folder}/run.db"))
            change = recorded.changes_to(ProblemRecord.of(problem, config.problem)) if recorded else ""
            if change:
                raise ResumeError(
                    f"{folder}: {change}. The run judged otherwise: undo the change (what the run knows is "
                    f"in {folder / PROBLEM_FOLDER}), or judge the file alone with: ttd eval PROBLEM FILE"
                )
            start, state = run.state(record.parent), run.state(node)
        return cls(folder, node, problem, config, record.parent, start, state, record.reward)

    def evaluate(self, hooks: Hooks, execute: Execute) -> Verdict:
        """Judge it again: its program from the state that it came from; one without a program as it is."""
        if not self.state.code:
            return evaluate_state(hooks, self.state)
        return evaluate_action(hooks, self.start, Action(self.state.code, self.problem.language), execute)


def node_with_program(folder: pathlib.Path, code: str) -> int | None:
    """The first state that a run found with a program; ``None`` when it has none, or is no run."""
    try:
        with RunReader.open(folder) as run:
            return run.node_with_program(code)
    except ResumeError:
        return None
