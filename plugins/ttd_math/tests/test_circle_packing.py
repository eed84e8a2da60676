"""`cp26` and `cp32`: the verifier agrees with exact arithmetic to the last bit of the tolerance."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.testing.strategies import hostile_values
from ttd_core.types import State
from ttd_math.circle_packing import (
    TOLERANCE,
    CirclePacking,
    CirclePacking26,
    CirclePacking32,
    sum_of_radii,
    violations,
)
from ttd_math.testing import packings, square_symmetries


def exactly_valid(centers: np.ndarray, radii: np.ndarray) -> bool:
    """The rules with their tolerance, in rational numbers, pair by pair."""
    points = [[Fraction(float(x)) for x in row] for row in centers]
    sizes = [Fraction(float(r)) for r in radii]
    for i, (point, size) in enumerate(zip(points, sizes, strict=True)):
        if size < 0 or any(x - size < -TOLERANCE or 1 - x - size < -TOLERANCE for x in point):
            return False
        for j in range(i):
            reach = size + sizes[j] - TOLERANCE
            if reach > 0 and sum((a - b) ** 2 for a, b in zip(point, points[j], strict=True)) < reach**2:
                return False
    return True


def grid(count: int) -> tuple[np.ndarray, np.ndarray]:
    side = int(np.ceil(np.sqrt(count)))
    line = (np.arange(side) + 0.5) / side
    return np.array([(x, y) for x in line for y in line])[:count], np.full(count, 0.5 / side)


@given(packings(8))
def test_valid_packings_pass(packing) -> None:
    centers, radii = packing
    assert exactly_valid(centers, radii)
    assert violations(centers, radii, 8) == []


@pytest.mark.parametrize("given", [25, 27])
def test_a_packing_of_another_number_of_circles_is_refused(given) -> None:
    centers, radii = grid(given)
    broken_rules = violations(centers, radii, 26)
    assert broken_rules == [f"centers ({given}, 2) and radii ({given},) should be (26, 2) and (26,)"]
    assert violations(*grid(26), 26) == []


@given(packings(6), st.data())
def test_agrees_with_rational_arithmetic_near_the_tolerance(packing, data) -> None:
    centers, radii = packing
    radii = radii.copy()
    index = data.draw(st.integers(0, 5))
    other = data.draw(st.integers(0, 5).filter(lambda j: j != index))
    nudge = data.draw(
        st.sampled_from([-3e-12, -1e-12, -1e-16, 0.0, 1e-16, 0.999e-12, 1e-12, 1.001e-12, 3e-12])
    )
    ulps = data.draw(st.integers(-3, 3))
    touching = float(np.hypot(*(centers[index] - centers[other]))) - radii[other] + nudge
    radii[index] = max(0.0, touching + ulps * float(np.spacing(touching)))
    assert (violations(centers, radii, 6) == []) == exactly_valid(centers, radii)


def test_between_circles_the_verdict_is_exact_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    turned = 0
    for _ in range(300):
        centers = rng.uniform(0.3, 0.7, (2, 2))
        apart = float(np.hypot(*(centers[0] - centers[1])))
        first = rng.uniform(0.3, 0.7) * apart
        second = apart - first + 1e-12
        for ulps in range(-2, 3):
            radii = np.array([first, second + ulps * np.spacing(second)])
            verdict = exactly_valid(centers, radii)
            turned += (apart - radii[0] - radii[1] >= -1e-12) != verdict
            assert (violations(centers, radii, 2) == []) == verdict
    assert turned > 10, "floats alone would have decided some of these wrongly"


@given(st.floats(0, 1), st.sampled_from([0.0, 1e-12, 1e-9]), st.integers(-3, 3), st.booleans())
def test_at_the_wall_the_verdict_is_exact_to_the_last_bit(position, excess, ulps, mirror) -> None:
    wall = min(position, 1 - position)
    radius = max(0.0, wall + excess + ulps * float(np.spacing(wall + excess)))
    centers, radii = np.array([[position, 0.5]]), np.array([radius])
    if mirror:
        centers = centers[:, ::-1].copy()
    assert (violations(centers, radii, 1) == []) == exactly_valid(centers, radii)


def test_a_tiny_circle_at_a_wall_is_judged_exactly() -> None:
    rng = np.random.default_rng(5)
    turned = 0
    for _ in range(300):
        x = rng.uniform(-1e-12, 4e-12)
        radius = max(0.0, x + 1e-12)
        for ulps in range(-2, 3):
            centers, radii = np.array([[x, 0.5]]), np.array([max(0.0, radius + ulps * np.spacing(radius))])
            verdict = exactly_valid(centers, radii)
            turned += (float(x - radii[0]) >= -1e-12) != verdict
            assert (violations(centers, radii, 1) == []) == verdict
    assert turned > 10, "floats alone would have decided some of these wrongly"


@settings(max_examples=30)
@given(packings(7), st.randoms())
def test_symmetries_leave_sum_and_verdict_alone(packing, random) -> None:
    centers, radii = packing
    # Multiples of 2^-30 mirror exactly.
    centers = np.round(centers * 2**30) / 2**30
    radii = radii * (1 - 1e-8) * (radii > 1e-7)
    order = list(range(7))
    random.shuffle(order)
    verdict = violations(centers, radii, 7) == []
    for image in square_symmetries(centers):
        assert (violations(image[order], radii[order], 7) == []) == verdict
    assert sum_of_radii(radii[order]) == sum_of_radii(radii)


@pytest.mark.parametrize("problem", [CirclePacking26, CirclePacking32])
def test_the_score_is_the_recomputed_sum(problem) -> None:
    judge: CirclePacking = problem()
    centers, radii = grid(judge.count)
    for claim in (1e9, float("nan"), None, "many"):
        state = State(data=judge.construct((centers, radii, claim)))
        assert judge.check(state) == []
        assert judge.reward(state).score == judge.reward(state).value
        assert judge.reward(state).score == float(sum(map(Fraction, radii.tolist())))


@pytest.mark.parametrize("problem", [CirclePacking26, CirclePacking32])
@given(value=hostile_values())
def test_arbitrary_values_never_crash_and_never_pass(problem, value) -> None:
    judge = problem()
    try:
        data = judge.construct(value)
    except ValueError:
        return
    assert judge.check(State(data=data)), "hardly ever the right number of circles"


@given(st.dictionaries(st.sampled_from(["centers", "radii", "x"]), hostile_values()))
def test_check_is_total_on_any_state(data) -> None:
    try:
        state = State(data=data)
    except (TypeError, ValueError):
        return
    assert CirclePacking26().check(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, r: (c[:25], r), "centers (25, 2) and radii (26,) should be (26, 2) and (26,)"),
        (lambda c, r: (c, r[:25]), "centers (26, 2) and radii (25,) should be (26, 2) and (26,)"),
        (
            lambda c, r: (np.where(c == c[0], np.nan, c), r),
            "centers[0, 0] is nan: 11 of 52 values are not finite",
        ),
        (lambda c, r: (c, np.r_[r[:25], np.inf]), "radii[25] is inf: 1 of 26 values are not finite"),
        (lambda c, r: (c, np.r_[r[:25], -1e-9]), "radii[25] = -1e-09 is negative"),
        (lambda c, r: (c, r * (1 + 1e-9)), "circle 0 leaves the square by 8.33e-11"),
        (lambda c, r: (c * 0.5 + 0.25, r * 0.6), "circles 0 and 1 overlap by 0.0167"),
        (lambda c, r: (c - 1.0, r), "circle 0 leaves the square by 1"),
    ],
    ids=range(8),
)
def test_each_broken_rule_has_its_own_message(change, message) -> None:
    assert violations(*change(*grid(26)), 26)[0] == message


def test_negative_radii_cannot_pay_for_a_large_one() -> None:
    centers, radii = grid(26)
    radii[0], radii[1] = 0.2, -0.05
    assert violations(centers, radii, 26)


def test_coinciding_circles_of_no_size_are_allowed() -> None:
    assert violations(np.full((26, 2), 0.5), np.zeros(26), 26) == []
    assert violations(np.full((26, 2), 0.5), np.full(26, 1e-13), 26) == []
    assert violations(np.full((26, 2), 0.5), np.full(26, 1e-12), 26) != []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (([[0.5, 0.5]], [0.5], 0.5, 1), r"must return \(centers, radii, sum\)"),
        (np.zeros((26, 3)), r"must return \(centers, radii, sum\)"),
        ((np.ma.zeros((26, 2)), np.zeros(26), 0), "not a MaskedArray"),
        ((np.zeros((26, 2)), np.ma.masked_array(np.zeros(26), mask=True), 0), "not a MaskedArray"),
        ((np.zeros((26, 2)), np.zeros(26, object), 0), "radii has dtype object"),
        ((np.zeros((26, 2)), np.zeros((26, 1)), 0), "radii must have 1 dimension"),
    ],
    ids=range(6),
)
def test_what_is_no_packing_is_told(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        CirclePacking26().construct(value)


def test_values_cannot_change_after_the_check() -> None:
    judge = CirclePacking26()
    centers, radii = grid(26)
    state = State(data=judge.construct((centers, radii, 0)))
    radii += 1.0
    assert judge.check(state) == []
    with pytest.raises(ValueError, match="read-only"):
        state.data["radii"][0] = 9.0
