"""Keep the best construction of a run: its exact certificate, with where it came from.

    python -m ttd_math.keep RUN [--folder best]
    python -m ttd_math.keep POLISHED.json

``best/`` of this package holds what our own programs found, one certificate a problem, some polished since by
``ttd math polish``, whose certificate says what it began with. Each says with which
command, seed and start the run was made, and what score the first hops of its program reach, which anyone
can repeat (``plugins/ttd_math/tests/test_best.py``). A hop changes a construction that a program has found,
and optimises it again. A run with ``start = "best"`` began with the construction that was kept before, and
where that one came from is kept as well, as ``earlier``.
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
from ttd_core.input_files import read_text_file
from ttd_core.plugin.registry import load, resolve
from ttd_core.problem import Problem
from ttd_core.sandbox.base import Executor
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State
from ttd_math.base import BEST
from ttd_math.commands import STEP_FUNCTIONS

#: Said of a construction that a program found by itself, and of one that it made from the one kept before.
FROM_NOTHING = "the program alone, on the start of {name}: no construction was given to it"
FROM_BEST = "the program, and the construction kept until then"
#: How many of a program's first hops are repeated.
PREFIX_HOPS = 4


def run_command(config: RunConfig, problem: Problem) -> str:
    """The ``ttd run`` command that repeats a run made with ``plugins/ttd_math/chain.toml``.

    :param config: of the run.
    :param problem: with the run's options.
    """
    defaults = attrs.asdict(type(problem.options)())
    words = ["ttd", "run", config.problem, "--config", "plugins/ttd_math/chain.toml"]
    words += ["--seed", str(config.seed), "--steps", str(config.steps)]
    if config.options["start"] != "program":
        words += ["-o", f"start={config.options['start']}"]
    for name in ("timeout_s", "program_seed", "cpus"):
        if name in defaults and config.options[name] != defaults[name]:
            words += ["-o", f"{name}={config.options[name]:g}"]
    return shlex.join(words)


def with_hop_limit(program: str, hops: int) -> str:
    """The source of a strong program, changed to stop after a number of hops, whatever the time."""
    return program.replace("HOPS = 1000000\n", f"HOPS = {hops}\n", 1)


def prefix_score(problem: Problem, hops: int, executor: Executor) -> float:
    """The score of the starting program's first hops, made in the sandbox from the problem's own start.

    :param hops: how many.
    :raises UsageError: when the program fails.
    """
    program = with_hop_limit(problem.starting_program() or "", hops)
    state = problem.transition(State(), Action(program), executor.run)
    if not isinstance(state, State):
        raise UsageError(f"the first {hops} hops failed: {state.message}")
    return problem.reward(state).score


def earlier_of(path: pathlib.Path) -> dict[str, Any]:
    """What the origin of a construction says of the one that it was made from: claim, arrays, origin.

    :param path: of that one's certificate; what it leaves out is left out here.
    """
    stated, _ = certificate.read(path)
    return {name: stated[name] for name in ("claim", "data", "origin") if name in stated}


def began_with(run: pathlib.Path, path: pathlib.Path) -> dict[str, Any]:
    """:func:`earlier_of` of the construction that a run with ``start = "best"`` began with.

    :param path: of its certificate.
    :raises UsageError: when the run began with another one.
    """
    earlier = earlier_of(path)
    digests = [value["$array"] for value in earlier["data"].values()]
    if not all((run / "arrays" / f"{digest}.npy").exists() for digest in digests):
        raise UsageError(f"{run}: began with another construction than {path} keeps")
    return earlier


def origin_of(
    config: RunConfig, problem: Problem, executor: Executor, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Where a run's construction came from, as JSON: how to repeat the run, and what its first hops reach.

    :param config: of the run.
    :param problem: with the run's options.
    :param executor: runs the first hops from the problem's own start.
    :param before: of a run with ``start = "best"``: what it began with (:func:`began_with`).
    """
    return {
        "command": run_command(config, problem),
        "seed": config.seed,
        "steps": config.steps,
        "options": dict(config.options),
        **made_by(problem, executor, before),
    }


def made_by(problem: Problem, executor: Executor, before: dict[str, Any] | None) -> dict[str, Any]:
    """What every origin says of the strong program: what it began with, its hash, what its first hops reach.

    :param executor: runs the first hops from the problem's own start.
    :param before: :func:`earlier_of` what it began with; ``None`` when that was the problem's own start.
    """
    program = problem.starting_program() or ""
    nothing: dict[str, Any] = {"start": FROM_NOTHING.format(name=problem.name)}
    return (nothing if before is None else {"start": FROM_BEST, "earlier": before}) | {
        "program": hashlib.sha256(program.encode()).hexdigest(),
        "prefix": {"hops": PREFIX_HOPS, "score": prefix_score(problem, PREFIX_HOPS, executor)},
    }


def is_better(problem: Problem, fresh: certificate.Certificate, path: pathlib.Path) -> bool:
    """Whether a certificate's exact score beats that of the certificate at ``path``; so too if there is none.

    :raises CertificateError: when the certificate at ``path`` does not hold.
    """
    return not path.exists() or problem.better(fresh.bound, certifying.check(problem, path).bound)


def of_run(run: pathlib.Path) -> tuple[Problem, certificate.Certificate, RunConfig]:
    """The certificate of a run's best construction, and the config that it was made with.

    :raises UsageError: when the folder is no run's.
    """
    if not (run / "config.toml").is_file():
        raise UsageError(f"{run}: not a run folder: it has no config.toml")
    config = configs.from_toml(read_text_file(run / "config.toml"), where=str(run))
    problem, config = resolve(config)
    state = problem.read_construction(run / "best" / "construction.json")
    return problem, certifying.certify(problem, state), config


def of_polish(path: pathlib.Path) -> tuple[Problem, certificate.Certificate, dict[str, Any]]:
    """The certificate that ``ttd math polish`` wrote, checked, and its origin.

    :raises UsageError: when it does not say where it came from.
    :raises CertificateError: when it does not hold.
    """
    stated, _ = certificate.read(path)
    name, origin = stated.get("problem"), stated.get("origin")
    if not isinstance(origin, dict) or name not in STEP_FUNCTIONS:
        raise UsageError(f"{path}: not written by ttd math polish")
    problem = load(name, certificate.stated_options(stated, path))
    return problem, certifying.check(problem, path), origin


@click.command()
@click.argument("run", type=click.Path(path_type=pathlib.Path))
@click.option("--folder", type=click.Path(path_type=pathlib.Path), default=BEST, help="Where to keep it.")
def main(run: pathlib.Path, folder: pathlib.Path) -> None:
    """Certify the best construction of RUN, or check a polished certificate; keep it when it is the best."""
    try:
        if run.is_file():
            problem, proof, origin = of_polish(run)
        else:
            problem, proof, config = of_run(run)
        path = folder / f"{problem.name}.json"
        if not is_better(problem, proof, path):
            raise UsageError(f"{run}: {proof.decimal} does not beat what {path} keeps")
        if not run.is_file():
            from_best = config.options["start"] == "best"
            before = began_with(run, BEST / f"{problem.name}.json") if from_best else None
            with LocalExecutor(workers=1) as executor:
                origin = origin_of(config, problem, executor, before)
        certificate.write(proof, path, origin=origin)
    except OSError as error:
        raise click.ClickException(f"{run}: not a run folder: {error}") from error
    except TtdError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{path}: {proof.statement()['claim']}")


if __name__ == "__main__":
    main()
