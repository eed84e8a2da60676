"""Our programs reach what they are shipped for; a few cases only, at the official limits."""

from __future__ import annotations

import numpy as np
import pytest

from ttd_ahc import judging
from ttd_ahc.ahc039 import Fishing
from ttd_ahc.ahc058 import Apples
from ttd_ahc.apples import KINDS, LEVELS, Game
from ttd_ahc.cases import Case
from ttd_ahc.fish import POINTS, SIDE, Integers
from ttd_core.package_files import package_text
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: Mean case score on seeds 0-3, with room for a busy machine.
FLOORS = {"ahc039": (900, 3600), "ahc058": (3_000_000, 5_610_000)}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time is limited as ever; wall time is not, for the cores are shared with other tests."""
    monkeypatch.setattr(judging, "_WALL_PER_CPU_SECOND", 60.0)


def _scores(problem, name: str) -> list[int]:
    source = package_text("ttd_ahc", "programs", f"{name}.cpp")
    with LocalExecutor() as executor:
        verdict = evaluate_action(Hooks(problem), State(), Action(source, "c++"), executor.run)
    assert verdict.state is not None, verdict.message
    return problem.scores(verdict.state)


def _mean(kind, suffix: str) -> float:
    return float(np.mean(_scores(kind(kind.options_type(cases=4)), f"{kind.name}{suffix}")))


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


def _odd_seas() -> list[tuple[Integers, Integers, int]]:
    """Mackerels, sardines, and a score that is surely reached: seas that no seed gives."""
    spread = np.arange(POINTS)
    middle = np.full(POINTS, SIDE // 2)
    corner = np.zeros((POINTS, 2), np.int64)
    block = np.stack(np.divmod(np.arange(2 * POINTS), 100), axis=1)
    border = np.stack([spread * 20, np.where(spread % 2, 0, SIDE)], axis=1)
    scattered = np.random.default_rng(0).integers(0, SIDE + 1, (POINTS, 2))
    return [
        # One upright line, mackerels below sardines; the same lying down, the two in turn.
        (np.stack([middle, spread * 10], 1), np.stack([middle, spread * 10 + 50_001], 1), POINTS - 50),
        (np.stack([spread * 20, middle], 1), np.stack([spread * 20 + 1, middle], 1), 1),
        # Opposite corners of the sea; everything at one place.
        (corner, corner + SIDE, POINTS + 1),
        (corner, corner, 1),
        # No coordinate free of fish, columns of mackerels and of sardines in turn or side by side.
        (block[block[:, 0] % 2 == 0], block[block[:, 0] % 2 == 1], 1),
        (block[:POINTS], block[POINTS:], POINTS // 2),
        # Every mackerel on the sea's border; and as many sardines as mackerels wherever there are any.
        (border, np.stack([middle, spread], 1), POINTS // 2),
        (scattered, scattered, 1),
    ]


class OddSeas(Fishing):
    """ahc039 on those."""

    @classmethod
    def make_case(cls, seed: int) -> Case:
        """The sea of that number."""
        points = np.concatenate(_odd_seas()[seed][:2])
        lines = "\n".join(f"{x} {y}" for x, y in points.tolist())
        return Case(seed, f"{POINTS}\n{lines}\n", points)


@pytest.mark.slow
def test_our_net_is_valid_in_odd_seas() -> None:
    floors = [floor for _, _, floor in _odd_seas()]
    scores = _scores(OddSeas(Fishing.options_type(cases=len(floors))), "ahc039")
    assert all(score >= floor for score, floor in zip(scores, floors, strict=True)), scores
