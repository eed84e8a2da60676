"""Every program of `denoising` on real data sets: losses, score, seconds and peak memory.

    python benchmarks/denoising.py [--dataset pancreas] [--programs magic,best] [--pictures DIR]
    python benchmarks/denoising.py --dataset all,more.h5ad --programs published,best

Each program runs in the sandbox, as a rollout does. `all` stands for the data sets of the catalogue; a table
is printed for each, and at the end one of all. Magic runs in both orders of normalisation and with both
solvers. "no denoising" and "perfect denoising" are the control methods between which scores are normalised; a
result is valid when its normalised Poisson loss lies in 0.97 to 1. "published" is the program of
TTT-Discover's authors, fetched from their repository at one commit and held to its SHA-256, or the same file
given by --published. With --pictures the UMAP of the cells before and after our best program is written.

Exits with 1 when our best program breaks the rule, does not beat the best MAGIC-like one by 0.05, or does not
beat the published one where that is valid; with 3 when the data or the published program cannot be had.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import attrs
import numpy as np
from command_line import positive_float, run_benchmark
from rich.console import Console
from rich.table import Table

from ttd_bio.catalogue import CATALOGUE
from ttd_bio.denoising import Denoising, DenoisingOptions, keeps_rule
from ttd_bio.metrics import Losses, losses
from ttd_bio.pictures import umaps
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.fetching import cache_folder, file_sha256
from ttd_core.package_files import package_text
from ttd_core.sandbox.base import MIB, Job, JobResult
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State

#: By how much the score of our best program must exceed that of the best MAGIC-like one.
BAR = 0.05
#: The program of TTT-Discover's authors for this problem (MIT licence), and what it must be.
PUBLISHED_URL = (
    "https://raw.githubusercontent.com/test-time-training/discover/"
    "96df74ffa7c4de04fb0be1c2ac332c7455fb4010/results/denoising/denoise_ttt.py"
)
PUBLISHED_SHA256 = "8b48b1dbf7bba6c23435e554fa70fb7d9f806bbf86c51399157b05ed6e4f17af"
#: The last columns of each table.
SHARES = ("n. MSE", "n. Poisson", "score", "valid", "s", "CPU s", "MiB")


@attrs.frozen
class Measured:
    """What one program reached on one data set.

    :param losses: of its result, even where the rules refuse it; None where there is no result.
    :param mse: normalised.
    :param poisson: normalised.
    :param score: their mean.
    """

    result: JobResult
    losses: Losses | None = None
    mse: float = 0.0
    poisson: float = 0.0
    score: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether there is a result and it keeps the rule of the Poisson loss."""
        return self.losses is not None and keeps_rule(self.poisson)


def published(given: pathlib.Path | None) -> str:
    """Source of the published program.

    :param given: a copy of it; else it is fetched once into the cache.
    :raises EnvironmentLacksError: when it cannot be had, or what came is not it.
    """
    path = given or cache_folder() / "programs" / "denoise_ttt.py"
    if not given and not path.is_file():
        import pooch

        pooch.get_logger().setLevel("WARNING")
        try:
            pooch.retrieve(PUBLISHED_URL, f"sha256:{PUBLISHED_SHA256}", fname=path.name, path=path.parent)
        except (OSError, ValueError) as error:
            raise EnvironmentLacksError(
                f"the published program cannot be fetched ({type(error).__name__}): download {PUBLISHED_URL} "
                "elsewhere and pass its path as --published FILE"
            ) from error
    if not path.is_file() or file_sha256(path) != PUBLISHED_SHA256:
        raise EnvironmentLacksError(f"{path} is not the published program of SHA-256 {PUBLISHED_SHA256}")
    return path.read_text(encoding="utf-8")


def variants(names: list[str], copy: pathlib.Path | None) -> dict[str, str]:
    """Sources by label.

    :param copy: of the published program, if one was given.
    """
    sources = {}
    for name in names:
        if name == "published":
            sources[name] = published(copy)
            continue
        if name != "magic":
            try:
                sources[name] = package_text("ttd_bio", "programs", f"{name}.py")
            except FileNotFoundError as error:
                raise UsageError(f"--programs: there is no program '{name}' in ttd_bio/programs") from error
            continue
        for first in (True, False):
            for approximate in (True, False):
                text = package_text("ttd_bio", "programs", "magic.py")
                text = text.replace("SQRT_FIRST = True", f"SQRT_FIRST = {first}")
                text = text.replace("APPROXIMATE = True", f"APPROXIMATE = {approximate}")
                order = "square root first" if first else "library first"
                sources[f"magic, {order}, {'approximate' if approximate else 'exact'}"] = text
    return sources


