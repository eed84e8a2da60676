"""The states a run starts from, scored the way any rollout is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttd_core.errors import UsageError
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.types import Action, Reward, State, Verdict


def score_seeds(
    hooks: Hooks, rng: np.random.Generator, count: int, execute: Execute
) -> list[tuple[State, Reward | None]]:
    """``count`` seed states with their rewards; a state without program and data has none.

    A seed that is only a program is run once, in the sandbox and under the limits of any candidate, and
    becomes the state that it produces. Equal seeds are judged once.

    :raises UsageError: when a seed fails; says which and why.
    """
    problem = hooks.problem
    assert problem is not None
    scored: dict[str, tuple[State, Reward | None]] = {}
    seeds = []
    for number, state in enumerate(hooks.seed_states(rng, count), start=1):
        if state.digest not in scored:
            scored[state.digest] = _score_seed(hooks, state, number, problem.language, execute)
        seeds.append(scored[state.digest])
    return seeds


def require_start(hooks: Hooks, seed: int) -> None:
    """Ask for a state that a run starts from and run nothing, so that a refusal comes before a model loads.

    :param seed: the run's.
    :raises UsageError: when an option asks for a start that there is not.
    """
    hooks.seed_states(np.random.default_rng(seed), 1)


def first_start(hooks: Hooks, execute: Execute) -> tuple[State, Reward | None]:
    """What a run with seed 0 starts from, for commands that need a start and no run.

    :raises UsageError: when it fails; says why.
    """
    return score_seeds(hooks, np.random.default_rng(0), 1, execute)[0]


def _score_seed(
    hooks: Hooks, state: State, number: int, language: str, execute: Execute
) -> tuple[State, Reward | None]:
    if not state.code and not state.data:
        return state, None
    if state.data:
        verdict = evaluate_state(hooks, state)
    else:
        verdict = evaluate_action(hooks, State(), Action(state.code, language), execute)
    if verdict.state is None:
        raise UsageError(_refusal(number, verdict))
    return verdict.state, verdict.reward


def _refusal(number: int, verdict: Verdict) -> str:
    return (
        f"seed state {number} is not valid ({verdict.status}: {verdict.message or verdict.status.sentence}); "
        "raise its limits (-o timeout_s=..., -o memory_mb=...) or start from another (-o start=...)"
    )


def starting_codes(seeds: Sequence[tuple[State, Reward | None]]) -> list[str]:
    """The distinct programs among the seeds."""
    return list(dict.fromkeys(state.code for state, _ in seeds if state.code))
