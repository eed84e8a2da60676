"""``ttd list-runs`` on runs that finished, go on, were killed or are damaged."""

from __future__ import annotations

import json
import multiprocessing
import pathlib
import shutil
import sqlite3

import pytest

from ttd_core.run.files import WriterLock
from ttd_core.run.overview import overview


def listed(ttd, *flags: str) -> dict[str, dict]:
    result = ttd("list-runs", "--json", *flags)
    assert result.exit_code == 0
    return {each["name"]: each for each in json.loads(result.stdout)}


def forget(folder: str, kind: str) -> None:
    """Take events from a run's database, as if its process had been killed before it wrote them."""
    with sqlite3.connect(f"{folder}/run.db") as database:
        database.execute("DELETE FROM events WHERE kind = ?", (kind,))
    database.close()


def test_runs_are_listed_with_what_they_came_to(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 1, "--name", "one", "--quiet").exit_code == 0
    assert ttd(*scripted, "--steps", 2, "--seed", 3, "--name", "two", "--quiet").exit_code == 0
    runs = listed(ttd)
    assert list(runs) == ["two", "one"]
    two = runs["two"]
    assert (two["problem"], two["policy"], two["variant"]) == ("sum", "4 scripted replies", "full")
    assert (two["seed"], two["done"], two["steps"], two["state"]) == (3, 2, 2, "finished")
    assert (two["best_score"], two["error"]) == (2.25, "")
    assert 0 < runs["one"]["begun"] < two["begun"]
    lines = ttd("list-runs").stdout.splitlines()
    assert lines[0].split() == [
        "NAME",
        "PROBLEM",
        "POLICY",
        "VARIANT",
        "SEED",
        "STEPS",
        "STATE",
        "BEST",
        "BEGUN",
    ]
    assert lines[1].split()[:-2] == [
        "two",
        "sum",
        "4",
        "scripted",
        "replies",
        "full",
        "3",
        "2/2",
        "finished",
        "2.25",
    ]
    assert len(lines) == 3


def test_a_problem_in_a_file_is_told_by_its_name(ttd, problem_source, scripted) -> None:
    pathlib.Path("mine.py").write_text(problem_source)
    assert ttd("run", "./mine.py", *scripted[2:], "--steps", 0, "--name", "filed", "-q").exit_code == 0
    assert listed(ttd)["filed"]["problem"] == "sum"


def test_a_run_whose_process_is_gone_is_not_running(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 1, "--name", "gone", "--quiet").exit_code == 0
    forget("runs/gone", "run_finished")
    assert listed(ttd)["gone"]["state"] == "stopped"
    # The lock is held by another process, for a process sees no lock of its own.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=hold, args=("runs/gone", theirs))
    writer.start()
    try:
        assert ours.recv() == "held"
        assert listed(ttd)["gone"]["state"] == "running"
    finally:
        ours.send("done")
        writer.join(60)
    assert listed(ttd)["gone"]["state"] == "stopped"


def hold(folder: str, pipe) -> None:
    lock = WriterLock(pathlib.Path(folder))
    pipe.send("held")
    pipe.recv()
    lock.release()


def test_damage_is_told_in_a_line_and_hides_no_other_run(ttd, summing, scripted) -> None:
    assert ttd(*scripted, "--steps", 1, "--name", "good", "--quiet").exit_code == 0
    shutil.copytree("runs/good", "runs/bad")
    pathlib.Path("runs/bad/run.db").write_bytes(b"no database at all" * 100)
    pathlib.Path("runs/notes").mkdir()
    pathlib.Path("runs/half").mkdir()
    pathlib.Path("runs/half/config.toml").write_text("")
    result = ttd("list-runs")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["NAME", "good"]
    complaints = result.stderr.splitlines()
    assert len(complaints) == 2
    assert complaints[0].startswith("warning: runs/bad/run.db cannot be read")
    assert "runs/half" in complaints[1]
    assert listed(ttd)["bad"]["state"] == "unreadable"


def test_no_runs(ttd) -> None:
    result = ttd("list-runs", "--runs-dir", "elsewhere")
    assert (result.exit_code, result.stdout) == (0, "no run in elsewhere\n")
    assert listed(ttd) == {}


@pytest.mark.parametrize("folder", ["run-0.1"])
def test_a_run_of_an_earlier_version(folder: str, tmp_path) -> None:
    path = pathlib.Path(__file__).parents[1] / "data" / folder
    run = overview(shutil.copytree(path, tmp_path / "old"))
    assert (run.error, run.name) == ("", "old")
    assert run.done >= 1