def run(problem: Denoising, executor: LocalExecutor, source: str) -> Measured:
    """The job of one program and the losses of its result."""
    seen: list[JobResult] = []

    def execute(job: Job) -> JobResult:
        seen.append(executor.run(job))
        return attrs.evolve(seen[-1])

    problem.transition(State(), Action(source), execute)
    if not seen[-1].ok:
        return Measured(seen[-1])
    measured = losses(seen[-1].value, problem.split.train, problem.split.test)
    mse = problem.controls.normalised("mse", measured.mse)
    poisson = problem.controls.normalised("poisson", measured.poisson)
    return Measured(seen[-1], measured, mse, poisson, problem.controls.score(measured))


def table_of(title: str, columns: tuple[str, ...], left: int) -> Table:
    """An empty table.

    :param left: number of columns, from the first, that hold words.
    """
    table = Table(title=title)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right")
    return table


def numbers(measured: Losses, mse: float, poisson: float, score: float) -> list[str]:
    """The losses and what they are worth, as a table shows them."""
    plain = (measured.mse, measured.poisson, measured.poisson_textbook, mse, poisson, score)
    return [f"{number:.4f}" for number in plain]


def cost(result: JobResult) -> list[str]:
    """Wall seconds, processor seconds and peak memory in MiB, as a table shows them."""
    return [f"{result.wall_s:.1f}", f"{result.cpu_s:.1f}", f"{result.peak_memory / MIB:.0f}"]


def measure(name: str, sources: dict[str, str], given: argparse.Namespace) -> dict[str, Measured]:
    """Run the programs on one data set, and print its table.

    :raises EnvironmentLacksError: when the data cannot be had.
    """
    problem = Denoising(DenoisingOptions(dataset=name, timeout_s=given.timeout))
    perfect = problem.controls.perfect_denoising
    cells, genes = problem.split.shape
    columns = (
        "program",
        "MSE",
        "Poisson",
        "textbook",
        "n. MSE",
        "n. Poisson",
        "score",
        "valid",
        "s",
        "CPU s",
    )
    title = f"{name}: {cells} cells, {genes} genes"
    table = table_of(title, (*columns, "MiB"), 1)
    table.add_row("perfect denoising (test itself)", *numbers(perfect, 1.0, 1.0, 1.0), "yes")
    reached = {}
    with LocalExecutor(1, given.sandbox) as executor:
        for label, source in sources.items():
            reached[label] = one = run(problem, executor, source)
            if one.losses is None:
                table.add_row(label, one.result.message)
                continue
            shown = numbers(one.losses, one.mse, one.poisson, one.score)
            table.add_row(label, *shown, "yes" if one.valid else "no", *cost(one.result))
            if given.pictures and label == "best":
                given.pictures.mkdir(parents=True, exist_ok=True)
                svg = umaps(problem.split, np.asarray(one.result.value, np.float32))
                (given.pictures / f"umap-{pathlib.Path(name).stem}.svg").write_text(svg)
            # Denoised counts are as large as the data.
            reached[label] = attrs.evolve(one, result=attrs.evolve(one.result, value=None))
    Console(width=150).print(table)
    return reached


def summary(reached: dict[str, dict[str, Measured]]) -> Table:
    """All data sets and programs in one table."""
    table = table_of("all data sets", ("data set", "program", *SHARES), 2)
    for name, programs in reached.items():
        for label, one in programs.items():
            if one.losses is None:
                table.add_row(name, label, one.result.message)
                continue
            shown = [f"{number:.4f}" for number in (one.mse, one.poisson, one.score)]
            table.add_row(name, label, *shown, "yes" if one.valid else "no", *cost(one.result))
    return table


def falls_short(programs: dict[str, Measured]) -> bool:
    """Whether our best program breaks the rule, or is not ahead of the others as it must be."""
    best = programs.get("best")
    if best is None:
        return False
    magic = [one.score for label, one in programs.items() if label.startswith("magic") and one.losses]
    other = programs.get("published")
    behind = other is not None and other.valid and best.score <= other.score
    return not best.valid or behind or best.score < max(magic, default=-np.inf) + BAR


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="pancreas", help="names and files with commas between, or all")
    parser.add_argument("--programs", default="no_denoising,knn,alra,magic,best")
    parser.add_argument("--published", type=pathlib.Path, help="a copy of the published program")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument(
        "--timeout", type=positive_float, default=400.0, help="wall seconds of each, on a busy machine"
    )
    parser.add_argument("--sandbox", default="best")
    given = parser.parse_args()
    names = [name for part in given.dataset.split(",") for name in (CATALOGUE if part == "all" else [part])]
    reached: dict[str, dict[str, Measured]] = {}
    try:
        sources = variants(given.programs.split(","), given.published)
        for name in names:
            reached[name] = measure(name, sources, given)
    except (EnvironmentLacksError, UsageError) as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if len(names) > 1:
        Console(width=150).print(summary(reached))
    return int(any(falls_short(programs) for programs in reached.values()))


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
