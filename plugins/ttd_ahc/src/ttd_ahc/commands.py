"""``ttd ahc``: the inputs of a contest as files."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import click

from ttd_ahc.contest import Contest
from ttd_core.errors import StorageError, UsageError
from ttd_core.plugin import registry
from ttd_core.plugin.spec import hookimpl

#: Most inputs written by one command.
_MAX_SEEDS = 1_000_000


@hookimpl
def ttd_commands(cli: click.Group) -> None:
    """Add ``ttd ahc``."""
    cli.add_command(ahc)


@click.group()
def ahc() -> None:
    """AtCoder heuristic contests: their inputs."""


@ahc.command()
@click.argument("contest_name", metavar="CONTEST")
@click.option("--seeds", default="0-149", show_default=True, help="Seeds such as 0-149 or 3,5,10-12.")
@click.option("--official", is_flag=True, help="The cases that decided the contest instead.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    required=True,
    help="Folder to write SEED.txt into; made if absent.",
)
def inputs(contest_name: str, seeds: str, official: bool, output: pathlib.Path) -> None:
    """Write inputs, one file a seed.

    \b
    Example:
      ttd ahc inputs ahc039 --seeds 0-149 -o inputs
    """
    contest = load_contest(contest_name, {"official": True} if official else {})
    chosen = contest.seeds() if official else parse_seeds(seeds)
    for seed in chosen:
        _write(output / f"{seed}.txt", contest.make_case(seed).text)
    click.echo(f"{len(chosen)} inputs of {contest.name} written to {output}")


def load_contest(name: str, options: dict[str, Any]) -> Contest:
    """A contest by its name.

    :raises UsageError: when the problem of that name is no contest, or lacks an option.
    """
    problem = registry.load(name, options)
    if not isinstance(problem, Contest):
        raise UsageError(f"{name} is no contest: it has no inputs made from seeds")
    return problem


def parse_seeds(text: str) -> list[int]:
    """Seeds from a text such as ``0-149`` or ``3,5,10-12``.

    :raises UsageError: when it is none.
    """
    chosen: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,20})(?:-([0-9]{1,20}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high < 1 << 64 or len(chosen) + high - low >= _MAX_SEEDS:
            raise UsageError(
                f"--seeds {text}: {part.strip()!r} is no seed and no range FIRST-LAST of them "
                f"(64-bit numbers, at most {_MAX_SEEDS} in all)"
            )
        chosen += range(low, high + 1)
    return chosen


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
