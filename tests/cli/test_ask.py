"""``ttd hint`` and ``ttd stop``, on runs that work, that rest and that are finished."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tests.cli.test_watch import begun, slow_run  # noqa: F401 - fixtures

from ttd_core.cli import main
from ttd_core.run.files import WriterLock
from ttd_core.run.reading import RunReader
from ttd_core.run.requests import REQUESTS, asked_to_stop

TTD = [sys.executable, "-m", "ttd_core.cli"]


@pytest.fixture
def finished(ttd, summing, scripted) -> pathlib.Path:
    assert ttd(*scripted, "--steps", "0", "--name", "done", "-q").exit_code == 0
    return pathlib.Path("runs/done")


def test_hints_from_the_command_line(ttd, finished) -> None:
    result = ttd("hint", "done", "try \x1b[31mred")
    assert result.output == (
        "hint 1 left; the run is finished, and heeds that if it is given more steps: "
        "ttd resume runs/done --steps N\n"
    )
    assert ttd("hint", "done", "second " * 20, "--json").output == (
        '{\n  "run": "runs/done",\n  "number": 2,\n  "done": "left"\n}\n'
    )
    assert ttd("hint", "done", "--remove", "1").output.startswith("hint 1 removed; ")
    assert ttd("hint", "done", "--list").output.splitlines() == [
        "HINT  STATE                    STEPS  TEXT",
        "1     removed before any step  -      try \\x1b[31mred",
        f"2     waits for the next step  -      {('second ' * 20)[:57]}...",
    ]
    assert [each["number"] for each in json.loads(ttd("hint", "done", "--list", "--json").output)] == [1, 2]


def test_a_folder_that_became_no_run_gets_no_hint(ttd, finished) -> None:
    finished.joinpath("run.db").write_bytes(b"")
    result = ttd("hint", "done", "try")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: runs/done holds no run: it was stopped before its first write;")
    assert not finished.joinpath(REQUESTS).exists()


def test_a_hint_from_standard_input(ttd, finished) -> None:
    def piped(content: bytes):
        return CliRunner().invoke(main, ["hint", "done", "-"], input=content)

    assert piped("two\nlines, é".encode()).exit_code == 0
    assert json.loads(ttd("hint", "done", "--list", "--json").output)[0]["text"] == "two\nlines, é"
    # As echo writes it.
    assert piped(f"{'🙂' * 4000}\n".encode()).exit_code == 0
    for content, words in (
        (b"", "error: the hint is empty; say in a sentence or two what to try"),
        (b"\xff\xfe\xff", "error: the hint on standard input is not UTF-16-LE text: "),
        (b"caf\xe9", "error: the hint on standard input is not UTF-8 text: byte 3 cannot be read"),
        (b"x" * 20_000, "error: the hint on standard input is longer than 4000 characters"),
    ):
        result = piped(content)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert result.stderr.startswith(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hint", "done"], "one is needed: TEXT, --list or --remove NUMBER"),
        (["hint", "done", "text", "--list"], "one is needed: TEXT, --list or --remove NUMBER"),
        (["hint", "done", "--remove", "4"], "there is no hint 4; it has none"),
        (["hint", "nowhere", "text"], "no run at nowhere or runs/nowhere"),
        (["stop", "nowhere"], "no run at nowhere or runs/nowhere"),
        (["stop", "done"], "the run is finished; there is nothing to stop"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(ttd, finished, arguments, words) -> None:
    result = ttd(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert words in result.stderr
    assert not (finished / REQUESTS).exists()


def test_a_run_of_another_machine_may_be_asked_to_stop(ttd, finished) -> None:
    """File systems that machines share need not tell whether a process there holds a lock."""
    with RunReader.open(finished) as run:
        assert run.newest_event("run_finished")
    for database in finished.glob("run.db*"):
        database.unlink()
    (finished / "run.db").write_bytes(b"unreadable" * 100)  # as a machine sees it that cannot read it
    assert "no process writes this run, so there is nothing to stop" in ttd("stop", "done").stderr
    (finished / "lock").write_text("17 elsewhere\n")
    assert ttd("stop", "done").output == (
        "asked; if elsewhere still writes this run, it ends after the step under way\n"
    )
    assert asked_to_stop(finished)


def test_the_lock_names_process_and_machine(tmp_path) -> None:
    lock = WriterLock(tmp_path)
    process, machine = (tmp_path / "lock").read_text().split()
    assert process.isdigit()
    assert machine
    lock.release()


@pytest.mark.slow
def test_a_run_that_works_takes_a_hint_and_stops(tmp_path, begun) -> None:  # noqa: F811
    process = begun(60)

    def ttd(*arguments: str) -> str:
        command = [*TTD, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    assert ttd("hint", "slow", "go on") == "hint 1 left; the run heeds that from its next step on\n"
    while not ttd("watch", "slow", "--once").count("hint 1     go on"):
        assert process.poll() is None
    assert ttd("stop", "slow") == f"asked process {process.pid} to stop: it ends after the step under way\n"
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    with RunReader.open(tmp_path / "runs" / "slow") as run:
        done, [hint] = run.last_step(), run.hints()
        assert run.groups(done)[0].prompt[0]["content"].endswith("says:\n\n> go on")
    assert 1 < done < 60
    assert hint.began > 1
    assert output.endswith(
        f"error: stopped as asked after step {done}; continue with: ttd resume runs/slow\n"
    )
    assert ttd("watch", "slow", "--once").splitlines()[-2] == (
        f"stopped as asked after step {done}; continue with: ttd resume runs/slow"
    )
    rollout = ttd("rollouts", "slow", "--show", f"{done}/0/0")
    assert "hints      1, at the end of the prompt" in rollout
    assert (
        ttd("hint", "slow", "--list")
        .splitlines()[1]
        .startswith(f"1     in prompts  from {hint.began}  go on")
    )
