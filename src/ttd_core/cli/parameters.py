"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from ttd_core.config import SandboxConfig
from ttd_core.config.settings import parse_assignment
from ttd_core.problem import Problem
from ttd_core.types import State

#: ``-o KEY=VALUE``: the problem's own options.
option_option: Callable[[Any], Any] = click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the problem; `ttd show PROBLEM` lists them. Repeatable.",
)

#: ``--set KEY=VALUE``: any key of the run's config.
set_option: Callable[[Any], Any] = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of the config, such as learn.kl_coefficient=0.01. Repeatable.",
)

#: ``--sandbox LEVEL``: what the config's ``sandbox.level`` takes.
sandbox_option: Callable[[Any], Any] = click.option(
    "--sandbox",
    type=click.Choice(typing.get_args(typing.get_type_hints(SandboxConfig)["level"])),
    help="Least isolation to accept.",
)

#: ``--project``: repair a construction where the problem knows one honest repair.
project_option: Callable[[Any], Any] = click.option(
    "--project",
    is_flag=True,
    help="Move a construction that breaks a rule by little to the nearest that keeps it, and say so.",
)


def projected(problem: Problem, file: pathlib.Path) -> tuple[State, str]:
    """The valid construction nearest to that in a file, and what was changed; nothing where it is valid.

    :raises UsageError: when the file holds none, or the problem knows no honest repair.
    """
    state = problem.read_construction(file)
    return problem.project(state) if problem.check(state) else (state, "")


def problem_options(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name from ``-o`` texts.

    :raises ConfigError: when one is not ``KEY=VALUE``.
    """
    return dict(parse_assignment(text, "-o") for text in texts)
