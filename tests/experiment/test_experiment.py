"""Whole experiments of real runs: made, killed, gone on with, failed in part, and summed up."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from ttd_core.experiment.plan import read_plan
from ttd_core.experiment.progress import Folders, Stage, standings
from ttd_core.run.reading import RunReader
from ttd_core.run.requests import hints, leave_hint
from ttd_core.run.store import RunStore

GOOD = "```python\ndef run(seed, budget_s, **kwargs):\n    return [0.25, 0.75, 0.75, 0.25]\n```"
SLOW = GOOD.replace("    return [0.25, 0.75", "    __import__('time').sleep(1)\n    return [0.3, 0.7")
GRID = """
    title = "Two ways to pick, two seeds"
    [run]
    problem = "erdos"
    steps = 2
    groups = 2
    group_size = 2
    policy.backend = "scripted"
    policy.options.replies = {replies}
    options.timeout_s = 5.0
    learn.train = false
    sandbox.level = "standard"
    [grid]
    search.reuse = ["puct", "none"]
    seed = [0, 1]
    [machine]
    parallel = 2
    price_per_hour = 2.0
"""


def ttd(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ttd_core.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def grid(folder: pathlib.Path, *replies: str, more: str = "") -> pathlib.Path:
    path = folder / "grid.toml"
    path.write_text(GRID.format(replies=json.dumps(list(replies))) + more)
    return path


def rollouts(folder: pathlib.Path) -> dict[str, list[tuple[Any, ...]]]:
    """What each run's rollouts came to: all that a summary is made of, times aside."""
    found = {}
    for run in sorted((folder / "experiments" / "grid" / "runs").iterdir()):
        with RunReader.open(run) as reader:
            found[run.name] = [
                (r.step, r.group_index, r.rollout_index, r.status, r.score, r.fate) for r in reader.rollouts()
            ]
    return found


