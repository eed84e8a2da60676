"""Times: what is believed, when there are enough, what contradicts a claim."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ttd_kernels.harness.timing import (
    Repeat,
    TimingRules,
    all_contradicted,
    believed_us,
    contradiction,
    empty_call_us,
    enough_repeats,
    undisturbed,
)

RULES = TimingRules()
TIMES = st.floats(1.0, 1e5)


REPEATS = st.lists(st.builds(Repeat, TIMES, TIMES, queued_ahead=st.booleans()), min_size=3, max_size=60)


@given(REPEATS)
def test_a_claim_that_is_too_low_gains_nothing(repeats) -> None:
    """What makes a forged clock worthless: of all repeats that count, in their mean."""
    assume(not contradiction(repeats, RULES))
    kept = undisturbed(repeats, RULES)
    assert len(repeats) - len(kept) <= max(2, RULES.max_disturbed_share * len(repeats))
    seen = statistics.fmean(repeat.judge_us for repeat in kept)
    claimed = statistics.fmean(repeat.claimed_us for repeat in kept)
    assert believed_us(kept) == max(seen, claimed)
    assert seen - claimed <= statistics.fmean(repeat.allowed_us(RULES) for repeat in kept) + 1e-6


@given(REPEATS)
def test_what_no_repeat_bears_out_is_contradiction(repeats) -> None:
    if all_contradicted(repeats, RULES):
        assert contradiction(repeats, RULES)


@given(TIMES, st.floats(0.0, 1e4))
def test_a_call_that_waits_for_the_host_is_given_more_slack(claimed, late) -> None:
    ahead, behind = (Repeat(claimed, claimed + late, queued_ahead=ahead) for ahead in (True, False))
    assert behind.allowed_us(RULES) - ahead.allowed_us(RULES) == pytest.approx(175.0)
    assert not behind.is_disturbed(RULES) or ahead.is_disturbed(RULES)
    assert believed_us([behind]) == believed_us([ahead]) == claimed + late, "it is timed all the same"


@given(st.lists(TIMES, min_size=3, max_size=50), st.floats(-50.0, 25.0))
def test_honest_claims_are_believed_us(times, noise) -> None:
    repeats = [Repeat(time, time + noise) for time in times]
    assert contradiction(repeats, RULES) == ""


@given(st.lists(st.floats(0.0, 100.0), min_size=4, max_size=40))
def test_noise_that_empty_calls_have_as_well_refuses_nobody(noise) -> None:
    """Means against means: a skewed noise would stand out against a median."""
    least, kernel = 1000.0, 400.0
    empty = empty_call_us([least + each for each in noise], RULES)
    repeats = [Repeat(kernel, least + kernel + each - empty) for each in noise]
    assert contradiction(repeats, RULES) == ""


def test_a_hiccup_is_no_part_of_what_an_empty_call_takes() -> None:
    assert empty_call_us([1000.0, 1010.0, 990.0, 1500.0], RULES) == pytest.approx(1000.0)


def test_two_hiccups_are_forgiven_and_many_are_not() -> None:
    good, hiccup = Repeat(1000.0, 1010.0), Repeat(1000.0, 21000.0)
    assert contradiction([good] * 10 + [hiccup] * 2, RULES) == ""
    reason = contradiction([good] * 10 + [hiccup] * 6, RULES)
    assert "6 of 16 repeats" in reason
    assert "claim 1000 us" in reason
    assert "21000 us" in reason


def test_a_microsecond_is_no_claim_for_a_short_kernel() -> None:
    lies = [Repeat(1.0, 146.0)] * 9
    assert "claim 1 us" in contradiction(lies, RULES)
    assert all_contradicted(lies, RULES)
    assert contradiction([Repeat(146.0, 146.0)] * 9, RULES) == ""


def test_claims_that_some_repeats_bear_out_are_refused_for_another_reason() -> None:
    mixed = [Repeat(1000.0, 1000.0), Repeat(1000.0, 30_000.0)] * 5
    assert "in 5 of 10 repeats" in contradiction(mixed, RULES)
    assert not all_contradicted(mixed, RULES)


def test_a_forged_clock_is_named() -> None:
    reason = contradiction([Repeat(1.0, 500.0 + i) for i in range(12)], RULES)
    assert "forged clock" in reason


def test_repeats_stop_at_the_error_of_the_mean_the_most_or_the_time() -> None:
    assert not enough_repeats([100.0, 100.0], 0.0, RULES)
    assert enough_repeats([100.0, 100.0, 100.0], 0.0, RULES)
    assert not enough_repeats([100.0, 120.0, 80.0], 0.0, RULES)
    assert enough_repeats([100.0, 120.0, 80.0], 121.0, RULES)
    assert enough_repeats([2e7, 1e7, 0.5e7], 0.0, RULES)
    assert enough_repeats([100.0, 120.0] * 50, 0.0, RULES)
    assert not enough_repeats([100.0, 120.0] * 49, 0.0, RULES)
