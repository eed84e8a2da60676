"""Run a strong program longer than a run's clock allows, by processor time, and certify what it finds.

    python -m ttd_math.search ac1 --seed 2 --seconds 60 --seconds 90 --out found/ac1.json

Each ``--seconds`` is one call of the program, as a step of a chain is (``plugins/ttd_math/chain.toml``): the
first begins with the problem's own start, with what this package keeps (``--begin best``), or with the
construction in a file, and every other with the best so far. The budget is processor time, so that a busy
machine changes nothing but the wait.
The program is this package's own, so it runs in this process, without the sandbox; what it returns is judged
as that of any candidate is. ``--keep`` puts the certificate into ``best/`` when it beats what is there.
"""

from __future__ import annotations

import pathlib
import shlex
import time
import types
from collections.abc import Sequence
from typing import Any

import click

from ttd_core import certificate, certifying
from ttd_core.cli.parameters import FiniteNumber
from ttd_core.config.settings import MOST_SECONDS
from ttd_core.errors import TtdError, UsageError
from ttd_core.input_files import read_data_file
from ttd_core.plugin.registry import load
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import State, array_digest
from ttd_math.base import BEST, FROM_BEST, MathProblem, start_file
from ttd_math.keep import earlier_of, is_better, made_by

#: Said of a construction that was made from one in a file.
FROM_FILE = "the program, and the construction of a file"
#: Problems whose strong program reads one clock.
PROBLEMS = ("ac1", "erdos")


class ProcessorClock:
    """What a program sees as the module ``time``: seconds of processor time."""

    time = staticmethod(time.process_time)


def as_module(problem: MathProblem, state: State) -> types.ModuleType:
    """The strong program, with the construction of a state and the clock of this process."""
    program = types.ModuleType(f"{problem.name}_program")
    program.__dict__.update(problem.inject(state))
    for source in (problem.helpers(), problem.starting_program()):
        exec(compile(source, program.__name__, "exec"), program.__dict__)
    program.__dict__["time"] = ProcessorClock
    return program


def call(problem: MathProblem, state: State, seed: int, seconds: float) -> State:
    """What one call of the strong program makes of a state.

    :param seconds: of processor time.
    :raises UsageError: when what it returns breaks a rule.
    """
    result = getattr(as_module(problem, state), problem.entry)(seed=seed, budget_s=seconds)
    found = State(data=problem.construct(result))
    broken = problem.check(found)
    if broken:
        raise UsageError(f"{problem.name}: the program's result is not valid: {broken[0]}")
    return found


def search(problem: MathProblem, start: State, seed: int, budgets: Sequence[float]) -> State:
    """The best of calls one after another, each from the best so far.

    :param budgets: seconds of processor time, one of each call.
    """
    best = start
    for number, seconds in enumerate(budgets):
        found = call(problem, best, seed + number, seconds)
        score = problem.reward(found).score
        click.echo(f"call {number + 1}, {time.process_time():.0f} s in all: {problem.format_score(score)}")
        if not best.data or problem.better(score, problem.reward(best).score):
            best = found
    return best


def command(name: str) -> str:
    """How this module is called for a problem, without its options."""
    return f"python -m ttd_math.search {name}"


def start_of(problem: MathProblem, begin: str) -> tuple[State, dict[str, Any] | None]:
    """What a search begins with, and what the origin of what it finds says of that (``earlier``).

    :param begin: ``program`` (the problem's own start, of which nothing is said), ``best``, or a file.
    :raises UsageError: when the file holds no construction, or one that breaks a rule.
    """
    if begin == "program":
        return State(), None
    path = start_file(problem.name, begin)
    state = problem.read_valid(path)
    if certificate.is_certificate(read_data_file(path)):
        return state, earlier_of(path)
    return state, {"data": {name: {"$array": array_digest(array)} for name, array in state.data.items()}}


def origin_of(
    problem: MathProblem, begin: str, seed: int, budgets: Sequence[float], before: dict[str, Any] | None
) -> dict[str, Any]:
    """Where a construction of :func:`search` came from, as JSON.

    :param before: see :func:`start_of`.
    """
    words = ["--begin", pathlib.Path(begin).name, "--seed", str(seed)]
    words += [word for seconds in budgets for word in ("--seconds", f"{seconds:g}")]
    with LocalExecutor(workers=1) as executor:
        return {
            "command": f"{command(problem.name)} {shlex.join(words)}",
            "seed": seed,
            "options": {"start": pathlib.Path(begin).name, "processor_seconds": list(budgets)},
            **made_by(problem, executor, before),
            **({"start": FROM_FILE} if before and begin != FROM_BEST else {}),
        }


@click.command()
@click.argument("name", metavar="PROBLEM", type=click.Choice(PROBLEMS))
@click.option(
    "--begin",
    metavar="program|best|FILE",
    default="program",
    show_default=True,
    help="The problem's own start, what this package keeps, or a construction as for `ttd eval`.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first call.")
@click.option(
    "--seconds",
    "budgets",
    type=FiniteNumber(0, MOST_SECONDS, min_open=True),
    multiple=True,
    required=True,
    help="Processor time of one call; repeat it for more calls.",
)
@click.option("--out", type=click.Path(path_type=pathlib.Path, dir_okay=False), required=True)
@click.option("--keep", is_flag=True, help="Put it into best/ too, when it is better than what is there.")
def main(name: str, begin: str, seed: int, budgets: tuple[float, ...], out: pathlib.Path, keep: bool) -> None:
    """Run the strong program of PROBLEM by processor time, and certify what it finds."""
    try:
        problem = load(name, {"program": "strong", "start": "program"})
        assert isinstance(problem, MathProblem)
        start, before = start_of(problem, begin)
        certificate.make_folder(out)
        # Before the search: what fails here must not cost its result.
        origin = origin_of(problem, begin, seed, budgets, before)
        proof = certifying.certify(problem, search(problem, start, seed, budgets))
        certificate.write(proof, out, origin=origin)
        if keep and is_better(problem, proof, BEST / f"{name}.json"):
            certificate.write(proof, BEST / f"{name}.json", origin=origin)
    except TtdError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {proof.statement()['claim']}")


if __name__ == "__main__":
    main()
