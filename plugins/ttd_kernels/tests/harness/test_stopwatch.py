"""Where the seconds of an evaluation go."""

from __future__ import annotations

import time

import pytest

from ttd_kernels.harness import stopwatch
from ttd_kernels.harness.stopwatch import Stopwatch


def test_parts_are_added_up_by_stage_and_the_device_s_work_counts_for_who_asked(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    watch = Stopwatch(settle=lambda: now.__setitem__(0, now[0] + 0.5))
    for _ in range(2):
        with watch.stage("tests"), watch.part("reference"):
            now[0] += 1.0
    with watch.part("load"):
        now[0] += 0.25
    assert watch.seconds == {"tests": {"reference": 3.0}, "start": {"load": 0.75}}
    assert stopwatch.total(watch.seconds) == 3.75


def test_a_part_that_ends_in_an_error_counts_too() -> None:
    watch = Stopwatch(settle=lambda: pytest.fail("the device may be gone"))

    def fail() -> None:
        with watch.stage("hidden"), watch.part("calls"):
            time.sleep(0.002)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert watch.seconds["hidden"]["calls"] >= 0.002
    with watch.stage("tests"):
        pass
    assert list(watch.seconds) == ["hidden"], "a stage without parts is none"


def test_the_whole_is_the_sum_of_its_parts() -> None:
    counted = {"start": {"memory": 1.0}, "tests": {"calls": 2.0}}
    whole = stopwatch.completed(counted, whole_s=10.0, judge_s=3.0)
    assert whole == {
        "start": {"memory": 1.0, "judge": 3.0},
        "tests": {"calls": 2.0},
        "end": {"rest": 4.0},
    }
    assert stopwatch.total(whole) == pytest.approx(10.0)
    assert counted == {"start": {"memory": 1.0}, "tests": {"calls": 2.0}}, "what was counted stays as it is"
    assert stopwatch.rounded({"end": {"rest": 1.23456}}) == {"end": {"rest": 1.235}}
