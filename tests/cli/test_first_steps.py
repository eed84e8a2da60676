"""What a newcomer may get wrong, or find broken: one line that says what, where and what to do instead."""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
import sqlite3

import pytest

from ttd_core.run.reading import RunReader


def refusal(result, code: int = 2) -> str:
    """The one line of a command that refuses."""
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is empty; leave --name out for one made of problem and time."),
        ("  ", "it is empty"),
        ("a" * 300, "it has 300 bytes; a name may have 200."),
        ("\u00e9" * 101, "it has 202 bytes; a name may have 200."),
        ("two\nlines", "'two lines' holds characters that cannot be shown"),
    ],
)
def test_a_name_that_no_folder_can_have(ttd, summing, scripted, name: str, message: str) -> None:
    assert message in refusal(ttd(*scripted, "--steps", 0, "--name", name))
    assert not pathlib.Path("runs").exists()


def test_the_longest_name_makes_a_run(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 0, "--name", "n" * 200).exit_code == 0
    assert ttd("best", "n" * 200).exit_code == 0


@pytest.mark.parametrize("command", ["best", "watch", "resume", "report", "rollouts"])
def test_a_run_of_a_name_that_no_file_can_have(ttd, command: str) -> None:
    assert "no file can have so long a name" in refusal(ttd(command, "a" * 300))


def test_a_start_that_there_is_not_is_refused_before_the_model_is_looked_for(ttd, summing) -> None:
    # No model can be had here under that name, and that would be said if it came first.
    result = ttd("run", "sum", "--model", "no/such/model", "-o", "start=bogus")
    assert "start must be 'empty'" in refusal(result)
    assert "no/such/model" in refusal(ttd("run", "sum", "--model", "no/such/model", "--preset", "laptop"), 3)
    assert not pathlib.Path("runs").exists()


def test_hints_can_be_pasted_into_a_shell(ttd, summing, scripted) -> None:
    folder = "runs/it's a run"
    assert ttd(*scripted, "--steps", 1, "--name", "it's a run").exit_code == 0
    told = ttd("resume", folder).stdout.splitlines()[0]
    command = told.partition("go on with: ")[2]
    assert shlex.split(command) == ["ttd", "resume", folder, "--steps", "2"]
    assert ttd(*shlex.split(command)[1:], "--quiet").exit_code == 0
    with RunReader.open(pathlib.Path(folder)) as run:
        assert run.last_step() == 2
    shutil.copytree(folder, "runs/cut off")
    log = pathlib.Path("runs/cut off/log.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if '"run_finished"' not in line))
    told = ttd("watch", "cut off", "--once").stdout
    assert "continue with: ttd resume 'runs/cut off'\n" in told


def test_a_finished_run_is_left_as_it_is(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 2, "--name", "over", "--quiet").exit_code == 0
    folder = pathlib.Path("runs/over")
    # Its replies are gone, as a model may be: nothing of the policy is asked for.
    pathlib.Path("replies.json").unlink()
    log = (folder / "log.jsonl").read_bytes()
    result = ttd("resume", "over")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "runs/over: finished after step 2 already; go on with: ttd resume runs/over --steps 3"
    )
    assert lines[1].startswith("8 of 16 rollouts valid (50%)")
    assert lines[-1] == "kept in runs/over/best"
    assert (folder / "log.jsonl").read_bytes() == log
    with RunReader.open(folder) as run:
        assert [each["kind"] for each in run.events() if each["kind"].startswith("run_")] == [
            "run_started",
            "run_finished",
        ]
    facts = json.loads(ttd("resume", "over", "--json", "--quiet").stdout)
    assert (facts["steps"], facts["best_score"], facts["interrupted"]) == (2, 2.25, False)
    assert "policy.options" in refusal(ttd("resume", "over", "--steps", 3))


