"""What the tests of adopted tasks share: a sandbox, and small tasks of our own in each form."""

from __future__ import annotations

import pathlib
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ttd_core.adopting.problem import AdoptedProblem, problem_class
from ttd_core.adopting.reading import read_task
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State, Verdict

PROGRAM = """
    STEP = 0.5

    def solve(n):
        print("solving", n)
        return [i * STEP for i in range(n)]
"""
EVALUATOR = """
    import importlib.util

    def load(path):
        spec = importlib.util.spec_from_file_location("program", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def evaluate(path):
        values = load(path).solve(4)
        return {"combined_score": float(sum(values)), "count": len(values)}
"""


@pytest.fixture(scope="session")
def executor() -> Iterator[LocalExecutor]:
    """One worker of the real sandbox."""
    with LocalExecutor(workers=1) as executor:
        yield executor


MakeTask = Callable[..., pathlib.Path]
Evaluate = Callable[..., Verdict]


@pytest.fixture
def make_task(tmp_path: pathlib.Path) -> MakeTask:
    """Write a task's folder: of OpenEvolve's form with a sum to make large, but for the files given."""

    def make(
        files: Mapping[str, str] | None = None, *, whole: bool = False, name: str = "a task"
    ) -> pathlib.Path:
        folder = tmp_path / name
        usual = {} if whole else {"initial_program.py": PROGRAM, "evaluator.py": EVALUATOR}
        for path, text in {**usual, **(files or {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(text), encoding="utf-8")
        return folder

    return make


def problem_of(folder: pathlib.Path, **options: Any) -> AdoptedProblem:
    """The problem of a task's folder."""
    cls = problem_class(read_task(folder))
    return cls(cls.options_type(**({"timeout_s": 20.0} | options)))


@pytest.fixture
def evaluate(executor: LocalExecutor) -> Evaluate:
    """The verdict on a program of a task; on its own where none is given."""

    def judge(folder: pathlib.Path, program: str | None = None, **options: Any) -> Verdict:
        problem = problem_of(folder, **options)
        text = problem.adopted.program if program is None else textwrap.dedent(program)
        start = State(code=problem.adopted.program)
        return evaluate_action(Hooks(problem), start, Action(text, problem.language), executor.run)

    return judge


def run_outside(*command: str | pathlib.Path) -> str:
    """What a command prints outside of any sandbox."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
