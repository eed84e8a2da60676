"""Times: what is believed, when there are enough, what contradicts a claim."""

from __future__ import annotations

import itertools
import math
import statistics

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ttd_kernels.harness.shape_timer import calls_to_look_at
from ttd_kernels.harness.timing import (
    Repeat,
    TimingRules,
    all_contradicted,
    allowed_error,
    believed_us,
    charged_us,
    contradiction,
    empty_call_us,
    enough_repeats,
    still_holds,
    undisturbed,
    unseen_us,
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


# -- *done* said too soon: a device that two processes share by turns, in numbers


@attrs.frozen
class Device:
    """A GPU that a program says *done* to ``lead`` microseconds before its outputs are complete.

    :param kernel: microseconds that the work takes.
    :param lead: how much of it comes after *done*.
    :param switch: microseconds from *done* until the judge's copies begin, as at an empty call.
    :param until_idle: whether the GPU changes processes only when the program's work is over, so that the
        judge's copies come so much later; else they come when they come.
    :param period: microseconds from look to look, as long as the copy engines are left alone.
    :param phase: of the looks.
    """

    kernel: float
    lead: float
    switch: float
    until_idle: bool
    period: float
    phase: float

    @property
    def done(self) -> float:
        return self.kernel - self.lead

    @property
    def judge_us(self) -> float:
        """By the judge's clock, less what an empty call takes: its copies begin, less the switch."""
        begins = self.done + self.switch
        return (max(begins, self.kernel + self.switch) if self.until_idle else begins) - self.switch

    @property
    def is_read_incomplete(self) -> bool:
        return self.judge_us + self.switch < self.kernel

    def looked(self) -> tuple[bool, float]:
        """Whether a look finds the outputs incomplete, and how old it is: each reads the semaphore when it
        begins and the samples until it ends."""
        first = math.ceil((self.done - self.phase) / self.period)
        began = self.phase + first * self.period
        end = began + self.period
        return end < self.kernel, end - (began - self.period)


DEVICES = st.builds(
    Device,
    kernel=st.floats(20.0, 3000.0),
    lead=st.floats(0.0, 1000.0),
    switch=st.floats(50.0, 600.0),
    until_idle=st.booleans(),
    period=st.floats(1.0, 100.0),
    phase=st.floats(-50.0, 0.0),
).filter(lambda device: device.lead < device.kernel)


@given(DEVICES, st.floats(0.0, 1.0), st.floats(1.0, 50.0))
def test_whoever_says_done_too_soon_is_caught_or_gains_less_than_a_look_is_old(device, claim, usual) -> None:
    """At every lead, whatever is claimed, and whichever way the GPU changes processes."""
    caught, age = device.looked()
    if caught or device.is_read_incomplete:
        return
    unseen = unseen_us([age], device.switch)
    charged = charged_us(unseen, usual, RULES)
    believed = believed_us([Repeat(claim * device.kernel, device.judge_us)] * 3, charged)
    assert device.kernel - believed <= unseen - charged + 1e-6
    assert unseen - charged <= RULES.unseen_factor * usual + RULES.slack_us + 1e-6


@given(DEVICES)
def test_a_lead_longer_than_two_looks_or_the_switch_is_caught(device) -> None:
    assume(device.lead > 2 * device.period or device.lead > device.switch)
    caught, _ = device.looked()
    assert caught or device.is_read_incomplete or device.judge_us >= device.kernel


@given(st.lists(st.floats(0.5, 50.0), min_size=1, max_size=30), st.floats(0.5, 50.0))
def test_an_honest_program_whose_looks_are_as_late_as_usual_is_charged_nothing(ages, usual) -> None:
    assume(min(ages) <= 2 * usual + RULES.slack_us)
    assert charged_us(unseen_us(ages, 600.0), usual, RULES) == 0.0


def test_copy_engines_kept_busy_are_charged_for_and_at_most_an_empty_call() -> None:
    assert charged_us(unseen_us([math.inf, 400.0], 600.0), 10.0, RULES) == pytest.approx(400.0 - 20.0 - 25.0)
    assert unseen_us([math.inf], 600.0) == 600.0
    assert believed_us([Repeat(100.0, 50.0)], charged=355.0) == 405.0
    assert charged_us(600.0, 600.0, RULES) == 0.0, "where looks are of no use, as here, nobody pays for it"


def test_the_calls_that_are_looked_at_are_among_the_first_and_among_all_others() -> None:
    first = {tuple(itertools.islice(calls_to_look_at(RULES), 7)) for _ in range(400)}
    assert {sum(each) for each in first} == {RULES.looks}
    assert len(first) > 25, "of 35 orders"
    later = list(itertools.islice(calls_to_look_at(RULES), 7, 4007))
    assert 0.05 < sum(later) / 4000 < 0.15


@given(TIMES, st.floats(0.0, 1e4), st.floats(0.0, 200.0))
def test_precision_is_never_more_than_asked_for_nor_given_up_for_a_fast_program(mean, floor, wall) -> None:
    allowed = allowed_error(mean, floor, wall, RULES)
    assert allowed >= RULES.relative_error
    if mean <= RULES.near_floor * floor and wall <= RULES.patience_s:
        assert allowed == RULES.relative_error
    assert allowed <= RULES.relative_error * RULES.least_precise
    assert allowed_error(mean, floor, wall + 1.0, RULES) >= allowed


def test_precision_costs_time_or_is_given_up() -> None:
    error = 0.001
    assert allowed_error(300.0, 100.0, 0.1, RULES) == error
    assert allowed_error(800.0, 100.0, 0.1, RULES) == 2 * error
    assert allowed_error(1e6, 100.0, 0.1, RULES) == 20 * error
    assert allowed_error(300.0, 100.0, 1.0, RULES) == 2 * error
    assert allowed_error(300.0, 0.0, 0.1, RULES) == error, "nobody knows the floor"
    times = [300.0, 304.0, 296.0, 300.0]
    assert not enough_repeats(times, 0.1, RULES, 100.0)
    assert enough_repeats(times, 3.0, RULES, 100.0)
    assert enough_repeats(times, 0.1, RULES, 8.0)


def test_few_fresh_empty_calls_show_whether_the_known_ones_hold() -> None:
    assert still_holds([600.0, 602.0, 598.0], [603.0, 605.0], RULES)
    assert not still_holds([600.0, 602.0, 598.0], [606.0, 606.0], RULES)
    assert still_holds([600.0] * 9, [600.0, 600.0, 600.0, 1500.0], RULES), "a hiccup is no change"
