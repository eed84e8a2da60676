"""Stragglers: a step that ends without its last verdicts loses none of them and counts none twice."""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.run.whole_runs import GROUPS, SIZE, Counting, Watch, metric, resume

from ttd_core.config import DeadlineConfig, LearnConfig
from ttd_core.errors import ConfigError, StorageError
from ttd_core.learn.objective import group_advantages
from ttd_core.policy.base import Sample
from ttd_core.run import judging
from ttd_core.run.deadline import SAMPLED_IN
from ttd_core.run.late_table import LateRollout, read_waiting, write_late
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.setup import RunSetup
from ttd_core.run.tables import make_tables
from ttd_core.stages import Counted
from ttd_core.types import Completion

STEPS, STEP = 4, GROUPS * SIZE
#: With a step of eight: the deadline passes when six are judged.
SHARE = {"steps": STEPS, "deadline.share": 0.75, "sandbox.workers": 5}


def all_rollouts(folder: pathlib.Path) -> dict[int, collections.Counter[str]]:
    """By the step in which they were sampled, the replies of all rollouts that the database has."""
    found: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with RunReader.open(folder) as run:
        for record in run.rollouts():
            origin = record.metrics.get(SAMPLED_IN)
            found[int(origin.split("/")[0]) if origin else record.step][record.text] += 1
    return dict(found)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Holds the first two replies of the first group until it is called, which waits for their verdicts."""
    opened, held = threading.Event(), threading.Semaphore(2)
    verdicts = threading.Semaphore(0)
    real = judging.judge_reply

    def judge(*arguments: Any) -> Any:
        if not held.acquire(blocking=False):
            return real(*arguments)
        assert opened.wait(20)
        verdict = real(*arguments)
        verdicts.release()
        return verdict

    def open_it() -> None:
        opened.set()
        assert verdicts.acquire(timeout=20)
        assert verdicts.acquire(timeout=20)
        time.sleep(0.2)  # until their futures know

    monkeypatch.setattr(judging, "judge_reply", judge)
    return open_it


@pytest.mark.parametrize("schedule", ["sync", "pipelined"])
def test_late_rollouts_join_a_later_step_with_the_advantage_among_their_own_group(
    setup, policies: list[Counting], gate, tmp_path, schedule
) -> None:
    seen: list[Any] = []
    folder = tmp_path / "run"

    def watch(event: Any) -> None:
        seen.append(event)
        # In step 3 all are judged in time: of its verdicts none is left when these are waited for.
        if event["kind"] == "step_finished" and event["step"] == 1:
            gate()

    start_run(setup(**{"learn.advantage": "mean"}, **SHARE, schedule=schedule), folder, [Watch(watch)])
    late = [(each["step"], each["places"]) for each in seen if each["kind"] == "rollouts_late"]
    joined = [(each["step"], each["places"]) for each in seen if each["kind"] == "rollouts_joined"]
    assert late[0] == (1, ["1/0/0", "1/0/1"])
    assert joined[0][0] == 2
    assert joined[0][1][:2] == ["1/0/0", "1/0/1"]
    named = [sorted(name for _, names in each for name in names) for each in (late, joined)]
    assert named[0] == named[1]
    # Every rollout is sampled and judged once in the log, by the same place; a late one before it joins.
    places: dict[str, list[str]] = {"rollout_sampled": [], "rollout_evaluated": []}
    for each in seen:
        if each["kind"] in places:
            places[each["kind"]].append(f"{each['step']}/{each['group']}/{each['index']}")
        elif each["kind"] == "rollouts_joined":
            assert set(each["places"]) <= set(places["rollout_evaluated"])
            assert not set(places["rollout_evaluated"][: -len(each["places"])]) & set(each["places"])
    assert sorted(places["rollout_evaluated"]) == sorted(places["rollout_sampled"])
    assert len(set(places["rollout_sampled"])) == len(places["rollout_sampled"]) == STEPS * STEP
    by_place = {
        (each["step"], each["group"], each["index"]): each["value"]
        for each in seen
        if each["kind"] == "rollout_evaluated"
    }
    with RunReader.open(folder) as run:
        groups = {(each.step, each.group_index): each for each in run.groups()}
        of_group = {
            place: [each for each in run.rollouts() if (each.step, each.group_index) == place]
            for place in ((1, 0), (2, GROUPS))
        }
        assert run.steps()[-1].expansions == STEPS * GROUPS
        assert sum(each.rollouts for each in run.steps()) == STEPS * STEP
    in_time, after = of_group[1, 0], of_group[2, GROUPS]
    assert (len(in_time), [each.metrics[SAMPLED_IN] for each in after]) == (SIZE - 2, ["1/0/0", "1/0/1"])
    assert groups[2, GROUPS].start == groups[1, 0].start
    assert groups[2, GROUPS].prompt == groups[1, 0].prompt
    rewards = [each.value or 0.0 for each in (*in_time, *after)]
    assert [by_place[1, 0, index] for index in (0, 1)] == [each.value for each in after]
    expected = group_advantages(rewards, LearnConfig(advantage="mean")).values[-2:]
    np.testing.assert_array_equal([each.advantage for each in after], expected)
    assert len(set(rewards)) > 1
    # It learned from them: the batch of step 2 has their group.
    assert any(len(each.completions) == 2 for each in policies[0].batches[1])
    assert metric(folder, "late")[0] == 2
    assert metric(folder, "joined")[1] >= 2
    assert sum(metric(folder, "late")) == sum(metric(folder, "joined"))
    assert metric(folder, "staleness_max")[1] == 1
    assert all(sum(each.values()) == STEP for each in all_rollouts(folder).values())


def test_late_rollouts_count_as_timeouts_where_that_is_asked_for(setup, policies, gate, tmp_path) -> None:
    def watch(event: Any) -> None:
        if event["kind"] == "step_finished" and event["step"] == 1:
            gate()

    start_run(setup(**SHARE, **{"deadline.then": "timeout"}), tmp_path / "run", [Watch(watch)])
    with RunReader.open(tmp_path / "run") as run:
        assert [each.rollouts for each in run.steps()] == [STEP] * STEPS
        first = [each for each in run.rollouts(1) if each.status == "timeout"]
    assert [(each.group_index, each.rollout_index) for each in first] == [(0, 0), (0, 1)]
    assert first[0].message == (
        "not judged when its step ended (deadline.share = 0.75): it counts as a timeout"
    )
    assert metric(tmp_path / "run", "late")[0] == 2
    assert sum(metric(tmp_path / "run", "joined")) == 0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Some programs take longer than others: until this is set, or a third of a second."""
    real, released = judging.judge_reply, threading.Event()

    def judge(hooks: Any, start: Any, completion: Any, execute: Any) -> Any:
        if completion.text in ("0.9", "0.7", "none"):
            released.wait(0.3)
        return real(hooks, start, completion, execute)

    monkeypatch.setattr(judging, "judge_reply", judge)
    return released


