"""Killed again and again, at any moment, a run comes out as if nothing had happened."""

from __future__ import annotations

import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from tests.integration.test_resume import KEEP, SIZE, adapter_at, archive_at, finish

from ttd_core.run.reading import RunReader

Ttd = Callable[..., "subprocess.Popen[str]"]
STEPS = 6
KILLS = 6


def events_of(folder: pathlib.Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_somewhere(process: subprocess.Popen[str], folder: pathlib.Path, rng: random.Random) -> bool:
    """Kill a run after a few more events, or while it writes a checkpoint; whether it was still running."""
    until = events_of(folder) + rng.randint(2, 16)
    in_checkpoint = rng.random() < 0.4
    while process.poll() is None:
        if in_checkpoint and any(folder.glob("checkpoints/.*.aside")):
            break
        if not in_checkpoint and events_of(folder) >= until:
            break
        time.sleep(0.001)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return running


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_no_kill_changes_what_a_run_comes_to(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path, every: int
) -> None:
    settings = ["--steps", str(STEPS), *SIZE, *KEEP, "--set", f"checkpoint_every={every}"]
    common = ["run", f"{problem_file}:Letters", "--model", model_folder, *settings]
    finish(ttd(*common, "--name", "whole"))
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"
    rng = random.Random(every)
    kills, committed = 0, 0
    process = ttd(*common, "--name", "killed")
    while kills < KILLS:
        kills += kill_somewhere(process, killed, rng)
        if not (killed / "run.db").exists():
            process = ttd(*common, "--name", "killed")
            continue
        with RunReader.open(killed) as run:
            last = run.last_step()
        # What was committed stays, but for steps whose policy was not kept: at most those since a checkpoint.
        assert last >= committed - (every - 1)
        committed = last
        if last == STEPS:
            break
        process = ttd("resume", killed)
    if committed < STEPS:
        _, err = finish(process)
        assert every > 1 or "repeated" not in err
    print(f"checkpoint_every={every}: {kills} kills")
    assert archive_at(killed, STEPS) == archive_at(whole, STEPS)
    assert adapter_at(killed, STEPS) == adapter_at(whole, STEPS)
    leftovers = [path.name for path in (killed / "checkpoints").iterdir() if path.name.startswith(".")]
    assert leftovers == []
