"""Times: what is believed, when there are enough, what they come to."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.timing import (
    Repeat,
    Rules,
    enough,
    floor_us,
    geometric_mean,
    refused_batches,
    refused_claims,
    typical,
)
from ttd_kernels.trimul import TriMul

RULES = Rules()
TIMES = st.floats(1.0, 1e5)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=3, max_size=60))
def test_a_claim_that_is_believed_is_at_most_the_slack_too_low(pairs) -> None:
    """The bound that makes a forged clock worthless: of all repeats that count, in their mean."""
    repeats = [Repeat(claimed, bound) for claimed, bound in pairs]
    assume(not refused_claims(repeats, RULES))
    kept = [repeat for repeat in repeats if not repeat.is_disturbed(RULES)]
    assert len(repeats) - len(kept) <= max(2, RULES.most_disturbed * len(repeats))
    claimed = statistics.fmean(repeat.claimed_us for repeat in kept)
    bound = statistics.fmean(repeat.bound_us for repeat in kept)
    assert bound <= claimed + RULES.allowed_us(claimed) + 1e-6 * bound


@given(st.lists(TIMES, min_size=3, max_size=50), st.floats(-50.0, 50.0))
def test_honest_claims_are_believed(times, noise) -> None:
    repeats = [Repeat(time, time + noise) for time in times]
    assert refused_claims(repeats, RULES) == ""


@given(st.lists(st.floats(0.0, 900.0), min_size=4, max_size=40))
def test_noise_that_empty_calls_have_as_well_refuses_nobody(noise) -> None:
    """Means against means: a skewed noise would stand out against a median."""
    least, kernel = 1000.0, 400.0
    empty = typical([least + each for each in noise], RULES)
    repeats = [Repeat(kernel, least + kernel + each - empty) for each in noise]
    assert refused_claims(repeats, RULES) == ""


def test_a_hiccup_is_no_part_of_what_an_empty_call_takes() -> None:
    assert typical([1000.0, 1010.0, 990.0, 6000.0], RULES) == pytest.approx(1000.0)


def test_two_hiccups_are_forgiven_and_many_are_not() -> None:
    good, hiccup = Repeat(1000.0, 1010.0), Repeat(1000.0, 21000.0)
    assert refused_claims([good] * 10 + [hiccup] * 2, RULES) == ""
    reason = refused_claims([good] * 10 + [hiccup] * 6, RULES)
    assert "6 of 16 repeats" in reason
    assert "claim 1000 us" in reason
    assert "21000 us" in reason


@given(TIMES, st.lists(TIMES, min_size=3, max_size=9), st.integers(1, 16))
def test_calls_in_a_row_hold_short_kernels_too(mean, bounds, count) -> None:
    """However short: believed means are at most 5 % and the slack's share of one call too low."""
    assume(not refused_batches(mean, bounds, count, RULES))
    assert min(bounds) <= mean * 1.05 + RULES.slack_us / count + 1e-6


@given(TIMES, TIMES, st.integers(1, 16), st.floats(0.0, 100.0))
def test_what_the_harness_does_between_calls_is_all_that_is_added(mean, bound, count, own) -> None:
    """Where the host is what calls in a row wait for, claims hold the kernel's part of that only."""
    assume(not refused_batches(mean, [bound], count, RULES, own))
    assert bound <= mean * 1.05 + RULES.slack_us / count + own + 1e-6
    assert refused_batches(mean, [mean + own], count, RULES, own) == ""


@given(TIMES, st.lists(st.floats(0.0, 1e5), max_size=9), st.integers(1, 16))
def test_a_busy_machine_refuses_no_honest_kernel(mean, delays, count) -> None:
    """One round that nothing disturbed is enough."""
    assert refused_batches(mean, [mean, *(mean + delay for delay in delays)], count, RULES) == ""


def test_a_microsecond_is_no_claim_for_a_short_kernel() -> None:
    assert refused_claims([Repeat(1.0, 146.0)] * 9, RULES) == "", "within what launching explains"
    assert "146 us a call in 16 calls in a row" in refused_batches(1.0, [146.0] * 5, 16, RULES)
    assert refused_batches(146.0, [146.0] * 5, 16, RULES) == ""


def test_short_kernels_are_called_more_often_in_a_row() -> None:
    assert RULES.batch(43.0, 1 << 26) == 16
    assert RULES.batch(600.0, 1 << 26) == 4
    assert RULES.batch(5000.0, 1 << 26) == 1
    assert RULES.batch(246.0, 1288490188) == 3, "by what fits"
    assert RULES.batch(0.0, 1 << 40) == 1


def test_a_forged_clock_is_named() -> None:
    reason = refused_claims([Repeat(1.0, 500.0 + i) for i in range(12)], RULES)
    assert "forged clock" in reason


def test_repeats_stop_at_the_error_of_the_mean_the_most_or_the_time() -> None:
    assert not enough([100.0, 100.0], 0.0, RULES)
    assert enough([100.0, 100.0, 100.0], 0.0, RULES)
    assert not enough([100.0, 120.0, 80.0], 0.0, RULES)
    assert enough([100.0, 120.0, 80.0], 121.0, RULES)
    assert enough([2e7, 1e7, 0.5e7], 0.0, RULES)
    assert enough([100.0, 120.0] * 50, 0.0, RULES)
    assert not enough([100.0, 120.0] * 49, 0.0, RULES)


@given(st.lists(TIMES, min_size=1, max_size=9), st.floats(0.5, 4.0))
def test_geometric_mean_scales_and_lies_between(times, factor) -> None:
    mean = geometric_mean(times)
    assert min(times) * (1 - 1e-9) <= mean <= max(times) * (1 + 1e-9)
    assert geometric_mean([factor * time for time in times]) == pytest.approx(factor * mean)


def test_floors_are_bytes_or_operations_whichever_takes_longer() -> None:
    assert floor_us(4.3e12, 0.0) == pytest.approx(1e6)
    assert floor_us(0.0, 790e12) == pytest.approx(1e6)
    assert floor_us(4.3e12, 2 * 790e12) == pytest.approx(2e6)


def test_floors_of_the_contests_are_the_known_ones() -> None:
    problem = TriMul()
    floors = [problem.floor_us(shape) for shape in problem.timed]
    assert [round(floor) for floor in floors] == [43, 294, 109, 109, 609, 587, 1131]
    assert geometric_mean(floors) == pytest.approx(250, abs=0.5)
    decode = MlaDecode()
    assert [round(decode.floor_us(shape)) for shape in decode.timed] == [246, 338]
