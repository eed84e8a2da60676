"""``ttd watch`` beside runs in other processes: going on, finished, interrupted and killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from ttd_core.cli.watch import EventClock
from ttd_core.run.files import WriterLock, writing_process

TTD = [sys.executable, "-m", "ttd_core.cli"]
SLOW = """```python
import time


def run(seed, budget_s, **kwargs):
    time.sleep(0.15)
    return [0.5, 0.75, 1.0]
```"""


@pytest.fixture
def slow_run(tmp_path, problem_source) -> list[str]:
    """Arguments of a run of some seconds, of a problem in a file."""
    (tmp_path / "sums.py").write_text(textwrap.dedent(problem_source))
    (tmp_path / "slow.json").write_text(json.dumps([SLOW]))
    return [
        *("run", "sums.py:Sum", "--name", "slow", "--policy", "scripted", "--quiet"),
        *("--set", f"policy.options.file={tmp_path}/slow.json", "--groups", "1", "--group-size", "2"),
        *("-o", "timeout_s=20"),
    ]


@pytest.fixture
def begun(tmp_path, slow_run):
    """Start the run in another process; what it returns has taken its first step."""
    started = []

    def begin(steps: int) -> subprocess.Popen[str]:
        command = [*TTD, *slow_run, "--steps", str(steps)]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        log = tmp_path / "runs/slow/log.jsonl"
        deadline = time.monotonic() + 60
        while not (log.exists() and "step_finished" in log.read_text()):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def watch(folder: pathlib.Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TTD, "watch", "slow", *more], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_watch_follows_a_run_to_its_end(tmp_path, begun) -> None:
    process = begun(12)
    now = json.loads(watch(tmp_path, "--once", "--json").stdout)
    assert (now["state"], now["process"], now["steps"]) == ("running", process.pid, 12)
    assert 1 <= now["done"] < 12
    assert now["best_score"] == 2.25
    result = watch(tmp_path)
    assert result.returncode == 0, result.stderr
    assert process.wait(30) == 0
    lines = result.stdout.splitlines()
    title, _, level = lines[0].rpartition(", sandbox ")
    assert title == "runs/slow: sum with 1 scripted reply, 12 steps of 2 rollouts"
    assert level in ("strong", "standard")
    steps = [line.split()[1] for line in lines[1:-2]]
    assert steps == [f"{step}/12" for step in range(13 - len(steps), 13)]
    assert lines[-2] == "finished after step 12"
    assert lines[-1] == "best sum 2.25 (below the published 2.5 of somebody by 0.25: worse)"


def test_a_killed_run_is_told_as_such_and_a_resumed_one_again_as_running(tmp_path, begun) -> None:
    process = begun(500)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = watch(tmp_path)
    assert result.returncode == 0
    assert "no process writes this run any more, stopped after step" in result.stdout
    assert "continue with: ttd resume runs/slow" in result.stdout
    assert json.loads(watch(tmp_path, "--once", "--json").stdout)["state"] == "stopped"


def test_an_interrupted_run_ends_the_watch(tmp_path, begun) -> None:
    process = begun(500)
    watcher = subprocess.Popen([*TTD, "watch", "slow"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    assert watcher.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = watcher.communicate(timeout=60)
    assert process.wait(30) == 130
    assert "interrupted after step" in out
    assert watcher.returncode == 0


def test_once_on_a_finished_run_and_in_the_middle_of_a_step(ttd, summing, scripted, monkeypatch) -> None:
    def same_from_the_whole_log(*more: str) -> bool:
        """Whether the log's end and the database say what the whole log says."""
        shown = ttd("watch", "done", "--once", *more).stdout
        with monkeypatch.context() as patch:
            patch.setattr("ttd_core.cli.watch.last_step_begins", lambda path, committed: 0)
            return ttd("watch", "done", "--once", *more).stdout == shown

    assert ttd(*scripted, "--steps", 4, "--name", "done", "--quiet").exit_code == 0
    lines = ttd("watch", "done", "--once").stdout.splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["2/4", "3/4", "4/4"]
    assert lines[-2] == "finished after step 4"
    state = json.loads(ttd("watch", "done", "--json").stdout)
    assert (state["state"], state["process"], state["phase"], state["done"]) == ("finished", None, None, 4)
    assert same_from_the_whole_log()
    assert same_from_the_whole_log("--json")
    # A log that ends amid a step, of a run that another process still writes.
    log = pathlib.Path("runs/done/log.jsonl")
    events = log.read_text().splitlines()
    last = max(place for place, line in enumerate(events) if '"step_started"' in line)
    log.write_text("\n".join(events[: last + 3]) + "\n")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, "runs/done"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert same_from_the_whole_log()
        text = ttd("watch", "done", "--once").stdout
        assert "sampled, " in text
        assert "steps      3/4" in text
        assert "best       2.25 (below the published" in text
        state = json.loads(ttd("watch", "done", "--once", "--json").stdout)
        assert (state["state"], state["process"]) == ("running", holder.pid)
        assert state["sampled"] + state["evaluated"] == 2
    finally:
        holder.communicate("")


def test_a_step_that_was_discarded_leaves_no_best(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 2, "--name", "cut", "--quiet").exit_code == 0
    log = pathlib.Path("runs/cut/log.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    # The process was killed in the second step, whose rollouts scored better than the first step's.
    second = next(
        place
        for place, event in enumerate(events)
        if event["kind"] == "rollout_evaluated" and event["step"] == 2 and event["score"] is not None
    )
    cut = [*events[:second], {**events[second], "score": 2.75}]
    log.write_text("".join(json.dumps(event) + "\n" for event in cut))
    state = json.loads(ttd("watch", "cut", "--once", "--json").stdout)
    assert (state["state"], state["done"], state["best_score"]) == ("stopped", 1, 2.25)
    lines = ttd("watch", "cut", "--once").stdout.splitlines()
    assert lines[-1].startswith("best sum 2.25 ")
    # Gone back to its start, the run shows no finished step either.
    started = next(event for event in events if event["kind"] == "run_started")
    log.write_text("".join(json.dumps(event) + "\n" for event in [*cut, started]))
    lines = ttd("watch", "cut", "--once").stdout.splitlines()
    assert not any(line.startswith("step 1/") for line in lines)
    assert lines[-1] == "no valid sum yet"


_HOLD = """
import pathlib, sys
from ttd_core.run.files import WriterLock
lock = WriterLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_writer_is_found_without_taking_its_lock(tmp_path) -> None:
    assert writing_process(tmp_path) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert writing_process(tmp_path) == holder.pid
    holder.communicate("")
    assert writing_process(tmp_path) is None
    lock = WriterLock(tmp_path)
    lock.release()


def test_watch_of_nothing(ttd) -> None:
    result = ttd("watch", "nosuch")
    assert (result.exit_code, result.stderr) == (2, "error: no run at nosuch or runs/nosuch\n")


def test_the_clock_stands_while_an_event_is_read() -> None:
    clock = EventClock()
    assert abs(clock() - time.time()) < 5
    clock.moment = 12.5
    assert clock() == 12.5
