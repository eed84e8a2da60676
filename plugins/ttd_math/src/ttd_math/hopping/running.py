"""From a start to a certificate: the start read, the search made or gone on with, its result proven."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import torch

from ttd_core import certificate, certifying
from ttd_core.certificate import Certificate
from ttd_math import device_failures, improving, search_files
from ttd_math.hopping import checkpoint
from ttd_math.hopping.checkpoint import Standing
from ttd_math.hopping.hops import resampled
from ttd_math.hopping.parts import Parts, memory_of
from ttd_math.hopping.search import Plan, Search, begun
from ttd_math.improving import FROM_RANDOM
from ttd_math.plain import Floats

#: Heights of the first length, when nothing else is asked for.
COARSE = {"ac1": 180, "erdos": 140}
#: Most of the time that may go into keeping where the search stands.
_SAVING = 0.05


@attrs.frozen
class Settings:
    """What was asked for; see ``ttd math hops --help``."""

    problem: str
    start: str
    out: pathlib.Path
    length: int | None = None
    coarse: int | None = None
    cells: int = 1 << 26
    keep: int = 20
    lineages: int = 128
    promoted: int = 48
    seconds: float = 600.0
    time_ratio: float = 0.5
    rounds: int | None = None
    device: str = "cpu"
    seed: int = 0
    resume: bool = False

    @property
    def state_file(self) -> pathlib.Path:
        """Where the search leaves how far it came."""
        return self.out.with_name(f"{self.out.stem}.hops.npz")

    def shared(self, start: Floats) -> dict[str, Any]:
        """What a search must share to go on from where another stood."""
        names = ("problem", "start", "length", "coarse", "keep", "lineages", "promoted", "seed")
        return {name: getattr(self, name) for name in names} | {"heights": int(start.size)}


def hops(settings: Settings, told: Callable[[str], None]) -> tuple[Certificate, list[pathlib.Path]]:
    """Search for a better construction and write its certificate.

    :param told: is given a line after every round.
    :return: the certificate, and the files written.
    :raises UsageError: when something that was asked for cannot be.
    :raises EnvironmentLacksError: when the device fails.
    """
    device = improving.device_of(settings.device)
    coarse = settings.coarse or COARSE[settings.problem]
    parts = Parts(under_way=(1, coarse))
    with device_failures.refused(
        device, lambda: parts.under_way, settings.state_file, "a smaller --cells (it may differ)"
    ):
        return _hops(settings, told, device, coarse, parts)


def _hops(
    settings: Settings, told: Callable[[str], None], device: torch.device, coarse: int, parts: Parts
) -> tuple[Certificate, list[pathlib.Path]]:
    problem = improving.problem_of(settings.problem, settings.length or 0)
    rng = np.random.default_rng(settings.seed)
    given = start = improving.start_of(problem, settings, coarse, rng)
    fresh = settings.start == FROM_RANDOM
    least = improving.least_heights(problem)
    first = coarse if fresh else _coarse(start.size, settings)
    lengths = improving.doubled(first, settings.length, "that the search begins with")
    if settings.length is not None and start.size > lengths[-1]:
        # What has more heights than are asked for is nothing to compare with.
        start = resampled(torch.from_numpy(start.copy())[None], lengths[-1])[0].numpy()
    problem = improving.problem_of(settings.problem, max(lengths[-1], start.size))
    plan = Plan(
        lengths=lengths,
        device=device,
        fresh=fresh,
        time_ratio=settings.time_ratio,
        **{
            name: getattr(settings, name)
            for name in ("problem", "cells", "keep", "lineages", "promoted", "seconds", "rounds")
        },
    )
    device_failures.require_memory(device, memory_of(settings.cells), f"--cells {settings.cells}")
    certificate.make_folder(settings.out)
    search = Search(plan, _standing(settings, plan, start, rng), parts)
    for line in _rounds(search, settings, start):
        told(line)
    f = search.standing.best[1]
    # A height that is repeated is the same function.
    f = np.repeat(f, -(-least // f.size))
    proof = certifying.certify(problem, improving.state_of(problem, f))
    made = improving.made_by(settings, "hops", given, device, search.standing.seconds, search.standing.curve)
    return proof, certificate.write(proof, settings.out, origin=improving.whole_origin(settings, made))


def _coarse(size: int, settings: Settings) -> int:
    """Heights to begin with for a function of a file: as asked for, or a part of its own, near the usual."""
    usual = COARSE[settings.problem]
    return settings.coarse or round(size / 2 ** max(0, round(math.log2(size / usual))))


def _rounds(search: Search, settings: Settings, start: Floats) -> Iterator[str]:
    """Make the rounds, keep on disk where the search stands, and say what came of each."""
    shared = settings.shared(start)
    standing, due = search.standing, 0.0
    for better in search.run():
        before = time.monotonic()
        if before >= due:
            checkpoint.save(settings.state_file, standing, shared)
            after = time.monotonic()
            due = after + (after - before) / _SAVING
        while search.parts.notes:
            yield search.parts.notes.pop(0)
        score, f = standing.best
        yield (
            f"{standing.seconds:8.1f} s  {standing.pools.heights:6} heights  round {standing.rounds:5}  "
            f"{len(standing.attempts):4} lineages  {standing.optimised:9} optimised  {search.leader:.8f}, "
            f"best {score:.10f}{f' with {f.size} heights' if better else ''}"
        )
    checkpoint.save(settings.state_file, standing, shared)


def _standing(settings: Settings, plan: Plan, start: Floats, rng: np.random.Generator) -> Standing:
    """A new one, or where a search stood.

    :raises UsageError: when there is one and nobody asked to go on, or none to go on with.
    """
    if search_files.goes_on(settings.state_file, settings.resume):
        return checkpoint.load(settings.state_file, settings.shared(start), plan.device)
    return begun(plan, start, rng)
