"""Killed again and again, at any moment, a run comes out as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.test_resume import KEEP, REPEAT, SIZE, adapter_at, archive_at, finish

from ttd_core.run.events import read_log
from ttd_core.run.pending import PENDING
from ttd_core.run.reading import RunReader

Ttd = Callable[..., "subprocess.Popen[str]"]
STEPS = 6
KILLS = 6


def events_of(folder: pathlib.Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_somewhere(
    process: subprocess.Popen[str], folder: pathlib.Path, rng: random.Random, signum: int = signal.SIGKILL
) -> bool:
    """Stop a run after a few more events, or while it writes a checkpoint; whether it was still running."""
    until = events_of(folder) + rng.randint(2, 16)
    in_checkpoint = rng.random() < 0.4
    while process.poll() is None:
        if in_checkpoint and any(folder.glob("checkpoints/.*.aside")):
            break
        if not in_checkpoint and events_of(folder) >= until:
            break
        time.sleep(0.001)
    running = process.poll() is None
    process.send_signal(signum)
    process.communicate()
    return running


def run_with_kills(
    ttd: Ttd, common: list[Any], folder: pathlib.Path, rng: random.Random, every: int = 1, *signals: int
) -> int:
    """Make a run to its end, stopped again and again; returns how often it was.

    :param every: steps between checkpoints.
    :param signals: what stops it, one after the other; ``kill -9`` where none are named.
    """
    kills, committed = 0, 0
    process = ttd(*common, "--name", folder.name)
    while kills < KILLS:
        signum = signals[kills % len(signals)] if signals else signal.SIGKILL
        kills += kill_somewhere(process, folder, rng, signum)
        if not (folder / "run.db").exists():
            process = ttd(*common, "--name", folder.name)
            continue
        with RunReader.open(folder) as run:
            last = run.last_step()
        # What was committed stays, but for steps whose policy was not kept: at most those since a checkpoint.
        assert last >= committed - (every - 1)
        committed = last
        if last == STEPS:
            break
        process = ttd("resume", folder)
    if committed < STEPS:
        _, err = finish(process)
        assert every > 1 or "repeated" not in err
    assert not (folder / PENDING).exists()
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_no_kill_changes_what_a_run_comes_to(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path, every: int
) -> None:
    settings = ["--steps", str(STEPS), *SIZE, *KEEP, *REPEAT, "--set", f"checkpoint_every={every}"]
    common = ["run", f"{problem_file}:Letters", "--model", model_folder, *settings]
    finish(ttd(*common, "--name", "whole"))
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"
    kills = run_with_kills(ttd, common, killed, random.Random(every), every)
    print(f"checkpoint_every={every}: {kills} kills")
    assert archive_at(killed, STEPS) == archive_at(whole, STEPS)
    assert adapter_at(killed, STEPS) == adapter_at(whole, STEPS)
    leftovers = [path.name for path in (killed / "checkpoints").iterdir() if path.name.startswith(".")]
    assert leftovers == []


@pytest.mark.slow
def test_what_a_killed_run_kept_is_what_its_policy_said(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    """With kept rollouts the local engine rounds otherwise, yet learns from log-probabilities of its own."""
    # Few rows and long replies, so that they come one after the other.
    size = ["--groups", "2", "--group-size", "8", "--set", "policy.batch=2", *SIZE[6:]]
    size += ["--set", "policy.max_new_tokens=80"]
    common = ["run", f"{problem_file}:Letters", "--model", model_folder, "--steps", "3", *size, *KEEP]
    folder = tmp_path / "runs" / "killed"
    process = ttd(*common, "--name", "killed")
    for replies in (3, 7, 11):
        pending = folder / PENDING
        while process.poll() is None:
            lines = pending.read_bytes().splitlines() if pending.exists() else []
            if lines and b'"step": 2' in lines[0] and sum(b'"logprobs"' in line for line in lines) >= replies:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = ttd("resume", folder)
    finish(process)
    kept = kept_rollouts(folder)
    print(f"rollouts kept of steps: {kept}")
    first, second, third = kept[2:5]
    assert 3 <= first < second < third <= 16
    assert first < 16
    with RunReader.open(folder) as run:
        assert [record.rollouts for record in run.steps()] == [2 * 8] * 3
        for numbers in run.metrics().values():
            # Of a policy whose weights differ, by a step at this rate, they would be far off.
            assert numbers["logprob_gap_max"] < 1e-4


def kept_rollouts(folder: pathlib.Path) -> list[int]:
    """How many rollouts each step began with, every time that it was begun."""
    events, _ = read_log(folder / "log.jsonl")
    return [event["kept"] for event in events if event["kind"] == "step_started"]


def rollouts_of(folder: pathlib.Path) -> list[Any]:
    """Every rollout but for the time and memory that it took."""
    columns = (
        "step, group_index, rollout_index, status, fate, node, value, score, advantage, tokens, stop, "
        "digest, message, code, output, text"
    )
    with contextlib.closing(sqlite3.connect(folder / "run.db")) as database:
        return database.execute(f"SELECT {columns} FROM rollouts ORDER BY 1, 2, 3").fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
def test_rollouts_of_a_step_that_was_killed_are_used_and_change_nothing(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, signals: tuple[int, ...]
) -> None:
    replies = tmp_path / "replies.json"
    replies.write_text(json.dumps([f"{'a' * n} {n}" for n in range(1, 60)]))
    common = ["run", f"{problem_file}:Letters", "--policy", "scripted", "--steps", str(STEPS)]
    common += ["--groups", "2", "--group-size", "12", "--set", f"policy.options.file={replies}"]
    finish(ttd(*common, "--name", "whole"))
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"
    kills = run_with_kills(ttd, common, killed, random.Random(7), 1, *signals)
    kept = kept_rollouts(killed)
    print(f"{kills} kills, rollouts kept of steps: {kept}")
    assert sum(count > 0 for count in kept) >= 2
    assert rollouts_of(killed) == rollouts_of(whole)
    assert archive_at(killed, STEPS) == archive_at(whole, STEPS)
