"""The search: many lineages of hops from random starts, of which the best go on with ever more heights.

A round makes some hops of every lineage at once. How far a lineage gets by hops depends on where it began
more than on their number, so lineages are compared with all others after as many attempts, twice as many
each time: those in the worse half make room for new ones (asynchronous successive halving). One that no
longer gets better is put by. The score at few heights ranks shapes only roughly, so that many go on with
twice as many heights, are optimised and compared anew, and fall out one by one.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator

import attrs
import numpy as np
import torch
from torch import Tensor

from ttd_math.hopping.checkpoint import Standing
from ttd_math.hopping.hops import MOVES, Draws, Moves, resampled
from ttd_math.hopping.interior import Aims, optimise
from ttd_math.hopping.minimax import MINIMAX, Minimax
from ttd_math.hopping.parts import Parts, cells_of
from ttd_math.hopping.pools import Pools
from ttd_math.plain import Floats

#: Newton steps of one optimisation, at most; of one with more heights than before; of the last one of all.
_STEPS, _RAISED_STEPS, _LAST_STEPS = 80, 120, 200
#: Hops end when no more than one in so many is under way: a GPU takes nearly as long for few as for many.
_LEFT = 32
#: Random starts of a lineage before its first hop.
_STARTS = 32
#: Attempts after which lineages are compared for the first time; then after twice as many, and so on.
_FIRST_TEST = 128
#: Attempts without a better function after which a lineage is put by.
_PATIENCE = 800
#: When so much of the first length's time is spent, no lineage is begun any more.
_LAST_START = 0.7
#: Functions of each lineage that are optimised with more heights.
_RAISED = 3
#: One in so many lineages is left at the end of each length after the first.
_FEWER = 4


@attrs.frozen
class Plan:
    """What a search does.

    :param problem: its name.
    :param lengths: numbers of heights, one a stage.
    :param cells: most values that the largest matrices of a batch hold together.
    :param keep: functions that a lineage holds.
    :param lineages: how many are under way at the first length.
    :param promoted: how many go on with the second.
    :param fresh: whether lineages begin at random.
    :param seconds: for all stages together.
    :param rounds: of each stage, at most; ``None`` for as many as there is time for.
    :param device: where torch computes.
    :param time_ratio: the time of a stage as a share of that of the one before.
    """

    problem: str
    lengths: tuple[int, ...]
    cells: int
    keep: int
    lineages: int
    promoted: int
    fresh: bool
    seconds: float
    rounds: int | None
    device: torch.device
    time_ratio: float = 0.5

    def batch_at(self, length: int) -> int:
        """Functions at a time for a number of heights."""
        return max(1, self.cells // cells_of(length))

    def deadline(self, stage: int) -> float:
        """Seconds after which a stage ends."""
        shares = [self.time_ratio**length for length in range(len(self.lengths))]
        return self.seconds * sum(shares[: stage + 1]) / sum(shares)

    def lineages_at(self, stage: int, done: float) -> int:
        """How many lineages are under way.

        :param done: share of the stage that is over.
        """
        first = self.lineages if stage == 0 else max(1, self.promoted // _FEWER ** (stage - 1))
        last = self.promoted if stage == 0 else max(1, self.promoted // _FEWER**stage)
        left: float = first ** (1 - done) * min(first, last) ** done
        return round(left)


class Search:
    """One search, which can be left after any round and gone on with."""

    def __init__(self, plan: Plan, standing: Standing, parts: Parts | None = None) -> None:
        """Begin, or go on from where one stood.

        :param standing: with functions of ``plan.lengths[standing.stage]`` heights.
        :param parts: in which batches are taken through their steps.
        """
        self.plan, self.standing, self.parts = plan, standing, parts or Parts()
        self.minimax: Minimax = MINIMAX[plan.problem]()
        self.moves: Moves = MOVES[plan.problem]()
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = standing.random
        self._before, self._began = standing.seconds, time.monotonic()
        #: The best score of the lineages under way, which may be worse than that of another length.
        self.leader = standing.best[0]

    def run(self) -> Iterator[bool]:
        """Make rounds until time or their number is used up; tells of each whether it found a better one."""
        while True:
            while not self._stage_is_over():
                before = self.standing.best[0]
                self._round()
                yield self._settled(before)
            if self.standing.stage == len(self.plan.lengths) - 1:
                break
            self._lengthen()
        before = self.standing.best[0]
        self._finish()
        yield self._settled(before)

    def _settled(self, before: float) -> bool:
        """Note where the search stands; whether its best is better than it was."""
        standing = self.standing
        standing.rounds, standing.seconds = standing.rounds + 1, self._now()
        standing.random = dict(self.rng.bit_generator.state)
        better = standing.best[0] < before
        if better or not standing.curve:
            standing.curve.append((round(standing.seconds, 1), standing.best[1].size, standing.best[0]))
        return better

    def _stage_is_over(self) -> bool:
        if self.plan.rounds is not None and self.standing.rounds >= self.plan.rounds:
            return True
        return self._now() >= self.plan.deadline(self.standing.stage)

    def _now(self) -> float:
        return self._before + time.monotonic() - self._began

    def _done(self) -> float:
        """The share of this stage that is over: of its rounds, where they are counted, else of its time."""
        if self.plan.rounds is not None:
            return min((self.standing.rounds + 1) / self.plan.rounds, 1.0)
        stage = self.standing.stage
        began = self.plan.deadline(stage - 1) if stage else 0.0
        return min(max((self._now() - began) / (self.plan.deadline(stage) - began), 0.0), 1.0)

    def _draws(self, count: int) -> Draws:
        noise = torch.Generator(self.plan.device).manual_seed(int(self.rng.integers(1 << 62)))
        return Draws(count, noise)

    def _round(self) -> None:
        """Attempts of every lineage; then those that go on."""
        length = self.standing.pools.heights
        self.parts.under_way = self.plan.batch_at(length), length
        if self.standing.rounds == 0 and (self.standing.stage or not self.plan.fresh):
            self._raise()
        else:
            self._hop()
        scores = self._remember()
        if self.standing.stage == 0 and self.plan.fresh:
            self._replace(scores)
        else:
            most = self.plan.lineages_at(self.standing.stage, self._done())
            self._go_on_with(sorted(range(len(scores)), key=scores.__getitem__)[:most])

    def _remember(self) -> list[float]:
        """The best scores of all lineages, one look at the device; the best function of all is kept."""
        scores: list[float] = self.standing.pools.scores[:, 0].tolist()
        leader = min(range(len(scores)), key=scores.__getitem__)
        self.leader = scores[leader]
        if self.leader < self.standing.best[0]:
            self.standing.best = self.leader, self.standing.pools.f[leader, 0].cpu().numpy()
        return scores

    def _hop(self) -> None:
        """Random starts of young lineages, hops of the others."""
        pools, moves, n = self.standing.pools, self.moves, self.standing.pools.heights
        lineages = len(self.standing.attempts)
        each = max(1, self.plan.batch_at(n) // lineages)
        device = self.plan.device
        owners = torch.arange(lineages, device=device).repeat_interleave(each)
        draws = self._draws(lineages * each)
        parent, other = pools.parents(owners, draws)
        empty = [self.plan.fresh and attempts < _STARTS for attempts in self.standing.attempts]
        starts = torch.tensor(empty, device=device)[owners]
        f = torch.where(starts[:, None], moves.start(n, draws), moves.change(parent, other, draws))
        first, later = (10.0 ** draws.uniform(*powers) for powers in (moves.start_soft, moves.hop_soft))
        bar = pools.bars(owners, moves.slack)
        best = pools.scores[:, 0][owners]
        aims = Aims.of(
            f[:, 0],
            soft=torch.where(starts, first[:, 0], later[:, 0]),
            end=torch.where(starts, moves.start_end, moves.hop_end),
            bar=torch.where(starts, torch.inf, bar),
            fine=moves.fine,
            aim=torch.where(torch.isfinite(best), best + self.minimax.apart / 2, -torch.inf),
        )
        before = pools.scores[:, 0].clone()
        self._take(f, aims, each, _STEPS, _LEFT)
        # A lineage whose best is but a little better counts as idle.
        better = (pools.scores[:, 0] < before - self.minimax.apart / 2).tolist()
        self.standing.attempts = [attempts + each for attempts in self.standing.attempts]
        self.standing.idle = [
            0 if new else idle + each for new, idle in zip(better, self.standing.idle, strict=True)
        ]

    def _raise(self) -> None:
        """Optimise what was resampled to this length: its scores at another length no longer count."""
        pools = self.standing.pools
        each = min(_RAISED, self.plan.keep)
        held = torch.isfinite(pools.scores[:, :each])
        f = pools.f[:, :each].flatten(0, 1)
        aims = Aims.of(f[:, 0], soft=self.moves.raised_soft, end=self.moves.fine)
        # A lineage that holds fewer functions: its best again, with another change each.
        draws = self._draws(len(f))
        first = pools.f[:, :1].expand(-1, each, -1).flatten(0, 1)
        f = torch.where(held.flatten()[:, None], f, self.moves.change(first, first, draws))
        pools.forget(list(range(len(self.standing.attempts))))
        self._take(f, aims, each, _RAISED_STEPS)

    def _take(self, f: Tensor, aims: Aims, each: int, steps: int, share: int | None = None) -> None:
        """Optimise functions, ``each`` of every lineage in turn, and keep the best.

        :param steps: of Newton, at most.
        :param share: the last of them are judged as they are when no more than one in so many is under way.
        """
        batch = self.plan.batch_at(self.standing.pools.heights)
        found, scores = [], []
        for first in range(0, len(f), batch):
            rows = slice(first, first + batch)
            left = len(f[rows]) // share if share else 0
            optima, reached, _ = optimise(
                self.minimax, f[rows], aims.only(rows), steps, self._stop, left, self.parts
            )
            found.append(optima)
            scores.append(reached)
        self.standing.optimised += len(f)
        pools, bounds = self.standing.pools, torch.cat(scores).reshape(-1, each)
        pools.take(torch.cat(found).reshape(*bounds.shape, -1), bounds, self.minimax.apart)

    def _stop(self) -> bool:
        return self._now() >= self.plan.deadline(self.standing.stage)

    def _replace(self, scores: list[float]) -> None:
        """Put lineages by that are idle, drop those that fail a test, and begin others in their place."""
        standing = self.standing
        idle = [row for row, count in enumerate(standing.idle) if count >= _PATIENCE]
        if idle:
            together = standing.retired.joined(standing.pools.only(idle))
            order = together.scores[:, 0].argsort()[: self.plan.promoted].tolist()
            standing.retired = together.only(order)
        gone = set(idle) | {row for row, score in enumerate(scores) if not self._passes(row, score)}
        done = self._done()
        if done <= _LAST_START:
            standing.pools.forget(sorted(gone))
            for row in gone:
                standing.attempts[row] = standing.idle[row] = 0
            return
        # What is under way must not become fewer than what goes on, and its best stays.
        order = sorted(range(len(scores)), key=scores.__getitem__)
        least = self.plan.lineages_at(0, 1.0)
        self._go_on_with([row for place, row in enumerate(order) if place < least or row not in gone])

    def _passes(self, row: int, score: float) -> bool:
        """Whether a lineage is in the better half of all that came to the test that it came to, if it did."""
        attempts, tests = self.standing.attempts[row], self.standing.tests
        each = max(1, self.plan.batch_at(self.standing.pools.heights) // len(self.standing.attempts))
        number = int(np.log2(max(1.0, attempts / _FIRST_TEST)))
        due = _FIRST_TEST << number
        if not attempts - each < due <= attempts:
            return True
        tests.extend([] for _ in range(number + 1 - len(tests)))
        place = bisect.bisect_left(tests[number], score)
        bisect.insort(tests[number], score)
        return place < (len(tests[number]) + 1) // 2

    def _go_on_with(self, rows: list[int]) -> None:
        standing = self.standing
        standing.pools = standing.pools.only(rows)
        standing.attempts = [standing.attempts[row] for row in rows]
        standing.idle = [standing.idle[row] for row in rows]

    def _lengthen(self) -> None:
        """The best lineages with more heights."""
        standing = self.standing
        standing.stage, standing.rounds = standing.stage + 1, 0
        pools = standing.pools.joined(standing.retired)
        scores: list[float] = pools.scores[:, 0].tolist()
        most = self.plan.lineages_at(standing.stage, 0.0)
        order = sorted(range(len(scores)), key=scores.__getitem__)
        found = [row for row in order if np.isfinite(scores[row])]
        pools = pools.only(found[:most] or order[:1])
        n = self.plan.lengths[standing.stage]
        self.parts.under_way = len(pools.f), n
        longer = resampled(pools.f.flatten(0, 1), n).reshape(*pools.f.shape[:2], n)
        standing.pools = Pools(longer, pools.scores)
        standing.attempts, standing.idle = [_STARTS] * len(longer), [0] * len(longer)
        standing.retired = standing.pools.only([])

    def _finish(self) -> None:
        """Optimise the best of all to the end."""
        f = torch.from_numpy(self.standing.best[1]).to(self.plan.device)[None]
        aims = Aims.of(f[:, 0], soft=self.moves.fine, end=self.moves.fine / 1000)
        found, scores, _ = optimise(self.minimax, f, aims, _LAST_STEPS, parts=self.parts)
        score = float(scores[0])
        if score < self.standing.best[0]:
            self.standing.best = score, found[0].cpu().numpy()


def begun(plan: Plan, start: Floats, rng: np.random.Generator) -> Standing:
    """Where a search stands before its first round.

    :param start: heights; where lineages begin at random, only what a result must beat.
    """
    minimax = MINIMAX[plan.problem]()
    f = torch.from_numpy(np.array(start)).to(plan.device)[None]
    best = float(minimax.scores(minimax.finished(f))[0])
    pools = Pools.empty(plan.lineages, plan.keep, plan.lengths[0], plan.device)
    if not plan.fresh:
        pools.f[:, 0] = resampled(f, plan.lengths[0])
        pools.scores[:, 0] = 0.0
    none = [0] * plan.lineages
    attempts = none if plan.fresh else [_STARTS] * plan.lineages
    return Standing(
        pools=pools,
        attempts=list(attempts),
        idle=list(none),
        retired=pools.only([]),
        tests=[],
        best=(best, minimax.finished(f)[0].cpu().numpy()),
        random=dict(rng.bit_generator.state),
    )
