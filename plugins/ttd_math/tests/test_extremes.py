"""Numbers of any size, in any number: every problem gives a verdict, soon, without a warning.

Warnings are errors in these tests, so a sum that overflows with one fails here.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.evaluate import evaluate_state
from ttd_core.testing.extremes import EXTREME_FLOATS, extreme_arrays
from ttd_core.testing.strategies import extreme_floats, spoiled_answers
from ttd_core.types import State, Status, Verdict
from ttd_math import exact
from ttd_math.autocorrelation import FirstInequality, SecondInequality, first_bound, second_bound
from ttd_math.circle_packing import CirclePacking26, CirclePacking32
from ttd_math.convolution import first_interval, second_interval
from ttd_math.erdos import Erdos
from ttd_math.plain import total

PROBLEMS = [Erdos(), FirstInequality(), SecondInequality(), CirclePacking26(), CirclePacking32()]
STEPS = PROBLEMS[:3]
each_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)


def judge(problem: Problem, value: Any) -> Verdict:
    """The verdict on a returned value; anything but a refusal to read it is an error here."""
    try:
        state = State(data=problem.construct(value))
    except ValueError as error:
        return Verdict.failed(Status.INVALID, str(error))
    return evaluate_state(hooks_of(problem), state)


@functools.cache
def hooks_of(problem: Problem) -> Hooks:
    """Its hooks, made once."""
    return Hooks(problem, plugins=())


def answers_like(problem: Problem, array: np.ndarray) -> list[Any]:
    """Answers with the array in each place where the problem has one."""
    if problem in STEPS:
        return [array, array.tolist()]
    centers, sizes = problem.examples().good[0][:2]
    points = np.resize(array, centers.shape)
    other = np.resize(array, sizes.shape)
    return [[points, sizes], [centers, other], [points, other], [points.tolist(), other.tolist(), 2.7]]


@each_problem
@pytest.mark.parametrize("value", EXTREME_FLOATS, ids=repr)
def test_extreme_floats_are_judged(problem, value) -> None:
    good = problem.examples().good[0]
    like = good if problem in STEPS else np.asarray(good[0])
    for size in (like.size, 1000):
        array = np.resize(like, size).astype(float)
        array[-1] = value
        for answer in (*answers_like(problem, array), *answers_like(problem, np.full(size, value))):
            verdict = judge(problem, answer)
            assert verdict.ok or verdict.status is Status.INVALID
            if verdict.ok:
                assert math.isfinite(verdict.reward.value)
                assert all(0 <= array.min() <= array.max() <= 1000 for array in verdict.state.data.values())


@each_problem
def test_sixty_forms_of_extreme_arrays_are_judged(problem) -> None:
    good = problem.examples().good[0]
    like = good if problem in STEPS else np.asarray(good[0])
    judged = 0
    for _name, array in extreme_arrays(like):
        for answer in answers_like(problem, array):
            assert judge(problem, answer).status in (Status.OK, Status.INVALID)
            judged += 1
    assert judged >= 60


@each_problem
@pytest.mark.parametrize(
    "array",
    [
        *(np.zeros(0), np.zeros(()), np.zeros((0, 2)), np.zeros((1000, 1)), np.zeros((2, 2, 2))),
        *(np.ones(1000, dtype) for dtype in (bool, "i1", "u8", "f2", ">f8", ">i4", "f4", np.longdouble)),
        *(np.ones(1000, dtype) for dtype in (complex, object, "U3", "S3", "M8[s]", [("x", "f8")])),
        *(np.array([0.5, None], object), np.array([2**2000] * 3, object), np.array(["0.5"] * 1000)),
    ],
    ids=lambda array: f"{array.dtype.str}{list(array.shape)}",
)
def test_other_shapes_and_types_are_judged(problem, array) -> None:
    if problem in STEPS:
        answers = [array, [array], [array, 0.3, 7]]
    else:
        centers, sizes = problem.examples().good[0][:2]
        answers = [[array, sizes], [centers, array], [array, array], [array] * 3, array]
    for answer in answers:
        assert judge(problem, answer).status in (Status.OK, Status.INVALID)


@each_problem
@pytest.mark.parametrize(
    "value",
    [2**53 + 1, -(2**53), 2**63, 2**1024, -(10**400), 10**5000, True, 1j, "0.5", "", None, [], [[]], {}],
    ids=range(14),
)
def test_whole_numbers_and_what_is_none_are_judged(problem, value) -> None:
    for size in (1, 2, 26, 1000):
        row = [0.5] * (size - 1) + [value]
        for answer in (value, row, [value] * size, [row, row], [[row], row], [row, [row]], {"h": row}):
            assert judge(problem, answer).status in (Status.OK, Status.INVALID)


@each_problem
def test_ten_million_entries_are_refused_by_their_number(problem, cpu_clock) -> None:
    many = [0.5] * 10_000_000
    started = cpu_clock()
    for answer in (
        np.zeros(10_000_000),
        many,
        [many, many],
        [np.zeros((5_000_000, 2)), np.zeros(10_000_000)],
    ):
        verdict = judge(problem, answer)
        assert verdict.status is Status.INVALID
    assert cpu_clock() - started < 2


def test_large_heights_are_told_with_their_sum() -> None:
    verdict = judge(Erdos(), [1.7e308] * 1000)
    assert verdict.message == ("h[0] = 1.7e+308 is above 1; h sums to inf instead of n/2 = 500: off by inf")
    assert judge(Erdos(), [1.7e308, -1.7e308] * 500).message.endswith("off by -500")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40))
def test_a_sum_is_rounded_once_or_is_infinite(values) -> None:
    exactly = sum(map(Fraction, values), Fraction(0))
    found = total(np.array(values, dtype=float))
    try:
        expected = float(exactly)
    except OverflowError:
        expected = math.inf if exactly > 0 else -math.inf
    if found != expected:  # only where the partial sums of `fsum` overflow is the last bit not promised
        assert sum(map(abs, values)) == math.inf
        assert found == pytest.approx(expected, rel=1e-15, abs=1e292)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_random_numbers_of_any_size_are_judged(problem) -> None:
    examples = 0

    @settings(max_examples=100, database=None)
    @given(spoiled_answers(problem.examples().good) | st.lists(extreme_floats(), max_size=60))
    def judged(answer) -> None:
        nonlocal examples
        examples += 1
        assert judge(problem, answer).status in (Status.OK, Status.INVALID)

    judged()
    print(f"{problem.name}: {examples} answers of random numbers judged, 0 exceptions")


@given(
    st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=40),
    st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=40),
    st.integers(1, 3000),
)
def test_products_in_blocks_are_those_in_one(first, second, at_once) -> None:
    direct = np.convolve(np.array(first, object), np.array(second, object)).tolist()
    square = np.convolve(np.array(first, object), np.array(first, object)).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_AT_ONCE", at_once)
        assert exact.product(first, second) == direct
        assert exact.product(first, first) == square


RANGES = [(exact.first_range, exact.first_bound), (exact.second_range, exact.second_bound)]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(0.01, 1000))
@pytest.mark.parametrize(("between", "bound"), RANGES, ids=["ac1", "ac2"])
def test_the_range_holds_the_exact_value(between, bound, values, height) -> None:
    f = np.array([*values, height])
    low, high = between(f)
    assert low <= bound(f) <= high
    assert high - low <= high * Fraction(1, 2**160)


TUNED = [
    (FirstInequality, first_bound, first_interval, "first_bound"),
    (SecondInequality, second_bound, second_interval, "second_bound"),
]


@pytest.mark.parametrize(("problem", "fast", "interval", "name"), TUNED, ids=["ac1", "ac2"])
def test_one_denormal_at_a_rounding_boundary_costs_no_long_integers(
    problem, fast, interval, name, monkeypatch, cpu_clock
) -> None:
    f = tuned(interval, 100_000)
    assert not interval(f).decided

    def dear(_f: np.ndarray) -> Fraction:
        raise AssertionError("long integers are multiplied")

    monkeypatch.setattr(exact, name, dear)
    started = cpu_clock()
    verdict = judge(problem(), f)
    assert cpu_clock() - started < 4
    assert verdict.ok
    assert interval(f).low <= verdict.reward.score <= interval(f).high


def tuned(interval, size: int) -> np.ndarray:
    """Heights whose score lies within the error of the fast form of where its tenth digit is rounded."""
    f = np.random.default_rng(3).uniform(0, 1, size)
    f[7] = 5e-324

    def score(height: float) -> float:
        f[size // 2] = height
        ends = interval(f)
        return 0.5 * (ends.low + ends.high)

    low, high = 0.0, 300.0
    rising = score(high) > score(low)
    middle = 0.5 * (score(low) + score(high))
    places = 10.0 ** (10 if middle < 1 else 9)
    target = (math.floor(middle * places) + 0.5) / places
    for _ in range(70):
        middle = 0.5 * (low + high)
        if (score(middle) < target) == rising:
            low = middle
        else:
            high = middle
    score(high)
    return f


@pytest.mark.slow
def test_the_dearest_sequence_is_certified_in_bounded_time(cpu_clock) -> None:
    f = 2.0 ** np.random.default_rng(0).uniform(-1074, 9.9, 100_000)
    f[0] = 1000.0
    for bound in (exact.first_bound, exact.second_bound):
        started = cpu_clock()
        value = bound(f)
        assert cpu_clock() - started < 20
        between = exact.first_range(f) if bound is exact.first_bound else exact.second_range(f)
        assert between[0] <= value <= between[1]