@pytest.mark.slow
def test_a_grid_is_made_once_and_summed_up(tmp_path: pathlib.Path) -> None:
    grid(tmp_path, GOOD, "no program")
    dry = ttd(tmp_path, "experiment", "grid.toml", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "4 runs in experiments/grid" in dry.stdout
    assert "in all 32 rollouts" in dry.stdout
    assert not (tmp_path / "experiments").exists()
    made = ttd(tmp_path, "experiment", "grid.toml")
    assert made.returncode == 0, made.stderr
    assert made.stderr.count("finished after 2 steps, best 0.40625") == 4
    assert "search.reuse = puct and search.reuse = none are level in 2 of 2 seeds" in made.stdout
    assert "16 evaluations" in made.stdout
    assert re.search(r"best: seed 0 0\.40625 from 0\.\d+, seed 1 0\.40625 from 0\.\d+;", made.stdout)
    assert (tmp_path / "experiments/grid/compare.html").stat().st_size > 10_000
    before = rollouts(tmp_path)
    again = ttd(tmp_path, "experiment", "grid.toml", "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert {run["stage"] for run in told["runs"].values()} == {"finished"}
    assert [pair["seeds"] for pair in told["pairs"]] == [[0, 1]]
    assert {cost["currency"] for cost in told["costs"]} == {"USD"}
    assert rollouts(tmp_path) == before
    # the folders are ordinary ones
    compared = ttd(tmp_path, "compare", *(str(run) for run in (tmp_path / "experiments/grid/runs").iterdir()))
    assert compared.returncode == 0, compared.stderr
    assert "hints of people" not in compared.stdout
    hinted = tmp_path / "experiments/grid/runs" / sorted(before)[0]
    leave_hint(hinted, "try it")
    with RunStore.open(hinted) as store:
        store.note_hints(3, hints(hinted))
    summed = ttd(tmp_path, "experiment", "grid.toml", "--summary")
    assert f"\nhints of people were in prompts of {hinted.name}: more than" in summed.stdout
    page = (tmp_path / "experiments/grid/compare.html").read_text(encoding="utf-8")
    assert f"Hints of people were in prompts of {hinted.name}" in page


@pytest.mark.slow
def test_a_run_that_fails_says_so_and_stops_no_other(tmp_path: pathlib.Path) -> None:
    text = grid(tmp_path, GOOD).read_text()
    # the fourth run's model does not exist: it fails when it is begun
    text += '\n[[arm]]\nname = "here"\n[[arm]]\nname = "nowhere"\nset.policy.backend = "nobody"\n'
    (tmp_path / "grid.toml").write_text(text.replace("seed = [0, 1]", "seed = [0]"))
    made = ttd(tmp_path, "experiment", "grid.toml")
    assert made.returncode == 1
    assert made.stderr.count("finished after 2 steps") == 2
    assert made.stderr.count("policy.backend = 'nobody': no plugin brings it") == 2
    assert made.stdout.count("is failed: policy.backend = 'nobody'") == 2
    plan = read_plan(tmp_path / "grid.toml")
    folders = Folders(tmp_path / "experiments" / "grid")
    assert [each.stage for each in standings(plan, folders).values()].count(Stage.FAILED) == 2
    skipped = ttd(tmp_path, "experiment", "grid.toml", "--skip-failed")
    assert (skipped.returncode, skipped.stderr) == (1, "")


@pytest.mark.slow
def test_another_config_in_the_folder_is_refused(tmp_path: pathlib.Path) -> None:
    text = grid(tmp_path, GOOD).read_text().replace("seed = [0, 1]", "seed = [0]")
    (tmp_path / "grid.toml").write_text(text)
    assert ttd(tmp_path, "experiment", "grid.toml").returncode == 0
    (tmp_path / "grid.toml").write_text(text.replace("timeout_s = 5.0", "timeout_s = 6.0"))
    refused = ttd(tmp_path, "experiment", "grid.toml")
    assert refused.returncode == 2
    assert "holds a run of another config: options.timeout_s: 5.0 -> 6.0" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    # more steps are the same run, gone on with
    (tmp_path / "grid.toml").write_text(text.replace("steps = 2", "steps = 3"))
    longer = ttd(tmp_path, "experiment", "grid.toml")
    assert longer.returncode == 0, longer.stderr
    assert longer.stderr.count("finished after 3 steps") == 2


def test_a_folder_whose_run_never_began_is_made_anew(tmp_path: pathlib.Path) -> None:
    text = grid(tmp_path, GOOD).read_text().replace("seed = [0, 1]", "seed = [0]")
    (tmp_path / "grid.toml").write_text(text.replace('["puct", "none"]', '["puct"]'))
    plan = read_plan(tmp_path / "grid.toml")
    (run,) = plan.runs
    folder = tmp_path / "experiments/grid/runs" / run.name
    # killed between the making of the database and its first write
    (folder / "arrays").mkdir(parents=True)
    (folder / "run.db").touch()
    (folder / "lock").touch()
    assert standings(plan, Folders(tmp_path / "experiments/grid"))[run.name].stage is Stage.WAITING
    # a process is about to make it
    holding = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'a')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\ninput()"
    )
    command = [sys.executable, "-c", holding, str(folder / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert standings(plan, Folders(tmp_path / "experiments/grid"))[run.name].stage is Stage.RUNNING
        holder.communicate(b"\n")
    made = ttd(tmp_path, "experiment", "grid.toml")
    assert made.returncode == 0, made.stderr
    assert "finished after 2 steps" in made.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_grid_goes_on_to_the_same_summary(tmp_path: pathlib.Path, kill: signal.Signals) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        grid(folder, SLOW, GOOD, "no program")
    assert ttd(whole, "experiment", "grid.toml").returncode == 0
    command = [sys.executable, "-m", "ttd_core.cli", "experiment", "grid.toml"]
    process = subprocess.Popen(
        command, cwd=killed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    runs = killed / "experiments/grid/runs"
    deadline = time.monotonic() + 120
    while not any((run / "log.jsonl").exists() for run in runs.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, kill)
    _, err = process.communicate(timeout=120)
    if kill != signal.SIGKILL:
        assert process.returncode == 130, err
        assert b"interrupted; continue with: ttd experiment grid.toml" in err
    again = ttd(killed, "experiment", "grid.toml")
    assert again.returncode == 0, again.stderr
    assert rollouts(killed) == rollouts(whole)
