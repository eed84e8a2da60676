"""``ttd adopt``: what was understood of a task written for another framework, and how to learn on it."""

from __future__ import annotations

import pathlib
import shlex
from typing import Any

import attrs
import click
import numpy as np

from ttd_core import config as configs
from ttd_core.adopting.modules import packages_of
from ttd_core.adopting.reading import framework_of, read_task
from ttd_core.adopting.task import Call, Form, Task
from ttd_core.cli import evaluate
from ttd_core.cli.adopted_plugin import write_plugin
from ttd_core.cli.output import json_option, print_json, say
from ttd_core.cli.parameters import sandbox_option
from ttd_core.errors import EnvironmentLacksError
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action
from ttd_core.scores import which_is_better
from ttd_core.text import counted, quoted_lines, showable_line
from ttd_core.types import Action, Status, Verdict

#: Lines of the prompt that are shown.
PROMPT_LINES = 6
_CALLS = {
    Call.FUNCTION: "evaluate(path) is called",
    Call.SHELL: "called with the program's path, it prints metrics as JSON",
    Call.SCRIPT: "called with --program_path and --results_dir, it writes metrics.json and correct.json",
    Call.POPCORN: "called with a mode and cases, it writes lines 'key: value'",
}


@click.command("adopt")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=pathlib.Path))
@click.option("--python", metavar="PATH", help="The Python that is to run the task; default this one.")
@click.option("--metric", metavar="NAME", help="Which of the evaluator's metrics is the score.")
@click.option(
    "--direction", type=click.Choice(["min", "max"]), help="Whether its smaller or larger values are better."
)
@click.option("--score", is_flag=True, help="Also run the evaluator on the starting program, in the sandbox.")
@sandbox_option
@click.option(
    "--write",
    "target",
    metavar="FOLDER",
    type=click.Path(path_type=pathlib.Path),
    help="Make a plugin of your own from it, in this new folder.",
)
@json_option
def adopt(
    folder: pathlib.Path,
    python: str | None,
    metric: str | None,
    direction: Any,
    score: bool,
    sandbox: str | None,
    target: pathlib.Path | None,
    as_json: bool,
) -> int:
    """Read a task of another framework as a problem.

    FOLDER has the form of OpenEvolve or SkyDiscover (initial_program.*, evaluator.py, config.yaml), of
    ShinkaEvolve (initial.*, evaluate.py) or of GPU MODE (task.yml). It is read; nothing in it is run but for
    --score, and that in the sandbox. Exit code 1 when the starting program has no score then, 3 when this
    machine cannot judge it.

    \b
    Example:
      ttd adopt examples/circle_packing --score
      ttd adopt examples/circle_packing --write ttd-circle-packing
      ttd adopt tasks/trimul --python ~/venvs/trimul/bin/python --json
    """
    task = read_task(folder, python)
    if metric:
        task = attrs.evolve(task, metric=metric)
    if direction:
        task = attrs.evolve(task, direction=direction)
    options = {"python": python, "metric": metric, "direction": direction}
    given = {name: value for name, value in options.items() if value}
    facts = as_facts(task, folder, given)
    if target is not None:
        facts["files"], facts["commands"] = write_plugin(task, target)
    if not as_json:
        say(as_text(task, facts))
    verdict = None
    if score:
        problem, verdict = score_start(f"adopted:{folder}", given, sandbox)
        facts["score"] = evaluate.as_facts(problem, verdict)
        if not as_json:
            say(evaluate.as_text(problem, verdict))
    if as_json:
        print_json(facts)
    if verdict is None or verdict.ok:
        return 0
    return EnvironmentLacksError.exit_code if verdict.status is Status.INFRASTRUCTURE else 1


def score_start(
    reference: str, options: dict[str, Any], sandbox: str | None = None
) -> tuple[Problem, Verdict]:
    """What the evaluator says of the starting program, in the sandbox.

    :param reference: the problem, as ``adopted:FOLDER``.
    :raises EnvironmentLacksError: when this machine lacks what the task needs.
    """
    problem = registry.load(reference, options)
    problem.require_machine()
    hooks = Hooks(problem)
    config = configs.load(reference, overrides={"sandbox.level": sandbox} if sandbox else {})
    with open_executor(hooks, config) as executor:
        start = hooks.seed_states(np.random.default_rng(0), 1)[0]
        action = Action(problem.starting_program() or "", problem.language)
        return problem, evaluate_action(hooks, start, action, executor.run)


