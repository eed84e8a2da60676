"""``ttd new-problem`` and ``ttd check-problem``: from nothing to a problem of one's own that runs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

from ttd_core.cli.new_problem import names_of

REPLY = """```python
import numpy as np


def run(seed, budget_s, **kwargs):
    x = np.arange(10) / 9
    return np.c_[x, x]
```"""


def files_in(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_from_nothing_to_a_running_problem_in_one_file_of_at_most_forty_lines(ttd) -> None:
    assert ttd("new-problem", "my-problem", "--minimal").exit_code == 0
    assert files_in(pathlib.Path()) == ["my_problem.py"]
    assert len(pathlib.Path("my_problem.py").read_text().splitlines()) <= 40
    problem = "./my_problem.py:MyProblem"
    checked = ttd("check-problem", problem)
    assert (checked.exit_code, checked.stdout.splitlines()[-1]) == (0, "my-problem: 13 of 13 checks pass")
    pathlib.Path("replies.json").write_text(json.dumps([REPLY]))
    run = ttd(
        *("run", problem, "--policy", "scripted", "--set", "policy.options.file=replies.json", "--quiet"),
        *("--steps", "2", "--groups", "1", "--group-size", "2", "--json"),
    )
    assert run.exit_code == 0
    assert json.loads(run.stdout)["best_score"] == pytest.approx(2**0.5 / 9)


def test_the_commands_it_tells_are_those_that_work(ttd) -> None:
    text = ttd("new-problem", "far-points", "--minimal").stdout
    assert text.splitlines()[:3] == ["made:", "  far_points.py", "next:"]
    for line in text.splitlines()[3:5]:
        assert ttd(*line.split()[1:]).exit_code == 0, line
    assert text.splitlines()[5].split()[:2] == ["ttd", "run"]


@pytest.mark.slow
def test_a_package_passes_its_own_tests_as_generated(ttd) -> None:
    made = json.loads(ttd("new-problem", "far-points", "--json").stdout)
    root = pathlib.Path("ttd-far-points")
    assert made["files"] == [
        "ttd-far-points/pyproject.toml",
        "ttd-far-points/README.md",
        "ttd-far-points/src/ttd_far_points.py",
        "ttd-far-points/tests/test_far_points.py",
    ]
    assert files_in(root) == sorted(path.removeprefix("ttd-far-points/") for path in made["files"])
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["ttd.problems"] == {"far-points": "ttd_far_points:FarPoints"}
    assert project["optional-dependencies"]["test"][0].startswith("ttd-core[testing]>=")
    assert "$" not in "".join(path.read_text() for path in root.rglob("*") if path.suffix in {".md", ".toml"})
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": "src"}
    tested = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert tested.returncode == 0, tested.stdout
    assert "15 passed" in tested.stdout


def test_a_generated_package_has_no_finding_of_ruff_or_mypy(ttd) -> None:
    ttd("new-problem", "far-points")
    for tool in (
        ["ruff", "check", "--select", "E,F,W,I,B,UP", "--line-length", "120", "."],
        ["mypy", "--strict", "src"],
    ):
        command = [sys.executable, "-m", *tool]
        result = subprocess.run(command, cwd="ttd-far-points", capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["Far", "1st", "a b", "a--b", "", "class", "../x", "a.py"])
def test_no_name_for_a_problem(ttd, name) -> None:
    result = ttd("new-problem", name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: '{name}' is no name for a problem: use lower-case words")
    assert files_in(pathlib.Path()) == []


def test_names() -> None:
    names = names_of("cap-sets")
    assert (names["plain"], names["class_name"], names["module"]) == ("cap_sets", "CapSets", "ttd_cap_sets")
    assert names_of("cap_sets")["distribution"] == "ttd-cap-sets"


def test_nothing_is_overwritten(ttd) -> None:
    pathlib.Path("mine.py").write_text("kept")
    result = ttd("new-problem", "mine", "--minimal")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: mine.py exists already; choose another name, or --to another folder\n",
    )
    assert pathlib.Path("mine.py").read_text() == "kept"
    assert ttd("new-problem", "mine", "--minimal", "--to", "new/folder").exit_code == 0
    assert files_in(pathlib.Path()) == ["mine.py", "new/folder/mine.py"]


def test_a_folder_that_cannot_be_written(ttd) -> None:
    pathlib.Path("file").write_text("")
    result = ttd("new-problem", "mine", "--to", "file")
    assert (result.exit_code, result.stderr) == (
        3,
        "error: file/ttd-mine: cannot be written: Not a directory\n",
    )


def test_check_problem_tells_each_fault_and_fails(ttd, summing) -> None:
    result = ttd("check-problem", "sum")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "examples    FAILS    known good answers pass, known bad ones are refused" in lines
    assert any(line.startswith("total: check fails on a state with") for line in lines)
    facts = json.loads(ttd("check-problem", "sum", "--json").stdout)
    assert (facts["problem"], facts["ok"]) == ("sum", False)
    outcomes = {check["check"]: check["outcome"] for check in facts["checks"]}
    assert outcomes["seeds"] == "ok"
    assert outcomes["total"] == "fails"
    assert all(fault["what"] and fault["fix"] for check in facts["checks"] for fault in check["findings"])


def test_check_problem_of_one_that_is_not_there(ttd) -> None:
    result = ttd("check-problem", "nothing-like-it")
    assert result.exit_code == 2
    assert "no installed plugin registers problem 'nothing-like-it'" in result.stderr
