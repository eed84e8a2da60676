"""A run's steps by events: when each reply is complete, each program over, and the GPU free.

`benchmarks/scale.py` prints tables with it; `tests/integration/test_scale.py` holds it to closed forms and to
a run. Two kinds of devices: one GPU, which samples and learns in an order that the schedule sets, and slots
in which programs run, in the order in which their replies were complete. Nothing is averaged.
"""

from __future__ import annotations

import collections
import functools
import heapq
import itertools
import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Tokens that every reply grows by between two looks of the engine.
CHUNK = 32


@attrs.frozen
class Sampler:
    """The time of one decoding step: what is moved and computed for the replies that are decoded at once.

    :param step_s: seconds whatever is decoded: weights, small kernels.
    :param row_s: seconds for each reply.
    :param token_s: seconds for each token whose keys and values are read.
    :param room: tokens whose keys and values the device holds; shorter replies wait where it is full.
    :param rows: most replies at once.
    """

    step_s: float
    row_s: float = 0.0
    token_s: float = 0.0
    room: float = math.inf
    rows: int = 512

    def ends(self, lengths: Sequence[int]) -> Floats:
        """float64 [replies]: seconds until each reply is complete, all asked for at once.

        :param lengths: tokens of each reply.
        """
        wanted = np.asarray(lengths, dtype=np.int64)
        done = np.zeros_like(wanted)
        ends, now = np.zeros(len(wanted)), 0.0
        while (left := np.flatnonzero(done < wanted)).size:
            # The longest go on where there is no room for all, as in the engine.
            left = left[np.argsort(-done[left], kind="stable")][: self.rows]
            fits = np.cumsum(done[left] + CHUNK) <= self.room
            active = left[fits] if fits.any() else left[:1]
            grown = np.minimum(CHUNK, wanted[active] - done[active])
            steps = int(grown.max())
            held = float(done[active].sum()) + len(active) * steps / 2
            step = self.step_s + self.row_s * len(active) + self.token_s * held
            ends[active] = now + step * grown
            now += step * steps
            done[active] += grown
        return ends


