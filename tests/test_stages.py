"""What programs of a group count for when some ran with all of their budget and others with a part."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core.stages import Counted, Stage, compared
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict

#: Rewards; a failed run has none.
VALUES = st.none() | st.floats(0.01, 10.0)
SHARES = (0.05, 0.25, 1.0)


def stage(share: float, value: float | None) -> Stage:
    return Stage(share, 10 * share, share, "crash" if value is None else "ok", value, value)


@st.composite
def programs(draw: st.DrawFn) -> tuple[Stage, ...]:
    """The runs of a program: every one but the last came to a valid result."""
    length = draw(st.integers(1, len(SHARES)))
    before = [draw(st.floats(0.01, 10.0)) for _ in range(length - 1)]
    return tuple(map(stage, SHARES, [*before, draw(VALUES)]))


groups = st.lists(programs(), min_size=1, max_size=12)


def counted(group: list[tuple[Stage, ...]]) -> list[float]:
    best = [max((each.value or 0.0 for each in ran), default=0.0) for ran in group]
    return compared(list(map(Counted.of, best, group)))


@settings(deadline=None)
@given(groups)
def test_fully_run_programs_count_for_their_full_runs(group: list[tuple[Stage, ...]]) -> None:
    """So which of two is ahead is what it is where each runs once, with all of its budget."""
    for ran, value in zip(group, counted(group), strict=True):
        if ran[-1].share == 1:
            assert value == (ran[-1].value or 0.0)


@settings(deadline=None)
@given(groups)
def test_no_program_is_ahead_of_a_valid_one_that_went_further(group: list[tuple[Stage, ...]]) -> None:
    values = counted(group)
    for first, one in zip(group, values, strict=True):
        for second, other in zip(group, values, strict=True):
            if len(first) < len(second) and second[-1].value is not None:
                assert one <= other


@settings(deadline=None)
@given(groups)
def test_none_overtakes_another_that_ended_at_the_same_stage(group: list[tuple[Stage, ...]]) -> None:
    values = counted(group)
    for first, one in zip(group, values, strict=True):
        for second, other in zip(group, values, strict=True):
            if len(first) == len(second) and (first[-1].value or 0.0) <= (second[-1].value or 0.0):
                assert one <= other


@settings(deadline=None)
@given(groups)
def test_a_program_counts_for_no_more_than_its_last_run(group: list[tuple[Stage, ...]]) -> None:
    """And for all of it, unless somebody went further: what failed is 0, what is valid stays above."""
    furthest = max(map(len, group))
    for ran, value in zip(group, counted(group), strict=True):
        own = ran[-1].value or 0.0
        assert (value == own) if len(ran) == furthest else (value <= own)
        assert (value > 0) == (ran[-1].value is not None)


@given(st.lists(st.floats(-10, 10), max_size=8))
def test_without_a_cascade_each_counts_for_its_reward(values: list[float]) -> None:
    assert compared([Counted.of(value, ()) for value in values]) == values


def test_a_group_is_compared_by_what_its_rollouts_count_for() -> None:
    def rollout(reward: float, *ran: Stage) -> Rollout:
        state = State(data={"x": reward})
        return Rollout(Completion(""), Verdict(Status.OK, "", state, Reward(reward, reward), stages=ran))

    short_was_better = rollout(0.9, stage(0.1, 0.9), stage(1.0, 0.5))
    failed_later = rollout(0.8, stage(0.1, 0.8), stage(1.0, None))
    did_not_go_on = rollout(0.7, stage(0.1, 0.7))
    lost = Rollout(Completion(""), Verdict.failed(Status.PARSE_ERROR, "no program"))
    group = Group(0, [], np.zeros(0, np.int64), [short_was_better, failed_later, did_not_go_on, lost])
    assert group.rewards.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert [each.verdict.value for each in group] == [0.9, 0.8, 0.7, 0.0]
