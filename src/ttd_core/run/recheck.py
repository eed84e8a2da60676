"""Final selection: evaluate the best states again and rank them by their mean score (paper C.1, D).

Scores that were measured (times, stochastic programs) profit from luck; the best of many is the luckiest.
"""

from __future__ import annotations

import math
import pathlib

import attrs
import numpy as np

from ttd_core import config as configs
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import resolve
from ttd_core.problem import Execute
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.run.reading import RunReader
from ttd_core.run.records import StateRecord
from ttd_core.types import Action, State, Verdict


@attrs.frozen
class Rechecked:
    """One state evaluated again.

    :param rank: 1 for the best mean; states that failed every time come last.
    :param node: its node.
    :param step: the step that found it.
    :param first: the score that the run gave it.
    :param mean: mean score of the valid repetitions; ``None`` when none was.
    :param spread: standard deviation of those scores.
    :param valid: how many repetitions were valid.
    :param times: how many there were.
    :param messages: what went wrong in the others.
    :param code: its program.
    """

    rank: int
    node: int
    step: int
    first: float
    mean: float | None
    spread: float
    valid: int
    times: int
    messages: tuple[str, ...]
    code: str


def recheck(folder: pathlib.Path, count: int, times: int) -> list[Rechecked]:
    """Evaluate the best ``count`` states of a run again, ``times`` times each, from their own start states.

    A state with a program runs it; one that is only a construction is verified again.

    :return: by rank.
    :raises ResumeError: when the folder holds no run.
    """
    with RunReader.open(folder) as run:
        problem, config = resolve(configs.from_toml(run.config(), where=str(folder)))
        hooks = Hooks(problem)
        records = run.best(count)
        with open_executor(hooks, config) as executor:
            results = [_reevaluate(run, hooks, record, times, executor.run) for record in records]
    # The gain over 0 grows as scores get better, whichever way that is.
    results.sort(key=lambda result: math.inf if result.mean is None else -problem.gain(0.0, result.mean))
    return [attrs.evolve(result, rank=rank) for rank, result in enumerate(results, start=1)]


def _reevaluate(run: RunReader, hooks: Hooks, record: StateRecord, times: int, execute: Execute) -> Rechecked:
    assert record.reward is not None
    assert hooks.problem is not None
    verdicts: list[Verdict] = []
    start = run.state(record.parent) if record.parent is not None else State()
    for _ in range(times):
        if record.code:
            action = Action(record.code, hooks.problem.language)
            verdicts.append(evaluate_action(hooks, start, action, execute))
        else:
            verdicts.append(evaluate_state(hooks, run.state(record.id)))
    scores = [verdict.reward.score for verdict in verdicts if verdict.reward is not None]
    failures = [f"{v.status}: {v.message}" for v in verdicts if v.reward is None]
    return Rechecked(
        rank=0,
        node=record.id,
        step=record.step,
        first=record.reward.score,
        mean=float(np.mean(scores)) if scores else None,
        spread=float(np.std(scores)) if scores else 0.0,
        valid=len(scores),
        times=times,
        messages=tuple(dict.fromkeys(failures)),
        code=record.code,
    )
