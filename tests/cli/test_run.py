"""``ttd run``, ``resume`` and ``best`` on real runs with scripted replies."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ttd_core import config as configs
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.reading import RunReader

TTD = [sys.executable, "-m", "ttd_core.cli"]


def test_run_then_best_then_resume(ttd, summing, scripted) -> None:
    result = ttd(*scripted, "--steps", 2, "--name", "first")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("runs/first: sum with 4 scripted replies, 2 steps of 8 rollouts")
    assert [line.split("  ")[:2] for line in lines[1:3]] == [
        ["step 1/2", "valid 4/8 (50%)"],
        ["step 2/2", "valid 4/8 (50%)"],
    ]
    assert "best sum 2.25 (below the published 2.5 of somebody by 0.25: worse)" in lines
    assert "kept in runs/first/best" in lines

    best = json.loads(ttd("best", "runs/first", "--json").stdout)
    assert [each["score"] for each in best][:2] == [2.25, 0.75]
    assert best[0]["code"].startswith("def run(")
    again = ttd("best", "first", "--recheck", "2x3")
    assert again.exit_code == 0
    assert "3/3" in again.stdout
    rechecked = json.loads(ttd("best", "first", "--recheck", "1x2", "--json").stdout)
    assert (rechecked[0]["mean"], rechecked[0]["valid"], rechecked[0]["times"]) == (2.25, 2, 2)

    refused = ttd("resume", "first", "--set", "seed=5", "--set", "learn.beta=3")
    assert refused.exit_code == 2
    assert "learn.beta: 2.0 -> 3.0" in refused.stderr
    assert "seed: 0 -> 5" in refused.stderr
    assert refused.stderr.count("\n") == 1
    resumed = ttd("resume", "first", "--steps", 3, "--json")
    assert resumed.exit_code == 0
    summary = json.loads(resumed.stdout)
    assert (summary["steps"], summary["best_score"], summary["interrupted"]) == (3, 2.25, False)
    assert "continuing after step 2" in resumed.stderr

    longer = ttd("resume", "first", "--steps", 4, "--set", "options.timeout_s=7", "--quiet")
    assert longer.exit_code == 0, longer.stderr
    with RunReader.open(pathlib.Path("runs/first")) as run:
        changed = list(run.events(kind="settings_changed"))
        assert configs.from_toml(run.config()).options["timeout_s"] == 7.0
    assert [(each["step"], each["changes"]) for each in changed] == [
        (2, {"steps": 3}),
        (3, {"options.timeout_s": 7.0, "steps": 4}),
    ]


@pytest.mark.parametrize("backend", ["local", "tinker"])
def test_groups_of_one_are_refused_where_they_would_train(ttd, summing, backend, tmp_path) -> None:
    given = ["run", "sum", "--policy", backend, "--model", tmp_path / "none", "--group-size", 1]
    refused = ttd(*given)
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "group_size = 1 leaves nothing to learn from" in refused.stderr
    assert "--variant no-training (learn.train = false)" in refused.stderr
    assert not pathlib.Path("runs").exists()
    # What does not train is refused for its model alone, or not at all.
    assert "group_size" not in ttd(*given, "--variant", "no-training").stderr


def test_groups_of_one_run_where_nothing_trains(ttd, summing, scripted) -> None:
    result = ttd(*scripted, "--group-size", 1, "--steps", 1, "--name", "ones")
    assert result.exit_code == 0, result.stderr


def test_a_run_of_no_steps_gives_no_shares_of_nothing(ttd, summing, scripted) -> None:
    result = ttd(*scripted, "--steps", 0, "--name", "none")
    assert result.exit_code == 0, result.stderr
    assert "no step was made, so there are no rollouts" in result.stdout.splitlines()
    assert "0 of 0" not in result.stdout
    assert "%" not in result.stdout
    row = ttd("compare", "none").stdout.splitlines()[3]
    assert "%" not in row


def test_replies_without_programs_are_not_said_to_repeat(ttd, summing, scripted) -> None:
    pathlib.Path("replies.json").write_text(json.dumps(["I have no idea."]))
    lines = ttd(*scripted, "--steps", 1, "--name", "wordy").stdout.splitlines()
    assert lines[0].startswith("runs/wordy: sum with 1 scripted reply, 1 step of 8 rollouts")
    assert "0 of 8 rollouts valid (0%); no reply held a program" in lines


def test_a_command_builds_the_hooks_once(ttd, summing, scripted, monkeypatch) -> None:
    built = []
    build = Hooks.__init__

    def counting(self, problem=None, *arguments, **named) -> None:
        built.append(problem)
        build(self, problem, *arguments, **named)

    monkeypatch.setattr(Hooks, "__init__", counting)
    assert ttd(*scripted, "--steps", 1, "--name", "once").exit_code == 0
    assert [problem.name for problem in built] == ["sum"]
    assert ttd("resume", "once", "--steps", 2).exit_code == 0
    assert [problem.name for problem in built] == ["sum", "sum"]


def test_json_is_alone_on_standard_output_and_quiet_is_quiet(ttd, summing, scripted) -> None:
    result = ttd(*scripted, "--steps", 1, "--name", "one", "--json", "--quiet", "-o", "size=3")
    assert result.exit_code == 0
    assert result.stderr == ""
    summary = json.loads(result.stdout)
    assert (summary["run"], summary["problem"], summary["best_published"]) == ("runs/one", "sum", 2.5)
    stored = pathlib.Path("runs/one/config.toml").read_text()
    assert "size = 3" in stored
    assert 'label = "none"' in stored


def test_flags_reach_the_config(ttd, summing, scripted, tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 1\ncheckpoints_kept = 4\n[learn]\nbeta = 3\n")
    flags = [
        "--config",
        file,
        "--seed",
        7,
        "--variant",
        "naive-rl",
        "--model",
        "m",
        "--runs-dir",
        "elsewhere",
    ]
    result = ttd(
        *scripted, "--steps", 0, "--name", "x", *flags, "--sandbox", "standard", "--set", "learn.beta1=0.5"
    )
    assert result.exit_code == 0, result.stderr
    from ttd_core import config as configs

    stored = configs.from_toml(pathlib.Path("elsewhere/x/config.toml").read_text())
    assert (stored.seed, stored.variant, stored.search.reuse, stored.learn.advantage) == (
        7,
        "naive-rl",
        "none",
        "mean",
    )
    assert (stored.policy.model, stored.policy.backend, stored.sandbox.level) == ("m", "scripted", "standard")
    assert (stored.groups, stored.group_size, stored.steps, stored.checkpoints_kept) == (2, 4, 0, 4)
    assert (stored.learn.beta, stored.learn.beta1, stored.options["timeout_s"]) == (3.0, 0.5, 20.0)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuch"], 2, "no installed plugin registers problem 'nosuch'."),
        ([], 2, "no problem named; `ttd list-problems` shows the installed ones"),
        (["sum", "--set", "stepz=1"], 2, "--set stepz=1: unknown key 'stepz'. Did you mean 'steps'?"),
        (
            ["sum", "--steps", "2", "--set", "steps=3"],
            2,
            "steps is given twice: 3 by --set and 2 by its own flag",
        ),
        (["sum", "-o", "size=many"], 2, "problem sum: size needs a whole number, not 'many'"),
        (
            ["sum", "--name", "a/b"],
            2,
            "--name a/b: a plain name is needed; --runs-dir sets the folder around it",
        ),
        (["sum", "--policy", "scriptd"], 2, "policy.backend = 'scriptd': no plugin brings it;"),
        (["sum", "--policy", "scripted"], 2, "policy.backend = 'scripted' needs policy.options.replies"),
        (["sum", "--variant", "best"], 2, "Invalid value for '--variant': 'best' is not one of"),
        (["sum", "--config", "none.toml"], 2, "none.toml: cannot be read: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_no_folder_is_made(
    ttd, summing, arguments, code, message
) -> None:
    result = ttd("run", *arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert not pathlib.Path("runs").exists()


def test_a_run_that_exists_already(ttd, summing, scripted) -> None:
    pathlib.Path("runs/old").mkdir(parents=True)
    result = ttd(*scripted, "--name", "old")
    assert result.exit_code == 2
    assert "runs/old exists already and holds no run; remove it, or choose another --name" in result.stderr
    pathlib.Path("runs/old").rmdir()
    assert ttd(*scripted, "--steps", 0, "--name", "old").exit_code == 0
    result = ttd(*scripted, "--name", "old")
    assert result.exit_code == 2
    assert "runs/old exists already; continue it with: ttd resume runs/old" in result.stderr


def test_a_broken_plugin_is_told_and_stops_nothing(ttd, summing, scripted, install) -> None:
    install("ttd-bad", {"bad_run_plugin": "raise OSError('no library')"}, plugins={"bad": "bad_run_plugin"})
    result = ttd(*scripted, "--steps", 0, "--quiet")
    assert result.exit_code == 0
    assert (
        result.stderr
        == "warning: plugin bad (ttd-bad 1.0): import: OSError: no library (bad_run_plugin.py:1)\n"
    )


def test_a_problem_that_raises_is_named(ttd, install, problem_source, scripted) -> None:
    source = problem_source.replace("total = sum(", "total = sum(1 / 0 for _ in [1]) + sum(")
    install("ttd-bug", {"bug_problem": source}, problems={"sum": "bug_problem:Sum"})
    stop = ["--set", "on_problem_error=stop"]
    result = ttd(*scripted, "--steps", 1, "--name", "bug", "--quiet", *stop)
    assert result.exit_code == 3
    assert result.stderr.startswith("error: plugin sum (ttd-bug 1.0): ttd_reward: ZeroDivisionError")
    assert ttd("resume", "bug", "--quiet", "--set", "on_problem_error=count").exit_code == 0


@pytest.mark.parametrize("command", ["resume", "best"])
def test_no_such_run(ttd, command: str) -> None:
    result = ttd(command, "nowhere")
    assert (result.exit_code, result.stderr) == (2, "error: no run at nowhere or runs/nowhere\n")


def test_recheck_wants_two_numbers(ttd) -> None:
    result = ttd("best", "x", "--recheck", "20")
    assert result.exit_code == 2
    assert "'20' is not COUNTxTIMES, such as 20x3." in result.stderr


def test_list_settings_shows_every_key(ttd) -> None:
    from ttd_core import config as configs

    text = ttd("run", "--list-settings").stdout
    for key, *_ in configs.describe_settings():
        assert f"\n{key} " in text


def test_ctrl_c_says_how_to_resume(ttd, problem_source, replies) -> None:
    pathlib.Path("mine.py").write_text(problem_source)
    command = [
        *(*TTD, "run", "./mine.py", "--policy", "scripted", "--set", f"policy.options.file={replies}"),
        *("--groups", "1", "--group-size", "4", "--steps", "100000", "--name", "long"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while "step 2/" not in process.stdout.readline():
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "continue with: ttd resume runs/long" in complaint
    assert complaint.count("\n") == 1
    kept = json.loads(ttd("resume", "long", "--steps", 1, "--json", "--quiet").stdout)
    assert kept["steps"] >= 2  # nothing committed is lost, and no step is added beyond those asked for
    assert kept["best_score"] == 2.25


def test_a_reader_that_leaves_ends_the_run(ttd, problem_source, replies) -> None:
    pathlib.Path("mine.py").write_text(problem_source)
    command = [
        *(*TTD, "run", "./mine.py", "--policy", "scripted", "--set", f"policy.options.file={replies}"),
        *("--groups", "1", "--group-size", "4", "--steps", "100000", "--name", "long"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while "step 1/" not in process.stdout.readline():
            assert process.poll() is None
        process.stdout.close()
        assert process.stderr is not None
        complaint = process.stderr.read()
        assert process.wait(timeout=60) == 141
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert complaint == ""
