"""``ttd show``: one problem, as a person or a program wants to know it."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ttd_core import entries, registry
from ttd_core.cli.output import json_option, print_json, table
from ttd_core.cli.parameters import option_option, problem_options
from ttd_core.errors import UsageError
from ttd_core.hooks import Hooks
from ttd_core.problem import Problem
from ttd_core.settings import describe_fields
from ttd_core.types import Message, ScoredState


@click.command("show")
@click.argument("problem_name", metavar="PROBLEM")
@option_option
@click.option("--prompt", is_flag=True, help="Print the first prompt of a run instead.")
@click.option("--program", is_flag=True, help="Print the starting program instead.")
@json_option
def show(problem_name: str, options: tuple[str, ...], prompt: bool, program: bool, as_json: bool) -> None:
    """Show a problem: metric, published results, options.

    PROBLEM is a name from `ttd list-problems`, or FILE.py:Class.

    \b
    Example:
      ttd show erdos
      ttd show erdos --prompt -o start=program
    """
    problem = registry.load(problem_name, problem_options(options))
    if prompt:
        messages = first_prompt(problem)
        if as_json:
            print_json(messages)
        else:
            click.echo("\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages))
    elif program:
        source = problem.starting_program()
        if source is None:
            raise UsageError(f"problem {problem.name} has no starting program")
        print_json({"program": source}) if as_json else click.echo(source, nl=not source.endswith("\n"))
    else:
        facts = describe(problem, problem_name)
        print_json(facts) if as_json else click.echo(_as_text(problem, facts))


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
        "baselines": [
            {"label": baseline.label, "score": baseline.score, "source": baseline.source}
            for baseline in ranked_baselines(problem)
        ],
        "language": problem.language,
        "signature": problem.signature,
        "options": [
            {"name": name, "fits": fits, "default": default, "help": text, "value": _plain(current[name])}
            for name, fits, default, text in describe_fields(problem.options_type)
        ],
    }


def ranked_baselines(problem: Problem) -> list[Any]:
    """Published results, the best first."""
    return sorted(problem.baselines, key=lambda each: each.score, reverse=problem.direction == "max")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _as_text(problem: Problem, facts: dict[str, Any]) -> str:
    aim = "smaller is better" if problem.direction == "min" else "larger is better"
    lines = [f"{problem.name}: {problem.title}", f"from {facts['distribution']}", ""]
    lines.append(f"metric     {problem.metric}, {aim}")
    if problem.target is not None:
        lines.append(f"target     {problem.format_score(problem.target)}")
    lines.append(f"candidate  {problem.language}: {problem.signature}")
    if problem.baselines:
        rows = [
            (problem.format_score(each.score), each.label, each.source) for each in ranked_baselines(problem)
        ]
        lines += ["", "Published results, the best first:", "", table(["score", "by", "source"], rows)]
    options = [
        (option["name"], "none" if option["value"] is None else option["value"], option["help"])
        for option in facts["options"]
    ]
    lines += ["", "Options, set with -o NAME=VALUE:", "", table(["name", "value", "meaning"], options)]
    return "\n".join(lines)
