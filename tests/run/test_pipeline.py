"""Steps that overlap: in which order, what they come to, and that a kill changes nothing of it."""

from __future__ import annotations

import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.run.whole_runs import (
    GROUPS,
    REPLIES,
    SIZE,
    Counting,
    Watch,
    metric,
    opened,
    pending_of,
    resume,
    rows,
)

from ttd_core.policy.base import Sample
from ttd_core.run import judging
from ttd_core.run.loop import resume_run, start_run
from ttd_core.run.pending import PENDING
from ttd_core.run.reading import RunReader
from ttd_core.run.requests import ask_to_stop, leave_hint
from ttd_core.run.setup import RunSetup

STEPS, STEP = 4, GROUPS * SIZE
#: So small that starts of the step under way are evicted.
SMALL = {"steps": STEPS, "search.capacity": 4, "schedule": "pipelined"}


class Changing(Counting):
    """Says other things the more it learned; notes when it samples and learns."""

    def __init__(self, done: list[str]) -> None:
        super().__init__()
        self._done = done

    def sample_part(self, *arguments: Any) -> Iterator[Sample]:
        replies = self._replies
        self._replies = replies[2 * self.learned :] + replies[: 2 * self.learned]
        self._done.append("sample")
        yield from super().sample_part(*arguments)
        self._replies = replies

    def train_step(self, batch: Any, temperature: float) -> Any:
        self._done.append("learn")
        return super().train_step(batch, temperature)


@pytest.fixture
def done() -> list[str]:
    """What the policies of the test did, in order."""
    return []


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> list[Changing]:
    return opened(monkeypatch, lambda: Changing(done))


def started(seen: list[Any]) -> list[tuple[int, int, int]]:
    """Of each step begun: its number, after which it was, the rollouts that were there."""
    events = [each for each in seen if each["kind"] == "step_started"]
    return [(each["step"], each["after"], each["kept"]) for each in events]


def test_a_step_is_sampled_while_the_programs_of_the_one_before_run(
    setup,
    policies,
    done,
    tmp_path,
    monkeypatch,
) -> None:
    """No program of a step ends before the next is sampled: one after the other they would wait forever."""
    sampled = {step: threading.Event() for step in range(1, STEPS + 2)}
    sampled[STEPS + 1].set()
    counts: dict[int, int] = {}
    seen: list[Any] = []
    real, under_way = judging.judge_reply, iter([1] * STEP + [2] * STEP + [3] * STEP + [4] * STEP)

    def judge(*arguments: Any) -> Any:
        assert sampled[next(under_way) + 1].wait(20), "the next step was not sampled meanwhile"
        return real(*arguments)

    def watch(event: Any) -> None:
        seen.append(event)
        if event["kind"] == "rollout_sampled":
            counts[event["step"]] = counts.get(event["step"], 0) + 1
            if counts[event["step"]] == STEP:
                sampled[event["step"]].set()
        elif event["kind"] in ("step_started", "step_finished"):
            done.append(f"{event['kind']} {event['step']}")

    monkeypatch.setattr(judging, "judge_reply", judge)
    start_run(setup(**SMALL), tmp_path / "run", [Watch(watch)])
    begun = [[f"step_started {step}", "sample"] for step in range(1, STEPS + 1)]
    over = [["learn", f"step_finished {step}"] for step in range(1, STEPS + 1)]
    order = [begun[0], begun[1], over[0], begun[2], over[1], begun[3], over[2], over[3]]
    assert done == [each for part in order for each in part]
    # Begun after the last step that was committed by then, which is what its policy had learned last.
    assert started(seen) == [(1, 0, 0), (2, 0, 0), (3, 1, 0), (4, 2, 0)]
    assert metric(tmp_path / "run", "staleness") == [0, 1, 1, 1]
    assert metric(tmp_path / "run", "staleness_max") == [0, 1, 1, 1]
    with RunReader.open(tmp_path / "run") as run:
        assert [each.rollouts for each in run.steps()] == [STEP] * STEPS
    verdicts = [(each["step"], each["group"], each["index"]) for each in seen if "status" in each]
    assert sorted(set(verdicts)) == sorted(verdicts)
    assert len(verdicts) == STEPS * STEP