def as_facts(task: Task, folder: pathlib.Path, options: dict[str, str]) -> dict[str, Any]:
    """A task as JSON.

    :param folder: as it was named, for the commands.
    :param options: options of the problem that were given.
    """
    reference = shlex.quote(f"adopted:{folder}")
    given = "".join(f" -o {shlex.quote(f'{name}={value}')}" for name, value in options.items())
    packages = packages_of(task.lacks, task.folder)
    python = shlex.quote(options.get("python", "python"))
    return {
        "name": task.name,
        "title": task.title,
        "framework": framework_of(task.form),
        "form": task.form.value,
        "folder": str(task.folder),
        "language": task.language,
        "program": task.program,
        "entry": task.entry or None,
        "evaluator": _within(task, task.evaluator.path),
        "call": task.evaluator.call.value,
        "thresholds": list(task.evaluator.thresholds),
        "tests": list(task.evaluator.tests),
        "benchmarks": list(task.evaluator.benchmarks),
        "metric": task.metric,
        "direction": task.direction,
        "timeout_s": task.timeout_s,
        "prompt": task.description,
        "lacks": list(task.lacks),
        "install": f"{python} -m pip install {' '.join(map(shlex.quote, packages))}" if packages else None,
        "lacks_programs": list(task.programs),
        "gpu": task.gpu or None,
        "needs": [attrs.asdict(need) for need in task.needs],
        "unused": list(task.unused),
        "commands": [f"ttd show {reference}{given} --prompt", f"ttd run {reference}{given} --preset laptop"],
    }


def as_text(task: Task, facts: dict[str, Any]) -> str:
    """A task for people: what was understood, what is missing, and what to do next."""
    entry = f"; the evaluator calls {task.entry}" if task.entry else ""
    rows = [
        ("form", framework_of(task.form)),
        ("program", f"{task.language}, {counted(task.program.count(chr(10)) + 1, 'line')}{entry}"),
        ("evaluator", f"{facts['evaluator']}: {_call(task)}"),
        ("score", f"{_score(task)}, {which_is_better(task.direction)}; it is the evaluator's word"),
        ("limit", f"{task.timeout_s:g} s for an evaluation"),
        *((("gpu", f"wants a CUDA device ({task.gpu})"),) if task.gpu else ()),
        *_missing(task, facts),
    ]
    lines = [f"{task.name}: {task.title}"]
    lines += [f"  {label:<11}{showable_line(text)}" for label, text in rows]
    prompt = task.description.split("\n")
    lines += ["prompt:", quoted_lines("\n".join(prompt[:PROMPT_LINES]))]
    if len(prompt) > PROMPT_LINES:
        lines.append(f"  ({counted(len(prompt) - PROMPT_LINES, 'line')} more)")
    if task.unused:
        lines += ["notes:", *(f"  {showable_line(line)}" for line in task.unused)]
    if "files" in facts:
        lines += ["made:", *(f"  {path}" for path in facts["files"])]
    lines += ["next:", *(f"  {command}" for command in facts["commands"])]
    return "\n".join(lines)


def _score(task: Task) -> str:
    if task.form is not Form.GPU_MODE:
        return task.metric
    names = {"geom": "geometric mean", "mean": "mean", "last": "last"}
    return f"{task.metric}: the {names.get(task.metric, task.metric)} of the benchmarks' times"


def _call(task: Task) -> str:
    evaluator = task.evaluator
    if evaluator.call is Call.STAGES:
        further = "".join(
            f", evaluate_stage{number + 2} where that reaches {threshold:g}"
            for number, threshold in enumerate(evaluator.thresholds)
        )
        return f"evaluate_stage1(path) is called{further}"
    if evaluator.call is Call.POPCORN:
        cases = (
            f"{counted(len(evaluator.tests), 'test')} and {counted(len(evaluator.benchmarks), 'benchmark')}"
        )
        return f"{_CALLS[Call.POPCORN]}; {cases}"
    return _CALLS[evaluator.call]


def _missing(task: Task, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What the task lacks and needs, a row each."""
    rows = []
    if task.lacks:
        install = f": {facts['install']}" if facts["install"] else ""
        rows.append(("lacks", f"{', '.join(task.lacks)}{install}"))
    rows += [("lacks", f"{program}: no such program is on the path") for program in task.programs]
    kinds = {"network": "a network", "key": "a key", "docker": "Docker"}
    rows += [("needs", f"{kinds.get(need.kind, need.kind)}: {need.what}") for need in task.needs]
    return rows


def _within(task: Task, path: pathlib.Path) -> str:
    return str(path.relative_to(task.folder)) if path.is_relative_to(task.folder) else str(path)
