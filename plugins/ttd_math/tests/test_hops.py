"""`programs/ac2.py`: combs, their annealing, and functions that are given to it."""

from __future__ import annotations

import types

import numpy as np
import pytest

from ttd_core.plugin.registry import load
from ttd_core.types import State
from ttd_math.autocorrelation import second_bound, violations
from ttd_math.base import MathProblem
from ttd_math.search import as_module


def as_program(**options) -> types.ModuleType:
    """The program as a module, on the problem's own start."""
    problem = load("ac2", {"program": "strong", "start": "program", **options})
    assert isinstance(problem, MathProblem)
    return as_module(problem, State())


@pytest.fixture(scope="module")
def program() -> types.ModuleType:
    return as_program()


@pytest.fixture
def steady(monkeypatch):
    """Makes every look at a program's clock last a thousandth of a second: the same call, the same result."""

    def set_clock(program: types.ModuleType) -> None:
        ticks = iter(range(10**9))
        monkeypatch.setattr(program, "time", types.SimpleNamespace(time=lambda: next(ticks) / 1000))

    return set_clock


def test_a_gradient_is_that_of_the_loss_and_the_loss_comes_near_the_bound(program) -> None:
    rng = np.random.default_rng(3)
    w, change = rng.uniform(0.1, 1, 31), rng.normal(size=31)
    best = program.Best(w, np.inf)
    for power in (20.0, 1e3):
        slope = program.loss(w, power, best)[1]
        beside = [program.loss(w + side * change, power, best)[0] for side in (1e-6, -1e-6)]
        assert slope @ change == pytest.approx((beside[0] - beside[1]) / 2e-6, rel=1e-5)
    best = program.Best(w, np.inf)
    assert np.exp(-program.loss(w, 1e6, best)[0]) == pytest.approx(second_bound(w * w), rel=1e-4)
    assert best.score == pytest.approx(second_bound(best.f), rel=1e-9)
    assert program.bound(best.f) == pytest.approx(best.score, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 390, 3125])
def test_every_kind_of_comb_is_positive_everywhere(program, n) -> None:
    rng = np.random.default_rng(n)
    corners = rng.integers(2, size=(50, len(program.LEAST_COMB))).astype(float)
    for kind in [*corners, *(program.kind_of_comb([], rng) for _ in range(20))]:
        f = program.comb(kind, n, rng)
        assert f.shape == (n,)
        assert np.isfinite(f).all()
        assert f.min() > 0


def test_later_combs_are_drawn_between_good_ones(program) -> None:
    rng = np.random.default_rng(0)
    known = [(0.9, np.full(7, 0.4)), (0.9, np.full(7, 0.6))] * 4
    drawn = np.array([program.kind_of_comb(known, rng) for _ in range(400)])
    near = (abs(drawn - 0.5) < 0.3).all(1).mean()
    assert 0.4 < near < 0.7
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_annealing_makes_a_comb_better_and_a_function_never_worse(program, steady) -> None:
    steady(program)
    rng = np.random.default_rng(1)
    pool = program.race(200, rng, iter(range(6)), np.inf)
    assert [score for score, _ in pool] == sorted((score for score, _ in pool), reverse=True)
    assert pool[0][0] == pytest.approx(second_bound(pool[0][1]), rel=1e-9)
    assert pool[0][0] > 0.9
    ((longer, f),) = program.lengthened(pool, iter(range(100)), program.time.time() + 3)
    assert len(f) % 200 == 0
    assert longer == pytest.approx(second_bound(f), rel=1e-9)
    assert longer > pool[0][0] + 1e-3
    late = program.anneal(f, program.LAST, program.time.time() - 1)
    assert late == (program.bound(f), f)


def test_the_same_hops_lead_to_the_same_function(steady, monkeypatch) -> None:
    found = []
    for _ in range(2):
        program = as_program()
        monkeypatch.setattr(program, "HOPS", 2)
        # The first hops are repeated where time does not end them.
        steady(program)
        monkeypatch.setattr(program, "HEIGHTS", 4)
        found.append(program.construct_function(3, 100.0))
    assert (found[0] == found[1]).all()
    assert second_bound(found[0]) > 0.85


@pytest.mark.parametrize("budget_s", [1e-9, 0.02, 1.0])
def test_the_result_is_valid_whatever_the_budget(program, budget_s) -> None:
    # How good it is after a time on the wall, a busy machine decides.
    assert violations(program.construct_function(3, budget_s)) == []


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (5, 7), (1000, 1000), (1001, 1001), (1, 600)])
def test_it_keeps_to_other_limits_of_length(least, most) -> None:
    program = as_program(min_values=least, max_values=most)
    assert violations(program.construct_function(1, 0.2), least, most) == []


@pytest.mark.parametrize("most", [1000, 100_000])
def test_it_goes_on_from_a_function(program, steady, monkeypatch, most) -> None:
    rng = np.random.default_rng(1)
    ((before, f),) = program.race(250, rng, iter(range(8)), np.inf)[:1]
    f = f * (f > 1e-3 * f.max())
    before = second_bound(f)
    assert before > 0.9
    monkeypatch.setattr(program, "height_sequence_1", np.repeat(f, 4))
    monkeypatch.setattr(program, "MOST", most)
    monkeypatch.setattr(program, "LEAST", 1)
    steady(program)
    found = program.construct_function(1, 2.0)
    assert len(found) <= most
    assert second_bound(found) > before + 5e-4