def test_one_after_the_other_no_step_is_begun_before_the_last_is_over(
    setup,
    policies,
    done,
    tmp_path,
) -> None:
    seen: list[Any] = []
    start_run(setup(steps=3), tmp_path / "run", [Watch(seen.append)])
    assert done == ["sample", "learn"] * 3
    assert started(seen) == [(1, 0, 0), (2, 1, 0), (3, 2, 0)]
    with RunReader.open(tmp_path / "run") as run:
        assert all("staleness" not in numbers for numbers in run.metrics().values())


def test_how_long_programs_take_changes_nothing(setup, policies, tmp_path, monkeypatch) -> None:
    start_run(setup(**SMALL), tmp_path / "quick")
    real = judging.judge_reply

    def slow(hooks: Any, start: Any, completion: Any, execute: Any) -> Any:
        time.sleep(0.001 * (len(completion.text) % 5))
        return real(hooks, start, completion, execute)

    monkeypatch.setattr(judging, "judge_reply", slow)
    start_run(setup(**SMALL, **{"sandbox.workers": 3}), tmp_path / "slow")
    assert rows(tmp_path / "slow") == rows(tmp_path / "quick")


def test_from_any_moment_a_killed_run_comes_out_the_same_and_does_nothing_twice(
    setup,
    policies,
    judged,
    tmp_path,
) -> None:
    """A copy of the folder at any event is what ``kill -9`` would have left at that moment."""
    moments: list[pathlib.Path] = []
    count = 0

    def copy(event: Any) -> None:
        nonlocal count
        count += 1
        if count % 8 == 0 or event["kind"] in ("step_started", "step_finished", "checkpoint_written"):
            moments.append(tmp_path / f"moment-{count}")
            shutil.copytree(tmp_path / "whole", moments[-1], symlinks=True)

    start_run(setup(**SMALL), tmp_path / "whole", [Watch(copy)])
    whole = rows(tmp_path / "whole")
    assert not list((tmp_path / "whole").glob("pending*"))
    both = 0
    for folder in moments[1:]:
        with RunReader.open(folder) as run:
            last = run.last_step()
        lines = {step: pending_of(folder, step)[1:] for step in (last + 1, last + 2)}
        replies = sum("text" in line for each in lines.values() for line in each)
        verdicts = sum("status" in line for each in lines.values() for line in each)
        both += all(lines.values())
        judged.clear()
        seen: list[Any] = []
        resume(folder, [Watch(seen.append)])
        assert rows(folder) == whole
        assert not list(folder.glob("pending*"))
        assert len(policies[-1].asked) == (STEPS - last) * STEP - replies
        assert len(judged) == (STEPS - last) * STEP - verdicts
        assert sum(kept for _, _, kept in started(seen)) == replies
    assert both > 5


@pytest.mark.parametrize("kind", ["step_started", "rollout_sampled", "rollout_evaluated"])
def test_an_interrupt_keeps_both_steps_and_writes_the_checkpoint(
    setup,
    policies,
    judged,
    tmp_path,
    kind,
) -> None:
    settings = {**SMALL, "checkpoint_every": 10}
    start_run(setup(**settings), tmp_path / "whole")
    seen: list[Any] = []

    def interrupt(event: Any) -> None:
        seen.append(event)
        if event["kind"] == kind and event["step"] == 3 + (kind != "rollout_evaluated"):
            raise KeyboardInterrupt

    result = start_run(setup(**settings), tmp_path / "run", [Watch(interrupt)])
    assert (result.interrupted, result.steps) == (True, 2 if kind != "rollout_evaluated" else result.steps)
    assert [each["kind"] for each in seen[-2:]] == ["checkpoint_written", "run_interrupted"]
    assert seen[-2]["step"] == result.steps
    under_way = (result.steps + 1, result.steps + 2)
    kept = sum("text" in line for step in under_way for line in pending_of(tmp_path / "run", step))
    verdicts = sum("status" in line for step in under_way for line in pending_of(tmp_path / "run", step))
    judged.clear()
    resume(tmp_path / "run")
    assert len(policies[-1].asked) == (STEPS - result.steps) * STEP - kept
    assert len(judged) == (STEPS - result.steps) * STEP - verdicts
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


@pytest.fixture
def stopped(setup, policies, tmp_path) -> Callable[..., pathlib.Path]:
    """A run that was interrupted with step 2 committed, step 3 sampled and half of step 4."""

    def stop(**settings: Any) -> pathlib.Path:
        count = 0

        def interrupt(event: Any) -> None:
            nonlocal count
            if event["kind"] == "rollout_sampled" and event["step"] == 4:
                count += 1
                if count == STEP // 2:
                    raise KeyboardInterrupt

        start_run(setup(**{**SMALL, **settings}), tmp_path / "run", [Watch(interrupt)])
        return tmp_path / "run"

    return stop


