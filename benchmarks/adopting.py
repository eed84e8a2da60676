"""Tasks written for other frameworks: what is understood of each, and what its starting program scores.

    python benchmarks/adopting.py FOLDER... [--python PATH] [--checkout FOLDER]... [--no-score]

Beside the score that ttd takes in its sandbox stands what the task's own evaluator says outside of it, in a
plain Python process, as its framework would call it: A PROCESS WITHOUT A SANDBOX, so name what you trust.
``--checkout`` names copies of the frameworks' repositories, so that evaluators import the real
``openevolve.evaluation_result`` and ``shinka.core``; without one, they import what ttd supplies. Without
``--no-score`` each task is evaluated twice; ``--no-outside`` leaves out the plain process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import attrs
from command_line import run_benchmark

from ttd_core.adopting.reading import framework_of, read_task
from ttd_core.adopting.task import Call, Task
from ttd_core.cli.output import table
from ttd_core.config import load as load_config
from ttd_core.errors import TtdError
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action
from ttd_core.run.seeds import first_start
from ttd_core.text import showable_line
from ttd_core.types import Action

#: Run by the plain process. The frameworks' packages are opened without their ``__init__``, which would
#: import clients of language models.
OUTSIDE = r"""
import importlib, importlib.util, json, os, sys, types

call, evaluator, program, results, thresholds, checkouts = json.loads(sys.argv[1])


def package(name):
    paths = [os.path.join(each, *name.split(".")) for each in checkouts]
    module = types.ModuleType(name)
    module.__path__ = [path for path in paths if os.path.isdir(path)]
    if module.__path__:
        sys.modules[name] = module
    return bool(module.__path__)


for name in ("openevolve", "skydiscover", "skydiscover.evaluation", "shinka", "shinka.core", "shinka.utils"):
    package(name)
if "shinka.core" in sys.modules:
    core = sys.modules["shinka.core"]
    core.run_shinka_eval = importlib.import_module("shinka.core.wrap_eval").run_shinka_eval
sys.path.insert(0, os.path.dirname(evaluator))
if call == "script":
    sys.argv = [evaluator, "--program_path", program, "--results_dir", results]
    import runpy

    runpy.run_path(evaluator, run_name="__main__")
    raise SystemExit
spec = importlib.util.spec_from_file_location("evaluation_module", evaluator)
module = importlib.util.module_from_spec(spec)
sys.modules["evaluation_module"] = module
spec.loader.exec_module(module)


def metrics_of(result):
    return dict(getattr(result, "metrics", result))


def reaches(metrics, threshold):
    score = metrics.get("combined_score")
    if not isinstance(score, (int, float)):
        numbers = [v for k, v in metrics.items() if k != "error" and isinstance(v, (int, float))]
        score = sum(numbers) / len(numbers) if numbers else float("-inf")
    return score >= threshold


if call == "stages":
    metrics = metrics_of(module.evaluate_stage1(program))
    for number, threshold in enumerate(thresholds, 2):
        if not reaches(metrics, threshold):
            break
        metrics.update(metrics_of(getattr(module, f"evaluate_stage{number}")(program)))
else:
    metrics = metrics_of(module.evaluate(program))
with open(os.path.join(results, "metrics.json"), "w") as file:
    json.dump(metrics, file, default=float)
"""


@attrs.frozen
class Scored:
    """A score, or why there is none, and the seconds that it took."""

    score: float | None
    said: str
    seconds: float

    @property
    def shown(self) -> str:
        """The score, or what was said in its place."""
        return f"{self.score:.10g}" if self.score is not None else showable_line(self.said)[:80]


def score_inside(folder: pathlib.Path, python: str | None) -> Scored:
    """What ttd says that the task's starting program scores."""
    start = time.monotonic()
    try:
        reference = f"adopted:{folder}"
        problem = registry.load(reference, {"python": python} if python else {})
        hooks = Hooks(problem)
        problem.require_machine()
        with open_executor(hooks, load_config(reference)) as executor:
            state, _ = first_start(hooks, executor.run)
            program = problem.starting_program() or ""
            verdict = evaluate_action(hooks, state, Action(program, problem.language), executor.run)
    except TtdError as error:
        return Scored(None, str(error), time.monotonic() - start)
    seconds = time.monotonic() - start
    if verdict.reward is None:
        return Scored(None, f"{verdict.status}: {verdict.message}", seconds)
    return Scored(verdict.reward.score, "", seconds)


def score_outside(task: Task, python: str | None, checkouts: list[str]) -> Scored:
    """What the task's own evaluator says in a plain process."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder, f"program{task.suffix}")
        program.write_text(task.program, encoding="utf-8")
        evaluator = task.evaluator
        if evaluator.call in (Call.POPCORN, Call.SHELL):
            return Scored(None, f"not called outside: {evaluator.call}", 0.0)
        plan = [evaluator.call, str(evaluator.path), str(program), folder, evaluator.thresholds, checkouts]
        try:
            ran = subprocess.run(
                [python or sys.executable, "-c", OUTSIDE, json.dumps(plan)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=task.timeout_s,
                check=False,
                cwd=task.folder,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except subprocess.TimeoutExpired:
            return Scored(None, f"no answer within {task.timeout_s:g} s", time.monotonic() - start)
        seconds = time.monotonic() - start
        written = pathlib.Path(folder, "metrics.json")
        if not written.is_file():
            last = (ran.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            return Scored(None, last, seconds)
        metrics: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    score = metrics.get(task.metric)
    if isinstance(score, int | float) and math.isfinite(score):
        return Scored(float(score), "", seconds)
    return Scored(None, f"no {task.metric}: {metrics.get('error', '')}", seconds)


def row(folder: pathlib.Path, arguments: argparse.Namespace) -> tuple[str, ...]:
    """A line of the table."""
    name = "/".join(folder.parts[-2:])
    try:
        task = read_task(folder, arguments.python)
    except TtdError as error:
        return (name, "", "", f"no: {showable_line(str(error))[:120]}", "", "", "", "")
    lacks = [*task.lacks, *task.programs, *(f"{need.kind}: {need.what}" for need in task.needs)]
    lacks += [f"a CUDA device ({task.gpu})"] if task.gpu else []
    inside = outside = Scored(None, "", 0.0)
    if not arguments.no_score:
        inside = score_inside(folder, arguments.python)
        if not arguments.no_outside:
            outside = score_outside(task, arguments.python, arguments.checkout)
    return (
        name,
        framework_of(task.form),
        task.language,
        "yes",
        inside.shown,
        outside.shown,
        f"{inside.seconds:.1f}, {outside.seconds:.1f}",
        ", ".join(lacks) or "-",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--python")
    parser.add_argument("--checkout", action="append", default=[])
    parser.add_argument("--no-score", action="store_true")
    parser.add_argument("--no-outside", action="store_true")
    arguments = parser.parse_args()
    arguments.checkout = [str(pathlib.Path(each).absolute()) for each in arguments.checkout]
    header = ["task", "form", "language", "understood", "by ttd", "outside", "seconds", "lacks or needs"]
    print(table(header, [row(folder, arguments) for folder in arguments.folders]))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