@pytest.mark.parametrize("schedule", ["sync", "pipelined"])
def test_from_any_moment_a_killed_run_loses_no_late_rollout_and_counts_none_twice(
    setup, policies, slow, tmp_path, schedule
) -> None:
    slow.set()
    start_run(setup(steps=STEPS), tmp_path / "without")
    slow.clear()
    moments: list[pathlib.Path] = []
    count = 0

    def copy(event: Any) -> None:
        nonlocal count
        count += 1
        if event["kind"] in ("rollouts_late", "step_finished"):
            slow.set() if event["kind"] == "rollouts_late" else slow.clear()
        if count % 12 == 0 or event["kind"] in ("rollouts_late", "rollouts_joined", "step_finished"):
            moments.append(tmp_path / f"moment-{count}")
            shutil.copytree(tmp_path / "run", moments[-1], symlinks=True)

    settings = {**SHARE, "deadline.share": 0.5, "schedule": schedule, "search.capacity": 4}
    start_run(setup(**settings), tmp_path / "run", [Watch(copy)])
    # Replies depend on the step's seed alone, so they are those of a run without a deadline.
    expected = all_rollouts(tmp_path / "without")
    assert all_rollouts(tmp_path / "run") == expected
    assert sum(metric(tmp_path / "run", "late")) > 0
    slow.set()
    for folder in moments[1::3]:
        resume(folder)
        assert all_rollouts(folder) == expected
        with RunReader.open(folder) as run:
            assert run.steps()[-1].expansions == STEPS * GROUPS
            places = [each.metrics[SAMPLED_IN] for each in run.rollouts() if SAMPLED_IN in each.metrics]
        assert len(set(places)) == len(places)


