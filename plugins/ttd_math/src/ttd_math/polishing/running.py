"""From a start to a certificate: the start read, the search made or gone on with, its result proven."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import torch

from ttd_core import certificate, certifying
from ttd_core.certificate import Certificate
from ttd_math import device_failures, improving, search_files
from ttd_math.base import StepProblem
from ttd_math.improving import FROM_COMB, FROM_RANDOM
from ttd_math.plain import Floats
from ttd_math.polishing import checkpoint
from ttd_math.polishing.checkpoint import Standing
from ttd_math.polishing.objectives import OBJECTIVES
from ttd_math.polishing.population import Plan, Search

#: Of a height: its value, its gradient, the step and the noise, in the shorter of the two precisions.
_LEAST_BYTES = 16


@attrs.frozen
class Settings:
    """What was asked for; see ``ttd math polish --help``."""

    problem: str
    start: str
    out: pathlib.Path
    length: int | None = None
    coarse: int = 1000
    batch: int = 64
    cells: int = 1 << 22
    keep: int = 8
    lineages: int = 16
    iterations: int = 100
    explore: int = 20_000
    seconds: float = 600.0
    rounds: int | None = None
    device: str = "cpu"
    precision: str = "float64"
    seed: int = 0
    resume: bool = False

    @property
    def state_file(self) -> pathlib.Path:
        """Where the search leaves how far it came."""
        return self.out.with_name(f"{self.out.stem}.polish.npz")

    def shared(self, start: Floats) -> dict[str, Any]:
        """What a search must share to go on from where another stood."""
        names = ("problem", "start", "length", "coarse", "keep", "lineages", "seed")
        return {name: getattr(self, name) for name in names} | {"heights": int(start.size)}


def polish(settings: Settings, told: Callable[[str], None]) -> tuple[Certificate, list[pathlib.Path]]:
    """Improve a construction and write its certificate.

    :param told: is given a line after every round.
    :return: the certificate, and the files written.
    :raises UsageError: when something that was asked for cannot be.
    :raises EnvironmentLacksError: when the device fails.
    """
    device = improving.device_of(settings.device)

    def refused(sizes: Callable[[], tuple[int, int]]) -> contextlib.AbstractContextManager[None]:
        fewer = "a smaller --batch or --cells (they may differ)"
        return device_failures.refused(device, sizes, settings.state_file, fewer)

    with refused(lambda: (1, settings.length or settings.coarse)):
        problem, given, start, search = _begin(settings, device)
    with refused(search.at_a_time):
        for line in _rounds(search, settings, start):
            told(line)
        proof = certifying.certify(problem, improving.state_of(problem, search.best()[1]))
        standing = search.standing
        made = improving.made_by(settings, "polish", given, device, standing.seconds, standing.curve)
        return proof, certificate.write(proof, settings.out, origin=improving.whole_origin(settings, made))


def _begin(settings: Settings, device: torch.device) -> tuple[StepProblem, Floats, Floats, Search]:
    """The problem, the heights that were given, those that the search begins with, and the search."""
    problem = improving.problem_of(settings.problem, settings.length or 0)
    rng = np.random.default_rng(settings.seed)
    given = improving.start_of(problem, settings, settings.coarse, rng)
    start = improving.halved(given, settings.length)
    lengths = improving.doubled(start.size, settings.length, "of the start")
    problem = improving.problem_of(settings.problem, lengths[-1])
    improving.require_length(problem, lengths[-1])
    plan = Plan(
        lengths=lengths,
        device=device,
        precision={"float32": torch.float32, "float64": torch.float64}[settings.precision],
        combs=settings.start == FROM_COMB,
        explore=settings.explore if settings.start in (FROM_RANDOM, FROM_COMB) else 0,
        **{
            name: getattr(settings, name)
            for name in ("problem", "batch", "cells", "keep", "lineages", "iterations", "seconds", "rounds")
        },
    )
    asked = f"--batch {settings.batch} and --cells {settings.cells}"
    device_failures.require_memory(device, plan.batch_at(lengths[-1]) * lengths[-1] * _LEAST_BYTES, asked)
    certificate.make_folder(settings.out)
    return problem, given, start, Search(plan, _standing(settings, start, rng))


def _rounds(search: Search, settings: Settings, start: Floats) -> Iterator[str]:
    """Make the rounds, keep each on disk, and say what came of it."""
    shared = settings.shared(start)
    for better in search.run():
        checkpoint.save(settings.state_file, search.standing, shared)
        score, f = search.best()
        standing = search.standing
        yield (
            f"{standing.seconds:8.1f} s  {f.size:8} heights  round {standing.rounds:5}  {score:.10f}"
            f"{f'  {search.kind}' if better else ''}"
        )


def _standing(settings: Settings, start: Floats, rng: np.random.Generator) -> Standing:
    """A new one, or where a search stood.

    :raises UsageError: when there is one and nobody asked to go on, or none to go on with.
    """
    if search_files.goes_on(settings.state_file, settings.resume):
        return checkpoint.load(settings.state_file, settings.shared(start))
    objective = OBJECTIVES[settings.problem]()
    loss = float(objective.exact(torch.from_numpy(start.copy())[None])[0])
    return Standing([[(loss, start)]], 0, 0, 0.0, dict(rng.bit_generator.state), [])
