"""Whole runs on servers: a policy that learns on one, killed and resumed; best-of-N from a frozen model."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

from ttd_core.run.events import read_log

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(900)]

#: The reply becomes a program that prints it; reward is the share of ASCII in what it prints.
PROBLEM = """
    from ttd_core import Action, Problem, Reward


    class Print(Problem):
        name = "print"
        title = "Print ASCII"
        metric = "share"
        direction = "max"
        preload = ()

        def task(self):
            return "Print ASCII."

        def render_prompt(self, state, history):
            return [{"role": "user", "content": "ASCII"}]

        def parse_action(self, completion):
            return Action(f"def run(seed, budget_s, **kwargs):\\n    return {completion.text!r}\\n")

        def construct(self, value):
            return {"text": str(value)}

        def check(self, state):
            return []

        def reward(self, state):
            text = state.data["text"]
            share = sum(character.isascii() for character in text) / max(len(text), 1)
            return Reward(share, share)
"""


def ttd(folder: pathlib.Path, environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ttd_core.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, (process.returncode, out, err)
    return out, err


def steps(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The last told of each step that was finished."""
    events, _ = read_log(folder / "log.jsonl")
    found = {event["step"]: event for event in events if event["kind"] == "step_finished"}
    return [found[step] for step in sorted(found)]


def test_a_run_on_skyrl_learns_and_survives_a_kill(skyrl: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "print.py").write_text(textwrap.dedent(PROBLEM))
    settings = {
        "policy.options.base_url": skyrl["TTD_TEST_TINKER"],
        "policy.options.sequence_loss": "mean",
        "policy.lora_rank": 8,
        "policy.max_new_tokens": 4,
        "policy.context": 512,
        "learn.learning_rate": 0.01,
        "learn.kl_coefficient": 0.0,
        "search.reuse": "none",
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = ["run", "print.py:Print", "--policy", "tinker", "--model", skyrl["TTD_TEST_TINKER_MODEL"]]
    size = ["--steps", "3", "--groups", "2", "--group-size", "32", "--name", "run"]
    environment = {**skyrl, "TINKER_API_KEY": "tml-very-secret"}
    folder = tmp_path / "runs" / "run"

    process = ttd(tmp_path, environment, *command, *size, *sets)
    deadline = time.monotonic() + 400
    while not (folder.is_dir() and len(steps(folder)) >= 2) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    out, _ = finish(ttd(tmp_path, environment, "resume", "run"))
    assert "continuing after step 2" in out
    assert "adapter moved: " in out

    found = steps(folder)
    means = [event["mean_value"] for event in found]
    assert len(means) == 3
    assert means[2] > max(means[:2])
    assert means[2] > means[0] + 0.15
    # Sampled and recomputed on the same server in float32.
    assert all(event["metrics"]["logprob_gap_max"] < 1e-3 for event in found)
    record = json.loads((folder / "checkpoints" / "step-000003" / "tinker.json").read_text())
    assert record["path"].startswith("tinker://")
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"tml-very-secret" not in file.read_bytes(), file


def test_best_of_n_on_erdos_from_a_served_model(
    served_model: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    address, model = served_model
    settings = {
        "policy.options.base_url": address,
        "policy.options.in_flight": 2,
        "policy.max_new_tokens": 60,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [
        "run",
        "erdos",
        "--policy",
        "openai",
        "--model",
        model,
        "-o",
        "start=program",
        "-o",
        "reply=parts",
    ]
    size = ["--steps", "1", "--groups", "1", "--group-size", "4", "--name", "run", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "sk-very-secret"}

    _, err = finish(ttd(tmp_path, environment, *command, *size, *sets), code=2)
    assert "frozen model and cannot learn" in err
    assert not (tmp_path / "runs").exists()
    out, _ = finish(ttd(tmp_path, environment, *command, *size, *sets, "--variant", "best-of-n"))
    result = json.loads(out)
    assert (result["steps"], result["rollouts"], result["adapter_after"]) == (1, 4, "")
    # Whatever the model proposed, the best is no worse than the program it started from.
    assert 0.3809 < result["best_score"] < 0.3817
    (step,) = steps(tmp_path / "runs" / "run")
    assert step["metrics"]["requests"] == 4
    assert step["metrics"]["tokens_prompt"] > 4 * 100
    assert 4 < step["metrics"]["tokens"] <= 4 * 60
    log = (tmp_path / "runs" / "run" / "log.jsonl").read_text()
    assert log.count('"rollout_evaluated"') == 4
    assert "sk-very-secret" not in log


def test_refusals_of_a_real_server_are_one_line(
    served_model: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    address, _ = served_model
    sets = ["--set", f"policy.options.base_url={address}", "--variant", "best-of-n", "--group-size", "1"]
    command = ["run", "erdos", "--policy", "openai", "--model", "nobody/nothing", "-o", "start=program"]
    _, err = finish(ttd(tmp_path, dict(os.environ), *command, *sets), code=2)
    (line,) = err.strip().splitlines()
    assert "nobody/nothing" in line
