"""``ttd eval``: judge one file, as a rollout would be judged."""

from __future__ import annotations

import io
import pathlib
import tokenize
from typing import Any

import click

from ttd_core import config as configs
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.output import json_option, print_json, say
from ttd_core.cli.parameters import option_option, problem_options, sandbox_option
from ttd_core.cli.wording import compare_with_published
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.input_files import MAX_TEXT_BYTES, is_data, read_bytes, read_text_file
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.run.files import storage_errors
from ttd_core.run.seeds import first_start
from ttd_core.text import quoted_lines, showable, showable_line
from ttd_core.types import Action, State, Status, Verdict

#: File name suffixes of data, which no program has; what a problem cannot read of it, it refuses itself.
CONSTRUCTIONS = frozenset(
    [".json", ".jsonl", ".npy", ".npz", ".h5ad", ".csv", ".tsv", ".dat", ".txt", ".out"]
)


@click.command("eval", cls=ProblemCommand)
@click.argument("problem_name", metavar="PROBLEM")
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@option_option
@sandbox_option
@click.option(
    "--picture",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="Also draw a valid result, as SVG into this file.",
)
@json_option
def evaluate(
    problem_name: str,
    file: pathlib.Path,
    options: tuple[str, ...],
    sandbox: str | None,
    picture: pathlib.Path | None,
    as_json: bool,
) -> int:
    """Judge a program or a construction from a file.

    A file of data (.json, .jsonl, .npy, .npz, .h5ad, .csv, .tsv, .dat, .txt, .out, each .gz too) is read as a
    construction and checked as it is; anything else is a program, which runs in the sandbox from the first
    start state of a run with seed 0. The problem's options are flags too. Exit code 0 when valid, 1 when
    refused, 3 when this machine cannot judge it.

    \b
    Example:
      ttd eval erdos step_function.json
      ttd eval ahc039 program.cpp --cases 20
      ttd eval cp26 packing.py -o timeout_s=60 --picture packing.svg
    """
    problem = registry.load(problem_name, problem_options(options))
    verdict = evaluate_file(problem_name, problem, file, sandbox)
    print_json(as_facts(problem, verdict)) if as_json else say(as_text(problem, verdict))
    if picture is not None and verdict.state is not None:
        draw(problem, verdict.state, picture)
    return EnvironmentLacksError.exit_code if verdict.status is Status.INFRASTRUCTURE else 1 - verdict.ok


def evaluate_file(
    reference: str, problem: Problem, file: pathlib.Path, sandbox: str | None = None
) -> Verdict:
    """The verdict on a file: a construction, or a program that runs from the first start state.

    :param reference: how the problem was named, for its config.
    :raises UsageError: when the file cannot be read.
    """
    hooks = Hooks(problem)
    if is_construction(file):
        return evaluate_state(hooks, problem.read_construction(file))
    action = Action(read_program(file), problem.language)
    config = configs.load(reference, overrides={"sandbox.level": sandbox} if sandbox else {})
    with open_executor(hooks, config) as executor:
        start, _ = first_start(hooks, executor.run)
        return evaluate_action(hooks, start, action, executor.run)


def is_construction(file: pathlib.Path) -> bool:
    """Whether a file is a construction: by its name, ``.gz`` aside, or by how numpy's and HDF5's files begin.

    :raises UsageError: when the file cannot be read.
    """
    name = file.with_suffix("") if file.suffix.lower() == ".gz" else file
    return name.suffix.lower() in CONSTRUCTIONS or is_data(file)


def draw(problem: Problem, state: State, path: pathlib.Path) -> None:
    """Write a problem's picture of a state.

    :raises UsageError: when the problem draws none.
    :raises StorageError: when the file cannot be written.
    """
    svg = problem.plot(state)
    if svg is None:
        raise UsageError(f"problem {problem.name} has no picture of this state")
    with storage_errors(path):
        path.write_text(showable(svg), encoding="utf-8")


def read_program(path: pathlib.Path) -> str:
    """A program's source; a Python file may name its encoding (``# -*- coding: latin-1 -*-``, PEP 263).

    :raises UsageError: when the file cannot be read as text.
    """
    if path.suffix.lower() != ".py":
        return read_text_file(path)
    data = read_bytes(path, MAX_TEXT_BYTES)
    try:
        lines = io.BytesIO(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        encoding, first = tokenize.detect_encoding(lines.readline)
        text = data.decode(encoding) if first and encoding not in ("utf-8", "utf-8-sig") else ""
    except (SyntaxError, ValueError, LookupError):
        # It names no encoding, or one that Python does not know: text like any other, or refused as such.
        text = ""
    return text.replace("\r\n", "\n").replace("\r", "\n") if text else read_text_file(path)


def as_facts(problem: Problem, verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON."""
    published = problem.best_comparable()
    reward = verdict.reward
    return {
        "problem": problem.name,
        "status": verdict.status.value,
        "message": verdict.message or verdict.status.sentence,
        "metric": problem.metric,
        "score": reward.score if reward else None,
        "reward": reward.value if reward else None,
        "metrics": dict(reward.metrics) if reward else {},
        "measured_on": problem.measured_on() or None,
        "best_published": published.facts() if published else None,
        "better": bool(reward and published and problem.beats(reward.score, published)),
        "equal": bool(reward and published and published.equals(reward.score)),
        "seconds": verdict.seconds,
        "level": verdict.level,
    }


def as_text(problem: Problem, verdict: Verdict) -> str:
    """A verdict for people: the score beside the best published one, or why it was refused."""
    if verdict.reward is None:
        reason = showable_line(verdict.message) or verdict.status.sentence
        refusal = f"{problem.name}: {verdict.status}: {reason}"
        output = verdict.output.rstrip()
        # Quoted, so that no line which a program printed can pass for a verdict.
        return f"{refusal}\n{quoted_lines(output)}" if output else refusal
    return f"{problem.name}: valid; {problem.metric} {compare_with_published(problem, verdict.reward.score)}"
