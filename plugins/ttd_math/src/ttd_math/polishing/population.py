"""The search: a pool of good functions, rounds of changes that are optimised all at once, ever more heights.

A round changes functions of the pool in as many ways as the device takes at a time, optimises all, and keeps
the best of old and new. At the end of a stage every height is repeated, which changes no bound, and the next
stage goes on with twice as many.

From random functions the first round is one long exploration with noise. How far a function gets by changes
depends on where it began more than on the changes, so the best of what was explored become lineages, each
with a pool of its own. They share the batch, and ever fewer of them go on: at the end of the first stage one.

From combs every round of the first stage anneals new ones. The best of all, as many as there are lineages,
are settled at twice the length; a quarter of them goes on from each stage to the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import attrs
import numpy as np
import torch

from ttd_math import combs
from ttd_math.plain import Floats
from ttd_math.polishing import ascent, changes
from ttd_math.polishing.checkpoint import Standing
from ttd_math.polishing.objectives import OBJECTIVES, Objective

#: Powers of smoothing with which functions of the pool are optimised again: each row draws where it begins.
_FIRST_POWERS = (100.0, 300.0, 1000.0, 3000.0)
_LAST_POWER = 1e5
_RUNGS = 5
#: Powers under which combs are annealed, one after the other, up to the last power.
_COMB_RUNGS = 8
#: Losses closer than this are one function.
_APART = 1e-6


@attrs.frozen
class Plan:
    """What a search does.

    :param problem: its name.
    :param lengths: numbers of heights, one a stage, each a multiple of the one before.
    :param batch: most functions at a time.
    :param cells: most heights at a time: long functions come in smaller batches.
    :param keep: functions that a lineage holds.
    :param lineages: how many there are at first.
    :param iterations: of the optimiser, for each power of smoothing.
    :param combs: whether the first stage anneals combs rather than changing functions.
    :param explore: iterations of the exploration of random functions, or of the annealing of combs.
    :param seconds: for all stages together; the first has half after an exploration, else all the same.
    :param rounds: of each stage, at most; ``None`` for as many as there is time for.
    :param device: where torch computes.
    :param precision: of its floats; scores are in float64 always.
    """

    problem: str
    lengths: tuple[int, ...]
    batch: int
    cells: int
    keep: int
    lineages: int
    iterations: int
    combs: bool
    explore: int
    seconds: float
    rounds: int | None
    device: torch.device
    precision: torch.dtype

    def batch_at(self, length: int) -> int:
        """Functions at a time for a number of heights."""
        return max(1, min(self.batch, self.cells // length))

    def deadline(self, stage: int) -> float:
        """Seconds after which a stage ends."""
        last = len(self.lengths) - 1
        if not self.explore or not last:
            return self.seconds * (stage + 1) / (last + 1)
        return self.seconds * (0.5 + 0.5 * stage / last)


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
        loss, f = self.standing.lineages[0][0]
        return math.exp(self.objective.sign * loss), f

    def at_a_time(self) -> tuple[int, int]:
        """How many functions are optimised together at most, and their heights."""
        length = self.plan.lengths[self.standing.stage]
        return max(self.plan.batch_at(length), len(self.standing.lineages)), length

    def run(self) -> Iterator[bool]:
        """Make rounds until time or their number is used up; tells of each whether it found a better one."""
        while self.standing.stage < len(self.plan.lengths):
            while not self._stage_is_over():
                before = self.standing.lineages[0][0][0]
                self._round()
                self._settle()
                better = self.standing.lineages[0][0][0] < before
                if better or not self.standing.curve:
                    place = (round(self.standing.seconds, 1), self.plan.lengths[self.standing.stage])
                    self.standing.curve.append((*place, self.best()[0]))
                yield better
            if self.standing.stage == len(self.plan.lengths) - 1:
                return
            self._refine()

    def _stage_is_over(self) -> bool:
        rounds = self.standing.rounds
        if self.plan.rounds is not None and rounds >= self.plan.rounds:
            return True
        # Combs of which the annealing is cut short are worth nothing: such a round is not begun.
        another = self._now() / rounds if rounds and self._makes_combs() else 0.0
        return self._now() + another >= self._deadline()

    def _makes_combs(self) -> bool:
        return self.plan.combs and self.standing.stage == 0

    def _now(self) -> float:
        return self._before + time.monotonic() - self._began

    def _deadline(self) -> float:
        return self.plan.deadline(self.standing.stage)

    def _alive(self) -> int:
        """How many lineages go on: ever fewer in the first stage, then one; of combs a quarter a stage."""
        if self.plan.combs:
            return max(1, self.plan.lineages >> 2 * self.standing.stage)
        if self.standing.stage:
            return 1
        done = self._now() / self._deadline()
        if self.plan.rounds is not None:
            done = max(done, self.standing.rounds / self.plan.rounds)
        left: float = self.plan.lineages ** (1 - min(done, 1.0))
        return max(1, round(left))

    def _settle(self) -> None:
        self.standing.rounds += 1
        self.standing.seconds = self._now()
        self.standing.random = dict(self.rng.bit_generator.state)

    def _refine(self) -> None:
        self.standing.stage, self.standing.rounds = self.standing.stage + 1, 0
        times = self.plan.lengths[self.standing.stage] // self.best()[1].size
        self.standing.lineages = [
            [(loss, np.repeat(f, times)) for loss, f in pool] for pool in self.standing.lineages
        ]

    def _tensor(self, values: Floats) -> torch.Tensor:
        """On the plan's device, in its precision."""
        return torch.from_numpy(values).to(self.plan.device, self.plan.precision)

    def _round(self) -> None:
        """Explore random functions, settle what was refined, or change and optimise; then keep the best."""
        length = self.plan.lengths[self.standing.stage]
        batch = self.plan.batch_at(length)
        if self._makes_combs():
            self._anneal(length, batch)
            return
        if self.standing.rounds:
            self._change(batch)
            return
        if self.standing.stage == 0 and self.plan.explore:
            self._explore(length, batch)
        heads = [pool[0][1] for pool in self.standing.lineages][:batch]
        # What is settled was not changed: it is worth more steps than each of many changes.
        first = np.full(len(heads), _FIRST_POWERS[-1])
        found = self._optimised(heads, lambda x: self._converged(x, first, 4 * self.plan.iterations))
        self._keep(list(range(len(heads))), ["settle"] * len(heads), found)

    def _explore(self, length: int, batch: int) -> None:
        """Make lineages of the best that an exploration of random functions finds."""
        fresh = [self.rng.random(length) + 0.1 for _ in range(batch)]
        noise = torch.Generator(self.plan.device).manual_seed(int(self.rng.integers(1 << 62)))
        found = self._optimised(
            fresh, lambda x: ascent.explore(self.objective, x, self.plan.explore, noise, self._stop)
        )
        self.standing.lineages += [[] for _ in found]
        self._keep([1 + row for row in range(len(found))], ["explore"] * len(found), found)

    def _anneal(self, length: int, batch: int) -> None:
        """Anneal new combs; the best of these and of the lineages before are the lineages."""
        drawn = combs.drawn(batch, [comb for _, comb in self.standing.combs], self.rng)
        fresh = [combs.heights(comb, length, self.rng) for comb in drawn]
        first = np.array([comb.power for comb in drawn])
        rising = [self._tensor(power) for power in _rising(first, _COMB_RUNGS)]
        each = max(1, self.plan.explore // _COMB_RUNGS)
        left: list[int] = []

        def annealed(x: torch.Tensor) -> ascent.Best:
            rows, best = ascent.anneal(self.objective, x, rising, each, self.plan.lineages, self._stop)
            left.extend(rows.tolist())
            return best

        found = self._optimised(fresh, annealed)
        sound = [
            (loss, drawn[row]) for row, (loss, _) in zip(left, found, strict=True) if math.isfinite(loss)
        ]
        known = sorted(self.standing.combs + sound, key=lambda entry: entry[0])
        self.standing.combs = known[: combs.REMEMBERED]
        before = len(self.standing.lineages)
        self.standing.lineages += [[] for _ in found]
        self._keep([before + row for row in range(len(found))], ["comb"] * len(found), found)

    def _change(self, batch: int) -> None:
        """Change functions of every lineage, optimise all, and keep the best of each."""
        owners, names, rows = [], [], []
        for row in range(max(batch, len(self.standing.lineages))):
            owner = row % len(self.standing.lineages)
            pool = [f for _, f in self.standing.lineages[owner]]
            f = pool[min(int(self.rng.exponential(2.0)), len(pool) - 1)]
            name, new = changes.changed(f, self.objective.changes, self.rng, pool)
            owners.append(owner)
            names.append(name)
            rows.append(new)
        first = self.rng.choice(_FIRST_POWERS, len(rows))
        found = self._optimised(rows, lambda x: self._converged(x, first, self.plan.iterations))
        self._keep(owners, names, found)

    def _optimised(
        self, rows: list[Floats], optimise: Callable[[torch.Tensor], ascent.Best]
    ) -> list[tuple[float, Floats]]:
        """The rows optimised, as heights with their losses in float64; infinite where they are no numbers."""
        floor = 10 ** self.rng.uniform(-7, -4, len(rows))
        x = self.objective.parameters(self._tensor(np.stack(rows)), self._tensor(floor))
        heights = self.objective.heights(optimise(x).parameters).double()
        heights = torch.where(heights < 1e-9 * heights.amax(-1, keepdim=True), 0.0, heights)
        losses = self.objective.exact(heights).nan_to_num(nan=math.inf)
        return list(zip(losses.tolist(), heights.cpu().numpy(), strict=True))

    def _converged(self, x: torch.Tensor, first: Floats, iterations: int) -> ascent.Best:
        powers = [self._tensor(power) for power in _rising(first, _RUNGS)]
        return ascent.converge(self.objective, x, powers, iterations, self._stop)

    def _stop(self) -> bool:
        return self._now() >= self._deadline()

    def _keep(self, owners: list[int], names: list[str], found: list[tuple[float, Floats]]) -> None:
        """The best of every lineage and of what came of it; then the lineages that go on, best first."""
        pools = [[(loss, "", f) for loss, f in pool] for pool in self.standing.lineages]
        for owner, name, (loss, f) in zip(owners, names, found, strict=True):
            if math.isfinite(loss):
                pools[owner].append((loss, name, f))
        ranked = sorted((self._distinct(pool) for pool in pools if pool), key=lambda pool: pool[0][0])
        self.kind = ranked[0][0][1] or self.kind
        self.standing.lineages = [[(loss, f) for loss, _, f in pool] for pool in ranked[: self._alive()]]

    def _distinct(self, pool: list[tuple[float, str, Floats]]) -> list[tuple[float, str, Floats]]:
        """The best functions of a pool, each with another loss."""
        kept: list[tuple[float, str, Floats]] = []
        for entry in sorted(pool, key=lambda entry: entry[0]):
            if not kept or entry[0] - kept[-1][0] > _APART:
                kept.append(entry)
        return kept[: self.plan.keep]


def _rising(first: Floats, rungs: int) -> list[Floats]:
    """Powers from the first of each row to the last of all, evenly in the logarithm: [B] each."""
    return [first * (_LAST_POWER / first) ** (rung / (rungs - 1)) for rung in range(rungs)]
