"""Fixtures of the command line's tests: the runner, an installed problem, and runs made for real."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from ttd_core.cli import main

Ttd = Callable[..., Result]

GOOD = "```python\ndef run(seed, budget_s, **kwargs):\n    return [0.5, 0.75, 1.0]\n```"
WORSE = "```python\ndef run(seed, budget_s, **kwargs):\n    return [0.5, 0.25, 0.0]\n```"
WRONG = "```python\ndef run(seed, budget_s, **kwargs):\n    return [2.0, 0.5, 0.5]\n```"
NONE = "I have no idea."


@pytest.fixture
def ttd(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Ttd:
    """Call ``ttd`` in an empty folder; any exception that is not meant for a person fails the test."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*arguments: object, catch: bool = False) -> Result:
        return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=catch)

    return call


@pytest.fixture
def summing(install, problem_source: str) -> pathlib.Path:
    """A distribution that brings the problem ``sum``."""
    return install(
        "ttd-sum", {"sum_problem": problem_source}, problems={"sum": "sum_problem:Sum"}, version="2.1"
    )


@pytest.fixture
def replies(ttd: Ttd) -> pathlib.Path:
    """Scripted replies: two valid programs, one that breaks a rule, one without a program."""
    path = pathlib.Path("replies.json").resolve()
    path.write_text(json.dumps([GOOD, WORSE, WRONG, NONE]))
    return path


@pytest.fixture
def scripted(replies: pathlib.Path) -> list[str]:
    """Arguments of a short run without a model."""
    return [
        *("run", "sum", "--policy", "scripted", "--set", f"policy.options.file={replies}"),
        *("--groups", "2", "--group-size", "4", "-o", "timeout_s=20"),
    ]
