"""From a reply to a verdict: parse, transition in the sandbox, check, reward.

A failed rollout is a :class:`~ttd_core.types.Verdict`; only a plugin's own bug is an exception, and
:func:`judge_reply`, which runs use, makes a verdict of that too. Check and reward see the state as data
(read-only arrays, JSON), never anything the candidate's process still holds.
"""

from __future__ import annotations

import threading

import attrs
import numpy as np

from ttd_core.errors import PluginError
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.sandbox.base import Job, JobResult
from ttd_core.text import showable_line
from ttd_core.types import Action, Completion, State, Status, Verdict

#: Statuses that say nothing of the program: it had no part in them.
NOT_OF_THE_PROGRAM = frozenset({Status.INFRASTRUCTURE, Status.PROBLEM_ERROR})
#: Violations quoted in a verdict's message; the rest are counted.
_QUOTED = 3


class UsageRecorder:
    """Runs jobs through ``execute`` and adds up what they used; a plugin may call it from several threads.

    ``seconds`` is the jobs' wall time added up, ``peak_memory`` the largest of theirs in bytes (0 where it
    was not measured), ``level`` the sandbox level of the last one, empty before the first.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._lock = threading.Lock()
        self.seconds = 0.0
        self.level = ""
        self.peak_memory = 0

    def __call__(self, job: Job) -> JobResult:
        """Run a job in the sandbox and note its cost."""
        result = self._execute(job)
        with self._lock:
            self.seconds += result.wall_s
            self.level = str(result.level)
            self.peak_memory = max(self.peak_memory, result.peak_memory)
        return result


def judge_reply(hooks: Hooks, start: State, completion: Completion, execute: Execute) -> Verdict:
    """Judge one reply; where the problem's own code fails on it the verdict is ``problem_error``.

    Replies and results are a candidate's, and what a plugin's code raises on one of them must not end a run,
    again each time it is resumed. A result that the verifier cannot take is no valid one, so the rollout
    counts as failed.
    """
    action = read_reply(hooks, completion)
    return action if isinstance(action, Verdict) else judge_action(hooks, start, action, execute)


def read_reply(hooks: Hooks, completion: Completion) -> Action | Verdict:
    """The action in a reply; a verdict where there is none, or where the problem's own code fails on it."""
    try:
        return hooks.parse_action(completion)
    except PluginError as error:
        return Verdict.failed(Status.PROBLEM_ERROR, showable_line(str(error)))


def judge_action(hooks: Hooks, start: State, action: Action, execute: Execute) -> Verdict:
    """Run an action and judge where it leads; where the problem's own code fails, ``problem_error``."""
    try:
        return evaluate_action(hooks, start, action, execute)
    except PluginError as error:
        return Verdict.failed(Status.PROBLEM_ERROR, showable_line(str(error)), code=action.code)


def evaluate_completion(hooks: Hooks, start: State, completion: Completion, execute: Execute) -> Verdict:
    """Judge one reply to the prompt for ``start``.

    :raises PluginError: when a hook fails; names the plugin.
    """
    action = hooks.parse_action(completion)
    if isinstance(action, Verdict):
        return action
    return evaluate_action(hooks, start, action, execute)


def evaluate_action(hooks: Hooks, start: State, action: Action, execute: Execute) -> Verdict:
    """Run an action from ``start`` and judge the state it leads to.

    :raises PluginError: when a hook fails; names the plugin.
    """
    recorder = UsageRecorder(execute)
    reached = hooks.transition(start, action, recorder)
    verdict = reached if isinstance(reached, Verdict) else evaluate_state(hooks, reached)
    metrics = dict(verdict.metrics)
    if recorder.peak_memory:
        metrics["peak_memory"] = recorder.peak_memory
    return attrs.evolve(
        verdict,
        code=verdict.code or action.code,
        seconds=recorder.seconds,
        level=recorder.level,
        metrics=metrics,
    )


def evaluate_state(hooks: Hooks, state: State) -> Verdict:
    """Check and score a state in the trusted process.

    :raises PluginError: when a hook fails; names the plugin.
    """
    # A candidate's numbers may overflow: the verdict says what is wrong with them, warnings add nothing.
    with np.errstate(all="ignore"):
        violations = hooks.check(state)
        reward = None if violations else hooks.reward(state)
    if violations:
        more = len(violations) - _QUOTED
        quoted = "; ".join(violations[:_QUOTED]) + (f"; and {more} more" if more > 0 else "")
        return Verdict.failed(Status.INVALID, quoted, code=state.code, output=state.output)
    return Verdict(Status.OK, state=state, reward=reward, code=state.code, output=state.output)
