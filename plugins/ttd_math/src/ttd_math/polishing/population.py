"""The search: a pool of good functions, rounds of changes that are optimised all at once, ever more heights.

A round changes functions of the pool in as many ways as the device takes at a time, optimises all, and keeps
the best of old and new. At the end of a stage every height is repeated, which changes no bound, and the next
stage goes on with twice as many. From random functions the first round is one long exploration with noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import torch

from ttd_math.plain import Floats
from ttd_math.polishing import ascent, changes
from ttd_math.polishing.checkpoint import Standing
from ttd_math.polishing.objectives import OBJECTIVES, Objective

#: Powers of smoothing with which functions of the pool are optimised again: each row draws where it begins.
_FIRST_POWERS = (100.0, 300.0, 1000.0, 3000.0)
_LAST_POWER = 1e5
_RUNGS = 5
#: Losses closer than this are one function.
_APART = 1e-6


@attrs.frozen
class Plan:
    """What a search does.

    :param problem: its name.
    :param lengths: numbers of heights, one a stage, each a multiple of the one before.
    :param batch: most functions at a time.
    :param cells: most heights at a time: long functions come in smaller batches.
    :param keep: functions that the pool holds.
    :param iterations: of the optimiser, for each power of smoothing.
    :param explore: iterations of the exploration of random functions.
    :param seconds: for all stages together, each has the same share.
    :param rounds: of each stage, at most; ``None`` for as many as there is time for.
    :param device: where torch computes.
    :param precision: of its floats; scores are in float64 always.
    """

    problem: str
    lengths: tuple[int, ...]
    batch: int
    cells: int
    keep: int
    iterations: int
    explore: int
    seconds: float
    rounds: int | None
    device: torch.device
    precision: torch.dtype

    def batch_at(self, length: int) -> int:
        """Functions at a time for a number of heights."""
        return max(1, min(self.batch, self.cells // length))


class Search:
    """One search, which can be left after any round and gone on with."""

    def __init__(self, plan: Plan, standing: Standing) -> None:
        """Begin, or go on from where one stood.

        :param standing: with functions of ``plan.lengths[standing.stage]`` heights.
        """
        self.plan, self.standing = plan, standing
        self.objective: Objective = OBJECTIVES[plan.problem]()
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = standing.random
        self._before, self._began = standing.seconds, time.monotonic()
        self.kind = ""

    def best(self) -> tuple[float, Floats]:
        """Score and heights of the best function."""
        loss, f = self.standing.pool[0]
        return math.exp(self.objective.sign * loss), f

    def run(self) -> Iterator[bool]:
        """Make rounds until time or their number is used up; tells of each whether it found a better one."""
        while self.standing.stage < len(self.plan.lengths):
            while not self._stage_is_over():
                before = self.standing.pool[0][0]
                self._round()
                self._settle()
                better = self.standing.pool[0][0] < before
                if better or not self.standing.curve:
                    place = (round(self.standing.seconds, 1), self.plan.lengths[self.standing.stage])
                    self.standing.curve.append((*place, self.best()[0]))
                yield better
            if self.standing.stage == len(self.plan.lengths) - 1:
                return
            self._refine()

    def _stage_is_over(self) -> bool:
        if self.plan.rounds is not None and self.standing.rounds >= self.plan.rounds:
            return True
        return self._now() >= self._deadline()

    def _now(self) -> float:
        return self._before + time.monotonic() - self._began

    def _deadline(self) -> float:
        return self.plan.seconds * (self.standing.stage + 1) / len(self.plan.lengths)

    def _settle(self) -> None:
        self.standing.rounds += 1
        self.standing.seconds = self._now()
        self.standing.random = dict(self.rng.bit_generator.state)

    def _refine(self) -> None:
        self.standing.stage, self.standing.rounds = self.standing.stage + 1, 0
        length = self.plan.lengths[self.standing.stage]
        self.standing.pool = [(loss, np.repeat(f, length // f.size)) for loss, f in self.standing.pool]

    def _tensor(self, rows: list[Floats]) -> torch.Tensor:
        return torch.from_numpy(np.stack(rows)).to(self.plan.device, self.plan.precision)

    def _round(self) -> None:
        """Explore random functions, settle what was refined, or change and optimise; then keep the best."""
        length = self.plan.lengths[self.standing.stage]
        batch = self.plan.batch_at(length)
        if self.standing.rounds:
            names, rows = self._changed(batch)
            first = self.rng.choice(_FIRST_POWERS, len(rows))
        else:
            if self.standing.stage == 0 and self.plan.explore:
                fresh = [self.rng.random(length) + 0.1 for _ in range(batch)]
                noise = torch.Generator(self.plan.device).manual_seed(int(self.rng.integers(1 << 62)))
                self._keep(["explore"] * batch, self._optimised(fresh, lambda x: self._explored(x, noise)))
            rows = [f for _, f in self.standing.pool][:batch]
            names, first = ["settle"] * len(rows), np.full(len(rows), _FIRST_POWERS[-1])
        # What is settled was not changed: it is worth more steps than each of many changes.
        iterations = self.plan.iterations * (1 if self.standing.rounds else 4)
        self._keep(names, self._optimised(rows, lambda x: self._converged(x, first, iterations)))

    def _changed(self, batch: int) -> tuple[list[str], list[Floats]]:
        pool = [f for _, f in self.standing.pool]
        names, rows = [], []
        for _ in range(batch):
            f = pool[min(int(self.rng.exponential(2.0)), len(pool) - 1)]
            name, row = changes.changed(f, self.objective.changes, self.rng, pool)
            names.append(name)
            rows.append(row)
        return names, rows

    def _optimised(self, rows: list[Floats], optimise: Callable[[torch.Tensor], ascent.Best]) -> list[Floats]:
        """The rows optimised, as heights."""
        floor = torch.from_numpy(10 ** self.rng.uniform(-7, -4, len(rows)))
        x = self.objective.parameters(self._tensor(rows), floor.to(self.plan.device, self.plan.precision))
        heights = self.objective.heights(optimise(x).parameters)
        return list(heights.to("cpu", torch.float64).numpy())

    def _explored(self, x: torch.Tensor, noise: torch.Generator) -> ascent.Best:
        return ascent.explore(self.objective, x, self.plan.explore, noise, self._stop)

    def _converged(self, x: torch.Tensor, first: Floats, iterations: int) -> ascent.Best:
        rising = [first * (_LAST_POWER / first) ** (rung / (_RUNGS - 1)) for rung in range(_RUNGS)]
        powers = [torch.from_numpy(power).to(self.plan.device, self.plan.precision) for power in rising]
        return ascent.converge(self.objective, x, powers, iterations, self._stop)

    def _stop(self) -> bool:
        return self._now() >= self._deadline()

    def _keep(self, names: list[str], rows: list[Floats]) -> None:
        """The best of the pool and of new functions, each with another loss, in float64."""
        pool = [(loss, "", f) for loss, f in self.standing.pool]
        for name, f in zip(names, rows, strict=True):
            if not np.isfinite(f).all() or f.max() <= 0:
                continue
            f = np.where(f < 1e-9 * f.max(), 0.0, f)
            heights = torch.from_numpy(f).to(self.plan.device)[None]
            loss = float(self.objective.exact(heights)[0])
            if math.isfinite(loss):
                pool.append((loss, name, f))
        kept: list[tuple[float, str, Floats]] = []
        for entry in sorted(pool, key=lambda entry: entry[0]):
            if not kept or entry[0] - kept[-1][0] > _APART:
                kept.append(entry)
        self.kind = kept[0][1] or self.kind
        self.standing.pool = [(loss, f) for loss, _, f in kept[: self.plan.keep]]
