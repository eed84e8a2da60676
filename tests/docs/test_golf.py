"""The example plugin as its users get it: built, installed on a path of its own, checked and run there."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable

import pytest

GOLF = pathlib.Path(__file__).parents[2] / "docs" / "examples" / "ttd_golf"
SMALL = ("-o", "lanes=64", "-o", "length=12", "-o", "timeout_s=60")

#: Prints a program that reads ahead and one that keeps to the base model.
PROGRAMS = """
import json
from ttd_golf.problem import CHEATS, ONLY_BASE
print(json.dumps([next(iter(CHEATS.values())), ONLY_BASE]))
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Call]:
    """A folder that holds the wheel and the installed package, and a way to run Python with it."""
    folder = tmp_path_factory.mktemp("golf")
    source = shutil.copytree(GOLF, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}

    def call(*arguments: object, where: pathlib.Path = folder) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *map(str, arguments)]
        return subprocess.run(
            command, cwd=where, env=environment, capture_output=True, text=True, timeout=500
        )

    built = call("build", "--wheel", "--no-isolation", "--outdir", folder, where=source)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    done = call("pip", "install", "-q", "--no-deps", "--no-index", "--target", folder / "site", wheel)
    assert done.returncode == 0, done.stderr
    return folder, call


def test_the_wheel_holds_the_package_and_its_starting_program(installed) -> None:
    folder, _ = installed
    (wheel,) = folder.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name}
    assert names == {
        f"ttd_golf/{name}"
        for name in ("__init__.py", "__main__.py", "problem.py", "programs/start.py", "py.typed", "text.py")
    }


def test_it_is_listed_and_shown(installed) -> None:
    _, call = installed
    assert "ngram-eval  ttd-golf" in call("ttd_core.cli", "list-problems").stdout
    facts = json.loads(call("ttd_core.cli", "show", "ngram-eval", "--json").stdout)
    assert (facts["distribution"], facts["direction"]) == ("ttd-golf 0.1.0", "min")


def test_it_keeps_the_contract(installed) -> None:
    _, call = installed
    checked = call("ttd_core.cli", "check-problem", "ngram-eval", *SMALL)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.endswith("ngram-eval: 13 of 13 checks pass\n")


def test_a_run_refuses_the_cheat_and_rewards_the_rest(installed) -> None:
    """One reply reads ahead, one keeps to the base model; the run starts from the starting program."""
    folder, call = installed
    (folder / "programs.py").write_text(PROGRAMS)
    programs = json.loads(call("programs").stdout)
    replies = [f"```python\n{program}```" for program in programs]
    (folder / "replies.json").write_text(json.dumps(replies))
    arguments = ("--policy", "scripted", "--set", "policy.options.file=replies.json", "--steps", "1")
    sizes = ("--groups", "1", "--group-size", "2", "--name", "golf", "--json", "--quiet")
    done = call("ttd_core.cli", "run", "ngram-eval", *SMALL, "-o", "start=program", *arguments, *sizes)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (folder / "runs/golf/log.jsonl").read_text().splitlines()]
    judged = [event for event in events if event["kind"] == "rollout_evaluated"]
    assert sorted(event["status"] for event in judged) == ["forbidden", "ok"]
    (alone,) = [event["score"] for event in judged if event["status"] == "ok"]
    assert json.loads(done.stdout)["best_score"] <= alone


@pytest.mark.slow
def test_its_own_tests_pass_on_the_installed_package(installed) -> None:
    folder, call = installed
    tested = call("pytest", "-q", "-p", "no:cacheprovider", where=folder / "source")
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


@pytest.mark.slow
def test_the_starting_program_beats_the_base_model_by_what_the_readme_says(installed) -> None:
    _, call = installed
    done = call("ttd_golf")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    figures = dict(line.rsplit(maxsplit=1) for line in printed[1:])
    assert float(figures["base model alone"]) - float(figures["starting program"]) > 0.1
    text = (GOLF / "README.md").read_text()
    if f"Python {sys.version.split()[0]}" in text:
        for name, figure in figures.items():
            assert f"| {name} | {figure} |" in text
