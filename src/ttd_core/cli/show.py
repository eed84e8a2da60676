"""``ttd show``: one problem, as a person or a program wants to know it."""

from __future__ import annotations

import pathlib
from typing import Any

import click
import numpy as np

from ttd_core import config as configs
from ttd_core.cli.evaluate import as_facts, as_text, draw, evaluate_file
from ttd_core.cli.flags import ProblemCommand
from ttd_core.cli.output import json_option, print_json, say, say_whole, table
from ttd_core.cli.parameters import option_option, problem_options
from ttd_core.cli.wording import caution_about_scores
from ttd_core.config.settings import describe_fields
from ttd_core.errors import UsageError
from ttd_core.plugin import entries, registry
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.run.backends import open_executor
from ttd_core.run.seeds import first_start
from ttd_core.scores import which_is_better
from ttd_core.text import showable_line
from ttd_core.types import Message, ScoredState, Status, Verdict


@click.command("show", cls=ProblemCommand)
@click.argument("problem_name", metavar="PROBLEM")
@click.argument("state", metavar="STATE", required=False, type=click.Path(path_type=pathlib.Path))
@option_option
@click.option("--prompt", is_flag=True, help="Print the first prompt of a run instead.")
@click.option("--program", is_flag=True, help="Print the starting program instead.")
@click.option(
    "--picture",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="Draw STATE as SVG into this file; without STATE, the first start state of a run.",
)
@click.option("--output", hidden=True, type=click.Path(path_type=pathlib.Path, dir_okay=False))
@json_option
def show(
    problem_name: str,
    state: pathlib.Path | None,
    options: tuple[str, ...],
    prompt: bool,
    program: bool,
    picture: pathlib.Path | None,
    output: pathlib.Path | None,
    as_json: bool,
) -> int:
    """Show a problem: metric, published results, options. Or one state of it.

    PROBLEM is a name from `ttd list-problems`, or FILE.py:Class. STATE is a construction or a program, as
    `ttd eval` takes it; exit code 1 when it is not valid.

    \b
    Example:
      ttd show erdos
      ttd show erdos --prompt -o start=program
      ttd show erdos step_function.json --picture step_function.svg
    """
    # The option had the other name once.
    picture = picture if picture is not None else output
    problem = registry.load(problem_name, problem_options(options))
    if state is not None or picture is not None:
        return show_state(problem_name, problem, state, picture, as_json)
    if prompt:
        messages = first_prompt(problem)
        if as_json:
            print_json(messages)
        else:
            say_whole("\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages))
    elif program:
        source = problem.starting_program()
        if source is None:
            raise UsageError(f"problem {problem.name} has no starting program")
        print_json({"program": source}) if as_json else say_whole(source)
    else:
        facts = describe(problem, problem_name)
        print_json(facts) if as_json else say(_as_text(problem, facts))
    return 0


def show_state(
    reference: str, problem: Problem, file: pathlib.Path | None, picture: pathlib.Path | None, as_json: bool
) -> int:
    """Print what a state holds and what it scores, and draw it into ``picture``.

    :return: 0 when the state is valid, else 1.
    """
    if file is not None:
        verdict = evaluate_file(reference, problem, file)
    else:
        hooks = Hooks(problem)
        with open_executor(hooks, configs.load(reference)) as executor:
            start, reward = first_start(hooks, executor.run)
        if reward is None:
            raise UsageError(
                f"runs of {problem.name} start from nothing: name a file with a state, or set --start program"
            )
        verdict = Verdict(Status.OK, state=start, reward=reward)
    contents = {
        name: _in_one_line(value) for name, value in (verdict.state.data if verdict.state else {}).items()
    }
    if as_json:
        print_json(as_facts(problem, verdict) | {"holds": contents})
    else:
        say(
            "\n".join(
                [
                    as_text(problem, verdict),
                    *(f"  {showable_line(name)}: {showable_line(text)}" for name, text in contents.items()),
                ]
            )
        )
    if picture is not None and verdict.state is not None:
        draw(problem, verdict.state, picture)
    return 0 if verdict.ok else 1


def _in_one_line(value: Any) -> str:
    """A part of a state: an array's dtype, shape and range, a list's length, any other value shortened."""
    if isinstance(value, np.ndarray):
        ends = f", {value.min():.6g} to {value.max():.6g}" if value.size and value.dtype.kind in "iuf" else ""
        return f"{value.dtype} {list(value.shape)}{ends}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_prompt(problem: Problem) -> list[Message]:
    """The messages that a run with seed 0 starts with."""
    hooks = Hooks(problem)
    seed = hooks.seed_states(np.random.default_rng(0), 1)[0]
    # A seed made of a program alone gets its score by running it, which showing a prompt does not.
    scored = bool(seed.data) and not hooks.check(seed)
    return hooks.render_prompt(seed, [ScoredState(seed, hooks.reward(seed))] if scored else [])


def describe(problem: Problem, reference: str) -> dict[str, Any]:
    """Everything `ttd show` tells, as JSON."""
    current = {name: getattr(problem.options, name) for name, *_ in describe_fields(problem.options_type)}
    return {
        "name": problem.name,
        "title": problem.title,
        "distribution": entries.find(reference).origin,
        "metric": problem.metric,
        "direction": problem.direction,
        "target": problem.target,
        "measured_on": problem.measured_on() or None,
        "caution": caution_about_scores(problem) or None,
        "baselines": [baseline.facts() for baseline in problem.ranked_baselines()],
        "language": problem.language,
        "signature": problem.signature,
        "options": [
            {"name": name, "fits": fits, "default": default, "help": text, "value": _plain(current[name])}
            for name, fits, default, text in describe_fields(problem.options_type)
        ],
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _as_text(problem: Problem, facts: dict[str, Any]) -> str:
    lines = [f"{problem.name}: {problem.title}", f"from {facts['distribution']}", ""]
    lines.append(f"metric     {problem.metric}, {which_is_better(problem.direction)}")
    if caution := caution_about_scores(problem):
        lines.append(f"caution    {caution}")
    if problem.target is not None:
        lines.append(f"target     {problem.format_score(problem.target)}")
    lines.append(f"candidate  {problem.language}: {problem.signature}")
    if problem.baselines:
        rows = [
            (problem.format_baseline(each), each.label, each.origin) for each in problem.ranked_baselines()
        ]
        here = problem.measured_on()
        compared = f" (scores are taken on {here})" if here else ""
        lines += [
            "",
            f"Published results, the best first{compared}:",
            "",
            table(["score", "by", "source"], rows),
        ]
    options = [
        (option["name"], "none" if option["value"] is None else option["value"], option["help"])
        for option in facts["options"]
    ]
    lines += ["", "Options, set with -o NAME=VALUE:", "", table(["name", "value", "meaning"], options)]
    return "\n".join(lines)