@attrs.frozen
class Programs:
    """How long programs run, told a budget.

    :param limit_s: after so many seconds one is stopped.
    :param fails_early: share that fails within :param fail_s: seconds.
    :param least: share of the limit that the others use at least; up to :param most:, each share as likely.
    :param hangs: share that runs into the limit.
    """

    limit_s: float = 1100.0
    fails_early: float = 0.3
    fail_s: float = 5.0
    least: float = 0.5
    most: float = 0.95
    hangs: float = 0.03

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Seconds of each program with its full budget, and whether it fails early: both [count]."""
        kind = rng.random(count)
        early = kind < self.fails_early
        seconds = self.limit_s * rng.uniform(self.least, self.most, count)
        seconds[kind > 1.0 - self.hangs] = self.limit_s
        seconds[early] = rng.uniform(0.0, self.fail_s, int(early.sum()))
        return seconds, early


@attrs.frozen
class Schedule:
    """How the steps follow one another.

    :param pipelined: whether step t + 1 is sampled, by the policy that learned from step t - 1, while the
        programs of step t run.
    :param first: share of its budget that a program gets first; 1 for all of it at once.
    :param keep: share of a group that goes on with the full budget then.
    :param beats: share of the others that beat their start, and go on as well.
    :param deadline: share of a step's programs after which it learns; the rest joins a later step.
    """

    pipelined: bool = False
    first: float = 1.0
    keep: float = 0.25
    beats: float = 0.05
    deadline: float = 1.0

    @classmethod
    def named(cls, name: str) -> Schedule:
        """From ``pipelined+cascade+deadline`` and its like."""
        parts = name.split("+")
        unknown = set(parts) - {"sync", "pipelined", "cascade", "deadline"}
        if unknown:
            raise ValueError(f"{sorted(unknown)}: a schedule is sync or pipelined, +cascade, +deadline")
        return cls(
            pipelined="pipelined" in parts,
            first=0.1 if "cascade" in parts else 1.0,
            deadline=0.9 if "deadline" in parts else 1.0,
        )


@attrs.frozen
class Work:
    """What a run has to do, and on what.

    :param lengths: for a step, tokens of its replies, groups one after the other.
    :param seconds: for a step, the full time of each of its programs, and which of them fail early.
    :param slots: programs that run at once.
    :param cores: that one program takes.
    :param learn_rate: tokens a second.
    :param job_s: seconds that a program takes beyond its own: its sandbox.
    :param step_s: seconds between learning and the next sampling: admit, commit, checkpoint.
    """

    steps: int
    groups: int
    size: int
    sampler: Sampler
    lengths: Callable[[int], Sequence[int]]
    seconds: Callable[[int], tuple[Sequence[float], Sequence[bool]]]
    slots: int
    cores: int = 1
    learn_rate: float = math.inf
    job_s: float = 0.0
    step_s: float = 0.0


@attrs.frozen
class Result:
    """What became of it.

    :param seconds: wall time of the run.
    :param gpu_busy: seconds that the GPU sampled or learned.
    :param slots_busy: seconds that programs ran, added up.
    :param judged: seconds from the run's beginning at which each step had the programs it waited for.
    :param late: programs that joined a later step.
    """

    seconds: float
    gpu_busy: float
    slots_busy: float
    judged: Sequence[float]
    late: int

    def gpu_idle(self) -> float:
        """Share of the time, 0 to 1."""
        return 1.0 - self.gpu_busy / self.seconds

    def slots_idle(self, slots: int) -> float:
        """Share of the time that a slot had no program, 0 to 1."""
        return 1.0 - self.slots_busy / (self.seconds * slots)


class _Step:
    """One step under way: what is sampled and judged of it."""

    def __init__(self, work: Work, schedule: Schedule, number: int, last: bool) -> None:
        self.seconds, self.early = work.seconds(number)
        self.lengths = work.lengths(number)
        count = work.groups * work.size
        self.waits_for = count if last else math.ceil(schedule.deadline * count)
        self.judged = 0
        self.ready: float | None = None
        self.learned = False
        #: Of each group, programs whose first part is not over yet, and those that may go on.
        self.first_parts = [work.size] * work.groups
        self.may_go_on: list[list[int]] = [[] for _ in range(work.groups)]


class Simulation:
    """One run by events.

    :param seed: of which programs of a group are its best.
    """

    def __init__(self, work: Work, schedule: Schedule, seed: int = 0) -> None:
        self._work, self._schedule = work, schedule
        self._rng = np.random.default_rng([seed, 99])
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._free = work.slots
        self._waiting: collections.deque[tuple[float, Callable[[], None]]] = collections.deque()
        self._steps: dict[int, _Step] = {}
        self._slots_busy = self._gpu_busy = 0.0
        self._owed = 0
        self._late = 0
        #: What the GPU does, in this order; it waits for what is not ready.
        self._gpu = collections.deque(self._order())
        self._gpu_free = True

    def run(self) -> Result:
        """To the last step's end."""
        self._next_on_gpu()
        while self._events:
            self._now, _, act = heapq.heappop(self._events)
            act()
        assert not self._gpu, "the last step was not learned"
        judged = [self._steps[step].ready or 0.0 for step in sorted(self._steps)]
        return Result(self._now, self._gpu_busy, self._slots_busy, judged, self._late)

    def _order(self) -> list[tuple[str, int]]:
        steps = range(1, self._work.steps + 1)
        if not self._schedule.pipelined:
            return [(what, step) for step in steps for what in ("sample", "learn")]
        order = [("sample", 1)]
        for step in steps:
            order += [("sample", step + 1)] if step < self._work.steps else []
            order.append(("learn", step))
        return order

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._number), act))

    # -- the GPU ------------------------------------------------------------------------------------

    def _next_on_gpu(self) -> None:
        if not self._gpu or not self._gpu_free:
            return
        what, number = self._gpu[0]
        if what == "learn" and self._steps[number].ready is None:
            return
        self._gpu.popleft()
        self._gpu_free = False
        seconds = self._sample(number) if what == "sample" else self._learn(number)
        self._gpu_busy += seconds
        self._at(seconds + (self._work.step_s if what == "learn" else 0.0), self._gpu_done)

    def _gpu_done(self) -> None:
        self._gpu_free = True
        self._next_on_gpu()

    def _sample(self, number: int) -> float:
        step = _Step(self._work, self._schedule, number, number == self._work.steps)
        self._steps[number] = step
        ends = _ends(self._work.sampler, tuple(step.lengths))
        for index in np.argsort(ends, kind="stable").tolist():
            self._at(float(ends[index]), functools.partial(self._sampled, step, index))
        return float(ends.max())

    def _learn(self, number: int) -> float:
        """Learns from what is judged, of its own step and left over from those before."""
        step = self._steps[number]
        step.learned = True
        late = len(step.seconds) - step.judged
        share = (step.judged + self._owed) / len(step.seconds)
        self._owed = 0
        self._late += late
        return share * sum(step.lengths) / self._work.learn_rate

    # -- the programs -------------------------------------------------------------------------------

    def _sampled(self, step: _Step, index: int) -> None:
        first = self._schedule.first
        share = 1.0 if step.early[index] else first
        self._submit(share * step.seconds[index], lambda: self._first_part_over(step, index))

    def _first_part_over(self, step: _Step, index: int) -> None:
        if self._schedule.first >= 1.0:
            self._judged(step)
            return
        group = index // self._work.size
        if not step.early[index]:
            step.may_go_on[group].append(index)
        step.first_parts[group] -= 1
        if step.first_parts[group]:
            return
        # All of the group stood side by side: now it is known who goes on.
        able = step.may_go_on[group]
        best = min(len(able), math.ceil(self._schedule.keep * self._work.size))
        order = self._rng.permutation(able).tolist()
        others = order[best:]
        beats = sum(self._rng.random(len(others)) < self._schedule.beats)
        going_on = [*order[:best], *others[: int(beats)]]
        for _ in range(self._work.size - len(going_on)):
            self._judged(step)
        for each in going_on:
            self._submit(step.seconds[each], lambda: self._judged(step))

    def _judged(self, step: _Step) -> None:
        step.judged += 1
        if step.learned:
            self._owed += 1
        elif step.judged == step.waits_for:
            step.ready = self._now
            self._next_on_gpu()

    def _submit(self, seconds: float, done: Callable[[], None]) -> None:
        self._waiting.append((seconds + self._work.job_s, done))
        self._start()

    def _start(self) -> None:
        while self._free and self._waiting:
            seconds, done = self._waiting.popleft()
            self._free -= 1
            self._slots_busy += seconds

            def over(done: Callable[[], None] = done) -> None:
                self._free += 1
                done()
                self._start()

            self._at(seconds, over)


@functools.lru_cache(maxsize=256)
def _ends(sampler: Sampler, lengths: tuple[int, ...]) -> Floats:
    """The same step is sampled in every run that is compared."""
    return sampler.ends(lengths)


def simulate(work: Work, schedule: Schedule, seed: int = 0) -> Result:
    """A run from its first step to its last."""
    return Simulation(work, schedule, seed).run()
