"""Every hook of ttd, typed and documented. Project name: ``ttd``.

The domain hooks mirror the methods of :class:`~ttd_core.problem.Problem`; the adapter that ttd registers
first calls them. A plugin may implement a hook for its own problems, or wrap any with
``@hookimpl(wrapper=True)``. See ``docs/hooks.md`` for an example of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pluggy

if TYPE_CHECKING:
    from ttd_core.problem import Execute, Problem
    from ttd_core.types import Action, Completion, Message, Reward, ScoredState, State, Verdict

hookspec = pluggy.HookspecMarker("ttd")
#: Marks a function of a plugin as the implementation of the hook of its name.
hookimpl = pluggy.HookimplMarker("ttd")


@hookspec(firstresult=True)
def ttd_render_prompt(problem: Problem, state: State, history: Sequence[ScoredState]) -> list[Message] | None:
    """Render the chat messages that ask for a better solution than ``state``; once per group.

    :param problem: the problem of the run.
    :param state: the start state.
    :param history: its lineage, oldest first, ending with ``state``; empty for an unscored seed.
    :return: chat messages, or ``None`` to let the next implementation answer.
    """


@hookspec(firstresult=True)
def ttd_parse_action(problem: Problem, completion: Completion) -> Action | Verdict | None:
    """Read the action out of a reply; once per rollout.

    :param problem: the problem of the run.
    :param completion: the sampled reply.
    :return: the action, a failed verdict, or ``None`` to let the next implementation answer.
    """


@hookspec(firstresult=True)
def ttd_transition(
    problem: Problem, state: State, action: Action, execute: Execute
) -> State | Verdict | None:
    """Apply the action to the state; once per rollout, or with a ``cascade`` once per stage of it.

    :param problem: the problem of the run.
    :param state: the start state.
    :param action: what the model proposed.
    :param execute: runs a job in the sandbox; the only way to run candidate code.
    :return: the new state, a failed verdict, or ``None`` to let the next implementation answer.
    """


@hookspec
def ttd_check(problem: Problem, state: State) -> Sequence[str]:
    """Check a new state in the trusted process; all implementations are asked.

    :param problem: the problem of the run.
    :param state: the new state: data that nobody can change.
    :return: violations, one sentence each; any violation fails the state.
    """
    return ()


@hookspec(firstresult=True)
def ttd_reward(problem: Problem, state: State) -> Reward | None:
    """Score a valid state in the trusted process.

    :param problem: the problem of the run.
    :param state: the valid state: data that nobody can change.
    :return: its reward and score, or ``None`` to let the next implementation answer.
    """


@hookspec(firstresult=True)
def ttd_seed_states(problem: Problem, rng: np.random.Generator, count: int) -> Sequence[State] | None:
    """Make the states a run starts from; once per run.

    :param problem: the problem of the run.
    :param rng: seeded by the run's seed.
    :param count: how many, at least one per group.
    :return: the states, or ``None`` to let the next implementation answer.
    """


@hookspec
def ttd_policies() -> Mapping[str, Any]:
    """Name the policy backends this plugin brings.

    :return: backend name to a factory ``(RunConfig) -> Policy`` that imports what it needs when called.
    """
    return {}


@hookspec
def ttd_executors() -> Mapping[str, Any]:
    """Name the executors this plugin brings.

    :return: executor name to a factory ``(RunConfig) -> Executor`` that imports what it needs when called.
    """
    return {}


@hookspec
def ttd_event(event: Mapping[str, Any]) -> None:
    """Observe the run: called for every event, in the process of the loop.

    :param event: JSON: ``kind`` (see ``docs/run-folder.md``), ``time`` (seconds since the epoch) and the
        kind's own fields.
    """


@hookspec
def ttd_commands(cli: click.Group) -> None:
    """Add commands to the ``ttd`` command line.

    :param cli: the root group.
    """
