"""Overlapping steps, deadlines, short runs first and equal programs judged once, all with each other."""

from __future__ import annotations

import collections
import itertools
import math
import os
import pathlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from tests.run.whole_runs import Counting, Watch, opened, resume, rows, write_climb

from ttd_core import config as configs
from ttd_core.errors import PluginError
from ttd_core.run.deadline import SAMPLED_IN
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.reading import RunReader
from ttd_core.run.records import Place
from ttd_core.run.requests import ask_to_stop
from ttd_core.run.setup import RunSetup

REPLIES = [
    *("0.1 0.5 0.002", "none", "0.2 0.1 0", "0.4 dies 0.03", "dies 0.9 0", "0.3 0.6 0.03", "0.3 0.6 0.03"),
    *("0.15 0.7 0", "0.25 0.2 0.004", "0.12 0.8 0.06", "0.2 0.1 0"),
]
STEPS, GROUPS, SIZE = 3, 2, 5
STEP = GROUPS * SIZE
SCHEDULES = ("sync", "pipelined")
JUDGES: Mapping[str, Mapping[str, Any]] = {
    "each": {},
    "cascade": {"cascade": [0.1, 1.0], "keep": 0.25},
    "once": {"same_program": "reuse"},
}
DEADLINES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "later": {"deadline.share": 0.6},
    "timeout": {"deadline.share": 0.6, "deadline.then": "timeout"},
}
ALL = list(itertools.product(SCHEDULES, JUDGES, DEADLINES))
#: Those that are made in every run of the tests.
SOME = [
    *(("sync", "cascade", "later"), ("pipelined", "cascade", "later"), ("pipelined", "cascade", "timeout")),
    *(("sync", "once", "timeout"), ("pipelined", "once", "later"), ("pipelined", "cascade", "none")),
]


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> list[Counting]:
    return opened(monkeypatch, lambda: Counting(REPLIES))


@pytest.fixture
def setup(tmp_path: pathlib.Path, policies: list[Counting]) -> Callable[..., RunSetup]:
    path = write_climb(tmp_path)

    def make(schedule: str, judge: str, deadline: str, **settings: Any) -> RunSetup:
        overrides = {
            "policy.backend": "scripted",
            "policy.options": {"replies": REPLIES},
            "options": {"budget_s": 100.0, "timeout_s": 110.0},
            **{"steps": STEPS, "groups": GROUPS, "group_size": SIZE, "sandbox.workers": 3},
            **{"schedule": schedule, "search.capacity": 5, "keep_tokens": 10**6},
            **JUDGES[judge],
            **DEADLINES[deadline],
            **settings,
        }
        return RunSetup.from_config(configs.load(f"{path}:Climb", overrides=overrides))

    return make


def origins(folder: pathlib.Path) -> dict[Place, Any]:
    """By the place where it was sampled, the rollouts that the database has; none is there twice."""
    found: dict[Place, Any] = {}
    with RunReader.open(folder) as run:
        database = sqlite3.connect(folder / "run.db")
        gone = {row[:3]: row[3] for row in database.execute("SELECT * FROM late")}
        database.close()
        for step in range(1, run.last_step() + 1):
            for group in range(GROUPS):
                left = [i for i in range(SIZE) if (step, group, i) not in gone]
                there = [each for each in run.rollouts(step) if each.group_index == group]
                assert len(there) == len(left)
                found |= {(step, group, i): each for i, each in zip(left, there, strict=True)}
        for record in run.rollouts():
            if SAMPLED_IN in record.metrics:
                step, group, index = map(int, record.metrics[SAMPLED_IN].split("/"))
                assert (step, group, index) not in found
                assert gone[step, group, index] == record.step > step
                assert record.group_index >= GROUPS
                found[step, group, index] = record
        assert all((place in found) == (joined is not None) for place, joined in gone.items())
        assert sum(each.rollouts for each in run.steps()) == len(found)
        for step in range(1, run.last_step() + 1):
            tokens = run.tokens(step)
            kept = {(each.group_index, each.rollout_index): each.tokens for each in run.rollouts(step)}
            assert {place: len(each.ids) for place, each in tokens.items()} == kept
    return found


