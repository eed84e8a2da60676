"""``ttd math``: constructions improved on a device, and packings proven to be local maxima."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ttd_core.certificate import Certificate, decimal_text
from ttd_core.cli.output import say
from ttd_core.cli.parameters import FiniteNumber
from ttd_core.config.settings import MOST_SECONDS
from ttd_core.errors import UsageError
from ttd_core.plugin.spec import hookimpl

#: Problems whose constructions are step functions.
STEP_FUNCTIONS = ("ac1", "ac2", "erdos")
#: Those of them whose bound is a largest value and nothing else.
MINIMAX_PROBLEMS = ("ac1", "erdos")
#: Problems whose constructions are packings.
PACKINGS = ("cp26", "cp32")

Command = TypeVar("Command", bound=Callable[..., Any])

# Options that both commands have.
_out_option = click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    required=True,
    help="Where the certificate is written, its arrays beside it.",
)
_rounds_option = click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Most rounds at each length; with it a search can be repeated exactly.",
)
_device_option = click.option(
    "--device", default="cpu", show_default=True, help="Where torch computes, such as cpu or cuda."
)
_seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all random numbers."
)
_resume_option = click.option(
    "--resume", is_flag=True, help="Go on with the search that was left beside --out."
)


def _start_option(default: str, others: str, said: str) -> Callable[[Command], Command]:
    return click.option(
        "--from",
        "start",
        default=default,
        show_default=True,
        metavar=f"best|random{others}|FILE",
        help=f"What to begin with: the one this package keeps, random heights{said}, or a file as for "
        "`ttd eval`.",
    )


def _keep_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--keep",
        type=click.IntRange(1, 1000),
        default=default,
        show_default=True,
        help="Functions of a lineage that are gone on with.",
    )


def _seconds_option(said: str) -> Callable[[Command], Command]:
    return click.option(
        "--seconds",
        type=FiniteNumber(0, MOST_SECONDS, min_open=True),
        default=600.0,
        show_default=True,
        help=said,
    )


def _tell(proof: Certificate, written: Sequence[pathlib.Path]) -> None:
    """Say what is proven, and which files hold it."""
    say(proof.statement()["claim"])
    say(f"written: {', '.join(str(path) for path in written)}")


@hookimpl
def ttd_commands(cli: click.Group) -> None:
    """Add ``ttd math``."""
    cli.add_command(math)


@click.group()
def math() -> None:
    """Open problems in mathematics: constructions improved on a device, packings proven locally best."""


@math.command()
@click.argument("problem", type=click.Choice(STEP_FUNCTIONS))
@_start_option("best", "|comb", ", random combs (of ac2)")
@_out_option
@click.option(
    "--length",
    type=click.IntRange(1),
    help="Most heights: the start is doubled as often as fits, or halved before where it has more. "
    "Default: as many as the start.",
)
@click.option(
    "--coarse",
    type=click.IntRange(2),
    default=1000,
    show_default=True,
    help="Heights of random starts and of combs.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=64, show_default=True, help="Most functions at a time."
)
@click.option(
    "--cells",
    type=click.IntRange(1),
    default=1 << 22,
    show_default=True,
    help="Most heights at a time, of all functions together.",
)
@_keep_option(8)
@click.option(
    "--lineages",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    help="Random starts or combs that are gone on with apart; ever fewer, one when the first length is done.",
)
@click.option(
    "--iterations",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Of the optimiser, for each of five powers of smoothing.",
)
@click.option(
    "--explore",
    type=click.IntRange(0),
    default=20_000,
    show_default=True,
    help="Iterations with noise from random starts; of the annealing of combs, all powers together.",
)
@_seconds_option("Time, shared evenly by the lengths; from random starts and combs the first has half.")
@_rounds_option
@_device_option
@click.option(
    "--precision",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Of the optimiser; scores are exact in any case.",
)
@_seed_option
@_resume_option
def polish(**given: Any) -> None:
    """Improve a step function by gradients, many variants at a time, at growing lengths.

    Each round changes the best functions so far, optimises all of them under a smoothed maximum,
    and keeps the best. What is found goes through the verifier and is written as an exact
    certificate. A search that was stopped leaves OUT.polish.npz and goes on with --resume.

    \b
    Example:
      ttd math polish ac2 --length 20000 --seconds 600 --out ac2.json
    """
    try:
        from ttd_math.polishing import running  # noqa: PLC0415 - loads torch
    except ImportError as error:
        raise UsageError(f"ttd math polish needs torch: {error}") from error
    _tell(*running.polish(running.Settings(**given), say))


@math.command()
@click.argument("problem", type=click.Choice(MINIMAX_PROBLEMS))
@_start_option("random", "", "")
@_out_option
@click.option(
    "--length",
    type=click.IntRange(1),
    help="Most heights: the first length is doubled as often as fits. Default: the first length alone.",
)
@click.option(
    "--coarse",
    type=click.IntRange(20),
    help="Heights of the first length. Default: 180 for ac1, 140 for erdos; of a FILE, a part near that.",
)
@click.option(
    "--cells",
    type=click.IntRange(1),
    default=1 << 26,
    show_default=True,
    help="Most values of the largest matrices of a batch. Memory: 13 bytes for each up to 2^28, which are "
    "computed at a time, and one for each beyond; 16 times the square of the heights where that is more.",
)
@_keep_option(20)
@click.option(
    "--lineages",
    type=click.IntRange(1, 10_000),
    default=128,
    show_default=True,
    help="Searches of their own that are under way at the first length.",
)
@click.option(
    "--promoted",
    type=click.IntRange(1, 10_000),
    default=48,
    show_default=True,
    help="Of these, how many go on with twice as many heights; then a quarter at each length.",
)
@_seconds_option("Time, of all lengths together.")
@click.option(
    "--time-ratio",
    type=FiniteNumber(0.01, 100),
    default=0.5,
    show_default=True,
    help="Time of a length as a share of that of the one before.",
)
@_rounds_option
@_device_option
@_seed_option
@_resume_option
def hops(**given: Any) -> None:
    """Search for step functions by hops between local optima, many at a time, at growing lengths.

    A hop changes one of the best functions of a lineage at random and optimises it by an interior
    point method. Many lineages begin at random; the worse half make room for new ones again and
    again, and the best go on with more heights. What is found goes through the verifier and is
    written as an exact certificate. A search that was stopped leaves OUT.hops.npz and goes on with
    --resume.

    \b
    Example:
      ttd math hops ac1 --length 2880 --seconds 300 --device cuda --out ac1.json
    """
    try:
        from ttd_math.hopping import running  # noqa: PLC0415 - loads torch
    except ImportError as error:
        raise UsageError(f"ttd math hops needs torch: {error}") from error
    _tell(*running.hops(running.Settings(**given), say))


@math.command(name="local-maximum")
@click.argument("problem", type=click.Choice(PACKINGS))
@click.option(
    "--from",
    "start",
    default="best",
    show_default=True,
    metavar="best|FILE",
    help="The packing: the one this package keeps, or a file as for `ttd eval`.",
)
@click.option(
    "--digits", type=click.IntRange(1, 100), default=50, show_default=True, help="Decimals of the sum."
)
def local_maximum(problem: str, start: str, digits: int) -> None:
    """Prove that a packing is a strict local maximum of the sum of radii.

    All packings near it have a smaller sum. Shown with every rounding error enclosed: as many circles
    and walls touch as there are numbers to choose, these contacts have one solution next to the
    packing, and their multipliers are positive.

    \b
    Example:
      ttd math local-maximum cp26
    """
    from ttd_math import local_maximum as proving  # noqa: PLC0415 - loads flint

    proof = proving.prove(*proving.packing_of(problem, start))
    say(
        f"One packing of {proof.circles} circles lies within {proof.within:.1e} of this one and has these "
        f"{proof.contacts} contacts exactly."
    )
    say("It is a strict local maximum of the sum of radii: every other packing near it has a smaller one.")
    say(f"Its sum begins with {decimal_text(proof.lowest, digits, up=False)}.")
    say(
        f"Multipliers of the contacts are at least {proof.least_multiplier:.3g}; radii and slacks that must "
        f"be positive at least {proof.least_gap:.3g}."
    )
