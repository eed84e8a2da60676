"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import math
import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from ttd_core.config import SandboxConfig
from ttd_core.config.settings import parse_assignment
from ttd_core.problem import Problem
from ttd_core.text import showable_line
from ttd_core.types import State


class FiniteNumber(click.FloatRange):
    """A number within bounds; ``nan`` is within none of them, and no infinity is."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a refusal that names the option."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


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


#: Bytes of a run's name: file systems take 255, and a folder is made under a longer name first.
_NAME_BYTES = 200


def run_name(ctx: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """``--name``: something that a folder can be called.

    :raises click.BadParameter: when it is empty, too long, or holds what no name should.
    """
    if name is None:
        return None
    if not name.strip():
        raise click.BadParameter(
            "it is empty; leave --name out for one made of problem and time", ctx, parameter
        )
    if not name.isprintable():
        raise click.BadParameter(
            f"'{showable_line(name)[:60]}' holds characters that cannot be shown", ctx, parameter
        )
    size = len(name.encode())
    if size > _NAME_BYTES:
        raise click.BadParameter(f"it has {size} bytes; a name may have {_NAME_BYTES}", ctx, parameter)
    return name


def problem_options(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name from ``-o`` texts.

    :raises ConfigError: when one is not ``KEY=VALUE``.
    """
    return dict(parse_assignment(text, "-o") for text in texts)
