"""Hops of `programs/ac2.py`, which the repeated prefixes of `best/` do not reach."""

from __future__ import annotations

import importlib.resources
import types

import numpy as np
import pytest

from ttd_math.autocorrelation import second_bound, violations


@pytest.fixture(scope="module")
def program() -> types.ModuleType:
    """The program as a module, as if it had been given a constant function."""
    source = importlib.resources.files("ttd_math") / "programs" / "ac2.py"
    module = types.ModuleType("ac2_program")
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), module.__dict__)
    module.height_sequence_1 = np.ones(1000)
    return module


def test_hops_give_functions_whose_bound_the_verifier_finds_too_and_improve(program) -> None:
    rng = np.random.default_rng(5)
    start, first = program.random_start(rng)
    pool = [(first, start)]
    for _ in range(150):
        try:
            f, score = program.hop(pool[min(int(rng.exponential(2)), len(pool) - 1)][1], rng, 80)
        except (np.linalg.LinAlgError, ValueError, IndexError):
            continue
        if not np.isfinite(score):
            continue
        assert violations(f, 1) == []
        assert np.count_nonzero(f) <= 80
        assert f[0] > 0
        assert f[-1] > 0
        assert score == pytest.approx(second_bound(f), rel=1e-9)
        pool = program.kept(pool, f, score)
    assert pool[0][0] > first + 0.002
    assert [score for score, _ in pool] == sorted((score for score, _ in pool), reverse=True)


def test_of_two_results_that_are_all_but_equal_the_better_is_kept(program) -> None:
    pool = program.kept([], np.ones(2), 0.5)
    assert program.kept(pool, np.ones(3), 0.5 - 1e-6) is pool
    assert [score for score, _ in program.kept(pool, np.ones(3), 0.5 + 1e-6)] == [0.5 + 1e-6]
    assert program.kept(pool, np.ones(3), np.nan) is pool


def test_parts_move_apart_or_together_and_nothing_of_them_is_lost(program) -> None:
    rng = np.random.default_rng(0)
    f = np.array([1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 4.0])
    lengths = set()
    for _ in range(100):
        new = program.moved(f, 1.0, rng)
        assert list(new[new > 0]) == [1.0, 2.0, 3.0, 4.0]
        lengths.add(len(new))
    assert min(lengths) < len(f) < max(lengths)


@pytest.mark.slow
def test_a_whole_call_begins_with_races_and_obeys_the_rules(program, capsys) -> None:
    f = program.construct_function(3, 6.0)
    assert violations(f) == []
    assert second_bound(f) > 0.88
    assert "race 0: " in capsys.readouterr().out


def test_no_time_left_ends_the_search_at_once(program) -> None:
    pool = [(0.5, np.ones(2))]
    assert program.search(pool, np.random.default_rng(0), -1.0, program.STAGES, iter(range(10**9))) is pool