def require_exact(folder: pathlib.Path, deadline: str) -> None:
    """Every rollout of the run is there once, with the reply that its place has."""
    found = origins(folder)
    assert sorted(found) == sorted(itertools.product(range(1, STEPS + 1), range(GROUPS), range(SIZE)))
    with RunReader.open(folder) as run:
        assert run.steps()[-1].expansions == STEPS * GROUPS
        if deadline != "later":
            assert [each.rollouts for each in run.steps()] == [STEP] * STEPS
    for step in range(1, STEPS + 1):
        texts = [found[step, place // SIZE, place % SIZE].text for place in range(STEP)]
        # In order from any one on.
        assert texts in [[*REPLIES[first:], *REPLIES[:first]][:STEP] for first in range(len(REPLIES))]
    assert not list(folder.glob("pending*"))


def require_nothing_left(folder: pathlib.Path) -> None:
    """No thread that judges and no file of the run is left open."""
    until = time.monotonic() + 10
    while any(thread.name.startswith("evaluate") for thread in threading.enumerate()):
        assert time.monotonic() < until, "a thread goes on judging"
        time.sleep(0.005)
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert not [name for name in open_files if name.startswith(f"{folder}/")]


def _is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def comparable(folder: pathlib.Path, judge: str) -> dict[str, list[Any]]:
    """What a run's database says of its steps and what follows from committed steps and the seed alone.

    Which of equal programs was judged first does not.
    """
    found = rows(folder)
    if judge == "once":
        found["rollouts"] = [row[:16] + row[17:] for row in found["rollouts"]]
        found["metrics"] = [row for row in found["metrics"] if row[1] != "reused"]
    return found


@pytest.mark.parametrize(("schedule", "judge", "deadline"), SOME)
def test_a_run_that_is_killed_or_interrupted_counts_every_rollout_once(
    setup: Any, tmp_path: pathlib.Path, schedule: str, judge: str, deadline: str
) -> None:
    disturb(setup, tmp_path, (schedule, judge, deadline), copied=[23], interrupted=[31])


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "judge", "deadline"), ALL)
def test_from_any_moment(
    setup: Any, tmp_path: pathlib.Path, schedule: str, judge: str, deadline: str
) -> None:
    disturb(setup, tmp_path, (schedule, judge, deadline), range(2, 80, 3), range(1, 56, 4))