def test_changes_on_resume_that_cannot_be_are_one_line(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 1, "--name", "over", "--quiet").exit_code == 0

    def refused(*arguments: object) -> str:
        result = ttd("resume", "over", *arguments)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        return str(result.output).removeprefix("error: ").removesuffix("\n")

    unknown = "is no option of the run's problem. Did you mean 'options.budget_s'?"
    for wrong, line in {
        "options.budget=3": f"runs/over: options.budget {unknown}",
        "options.budget_s.x=3": f"runs/over: options.budget_s.x {unknown}",
        "options.budget_s=soon": "problem sum: budget_s needs a number or none, not 'soon'",
        "options.budget_s=nan": "--set options.budget_s=nan: options.budget_s holds what no option can be: a "
        "number that is not finite",
        "options.timeout_s=none": "problem sum: timeout_s needs a number, not 'none'",
        "options.timeout_s=-1": "problem sum: timeout_s must be above 0, not -1.0",
        "options.size=4": "runs/over: the options differ from the run's: options.size: 3 -> 4. A run goes on "
        "under its own config; start a new one with `ttd run`",
    }.items():
        assert refused("--set", wrong) == line
    assert refused("--steps", 3, "--set", "steps=4") == (
        "steps is given twice: 4 by --set and 3 by its own flag"
    )
    (first, *_) = ttd("resume", "over", "--set", "options.budget_s=5").stdout.splitlines()
    assert first.endswith("go on with: ttd resume runs/over --set options.budget_s=5 --steps 2")


def test_a_run_that_was_cut_off_before_it_could_say_so_is_finished(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 1, "--name", "cut", "--quiet").exit_code == 0
    with sqlite3.connect("runs/cut/run.db") as database:
        database.execute("DELETE FROM events WHERE kind = 'run_finished'")
    database.close()
    assert ttd("resume", "cut", "--quiet").exit_code == 0
    with RunReader.open(pathlib.Path("runs/cut")) as run:
        assert run.newest_event("run_finished") is not None


def test_watch_without_a_log_reads_the_database(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 2, "--name", "logless", "--quiet").exit_code == 0
    pathlib.Path("runs/logless/log.jsonl").unlink()
    for flags in ([], ["--once"]):
        lines = ttd("watch", "logless", *flags).stdout.splitlines()
        assert lines[0].startswith("runs/logless: sum with 4 scripted replies, 2 steps of 8 rollouts")
        assert lines[-2:] == [
            "finished after step 2",
            "best sum 2.25 (below the published 2.5 of somebody by 0.25: worse)",
        ]
    state = json.loads(ttd("watch", "logless", "--json").stdout)
    assert (state["state"], state["done"], state["best_score"]) == ("finished", 2, 2.25)


@pytest.mark.parametrize(
    "torn",
    [
        '{"kind": "step_finished"}',
        '{"kind": "step_finished", "time": 1.0, "step": 9}',
        '{"kind": "run_started", "time": "soon"}',
        '{"kind": ["odd"], "time": 1.0}',
        '{"kind": "step_finished", "time": 1.0, "step"',
        "\x00\x00\x00\x00",
        "[1, 2]",
    ],
)
def test_watch_passes_over_a_torn_line(ttd, summing, scripted, torn: str) -> None:
    assert ttd(*scripted, "--steps", 2, "--name", "torn", "--quiet").exit_code == 0
    whole = ttd("watch", "torn", "--once").stdout
    with open("runs/torn/log.jsonl", "a", encoding="utf-8") as log:
        log.write(torn + "\n")
    result = ttd("watch", "torn", "--once")
    assert (result.exit_code, result.stdout) == (0, whole)


def test_a_missing_array_is_named_and_the_disk_is_not(ttd) -> None:
    pytest.importorskip("ttd_math")
    pathlib.Path("reply.json").write_text(json.dumps(["no program"]))
    made = ttd(
        *("run", "ac1", "--policy", "scripted", "--set", "policy.options.file=reply.json", "--quiet"),
        *("--groups", 1, "--group-size", 1, "--steps", 1, "--name", "part", "--start", "program"),
        *("--timeout-s", 20, "--budget-s", 1),
    )
    assert made.exit_code == 0, made.stderr
    (array,) = pathlib.Path("runs/part/arrays").glob("*.npy")
    array.unlink()
    for command in ("compare", "report"):
        said = refusal(ttd(command, "part"), 3)
        assert said == f"error: {array} cannot be read: it is missing. Bring it back from a copy\n"


def test_a_problem_of_an_installed_name(ttd, summing) -> None:
    result = ttd("new-problem", "sum")
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: sum (ttd-sum 2.1) is installed already: a second problem of that name could not be "
        "installed beside it, and its runs would bear the same name\n"
    )
    assert ttd("new-problem", "another-sum").stderr == ""


def test_the_commands_for_a_file_made_elsewhere_work(ttd) -> None:
    pathlib.Path("a folder").mkdir()
    made = json.loads(ttd("new-problem", "far-points", "--minimal", "--to", "a folder", "--json").stdout)
    check, show, _ = made["commands"]
    assert ttd(*shlex.split(check)[1:]).exit_code == 0
    assert ttd(*shlex.split(show)[1:]).exit_code == 0
