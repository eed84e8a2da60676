"""Keep the best construction of a run: its exact certificate, with where it came from.

    python -m ttd_math.keep RUN [--folder best]

``best/`` of this package holds what our own programs found, one certificate a problem; each names the run's
command, its seed, its start, and a short prefix of the run that anyone can repeat (``tests/test_best.py``).
"""

from __future__ import annotations

import hashlib
import pathlib
import shlex
from typing import Any

import attrs
import click

from ttd_core import certificate, certifying
from ttd_core import config as configs
from ttd_core.config import RunConfig
from ttd_core.errors import TtdError, UsageError
from ttd_core.plugin.registry import resolve
from ttd_core.problem import Problem
from ttd_core.sandbox.base import Executor
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: Where this package keeps its best constructions.
BEST = pathlib.Path(__file__).parent / "best"
#: Length of the prefix that is kept.
PREFIX_HOPS = 4


def command_of(config: RunConfig, problem: Problem) -> str:
    """The ``ttd run`` command that repeats a run of the chain."""
    usual = attrs.asdict(type(problem.options)())
    words = ["ttd", "run", config.problem, "--config", "plugins/ttd_math/chain.toml"]
    words += ["--seed", str(config.seed), "--steps", str(config.steps)]
    for name in ("timeout_s", "program_seed", "cpus"):
        if name in usual and config.options[name] != usual[name]:
            words += ["-o", f"{name}={config.options[name]:g}"]
    return shlex.join(words)


def limited(program: str, hops: int) -> str:
    """The program, made to stop after a number of hops whatever the time."""
    return program.replace("HOPS = 1000000\n", f"HOPS = {hops}\n", 1)


def prefix_score(problem: Problem, hops: int, executor: Executor) -> float:
    """Score of the first hops of a run: the starting program, from the problem's start, in the sandbox.

    :raises UsageError: when it fails.
    """
    program = limited(problem.starting_program() or "", hops)
    state = problem.transition(State(), Action(program), executor.run)
    if not isinstance(state, State):
        raise UsageError(f"the first {hops} hops failed: {state.message}")
    return problem.reward(state).score


def origin_of(config: RunConfig, problem: Problem, executor: Executor) -> dict[str, Any]:
    """Where a construction came from: how to repeat the run, and the beginning of it."""
    program = problem.starting_program() or ""
    return {
        "command": command_of(config, problem),
        "start": f"the program alone, on the start of {config.problem}: no construction was given to it",
        "seed": config.seed,
        "steps": config.steps,
        "options": dict(config.options),
        "program": hashlib.sha256(program.encode()).hexdigest(),
        "prefix": {"hops": PREFIX_HOPS, "score": prefix_score(problem, PREFIX_HOPS, executor)},
    }


def is_better(problem: Problem, fresh: certificate.Certificate, path: pathlib.Path) -> bool:
    """Whether a certificate beats the one kept at ``path``, if there is one that holds."""
    if not path.exists():
        return True
    kept = certifying.check(problem, path)
    return fresh.bound > kept.bound if problem.direction == "max" else fresh.bound < kept.bound


@click.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--folder", type=click.Path(path_type=pathlib.Path), default=BEST, help="Where to keep it.")
def main(run: pathlib.Path, folder: pathlib.Path) -> None:
    """Certify the best construction of RUN and keep it when it beats the one kept so far."""
    try:
        config = configs.from_toml((run / "config.toml").read_text(encoding="utf-8"), where=str(run))
        problem, config = resolve(config)
        state = problem.read_construction(run / "best" / "construction.json")
        proof = certifying.certify(problem, state)
        path = folder / f"{problem.name}.json"
        if not is_better(problem, proof, path):
            raise UsageError(f"{run}: {proof.decimal} does not beat what {path} keeps")
        with LocalExecutor(workers=1) as executor:
            certificate.write(proof, path, origin=origin_of(config, problem, executor))
    except OSError as error:
        raise click.ClickException(f"{run}: not a run folder: {error}") from error
    except TtdError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{path}: {proof.statement()['claim']}")


if __name__ == "__main__":
    main()
