"""``ttd eval``: judge one file, as a rollout would be judged."""

from __future__ import annotations

import io
import pathlib
import tokenize
from typing import Any

import click

from ttd_core import config as configs
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.folders import runs_dir_option
from ttd_core.cli.origin import command_of_run, comparison_facts, comparison_line, named_node
from ttd_core.cli.output import json_option, print_json, say
from ttd_core.cli.parameters import option_option, problem_options, project_option, projected, sandbox_option
from ttd_core.cli.wording import compare_with_published
from ttd_core.dialogue import parsing
from ttd_core.dialogue.edits import begins_with_block
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.input_files import MAX_TEXT_BYTES, is_data, read_bytes, read_text_file
from ttd_core.plugin import registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.run.files import storage_errors
from ttd_core.run.reevaluate import NodeOfRun
from ttd_core.run.seeds import first_start
from ttd_core.sandbox.base import MIB
from ttd_core.text import quoted_lines, showable, showable_line, universal_newlines
from ttd_core.types import Action, Completion, State, Status, Verdict

#: What the first line of a saved reply begins with.
FENCES = ("```", "~~~")
#: File name suffixes of data, which no program has; what a problem cannot read of it, it refuses itself.
CONSTRUCTIONS = frozenset(
    [".json", ".jsonl", ".npy", ".npz", ".h5ad", ".csv", ".tsv", ".dat", ".txt", ".out"]
)


@click.command("eval", cls=ProblemCommand)
@click.argument("problem_name", metavar="PROBLEM", required=False)
@click.argument("file", required=False, type=click.Path(path_type=pathlib.Path))
@option_option
@sandbox_option
@click.option(
    "--picture",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="Also draw a valid result, as SVG into this file.",
)
@project_option
@click.option(
    "--from",
    "origin",
    metavar="RUN:NODE",
    help="Judge as the run judged its state NODE, or FILE in that state's place.",
)
@runs_dir_option
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    problem_name: str | None,
    file: pathlib.Path | None,
    options: tuple[str, ...],
    sandbox: str | None,
    picture: pathlib.Path | None,
    project: bool,
    origin: str | None,
    runs_dir: pathlib.Path,
    as_json: bool,
) -> int:
    """Judge a program or a construction from a file.

    A file of data (.json, .jsonl, .npy, .npz, .h5ad, .csv, .tsv, .dat, .txt, .out, each .gz too) is read as a
    construction and checked as it is; anything else is a program, which runs in the sandbox from the first
    start state of a run with seed 0. Of a saved reply, which begins with a fence or with a block of edits,
    the program is taken. The problem's options are flags too. Exit code 0 when valid, 1 when refused, 3 when
    this machine cannot judge it.

    A program of a run may score otherwise so, since there it began from another state. --from RUN:NODE
    judges under the run's problem, options and limits, from the state that NODE came from: NODE's own
    program, or that in FILE; PROBLEM is left out then. Both scores are told, and whether they agree.

    \b
    Example:
      ttd eval erdos step_function.json
      ttd eval ahc039 program.cpp --cases 20
      ttd eval cp26 packing.py -o timeout_s=60 --picture packing.svg
      ttd eval --from runs/first:12
    """
    if origin is not None:
        if file is not None or options or project:
            raise UsageError(
                "--from takes the run's problem and options: leave PROBLEM, -o and --project out"
            )
        path = pathlib.Path(problem_name) if problem_name is not None else None
        return evaluate_origin(named_node(origin, runs_dir), path, sandbox, picture, as_json)
    if problem_name is None or file is None:
        missing = "'PROBLEM'" if problem_name is None else "'FILE'"
        raise click.MissingParameter(ctx=ctx, param_hint=missing, param_type="argument")
    problem = registry.load(problem_name, problem_options(options))
    repair, command = "", None
    if project:
        state, repair = projected(problem, file)
        verdict = evaluate_state(Hooks(problem), state)
    else:
        verdict = evaluate_file(problem_name, problem, file, sandbox)
        if not is_construction(file):
            command = command_of_run(file, verdict.code, runs_dir)
    if as_json:
        print_json(as_facts(problem, verdict) | {"projected": repair or None, "as_its_run": command})
    else:
        say(as_text(problem, verdict))
        if command:
            say(f"a run has this program and may have scored it otherwise; as it did: {command}")
        if repair:
            say(f"projected: {repair}")
        elif not project and verdict.status is Status.INVALID and is_construction(file):
            _offer_repair(problem, file)
    return _finished(problem, verdict, picture)