def test_replies_that_were_lost_are_given_by_the_newer_policy(stopped) -> None:
    """As a power cut may leave it; their staleness says which they are."""
    folder = stopped()
    path = folder / "pending-000003.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    gone = [line for line in lines if '"index": 2' in line]
    path.write_text("".join(line for line in lines if line not in gone))
    seen: list[Any] = []
    resume(folder, [Watch(seen.append)])
    assert started(seen) == [(3, 1, STEP - GROUPS), (4, 2, STEP // 2)]
    assert metric(folder, "staleness") == [0, 1, 1 - GROUPS / STEP, 1]


def test_replies_of_the_newer_policy_are_told_from_others_after_another_stop(stopped) -> None:
    folder = stopped()
    path = folder / "pending-000003.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"index": 2' not in line))

    def interrupt(event: Any) -> None:
        if event["kind"] == "step_started" and event["step"] == 4:
            raise KeyboardInterrupt

    resume(folder, [Watch(interrupt)])
    seen: list[Any] = []
    resume(folder, [Watch(seen.append)])
    assert started(seen)[0] == (3, 1, STEP)
    assert metric(folder, "staleness")[2] == 1 - GROUPS / STEP


@pytest.mark.parametrize("how", ["missing", "off"])
def test_a_step_of_which_nothing_is_left_is_begun_anew(stopped, how) -> None:
    folder = stopped()
    if how == "missing":
        (folder / "pending-000003.jsonl").unlink()
    seen: list[Any] = []
    resume(folder, [Watch(seen.append)], keep_rollouts=how == "missing")
    assert started(seen) == [(3, 2, 0), (4, 2, STEP // 2 if how == "missing" else 0)]
    assert metric(folder, "staleness") == [0, 1, 0, 1]
    assert not list(folder.glob("pending*"))


def test_after_going_back_nothing_of_later_steps_is_used(stopped) -> None:
    folder = stopped()
    seen: list[Any] = []
    resume_run(RunSetup.from_folder(folder, {}), folder, [Watch(seen.append)], back_to=1)
    assert started(seen) == [(2, 1, 0), (3, 1, 0), (4, 2, 0)]
    with RunReader.open(folder) as run:
        assert [each.rollouts for each in run.steps()] == [STEP] * STEPS


def test_a_hint_holds_from_the_next_step_whose_prompts_are_not_rendered(
    setup,
    policies,
    tmp_path,
) -> None:
    folder = tmp_path / "run"

    def hint(event: Any) -> None:
        if event["kind"] == "step_finished" and event["step"] == 1:
            leave_hint(folder, "add")

    start_run(setup(**SMALL), folder, [Watch(hint)])
    with RunReader.open(folder) as run:
        assert [(each.began, each.text) for each in run.hints()] == [(3, "add")]
        prompts = {group.step: group.prompt[0]["content"] for group in run.groups()}
    assert ["> add" in prompts[step] for step in range(1, STEPS + 1)] == [False, False, True, True]


def test_asked_to_stop_it_begins_no_step_and_ends_the_one_under_way(
    setup,
    policies,
    done,
    tmp_path,
) -> None:
    folder = tmp_path / "run"

    def stop(event: Any) -> None:
        if event["kind"] == "rollout_sampled" and event["step"] == 3:
            ask_to_stop(folder)

    result = start_run(setup(**SMALL), folder, [Watch(stop)])
    # Step 3 was begun while the programs of step 2 ran: it is kept for the resume.
    assert (result.interrupted, result.asked, result.steps) == (True, True, 2)
    assert done[-1] == "learn"
    seen: list[Any] = []
    assert resume(folder, [Watch(seen.append)]).steps == STEPS
    assert started(seen) == [(3, 1, STEP), (4, 2, 0)]


def test_overlapping_is_no_key_that_a_resume_may_change(stopped) -> None:
    folder = stopped()
    with pytest.raises(Exception, match="schedule: 'pipelined' -> 'sync'"):
        resume(folder, schedule="sync")
    assert not (folder / PENDING).exists()
    assert len(REPLIES) > STEP
