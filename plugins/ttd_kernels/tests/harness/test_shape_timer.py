"""A kernel's time at a shape, of a device in numbers: empty calls that are known, repeats, looks."""

from __future__ import annotations

import random

import pytest

from ttd_core.types import Status
from ttd_kernels.harness.device_session import CallResult
from ttd_kernels.harness.empty_calls import EmptyCallTime, KnownEmptyCalls
from ttd_kernels.harness.looks import LookResult
from ttd_kernels.harness.replies import EvaluationError
from ttd_kernels.harness.shape_timer import ShapeTimer
from ttd_kernels.harness.stopwatch import Stopwatch
from ttd_kernels.harness.timing import TimingRules

SHAPE, RULES = {"N": 16}, TimingRules()
EMPTY = EmptyCallTime(600.0, 5.0, 10.0)


class Calls:
    """Calls of a kernel on a device in numbers.

    :param kernel_us: what each call takes, in turn; the last for all others.
    :param noise_us: standard deviation of what an empty call takes.
    :param age_us: of looks.
    :param hidden_us: what the kernel does after it has said *done*, unseen by the judge's clock.
    """

    def __init__(self, kernel_us=(100.0,), noise_us=0.1, empty_us=600.0, age_us=10.0, hidden_us=0.0) -> None:
        self.kernel_us, self.noise_us, self.empty_us = list(kernel_us), noise_us, empty_us
        self.age_us, self.hidden_us, self.watch = age_us, hidden_us, Stopwatch()
        self.made: list[bool] = []
        self.empty: list[int] = []
        self.chance = random.Random(5)

    def _wall(self) -> float:
        return self.chance.gauss(self.empty_us, self.noise_us)

    def call(self, _shape, look=False) -> CallResult:
        us = self.kernel_us.pop(0) if len(self.kernel_us) > 1 else self.kernel_us[0]
        self.made.append(look)
        seen = us - self.hidden_us
        found = LookResult(0, 200, self.age_us) if look else None
        return CallResult([], self.chance.gauss(seen, 0.01 * seen), seen + self._wall(), 5.0, True, found)

    def empty_calls(self, _shape, count, looks=0) -> list[CallResult]:
        self.empty.append(count)
        return [
            CallResult(
                [], 0.0, self._wall(), 5.0, True, LookResult(0, 200, self.age_us) if number < looks else None
            )
            for number in range(count)
        ]


def _timer(calls: Calls, known: KnownEmptyCalls | None = None) -> ShapeTimer:
    return ShapeTimer(calls, RULES, 2, known or KnownEmptyCalls())


def test_empty_calls_of_the_first_candidate_serve_the_next() -> None:
    known = KnownEmptyCalls()
    first, second = Calls(), Calls()
    taken = _timer(first, known).time_empty_call(SHAPE)
    assert first.empty == [2 + RULES.empty_calls]
    assert taken.wall_us == pytest.approx(600.0, abs=0.2)
    assert (taken.unseen_us, taken.queued_us) == (10.0, 5.0)
    again = _timer(second, known).time_empty_call(SHAPE)
    assert second.empty == [2 + RULES.known_empty_calls]
    assert again.wall_us == pytest.approx(600.0, abs=0.2)
    other = Calls()
    _timer(other, known).time_empty_call({"N": 17})
    assert other.empty == [2 + RULES.empty_calls], "another shape"


def test_where_fresh_empty_calls_differ_all_are_made_anew() -> None:
    known = KnownEmptyCalls()
    _timer(Calls(), known).time_empty_call(SHAPE)
    changed = Calls(empty_us=620.0)
    assert _timer(changed, known).time_empty_call(SHAPE).wall_us == pytest.approx(620.0, abs=0.2)
    assert sum(changed.empty) == 2 + RULES.empty_calls
    after = Calls(empty_us=620.0)
    assert _timer(after, known).time_empty_call(SHAPE).wall_us == pytest.approx(620.0, abs=0.2)
    assert sum(after.empty) == 2 + RULES.known_empty_calls, "the old ones are forgotten"


def test_what_is_known_goes_with_the_machine_s_drift() -> None:
    known = KnownEmptyCalls()
    for number in range(40):
        calls = Calls(empty_us=600.0 + number)
        taken = _timer(calls, known).time_empty_call(SHAPE)
        assert taken.wall_us == pytest.approx(600.0 + number, abs=RULES.empty_slack_us + 1.0)


def test_a_program_near_the_floor_is_timed_closely_and_a_slow_one_soon_enough() -> None:
    near, slow = Calls(), Calls()
    timed = _timer(near).time_kernel(SHAPE, EMPTY, floor_us=50.0)
    assert timed.mean_us == pytest.approx(100.0, rel=0.005)
    assert timed.repeats > 50
    assert _timer(slow).time_kernel(SHAPE, EMPTY, floor_us=2.5).repeats < 10
    assert near.made[:2] == [False, False]
    assert sum(near.made[2:9]) == RULES.looks
    assert timed.unseen_us == 10.0


def test_a_call_that_takes_long_is_not_looked_at() -> None:
    calls = Calls([200_000.0])
    timed = _timer(calls).time_kernel(SHAPE, EMPTY)
    assert not any(calls.made)
    assert timed.unseen_us == 600.0
    assert timed.mean_us == pytest.approx(200_000.0, rel=0.02), "and nothing is charged for that"


def test_to_be_slow_in_the_warm_ups_alone_keeps_no_look_away() -> None:
    calls = Calls([200_000.0, 200_000.0, 100.0])
    timed = _timer(calls).time_kernel(SHAPE, EMPTY)
    assert sum(calls.made) >= RULES.looks
    assert timed.unseen_us == 10.0


def test_looks_that_come_late_are_charged_for() -> None:
    timed = _timer(Calls(age_us=300.0, hidden_us=90.0)).time_kernel(SHAPE, EMPTY)
    assert timed.unseen_us == 300.0
    assert timed.mean_us == pytest.approx(10.0 + 300.0 - 2 * 10.0 - 25.0, abs=1.0)


def test_a_claim_of_nothing_is_rejected() -> None:
    calls = Calls([400.0])
    honest = calls.call

    def lies(shape, look=False) -> CallResult:
        result = honest(shape, look)
        return CallResult([], 1.0, result.wall_us, 5.0, True, result.look)

    calls.call = lies
    with pytest.raises(EvaluationError, match="judge's clock saw 400 us") as raised:
        _timer(calls).time_kernel(SHAPE, EMPTY)
    assert raised.value.status is Status.REJECTED
