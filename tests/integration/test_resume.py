"""Killed in the middle of a step, a run goes on as if nothing had happened."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from safetensors.numpy import load_file

from ttd_core.config import SearchConfig
from ttd_core.run.events import read_log
from ttd_core.run.reading import RunReader

Ttd = Callable[..., "subprocess.Popen[str]"]

SIZE = [
    "--groups",
    "2",
    "--group-size",
    "4",
    "--set",
    "policy.max_new_tokens=24",
    "--set",
    "policy.dtype=float32",
]
#: A step that was stopped is made again whole: the local engine rounds otherwise in smaller batches.
REPEAT = ["--set", "keep_rollouts=false"]
KEEP = ["--set", "checkpoints_kept=20", "--set", "learn.learning_rate=0.01", "--set", "policy.lora_rank=4"]


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, (process.returncode, out, err)
    return out, err


def archive_at(folder: pathlib.Path, step: int) -> tuple[Any, list[str]]:
    with RunReader.open(folder) as run:
        snapshot, arrays = run.load_archive(SearchConfig(), step).snapshot()
    return snapshot, sorted(arrays)


def adapter_at(folder: pathlib.Path, step: int) -> dict[str, bytes]:
    tensors = load_file(folder / "checkpoints" / f"step-{step:06d}" / "optimiser.safetensors")
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def wait_for(folder: pathlib.Path, process: subprocess.Popen[str], kind: str, step: int) -> None:
    """Until the run's log tells of ``kind`` in ``step``."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        events, _ = read_log(folder / "log.jsonl")
        if any(event["kind"] == kind and event.get("step") == step for event in events):
            return
        if process.poll() is not None:
            raise AssertionError(f"the run ended early: {process.communicate()}")
        time.sleep(0.005)
    raise AssertionError(f"no {kind} of step {step}")


@pytest.mark.slow
def test_kill_in_the_middle_of_a_step_then_resume(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    common = ["run", f"{problem_file}:Letters", "--model", model_folder, "--steps", "5"]
    common += [*SIZE, *KEEP, *REPEAT]
    finish(ttd(*common, "--name", "whole"))
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"

    process = ttd(*common, "--name", "killed")
    wait_for(killed, process, "rollout_sampled", 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with RunReader.open(killed) as run:
        last = run.last_step()
    assert 2 <= last < 5
    assert archive_at(killed, last) == archive_at(whole, last)
    assert adapter_at(killed, last) == adapter_at(whole, last)

    out, _ = finish(ttd("resume", killed))
    assert f"continuing after step {last}" in out
    assert archive_at(killed, 5) == archive_at(whole, 5)
    assert adapter_at(killed, 5) == adapter_at(whole, 5)
    assert adapter_at(whole, 5) != adapter_at(whole, 4)


@pytest.mark.slow
def test_changed_options_are_refused_by_name(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path
) -> None:
    finish(
        ttd("run", f"{problem_file}:Letters", "--model", model_folder, "--steps", "1", *SIZE, "--name", "a")
    )
    _, err = finish(ttd("resume", "a", "--set", "learn.learning_rate=0.5", "--set", "seed=3"), code=2)
    (line,) = err.strip().splitlines()
    assert "learn.learning_rate: 4e-05 -> 0.5" in line
    assert "seed: 0 -> 3" in line
    config = tmp_path / "runs" / "a" / "config.toml"
    config.write_text(config.read_text().replace("group_size = 4", "group_size = 5"))
    _, err = finish(ttd("resume", "a"), code=2)
    assert "group_size: 4 -> 5" in err
    config.write_text(config.read_text().replace("group_size = 5", "group_size = 4"))
    out, _ = finish(ttd("resume", "a", "--steps", "2"))
    assert "step 2/2" in out


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupt_abandons_the_step_and_says_how_to_go_on(
    ttd: Ttd, tmp_path: pathlib.Path, problem_file: pathlib.Path, model_folder: pathlib.Path, signum: int
) -> None:
    size = [*SIZE[:3], "16", *SIZE[4:]]
    process = ttd("run", f"{problem_file}:Letters", "--model", model_folder, *size, "--name", "b")
    folder = tmp_path / "runs" / "b"
    wait_for(folder, process, "step_started", 2)
    process.send_signal(signum)
    _, err = finish(process, code=130)
    assert "ttd resume" in err
    with RunReader.open(folder) as run:
        last = run.last_step()
        assert last >= 1
        assert run.events()[-1]["kind"] == "run_interrupted"
        assert (folder / "best" / "best.json").is_file()
    leftovers = subprocess.run(["pgrep", "-f", str(problem_file)], capture_output=True, text=True)
    assert leftovers.stdout == ""
    finish(ttd("resume", folder, "--steps", last + 1))
