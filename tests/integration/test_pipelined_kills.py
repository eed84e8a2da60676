"""Killed twenty times, in every phase, a run whose steps overlap loses nothing and counts nothing twice."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import pathlib
import random
import signal
import sqlite3
import subprocess
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.test_kills import rollouts_of
from tests.integration.test_resume import KEEP, archive_at, finish
from tests.integration.test_resume import SIZE as SMALL

from ttd_core.run.events import read_log
from ttd_core.run.reading import RunReader

Ttd = Callable[..., "subprocess.Popen[str]"]
STEPS, GROUPS, SIZE, KILLS = 13, 2, 6, 20
LEARNING = [*SMALL[4:], "--groups", str(GROUPS), "--group-size", str(SIZE)]
COMMITTING = ("learning and committing", "beginning")
#: Seconds that a phase may have lasted when it is killed.
LONGEST = {"sampling the next step": 0.05, "judging": 0.05}

#: Programs sleep about as long as sampling takes, some of them longer.
SLEEPERS = """

    class Sleepers(Letters):
        name = "sleepers"
        title = "Long texts, slowly"

        def parse_action(self, completion):
            text = completion.text
            seconds = 0.03 + 0.015 * (len(text) % 7)
            code = f"import time\\n\\n\\ndef run(seed, budget_s, **kwargs):\\n    time.sleep({seconds})\\n"
            return Action(f"{code}    return {text!r}\\n")
"""


def events_since(folder: pathlib.Path, before: int) -> list[dict[str, Any]]:
    return read_log(folder / "log.jsonl")[0][before:] if (folder / "log.jsonl").exists() else []


def kill_at(process: subprocess.Popen[str], folder: pathlib.Path, moment: str, delay: float) -> str:
    """``kill -9`` in a phase, or when a step was just committed; the phase that it was then.

    :param delay: seconds that the phase may have lasted.
    """
    before = len(read_log(folder / "log.jsonl")[0]) if (folder / "log.jsonl").exists() else 0
    while process.poll() is None:
        events = events_since(folder, before)
        over = any(event["kind"] == "step_finished" for event in events)
        if phase(events) == moment or (over and moment in COMMITTING):
            time.sleep(delay)
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return phase(events_since(folder, before))


def phase(events: list[dict[str, Any]]) -> str:
    """What a run was doing, by the events of its process: which of its two steps had come how far."""
    counts: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for event in events:
        if event.get("step") is not None:
            counts[event["step"]][event["kind"]] += 1
    over = max((step for step, each in counts.items() if each["step_finished"]), default=0)
    open_steps = [each for step, each in sorted(counts.items()) if step > over and each["step_started"]]
    if not open_steps:
        return "beginning"
    newest, oldest = open_steps[-1], open_steps[0]
    if newest["rollout_sampled"] < GROUPS * SIZE:
        return "sampling" if len(open_steps) == 1 else "sampling the next step"
    if oldest["rollout_evaluated"] == GROUPS * SIZE:
        return "learning and committing"
    # Of a single step that is sampled, the next is about to be.
    return "judging" if len(open_steps) > 1 else "sampled"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing_and_count_nothing_twice(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path
) -> None:
    replies = tmp_path / "replies.json"
    problem_file.write_text(problem_file.read_text() + textwrap.dedent(SLEEPERS))
    replies.write_text(json.dumps([f"{'a' * n} {n}" for n in range(1, 60)]))
    common = ["run", f"{problem_file}:Sleepers", "--policy", "scripted", "--steps", str(STEPS)]
    common += ["--groups", str(GROUPS), "--group-size", str(SIZE), "--set", "schedule=pipelined"]
    common += ["--set", f"policy.options.file={replies}", "--set", "policy.options.seconds=0.02"]
    common += ["--set", "search.capacity=8", "--set", "sandbox.workers=2"]
    finish(ttd(*common, "--name", "whole"))
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"

    rng = random.Random(21)
    overlapping = ["sampling the next step", "judging"]
    moments = itertools.cycle([*overlapping, COMMITTING[0], *overlapping, COMMITTING[1]])
    phases: collections.Counter[str] = collections.Counter()
    process = ttd(*common, "--name", "killed")
    for number, moment in enumerate(itertools.islice(moments, KILLS)):
        phases[kill_at(process, killed, moment, rng.uniform(0, LONGEST.get(moment, 0.0)))] += 1
        with RunReader.open(killed) as run:
            assert run.last_step() < STEPS, f"the run was over after {number} kills"
        process = ttd("resume", killed)
    finish(process)
    print(f"{KILLS} kills: {dict(phases)}")
    assert phases["sampling the next step"] >= 3
    assert phases["judging"] >= 3
    assert not list(killed.glob("pending*"))
    assert rollouts_of(killed) == rollouts_of(whole)
    assert archive_at(killed, STEPS) == archive_at(whole, STEPS)
    with contextlib.closing(sqlite3.connect(killed / "run.db")) as database:
        (rollouts,) = database.execute("SELECT count(*) FROM rollouts").fetchone()
    assert rollouts == STEPS * GROUPS * SIZE


@pytest.mark.slow
def test_a_model_learns_from_what_it_said_a_step_before(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    """Killed while it samples ahead; the ratios of the two policies, a step apart, are those of the loss."""
    common = ["run", f"{problem_file}:Letters", "--model", model_folder, "--steps", "4", *LEARNING, *KEEP]
    folder = tmp_path / "runs" / "ahead"
    process = ttd(*common, "--set", "schedule=pipelined", "--name", "ahead")
    kill_at(process, folder, "sampling the next step", 0.02)
    finish(ttd("resume", folder))
    with RunReader.open(folder) as run:
        numbers = [each for _, each in sorted(run.metrics().items())]
        assert [record.rollouts for record in run.steps()] == [GROUPS * SIZE] * 4
    assert [each["staleness"] for each in numbers] == [0, 1, 1, 1]
    # Of the policy that sampled them the first replies were learned from; the others' had moved by a step.
    assert numbers[0]["logprob_gap_max"] < 1e-4
    assert all(each["logprob_gap_max"] > 1e-3 for each in numbers[1:] if each["groups_used"])
    assert sum(each["ratio_max"] > 1.001 for each in numbers[1:] if each["groups_used"]) >= 1
