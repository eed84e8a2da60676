"""`erdos`: the verifier agrees with the exact value and refuses every trap."""

from __future__ import annotations

import json
import math
import pathlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.errors import UsageError
from ttd_core.frozen import freeze
from ttd_core.testing.strategies import hostile_values, step_functions
from ttd_core.types import State
from ttd_math import exact
from ttd_math.erdos import Erdos, ErdosOptions, overlap_bound, overlap_interval, project, violations
from ttd_math.testing import erdos_heights

PUBLISHED = pathlib.Path(__file__).parents[4] / "shared" / "data" / "erdos_published_600.json"


def direct(h: np.ndarray) -> float:
    """The definition, entry by entry."""
    n = len(h)
    return (
        max(math.fsum(h[i + k] * (1 - h[i]) for i in range(n) if 0 <= i + k < n) for k in range(-n + 1, n))
        * 2
        / n
    )


def rational(h: np.ndarray) -> Fraction:
    """The definition in rational numbers, without polynomials."""
    values = [Fraction(float(x)) for x in h]
    n = len(values)
    peak = max(
        sum((values[i + k] * (1 - values[i]) for i in range(n) if 0 <= i + k < n), Fraction(0))
        for k in range(-n + 1, n)
    )
    return peak * 2 / n


@given(erdos_heights())
def test_agrees_with_the_exact_value_within_its_bound(h) -> None:
    true = rational(h)
    assert exact.overlap_bound(h) == true
    interval = overlap_interval(h)
    assert Fraction(interval.low) <= true <= Fraction(interval.high)
    assert interval.high - interval.low <= 2.1 * (h.size + 10) * 2.0**-53 * float(true)
    assert f"{overlap_bound(h):.10g}" == f"{float(true):.10g}"


@given(erdos_heights(max_size=40))
def test_agrees_with_the_definition(h) -> None:
    assert overlap_bound(h) == pytest.approx(direct(h), rel=1e-12)


@given(erdos_heights(max_size=30), st.integers(2, 6))
def test_symmetries_leave_the_bound_alone(h, times) -> None:
    bound = overlap_bound(h)
    assert overlap_bound(h[::-1].copy()) == pytest.approx(bound, rel=1e-13)
    assert overlap_bound(np.repeat(h, times)) == pytest.approx(bound, rel=1e-12)
    assert exact.overlap_bound(np.repeat(h, times)) == exact.overlap_bound(h)
    # The complement swaps the two factors; exact only where 1 - h is.
    assert overlap_bound(1.0 - h) == pytest.approx(bound, abs=1e-12)


@given(erdos_heights())
def test_what_is_valid_passes_and_is_rewarded(h) -> None:
    problem = Erdos()
    state = State(data={"h": h})
    assert problem.check(state) == []
    reward = problem.reward(state)
    assert reward.score == overlap_bound(h)
    assert reward.value == 1 / reward.score
    assert reward.score >= 0.379005 * (1 - 1e-9), "no step function beats the proven lower bound"


@given(erdos_heights(max_size=40), erdos_heights(max_size=40))
def test_a_better_score_is_a_higher_reward(first, second) -> None:
    problem = Erdos()
    one, two = (problem.reward(State(data={"h": h})) for h in (first, second))
    # Scores a rounding step apart may share a reward; never the other way about.
    assert not problem.better(one.score, two.score) or one.value >= two.value
    assert not one.value > two.value or problem.better(one.score, two.score)


@given(hostile_values())
def test_arbitrary_values_never_crash_and_never_pass(value) -> None:
    problem = Erdos()
    try:
        data = problem.construct(value)
    except ValueError:
        return
    h = data["h"]
    passes = problem.check(State(data=data)) == []
    assert passes == (
        2 <= h.size <= 1000
        and bool(np.isfinite(h).all())
        and h.min() >= 0
        and h.max() <= 1
        and abs(sum(map(Fraction, h.tolist())) - Fraction(h.size, 2)) <= 1e-9
    )


@given(st.dictionaries(st.sampled_from(["h", "x"]), hostile_values()))
def test_check_is_total_on_any_state(data) -> None:
    try:
        state = State(data=data)
    except (TypeError, ValueError):
        return
    assert isinstance(Erdos().check(state), list)


@given(erdos_heights(min_size=4), st.data())
def test_one_bad_height_is_refused(h, data) -> None:
    bad = h.copy()
    index = data.draw(st.integers(0, h.size - 1))
    bad[index] = data.draw(
        st.one_of(
            st.sampled_from([np.nan, np.inf, -np.inf, -1e-300, np.nextafter(1.0, 2.0), -1.0, 2.0]),
            st.floats(max_value=-1e-300),
            st.floats(min_value=1.0000001),
        )
    )
    assert violations(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.__setitem__(0, -1e-3), "h[0] = -0.001 is below 0"),
        (lambda h: h.__setitem__(0, np.nan), "h[0] is nan: 1 of 8 values are not finite"),
        (lambda h: h.__setitem__(0, 1 + 1e-9), "h[0] = 1.000000001 is above 1"),
        (lambda h: h.__setitem__(0, 0.5 + 1e-6), "h sums to 4.000001 instead of n/2 = 4: off by 1e-06"),
        (lambda h: h.__setitem__(0, 0.5 - 2e-9), "h sums to 3.999999998 instead of n/2 = 4: off by -2e-09"),
    ],
)
def test_each_broken_rule_has_its_own_message(change, message) -> None:
    h = np.full(8, 0.5)
    change(h)
    assert violations(h)[0] == message


