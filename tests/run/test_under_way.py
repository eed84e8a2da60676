"""The steps under way, as a run's events tell of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ttd_core.run import events
from ttd_core.run.under_way import LATEST, StepsUnderWay


def started(step: int = 0) -> dict[str, Any]:
    return events.run_started(
        run="runs/x", problem="bound", policy="a model", step=step, steps=10, groups=2, group_size=4
    )


def sampled(index: int, step: int) -> dict[str, Any]:
    return events.rollout_sampled(step=step, group=0, index=index, tokens=10, stop="stop")


def judged(index: int, step: int, status: str = "ok") -> dict[str, Any]:
    told = {"status": status, "message": "", "value": None, "score": None, "seconds": 0.5}
    return events.rollout_evaluated(step=step, group=0, index=index, **told)


def finished(step: int) -> dict[str, Any]:
    counts = {"rollouts": 8, "valid": 5, "mean_value": 1.0, "metrics": {}, "seconds": 20.0}
    return events.step_finished(step=step, best_value=1.0, best_score=1.0, **counts)


def test_counts_stay_until_the_next_step_begins() -> None:
    steps = StepsUnderWay()
    steps.read(started(), 0.0)
    assert (steps.current.step, steps.size, steps.current.begun) == (None, 8, None)
    steps.read(events.step_started(step=1, starts=[0, 1], hints=["try", 3]), 10.0)
    step = steps.current
    for index in range(3):
        steps.read(sampled(index, 1), 11.0)
    steps.read(judged(0, 1), 12.0)
    steps.read(judged(1, 1, "crash"), 13.0)
    assert (step.sampled, step.judged, step.valid, step.hints) == (3, 2, 1, ["try", "3"])
    assert (step.seconds(15.0), step.tokens_per_second(15.0)) == (5.0, 6.0)
    steps.read(finished(1), 20.0)
    assert (step.step, step.sampled, step.seconds(30.0), step.tokens_per_second(30.0)) == (1, 3, 0.0, None)
    steps.read(events.step_started(step=2, starts=[0, 1]), 21.0)
    step = steps.current
    assert (step.step, step.sampled, step.judged, step.tokens, step.hints) == (2, 0, 0, 0, [])
    assert list(step.latest) == []


def test_a_log_read_from_the_middle_of_a_step_says_nothing_of_that_step() -> None:
    steps = StepsUnderWay()
    for event in (sampled(5, 4), judged(5, 4), finished(4), sampled(0, 5)):
        steps.read(event, 0.0)
    assert (steps.current.step, steps.current.sampled, steps.ahead) == (None, 0, None)


def test_a_step_that_begins_while_another_is_judged_is_counted_beside_it() -> None:
    steps = StepsUnderWay()
    for event in (started(), events.step_started(step=1, starts=[0]), sampled(0, 1)):
        steps.read(event, 1.0)
    steps.read(events.step_started(step=2, starts=[0], after=0), 2.0)
    for event in (sampled(0, 2), sampled(1, 2), judged(0, 1)):
        steps.read(event, 3.0)
    assert steps.ahead is not None
    assert (steps.current.step, steps.current.judged, steps.newest.step, steps.newest.sampled) == (1, 1, 2, 2)
    steps.read(finished(1), 9.0)
    assert (steps.ahead, steps.current.step, steps.current.begun, steps.current.sampled) == (None, 2, 9.0, 2)
    steps.read(finished(1), 9.5)
    assert steps.current.begun == 9.0
    steps.end()
    assert (steps.ahead, steps.current.begun, steps.current.sampled) == (None, None, 2)


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40), st.integers(0, 8))
def test_a_rollout_counts_once_in_whatever_order_it_is_told(told: list[tuple[int, bool]], kept: int) -> None:
    steps = StepsUnderWay()
    steps.read(started(), 0.0)
    steps.read(events.step_started(step=1, starts=[0], kept=kept), 0.0)
    step = steps.current
    for index, is_judged in told:
        steps.read(judged(index, 1) if is_judged else sampled(index, 1), 1.0)
    assert step.sampled == len({index for index, _ in told})
    assert step.judged == step.valid == len({index for index, is_judged in told if is_judged})
    assert len(step.latest) <= LATEST
    assert step.tokens == 0 or step.sampled > kept
