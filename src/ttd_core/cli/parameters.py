"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from ttd_core.config import SandboxConfig
from ttd_core.config.settings import parse_assignment

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


def problem_options(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name from ``-o`` texts.

    :raises ConfigError: when one is not ``KEY=VALUE``.
    """
    return dict(parse_assignment(text, "-o") for text in texts)