def test_with_no_time_at_all_each_step_has_a_verdict_and_none_is_lost(
    setup, policies, slow, tmp_path
) -> None:
    start_run(setup(**{"steps": 2, "deadline.seconds": 0.0, "sandbox.workers": 8}), tmp_path / "run")
    assert all(sum(each.values()) == STEP for each in all_rollouts(tmp_path / "run").values())
    assert sum(metric(tmp_path / "run", "late")) > 0
    with RunReader.open(tmp_path / "run") as run:
        assert all(each.rollouts for each in run.steps())


def test_after_going_back_what_later_steps_took_in_waits_again(setup, policies, slow, tmp_path) -> None:
    folder = tmp_path / "run"
    settings = {**SHARE, "deadline.share": 0.5, "checkpoints_kept": 9}
    start_run(setup(**settings), folder)
    assert sum(metric(folder, "joined")) > 0
    slow.set()
    for back_to in (2, 1, 0):
        resume_run(RunSetup.from_folder(folder, {}), folder, back_to=back_to)
        assert all(sum(each.values()) == STEP for each in all_rollouts(folder).values())


@pytest.mark.parametrize("wrong", [0.0, 1.01, -1.0])
def test_a_share_that_is_none_is_refused(setup, wrong) -> None:
    with pytest.raises(ConfigError, match=r"deadline.share must be above 0 and at most 1, not"):
        setup(**{"deadline.share": wrong})
    assert not DeadlineConfig().set
    assert json.dumps(DeadlineConfig(share=1.0).share) == "1.0"


def test_how_far_the_others_went_is_kept_with_a_late_rollout() -> None:
    others = [Counted(0.1 + 0.2), Counted(0.5, 2, True), Counted(0.0, 1, False)]
    sample = Sample(1, 2, Completion("text"), np.arange(3))
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        make_tables(database)
        database.execute("INSERT INTO groups VALUES (1, 1, 0, 3, '[]')")
        write_late(database, 1, [LateRollout(1, 0, [], sample, 0, others)], [])
        (late,) = read_waiting(database)
        assert late.others == others
        # Versions without it wrote the rewards alone.
        database.execute("UPDATE late SET others = '[0.25, 0.0]'")
        (late,) = read_waiting(database)
        assert late.others == [Counted(0.25), Counted(0.0)]


@pytest.mark.parametrize(
    "change",
    [
        "others = 'x'",
        "others = '[[1]]'",
        "others = '[\"a\"]'",
        "others = '[[0.5, \"2\", 1]]'",
        "reply_line = substr(reply_line, 1, 40)",
        "reply_line = '[1]'",
        "reply_line = x'00ff'",
        'reply_line = replace(reply_line, \'"text": "text"\', \'"text": 5\')',
        "prompt_line = '{}'",
        "group_index = 1, rollout_index = 7",
        "policy_step = 'x'",
    ],
)
def test_a_damaged_row_of_a_late_rollout_is_one_line(change: str) -> None:
    sample = Sample(1, 2, Completion("text"), np.arange(3))
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        make_tables(database)
        database.execute("INSERT INTO groups VALUES (1, 1, 0, 3, '[]')")
        write_late(database, 1, [LateRollout(1, 0, [], sample, 0, [Counted(0.5)])], [])
        assert len(read_waiting(database)) == 1
        database.execute(f"UPDATE late SET {change}")
        with pytest.raises(StorageError, match=r"late rollout 1/1/\d is damaged.* with --back-to 0$"):
            read_waiting(database)
