"""Our programs reach what they are shipped for; a few cases only, at the official limits."""

from __future__ import annotations

import pytest

from ttd_ahc.ahc039 import Fishing
from ttd_ahc.ahc058 import Apples
from ttd_core.package_files import package_text
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: Mean case score on seeds 0-3, with room for a busy machine.
FLOORS = {"ahc039": (900, 3200), "ahc058": (3_000_000, 5_400_000)}


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