@pytest.mark.parametrize("excess", [1e-300, 1e-17, 1e-12, 1e-7])
def test_no_height_may_leave_the_range_by_ever_so_little(excess) -> None:
    below = np.array([-excess, 1.0, 0.5, 0.5 + excess])
    assert violations(below) == [f"h[0] = {-excess!r} is below 0"]
    above = np.array([np.nextafter(1.0 + excess, 2.0), 0.0, 0.5, 0.5 - excess])
    assert violations(above) == [f"h[0] = {float(above[0])!r} is above 1"]


def test_the_sum_may_be_off_by_the_tolerance_and_no_more() -> None:
    h = np.full(4, 0.5)
    h[0] += 0.9e-9
    assert violations(h) == []
    h[0] += 0.2e-9
    assert violations(h) != []


def test_a_sum_that_cancels_in_floats_is_still_seen() -> None:
    h = np.full(1000, 0.5)
    h[::2] += 2.1e-12
    assert violations(h), "each height is off by little, all together by 1.05e-9"


@pytest.mark.parametrize("size", [1, 1001])
def test_length_limits(size) -> None:
    hint = " (-o max_values=1001 allows more)" if size > 1 else ""
    assert violations(np.full(size, 0.5)) == [f"h has {size} values; 2 to 1000 are allowed{hint}"]
    options = ErdosOptions(max_values=2000)
    expected = [] if size > 1 else [f"h has {size} values; 2 to 2000 are allowed"]
    assert list(Erdos(options).check(State(data={"h": np.full(size, 0.5)}))) == expected


def test_the_reported_bound_is_never_believed() -> None:
    problem = Erdos()
    h = [0.5] * 10
    for claim in (0.1, float("nan"), "low", None, [1]):
        state = State(data=problem.construct((h, claim, 10**9)))
        assert problem.reward(state).score == overlap_bound(np.full(10, 0.5))
    assert problem.construct([h])["h"].tolist() == problem.construct(h)["h"].tolist() == h


def test_masks_do_not_hide_heights() -> None:
    masked = np.ma.masked_array([-5.0, 0.5, np.nan, 1.0], mask=[True, False, True, False])
    with pytest.raises(ValueError, match="MaskedArray"):
        Erdos().construct((masked, 0.3, 4))
    with pytest.raises(TypeError, match="MaskedArray"):
        freeze(masked)


def test_values_cannot_change_after_the_check() -> None:
    problem = Erdos()
    h = np.full(6, 0.5)
    state = State(data=problem.construct((h, 0.5, 6)))
    before = problem.reward(state).score
    h[:] = [1, 1, 1, 0, 0, 0]
    assert problem.reward(state).score == before
    with pytest.raises(ValueError, match="read-only"):
        state.data["h"][0] = 1.0


@given(step_functions(2, 60, -5.0, 5.0))
def test_project_makes_any_heights_valid(h) -> None:
    assert violations(project(h)) == []


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_starts_are_those_of_the_paper(seed) -> None:
    problem = Erdos()
    states = problem.seed_states(np.random.default_rng(seed), 5)
    for state in states:
        h = state.data["h"]
        assert problem.check(state) == []
        assert 40 <= h.size <= 100
        assert np.abs(h - h.mean()).max() <= 0.8
        assert h.std() > 0.1
    assert len({state.digest for state in states}) == 5


def test_the_published_function(tmp_path) -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published function is not at ../shared/data/erdos_published_600.json")
    problem = Erdos()
    state = problem.read_construction(PUBLISHED)
    assert problem.check(state) == []
    score = problem.reward(state).score
    assert problem.format_score(score) == "0.3808753232"
    assert problem.better(score, 0.380876)
    assert not problem.better(score, 0.380875323217718)


def test_reading_a_file_of_another_problem_or_shape(tmp_path) -> None:
    problem = Erdos()
    path = tmp_path / "h.json"
    for content, message in [
        ({"problem": "ac1", "h": [0.5]}, "holds a construction of 'ac1', not of erdos"),
        ({"heights_of_h": [0.5]}, "has none of the keys h, h_values, heights"),
        ({"h": ["a"]}, r"not a construction of erdos: h\[0\] is a str instead of a number"),
        (3, "not a construction of erdos"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=message):
            problem.read_construction(path)
    path.write_text(json.dumps([0.5] * 4))
    assert problem.read_construction(path).data["h"].tolist() == [0.5] * 4
    np.save(tmp_path / "h.npy", np.full(4, 0.5))
    assert problem.read_construction(tmp_path / "h.npy").data["h"].tolist() == [0.5] * 4