def evaluate_origin(
    node: NodeOfRun,
    file: pathlib.Path | None,
    sandbox: str | None,
    picture: pathlib.Path | None,
    as_json: bool,
) -> int:
    """Judge a state of a run as the run did, or a file in its place, and say both scores; the exit code.

    :param sandbox: least isolation to accept, where it is not to be the run's.
    :raises UsageError: when the file cannot be read.
    """
    hooks, problem = Hooks(node.problem), node.problem
    config = configs.override(node.config, {"sandbox.level": sandbox} if sandbox else {})
    program: str | None = None
    if file is not None and is_construction(file):
        verdict = evaluate_state(hooks, problem.read_construction(file))
        program = ""
    else:
        action = read_action(hooks, problem, file) if file is not None else None
        with open_executor(hooks, config) as executor:
            if isinstance(action, Verdict):
                verdict = action
            elif action is not None:
                verdict = evaluate_action(hooks, node.start, action, executor.run)
            else:
                verdict = node.evaluate(hooks, executor.run)
        program = None if file is None else verdict.code
    if as_json:
        print_json(as_facts(problem, verdict) | {"run": comparison_facts(node, verdict, program)})
    else:
        say(as_text(problem, verdict))
        say(comparison_line(node, verdict, program))
    return _finished(problem, verdict, picture)


def _finished(problem: Problem, verdict: Verdict, picture: pathlib.Path | None) -> int:
    """Draw what was asked for; the exit code."""
    if picture is not None and verdict.state is not None:
        draw(problem, verdict.state, picture)
    return EnvironmentLacksError.exit_code if verdict.status is Status.INFRASTRUCTURE else 1 - verdict.ok


def _offer_repair(problem: Problem, file: pathlib.Path) -> None:
    """Say what ``--project`` would do to a construction that is not valid, where it would help."""
    try:
        _, repair = projected(problem, file)
    except UsageError:
        return
    say(f"--project moves it to the nearest that is valid: {repair}")


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
    action = read_action(hooks, problem, file)
    if isinstance(action, Verdict):
        return action
    config = configs.load(reference, overrides={"sandbox.level": sandbox} if sandbox else {})
    with open_executor(hooks, config) as executor:
        start, _ = first_start(hooks, executor.run)
        return evaluate_action(hooks, start, action, executor.run)


def read_action(hooks: Hooks, problem: Problem, file: pathlib.Path) -> Action | Verdict:
    """The program in a file, or a verdict on a file that says it is one and is not.

    Of a text whose first line is a fence, or begins a block of edits where replies are edits, as of a saved
    reply, the program is taken as a rollout's would be.
    Nothing is run of a text that defines no program, whatever it is; what one defines, a problem that reads
    replies in its own way says itself.

    :raises UsageError: when the file cannot be read, or nothing says that it is a program.
    """
    text = read_program(file)
    saved_edits = problem.options.reply == "edits" and begins_with_block(text)
    if text.lstrip().startswith(FENCES) or saved_edits:
        return hooks.parse_action(Completion(text))
    if problem.language != "python" or type(problem).parse_action is not Problem.parse_action:
        return Action(text, problem.language)
    failure = parsing.checked_program(text, "" if problem.options.reply == "parts" else problem.entry)
    if failure is not None and file.suffix.lower() != ".py":
        raise UsageError(
            f"{file}: neither data (its name ends otherwise) nor a program of {problem.name}: "
            f"{showable_line(failure.message)}"
        )
    return failure or Action(text, problem.language)


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
    return universal_newlines(text) if text else read_text_file(path)


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
        "caution": problem.score_caution() or None,
        "best_published": published.facts() if published else None,
        "better": bool(reward and published and problem.beats(reward.score, published)),
        "equal": bool(reward and published and published.equals(reward.score)),
        "seconds": verdict.seconds,
        "peak_memory": verdict.metrics.get("peak_memory"),
        "level": verdict.level,
    }


def as_text(problem: Problem, verdict: Verdict) -> str:
    """A verdict for people: the score beside the best published one, or why it was refused.

    Where programs ran in the sandbox, a second line has their wall time added up and the largest of their
    peaks of memory.
    """
    used = usage_line(verdict)
    if verdict.reward is None:
        reason = showable_line(verdict.message) or verdict.status.sentence
        output = verdict.output.rstrip()
        # Quoted, so that no line which a program printed can pass for a verdict.
        quoted = quoted_lines(output) if output else ""
        return "\n".join(filter(None, [f"{problem.name}: {verdict.status}: {reason}", used, quoted]))
    score = compare_with_published(problem, verdict.reward.score)
    return "\n".join(filter(None, [f"{problem.name}: valid; {problem.metric} {score}", used]))


def usage_line(verdict: Verdict) -> str:
    """What the programs behind a verdict used; empty where none ran in the sandbox."""
    if not verdict.level:
        return ""
    peak = verdict.metrics.get("peak_memory")
    memory = f"peak memory {peak / MIB:.0f} MiB" if peak else "peak memory not measured"
    return f"in the sandbox ({verdict.level}): {verdict.seconds:.2f} s, {memory}"
