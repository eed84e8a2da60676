"""``ttd ahc``: the inputs of a contest as files, and pictures of answers."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import click

from ttd_ahc.contest import Contest
from ttd_core import config as configs
from ttd_core import registry
from ttd_core.errors import StorageError, UsageError
from ttd_core.hooks import Hooks
from ttd_core.hookspecs import hookimpl
from ttd_core.run.backends import open_executor
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.types import Action, State, Verdict

#: Most inputs written by one command.
_MOST_SEEDS = 1_000_000
_PROGRAMS = frozenset([".cpp", ".cc", ".cxx"])


@hookimpl
def ttd_commands(cli: click.Group) -> None:
    """Add ``ttd ahc``."""
    cli.add_command(ahc)


@click.group()
def ahc() -> None:
    """AtCoder heuristic contests: inputs and pictures."""


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


@ahc.command()
@click.argument("contest_name", metavar="CONTEST")
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option("--seed", default=0, show_default=True, help="Seed of the case.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    required=True,
    help="SVG file to write.",
)
def picture(contest_name: str, file: pathlib.Path, seed: int, output: pathlib.Path) -> int:
    """Draw the answer to one case.

    FILE is a C++ program (.cpp), which is run, or a text file with what one printed. Exit code 1 when the
    answer is not valid.

    \b
    Example:
      ttd ahc picture ahc039 program.cpp --seed 7 -o seed7.svg
    """
    contest = load_contest(contest_name, {"cases": 1, "first_seed": seed})
    verdict = _judge(contest, file)
    if verdict.state is None or verdict.reward is None:
        click.echo(f"{contest.name}: {verdict.status}: {verdict.message}")
        return 1
    drawing = contest.plot(verdict.state)
    if drawing is None:
        raise UsageError(f"{contest.name} has no pictures")
    _write(output, drawing)
    click.echo(f"{contest.name}: seed {seed}: score {verdict.reward.score:.10g}; drawn in {output}")
    return 0


def _judge(contest: Contest, file: pathlib.Path) -> Verdict:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    hooks = Hooks(contest)
    if file.suffix.lower() not in _PROGRAMS:
        try:
            return evaluate_state(hooks, State(data=contest.construct([text])))
        except ValueError as error:
            raise UsageError(f"{file}: {error}") from error
    with open_executor(hooks, configs.load(contest.name)) as executor:
        return evaluate_action(hooks, State(), Action(text, contest.language), executor.run)


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
        if not low <= high < 1 << 64 or len(chosen) + high - low >= _MOST_SEEDS:
            raise UsageError(
                f"--seeds {text}: {part.strip()!r} is no seed and no range FIRST-LAST of them "
                f"(64-bit numbers, at most {_MOST_SEEDS} in all)"
            )
        chosen += range(low, high + 1)
    return chosen


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
