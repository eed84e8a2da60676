"""`ac1` and `ac2`: fast forms agree with the exact values, and every trap is refused."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ttd_core.errors import UsageError
from ttd_core.testing.strategies import hostile_values
from ttd_core.types import State
from ttd_math import exact
from ttd_math.autocorrelation import (
    Autocorrelation,
    FirstInequality,
    SecondInequality,
    SequenceOptions,
    first_bound,
    second_bound,
    violations,
)
from ttd_math.convolution import DIRECT_UP_TO, autoconvolution, first_interval, second_interval
from ttd_math.rounding import Interval, score_from
from ttd_math.testing import height_sequences

PROBLEMS = [FirstInequality, SecondInequality]
FORMS = [
    (first_bound, first_interval, exact.first_bound),
    (second_bound, second_interval, exact.second_bound),
]


def direct_first(f: np.ndarray) -> float:
    return 2 * len(f) * np.convolve(f, f).max() / f.sum() ** 2


def direct_second(f: np.ndarray) -> float:
    """The integrals piece by piece, as the problem states them."""
    y = np.concatenate([[0.0], np.convolve(f, f), [0.0]])
    step = 1.0 / (2 * len(f))
    square = sum(step / 3 * (a * a + a * b + b * b) for a, b in itertools.pairwise(y))
    return square / (y.sum() * step * y.max())


def rational(f: np.ndarray) -> tuple[Fraction, Fraction]:
    """Both bounds in rational numbers, without polynomials."""
    h = [Fraction(float(x)) for x in f]
    n = len(h)
    y = [Fraction(0)] * (2 * n + 1)
    for i, a in enumerate(h):
        for j, b in enumerate(h):
            y[i + j + 1] += a * b
    square = sum((a * a + a * b + b * b for a, b in itertools.pairwise(y)), Fraction(0))
    return 2 * n * max(y) / sum(h) ** 2, square / (3 * sum(y) * max(y))


@settings(max_examples=40)
@given(height_sequences(max_size=25))
def test_the_exact_forms_are_the_definitions(f) -> None:
    first, second = rational(f)
    assert exact.first_bound(f) == first
    assert exact.second_bound(f) == second


@pytest.mark.parametrize(("fast", "interval", "true"), FORMS, ids=["ac1", "ac2"])
@given(f=height_sequences(max_size=3 * DIRECT_UP_TO))
def test_agrees_with_the_exact_value_within_its_bound(fast, interval, true, f) -> None:
    value, bounds = true(f), interval(f)
    assert Fraction(bounds.low) <= value
    assert bounds.high == np.inf or value <= Fraction(bounds.high)
    assert f"{fast(f):.10g}" == f"{float(value):.10g}" or abs(fast(f) - value) <= 1e-15 * value


@pytest.mark.parametrize("size", [DIRECT_UP_TO - 1, DIRECT_UP_TO, DIRECT_UP_TO + 1, 1000, 1025, 3001])
@pytest.mark.parametrize("kind", ["uniform", "spike", "sparse", "alternating", "wide"])
def test_the_error_of_the_convolution_stays_in_its_bound(size, kind) -> None:
    rng = np.random.default_rng(size)
    f = rng.uniform(0, 1, size)
    if kind == "spike":
        f[size // 3] = 1000.0
    elif kind == "sparse":
        f *= rng.random(size) < 0.02
        f[0] = 1.0
    elif kind == "alternating":
        f = np.where(np.arange(size) % 2, 1.0, 1e-9)
    elif kind == "wide":
        f = 10.0 ** rng.uniform(-12, 3, size)
    values, error = autoconvolution(f)
    heights, exponent = exact.integers(f)
    scale = Fraction(2) ** (2 * exponent)
    true = [c * scale for c in exact.product(heights, heights)]
    assert len(values) == len(true) == 2 * size - 1
    worst = max(abs(Fraction(float(a)) - b) for a, b in zip(values, true, strict=True))
    assert worst <= error
    assert error <= 1e-12 * float(np.dot(f, f))


@given(height_sequences(max_size=100))
def test_agrees_with_the_direct_forms(f) -> None:
    assert first_bound(f) == pytest.approx(direct_first(f), rel=1e-12)
    assert second_bound(f) == pytest.approx(direct_second(f), rel=1e-12)


@settings(max_examples=50)
@given(height_sequences(max_size=60), st.integers(2, 7), st.integers(0, 20))
def test_symmetries_leave_both_bounds_alone(f, times, power) -> None:
    for true, fast in [(exact.first_bound, first_bound), (exact.second_bound, second_bound)]:
        value = true(f)
        assert true(f[::-1].copy()) == value
        assert true(np.repeat(f, times)) == value
        assert true(f * 2.0**power) == value
        for image in (f[::-1].copy(), np.repeat(f, times), f * 2.0**power):
            assert fast(image) == pytest.approx(fast(f), rel=1e-9)


def test_a_constant_function_scores_two_and_two_thirds() -> None:
    assert exact.first_bound(np.full(77, 0.3)) == 2
    assert exact.second_bound(np.full(77, 0.3)) == Fraction(2, 3)
    assert first_bound(np.full(5000, 0.3)) == pytest.approx(2, rel=1e-12)


@given(height_sequences(min_size=1))
def test_no_function_beats_what_is_proven(f) -> None:
    assert exact.first_bound(f) >= Fraction(128, 100), "C1 >= 1.28 (Cloninger and Steinerberger 2017)"
    assert exact.second_bound(f) <= 1, "Hölder's inequality"


@pytest.mark.parametrize("problem", PROBLEMS)
@given(first=height_sequences(max_size=60), second=height_sequences(max_size=60))
def test_a_better_score_is_a_higher_reward(problem, first, second) -> None:
    judge = problem(SequenceOptions(min_values=1))
    one, two = (judge.reward(State(data={"f": f})) for f in (first, second))
    # Scores a rounding step apart may share a reward; never the other way about.
    assert not judge.better(one.score, two.score) or one.value >= two.value
    assert not one.value > two.value or judge.better(one.score, two.score)


@pytest.mark.parametrize("problem", PROBLEMS)
@given(value=hostile_values())
def test_arbitrary_values_never_crash_and_never_pass(problem, value) -> None:
    judge = problem(SequenceOptions(min_values=1, max_values=20))
    try:
        data = judge.construct(value)
    except ValueError:
        return
    f = data["f"]
    passes = judge.check(State(data=data)) == []
    assert passes == (
        1 <= f.size <= 20
        and bool(np.isfinite(f).all())
        and f.min() >= 0
        and sum(map(Fraction, f.tolist())) >= 0.01
    )
    if passes:
        assert np.isfinite(judge.reward(State(data=data)).value)


@given(st.dictionaries(st.sampled_from(["f", "x"]), hostile_values()))
def test_check_is_total_on_any_state(data) -> None:
    try:
        state = State(data=data)
    except (TypeError, ValueError):
        return
    assert isinstance(FirstInequality().check(state), list)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            np.full(999, 1.0),
            "the sequence has 999 heights; 1000 to 100000 are allowed (-o min_values=999 allows fewer)",
        ),
        (
            np.full(100_001, 1.0),
            "the sequence has 100001 heights; 1000 to 100000 are allowed (-o max_values=100001 allows more)",
        ),
        (np.zeros(0), "the sequence has 0 heights; 1000 to 100000 are allowed"),
        (np.r_[np.ones(999), np.nan], "f[999] is nan: 1 of 1000 values are not finite"),
        (np.r_[-np.inf, np.ones(999)], "f[0] is -inf: 1 of 1000 values are not finite"),
        (np.r_[np.ones(999), -1e-300], "f[999] = -1e-300 is negative"),
        (np.r_[np.ones(999), 1000.5], "f[999] = 1000.5 is above 1000"),
        (np.full(1000, 0.9e-5), "the heights sum to 0.009000000000000001; at least 0.01 is needed"),
    ],
    ids=range(8),
)
def test_each_broken_rule_has_its_own_message(f, message) -> None:
    assert violations(f) == [message]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_heights_above_the_ceiling_are_lowered_before_anything_is_computed(problem) -> None:
    judge = problem()
    f = [1.0] * 999 + [5000.0]
    state = State(data=judge.construct(f))
    assert state.data["f"].max() == 1000.0
    assert judge.check(state) == []
    lowered = np.array(f).clip(0, 1000)
    form = exact.first_bound if problem is FirstInequality else exact.second_bound
    assert judge.reward(state).score == pytest.approx(float(form(lowered)), rel=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("top", [1000.0, 1000.5, 5000.0, 1e300])
def test_a_file_of_a_taller_function_is_scaled_and_keeps_its_score(problem, top, tmp_path) -> None:
    judge = problem()
    f = np.random.default_rng(0).uniform(0.5, 1.0, 1000) * top
    f[7] = top
    np.save(tmp_path / "f.npy", f)
    state = judge.read_construction(tmp_path / "f.npy")
    assert judge.check(state) == []
    scaled = state.data["f"]
    assert 500 < scaled.max() <= 1000.0
    form = exact.first_bound if problem is FirstInequality else exact.second_bound
    assert form(scaled) == form(f), "not one digit of the exact bound changes"


def test_infinite_heights_are_refused_and_not_lowered() -> None:
    judge = FirstInequality()
    assert judge.check(State(data=judge.construct([1.0] * 999 + [float("inf")])))


def test_tiny_heights_cannot_be_scaled_past_the_sum_rule() -> None:
    judge = FirstInequality()
    assert judge.check(State(data=judge.construct([1e-9] * 1000)))


def test_a_claimed_score_is_no_height() -> None:
    with pytest.raises(ValueError, match=r"f\[0\] is a list"):
        FirstInequality().construct(([1.0] * 1000, 1.2))


def test_masks_do_not_hide_heights() -> None:
    with pytest.raises(ValueError, match="MaskedArray"):
        SecondInequality().construct(np.ma.masked_array([-5.0, 1.0], mask=[True, False]))


def test_an_undecided_interval_is_decided_exactly() -> None:
    assert Interval(1.00000000001, 1.00000000002).decided
    assert not Interval(1.00000000049, 1.00000000051).decided
    asked = []

    def rational_value() -> Fraction:
        asked.append(True)
        return Fraction(3, 2)

    assert score_from(Interval(1.0, 1.0), rational_value) == 1.0
    assert not asked
    assert score_from(Interval(1.0, 2.0), rational_value) == 1.5


def test_where_rounding_could_show_in_the_last_digit_the_exact_value_is_reported() -> None:
    # 1 + k 1e-5 has bounds 1/2 way between two ten-digit decimals now and then; find one and compare.
    rng = np.random.default_rng(5)
    undecided = 0
    for _ in range(4000):
        f = rng.uniform(0, 1, 3)
        # Scale the middle so that C1 lands within 1e-15 of a rounding boundary.
        target = (np.floor(direct_first(f) * 1e9) + 0.5) / 1e9
        f = _nudged(f, target)
        interval = first_interval(f)
        if not interval.decided:
            undecided += 1
            assert first_bound(f) == float(exact.first_bound(f))
    assert undecided > 0


def _nudged(f: np.ndarray, target: float) -> np.ndarray:
    low, high = f.copy(), f.copy()
    low[1], high[1] = f[1] * (1 - 1e-6), f[1] * (1 + 1e-6)
    if not min(direct_first(low), direct_first(high)) <= target <= max(direct_first(low), direct_first(high)):
        return f
    rising = direct_first(high) > direct_first(low)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if (direct_first(middle) < target) == rising:
            low = middle
        else:
            high = middle
    return high


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("problem", PROBLEMS)
def test_starts_are_those_of_the_paper(problem, seed) -> None:
    judge: Autocorrelation = problem()
    for state in judge.seed_states(np.random.default_rng(seed), 3):
        f = state.data["f"]
        assert judge.check(state) == []
        assert 1000 <= f.size <= 8000
        assert np.ptp(f) == 0
        assert judge.reward(state).score == pytest.approx(
            2 if problem is FirstInequality else 2 / 3, rel=1e-12
        )


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises((UsageError, ValueError), match="max_values"):
        SequenceOptions(min_values=10, max_values=5)


@given(height_sequences(max_size=40))
def test_the_candidates_own_evaluator_says_the_same(f) -> None:
    assume(f.size >= 1)
    for problem, form in [(FirstInequality, first_bound), (SecondInequality, second_bound)]:
        namespace: dict = {}
        exec(problem(SequenceOptions(min_values=1)).helpers(), namespace)
        assert namespace["evaluate_sequence"](f.tolist()) == pytest.approx(form(f), rel=1e-9)
        assert not 0 < namespace["evaluate_sequence"]([-1.0, 2.0]) < np.inf
