"""Every program of `denoising` on a real data set: losses, score, seconds and peak memory.

    python benchmarks/denoising.py [--dataset pancreas] [--programs magic,best] [--pictures DIR]

Each program runs in the sandbox, as a rollout does. Magic runs in both orders of normalisation and with both
solvers. "no denoising" and "perfect denoising" are the control methods between which scores are normalised; a
result is valid when its normalised Poisson loss lies in 0.97 to 1. With ``--pictures`` the UMAP of the cells
before and after our best program is written there.

Exits with 1 when our best program does not beat the best MAGIC-like one by 0.05, with 3 when the data cannot
be had.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table

from ttd_bio.denoising import Denoising, DenoisingOptions
from ttd_bio.metrics import Losses, losses
from ttd_bio.pictures import umaps
from ttd_core.errors import EnvironmentLacksError
from ttd_core.package_files import package_text
from ttd_core.sandbox.base import MIB, Job, JobResult
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: By how much the score of our best program must exceed that of the best MAGIC-like one.
BAR = 0.05


def variants(names: list[str]) -> dict[str, str]:
    """Sources by label."""
    sources = {}
    for name in names:
        if name != "magic":
            sources[name] = package_text("ttd_bio", "programs", f"{name}.py")
            continue
        for first in (True, False):
            for approximate in (True, False):
                text = package_text("ttd_bio", "programs", "magic.py")
                text = text.replace("SQRT_FIRST = True", f"SQRT_FIRST = {first}")
                text = text.replace("APPROXIMATE = True", f"APPROXIMATE = {approximate}")
                order = "square root first" if first else "library first"
                sources[f"magic, {order}, {'approximate' if approximate else 'exact'}"] = text
    return sources


def run(problem: Denoising, executor: LocalExecutor, source: str) -> tuple[JobResult, Losses | None]:
    """The job of one program and the losses of its result; measured even where the rules refuse it."""
    seen: list[JobResult] = []

    def execute(job: Job) -> JobResult:
        seen.append(executor.run(job))
        return attrs.evolve(seen[-1])

    problem.transition(State(), Action(source), execute)
    value = seen[-1].value
    measured = losses(value, problem.split.train, problem.split.test) if seen[-1].ok else None
    return seen[-1], measured


def row(problem: Denoising, label: str, measured: Losses, seconds: float, memory: int) -> list[str]:
    """One line of the table.

    :param seconds: wall time.
    :param memory: largest resident memory, in bytes.
    """
    controls = problem.controls
    shares = [controls.normalised("mse", measured.mse), controls.normalised("poisson", measured.poisson)]
    valid = "yes" if 0.97 <= shares[1] <= 1 + 1e-12 else "no"
    numbers = [f"{measured.mse:.4f}", f"{measured.poisson:.4f}", f"{measured.poisson_textbook:.4f}"]
    numbers += [f"{share:.4f}" for share in shares] + [f"{controls.score(measured):.4f}", valid]
    return [label, *numbers, f"{seconds:.1f}", f"{memory / MIB:.0f}"]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="pancreas")
    parser.add_argument("--programs", default="no_denoising,knn,alra,magic,best")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--sandbox", default="best")
    given = parser.parse_args()
    problem = Denoising(DenoisingOptions(dataset=given.dataset))
    try:
        controls = problem.controls
    except EnvironmentLacksError as error:
        print(error, file=sys.stderr)
        return 3
    table = Table(title=f"{given.dataset}: {problem.split.shape[0]} cells, {problem.split.shape[1]} genes")
    for name in (
        "program",
        "MSE",
        "Poisson",
        "textbook",
        "n. MSE",
        "n. Poisson",
        "score",
        "valid",
        "s",
        "MiB",
    ):
        table.add_column(name, justify="left" if name == "program" else "right")
    table.add_row(*row(problem, "perfect denoising (test itself)", controls.perfect_denoising, 0, 0))
    scores: dict[str, float] = {}
    with LocalExecutor(1, given.sandbox) as executor:
        for label, source in variants(given.programs.split(",")).items():
            result, measured = run(problem, executor, source)
            if measured is None:
                table.add_row(label, result.message)
                continue
            scores[label] = controls.score(measured)
            table.add_row(*row(problem, label, measured, result.wall_s, result.peak_memory))
            if given.pictures and label == "best":
                given.pictures.mkdir(parents=True, exist_ok=True)
                svg = umaps(problem.split, np.asarray(result.value, np.float32))
                (given.pictures / f"umap-{pathlib.Path(given.dataset).stem}.svg").write_text(svg)
    Console(width=140).print(table)
    magic = max((score for label, score in scores.items() if label.startswith("magic")), default=None)
    return int(magic is not None and "best" in scores and scores["best"] < magic + BAR)


if __name__ == "__main__":
    sys.exit(main())
