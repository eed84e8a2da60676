"""Our programs reach what they are shipped for; a few cases only, at the official limits."""

from __future__ import annotations

import pytest

from ttd_ahc.ahc039 import Fishing
from ttd_ahc.ahc058 import Apples
from ttd_ahc.apples import KINDS, LEVELS, Game
from ttd_ahc.cases import Case
from ttd_core.package_files import package_text
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: Mean case score on seeds 0-3, with room for a busy machine.
FLOORS = {"ahc039": (900, 3200), "ahc058": (3_000_000, 5_610_000)}


def _mean(kind, suffix: str) -> float:
    problem = kind(kind.options_type(cases=4))
    source = package_text("ttd_ahc", "programs", f"{kind.name}{suffix}.cpp")
    with LocalExecutor() as executor:
        verdict = evaluate_action(Hooks(problem), State(), Action(source, "c++"), executor.run)
    assert verdict.reward is not None, verdict.message
    return verdict.reward.score


@pytest.mark.parametrize("kind", [Fishing, Apples], ids=lambda each: each.name)
def test_the_short_program_is_a_start(kind) -> None:
    assert _mean(kind, "_start") >= FLOORS[kind.name][0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Fishing, Apples], ids=lambda each: each.name)
def test_the_strong_program_is_strong(kind) -> None:
    assert _mean(kind, "") >= FLOORS[kind.name][1]


#: Capacities of the kinds after the first, and the factor of a machine's price by its kind.
ODD_GAMES = [
    (1, lambda kind: 1),  # all kinds alike, and as cheap as can be
    (100, lambda kind: 100),  # as dear as can be
    (100, lambda kind: 1),  # the most apples
    (50, lambda kind: 1 if kind == KINDS - 1 else 100),  # one kind far ahead
]


class OddGames(Apples):
    """The ends of what the generator may draw, which it hardly ever does."""

    @classmethod
    def make_case(cls, seed: int) -> Case:
        rest, factor = ODD_GAMES[seed]
        capacity = (1,) + (rest,) * (KINDS - 1)
        cost = [capacity[j] * 500**i * factor(j) for i in range(LEVELS) for j in range(KINDS)]
        game = Game(capacity, (1, *cost[1:]))
        return Case(seed, game.text, game)


@pytest.mark.slow
def test_the_strong_program_plays_odd_games() -> None:
    problem = OddGames(OddGames.options_type(cases=len(ODD_GAMES)))
    source = package_text("ttd_ahc", "programs", "ahc058.cpp")
    with LocalExecutor() as executor:
        verdict = evaluate_action(Hooks(problem), State(), Action(source, "c++"), executor.run)
    assert verdict.state is not None, verdict.message
    floors = (5_450_000, 2_050_000, 6_050_000, 5_950_000)
    assert all(score >= floor for score, floor in zip(problem.scores(verdict.state), floors, strict=True))