def disturb(setup: Any, root: pathlib.Path, choice: Any, copied: Any, interrupted: Any) -> None:
    """Make a run whole, go on from copies of it at some of its events, and make others that are interrupted.

    A copy of the folder at an event is what ``kill -9`` would have left at that moment.
    """
    whole, log, count = root / "whole", root / "log", 0

    def copy(event: Any) -> None:
        nonlocal count
        count += 1
        if count in copied:
            shutil.copytree(whole, root / f"moment-{count}", symlinks=True)

    start_run(setup(*choice), whole, [Watch(copy)])
    _schedule, judge, deadline = choice
    require_exact(whole, deadline)
    require_nothing_left(whole)
    ran = collections.Counter(log.read_text().splitlines())
    if judge == "once":
        assert max(ran.values()) == 1
    if judge == "cascade":
        require_rule(whole)
    for folder in root.glob("moment-*"):
        before = len(log.read_text().splitlines())
        resume(folder)
        require_exact(folder, deadline)
        if judge == "once":  # what was judged before the kill is known
            assert len(log.read_text().splitlines()) - before <= STEPS * STEP
        if deadline == "none":
            assert comparable(folder, judge) == comparable(whole, judge)
    for moment in interrupted:
        folder, count = root / f"interrupted-{moment}", 0

        def interrupt(event: Any, moment: int = moment) -> None:
            nonlocal count
            count += 1
            if count == moment:
                raise KeyboardInterrupt

        assert start_run(setup(*choice), folder, [Watch(interrupt)]).interrupted
        require_nothing_left(folder)
        origins(folder)
        resume(folder)
        require_exact(folder, deadline)
        require_nothing_left(folder)
        if deadline == "none":
            assert comparable(folder, judge) == comparable(whole, judge)


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "judge", "deadline"), ALL)
def test_a_run_that_is_killed_again_and_again(
    setup: Any, tmp_path: pathlib.Path, schedule: str, judge: str, deadline: str
) -> None:
    choice, rng = (schedule, judge, deadline), np.random.default_rng(len(f"{schedule}{judge}{deadline}"))
    start_run(setup(*choice), tmp_path / "whole")
    folder, kills = tmp_path / "run", 0

    def kill(event: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and event["kind"] != "run_finished":
            shutil.copytree(folder, tmp_path / f"killed-{kills}", symlinks=True)
            raise KeyboardInterrupt

    left = 9
    result = start_run(setup(*choice), folder, [Watch(kill)])
    while result.interrupted:
        folder, kills = tmp_path / f"killed-{kills}", kills + 1
        origins(folder)
        # Enough to get further: the events of what is there already come again.
        left = int(rng.integers(3, 28)) if kills < 20 else 1000
        result = resume(folder, [Watch(kill)])
    assert kills > 2
    require_exact(folder, deadline)
    require_nothing_left(tmp_path)
    if deadline == "none":
        assert comparable(folder, judge) == comparable(tmp_path / "whole", judge)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_asked_to_stop_late_rollouts_wait_for_the_resume(
    setup: Any, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, schedule: str
) -> None:
    folder = tmp_path / "run"

    def stop(event: Any) -> None:
        if event["kind"] == "rollouts_late":
            ask_to_stop(folder)

    result = start_run(setup(schedule, "cascade", "later"), folder, [Watch(stop)])
    assert (result.asked, result.steps) == (True, 1)
    require_nothing_left(folder)
    found = origins(folder)
    assert 0 < len(found) < STEP
    resume(folder, steps=1)
    waits = STEP - len(found)
    assert (
        f"{waits} late rollout{'s' * (waits > 1)} of earlier steps can only join a further step"
        in caplog.text
    )
    resume(folder, steps=STEPS)
    require_exact(folder, "later")
    # What was judged in time is as it was.
    after = origins(folder)
    for place, each in found.items():
        assert (after[place].text, after[place].advantage) == (each.text, each.advantage)


def require_rule(folder: pathlib.Path) -> None:
    """Who went on of each group is the best quarter and those that beat their start, late or not."""
    found = origins(folder)
    with RunReader.open(folder) as run:
        starts = {(each.step, each.group_index): each.start for each in run.groups()}
        values = {each.id: each.reward.value if each.reward else None for each in run.states()}
    for step, group in itertools.product(range(1, STEPS + 1), range(GROUPS)):
        rollouts = [found[step, group, index] for index in range(SIZE)]
        if any(each.status == "timeout" for each in rollouts):
            continue  # what their short runs came to is not looked at
        ran = [each.metrics.get("stages", []) for each in rollouts]
        valid = [index for index in range(SIZE) if ran[index] and ran[index][0]["value"] is not None]
        valid.sort(key=lambda index: (-ran[index][0]["value"], index))
        begun = values[starts[step, group]]
        best = valid[: math.ceil(0.25 * SIZE)]
        beat = [index for index in valid if begun is not None and ran[index][0]["value"] > begun]
        assert {index for index in range(SIZE) if len(ran[index]) == 2} == {*best, *beat}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_after_going_back_and_with_another_budget_every_rollout_is_there_once(
    setup: Any, tmp_path: pathlib.Path, schedule: str
) -> None:
    folder = tmp_path / "run"
    start_run(setup(schedule, "cascade", "later", checkpoints_kept=9), folder)
    resume_run(RunSetup.from_folder(folder, {"options.budget_s": 50.0}), folder, back_to=1)
    require_exact(folder, "later")
    # In the second step all programs were told a part of the new budget.
    told = {
        stage["budget_s"]
        for (step, *_), each in origins(folder).items()
        if step > 1
        for stage in each.metrics.get("stages", [])
    }
    assert told == {5.0, 50.0}
    require_nothing_left(folder)


@pytest.mark.parametrize("judge", JUDGES)
def test_a_problem_that_fails_late_stops_the_run_where_that_is_asked_for(
    setup: Any, tmp_path: pathlib.Path, judge: str
) -> None:
    problem = tmp_path / "climb.py"
    config = setup("pipelined", judge, "later", on_problem_error="stop").config
    fails = "if seconds == '0.06': raise OSError('no')"
    problem.write_text(problem.read_text().replace("if word ==", f"{fails}\n        if word =="))
    with pytest.raises(PluginError, match="OSError: no"):
        start_run(RunSetup.from_config(config), tmp_path / "run")
    require_nothing_left(tmp_path / "run")
    resume(tmp_path / "run", on_problem_error="count")
    require_exact(tmp_path / "run", "later")
    require_nothing_left(tmp_path / "run")
