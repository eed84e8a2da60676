"""The judge of one candidate: correctness, then times with every repeat checked, then shapes nobody named.

What it believes: outputs that it read itself and compared with its own, and its own clock. What a candidate's
process says can only make things worse for it.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import attrs
import torch

from ttd_core.types import Status
from ttd_kernels import compare, timing
from ttd_kernels.bench import Bench, Ran, RefusedError, expect
from ttd_kernels.case import ALIGNMENT, Case, Output, Shape, fresh_seed, generator, label
from ttd_kernels.channel import Channel, Ended

#: Empty calls for each shape, to learn what everything but the kernel takes.
_EMPTY_CALLS = 18
#: The same for calls in a row.
_EMPTY_BATCHES = 7


class Task(Protocol):
    """What the judge needs of a problem."""

    def draw(self, shape: Shape, source: torch.Generator) -> Case:
        """Fresh inputs on the generator's device."""
        ...

    def outputs(self, shape: Shape) -> Sequence[Output]:
        """What must be returned."""
        ...

    def answer(self, case: Case) -> Sequence[torch.Tensor]:
        """The right outputs."""
        ...

    def mistakes(self, case: Case) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """Outputs of well-known mistakes, each with words for it."""
        ...

    def floor_us(self, shape: Shape) -> float:
        """The least time that a shape can take."""
        ...


@attrs.frozen
class Plan:
    """What a candidate is judged on.

    :param tests: must be right.
    :param timed: must be right in every repeat, and are timed where ``measure`` is set.
    :param hidden: tell whether the kernel generalises.
    :param measure: whether to take times.
    :param rules: of timing.
    :param flush: whether the GPU's cache is emptied before each call.
    :param warmups: untimed calls of a timed shape, checked like the others.
    """

    tests: Sequence[Shape]
    timed: Sequence[Shape]
    hidden: Sequence[Shape]
    measure: bool
    rules: timing.Rules = attrs.field(factory=timing.Rules)
    flush: bool = True
    warmups: int = 2

    @property
    def shapes(self) -> list[Shape]:
        """All of them."""
        return [*self.tests, *self.timed, *self.hidden]


@attrs.frozen
class Row:
    """What was measured at one shape; times in microseconds.

    :param error_us: standard error of the mean.
    :param gap_us: by how much the judge's clock exceeds the mean, beyond an empty call.
    """

    shape: str
    mean_us: float
    error_us: float
    least_us: float
    repeats: int
    gap_us: float
    floor_us: float


@attrs.frozen
class Report:
    """A candidate that was right wherever it had to be.

    :param device: the GPU's name, or ``cpu``.
    :param tests: how many shapes it was tested on, beside the timed ones.
    :param rows: one for each timed shape; empty where no time was taken.
    :param hidden: how many shapes nobody named it was tried on.
    :param failed: those it got wrong, with the reason.
    """

    device: str
    tests: int
    rows: Sequence[Row]
    hidden: int
    failed: Sequence[str]


@attrs.frozen
class _Empty:
    """What calls without a kernel take, microseconds by the judge's clock.

    :param one_us: a single one, in the mean.
    :param batch: how many are made in a row.
    :param batch_us: all of those, at the least.
    :param own_us: for how long the harness keeps the host busy between two calls in a row.
    """

    one_us: float
    batch: int
    batch_us: float
    own_us: float


def batch_of(task: Task, plan: Plan, case: Case) -> int:
    """How many calls like one are made in a row."""
    if not plan.measure:
        return 1
    size = max(case.bytes, sum(output.bytes + ALIGNMENT for output in task.outputs(case.shape)))
    return plan.rules.batch(task.floor_us(case.shape), size)


class Conductor:
    """Leads one candidate through a plan.

    :param deadline: on the monotonic clock, when the sandbox ends the candidate.
    """

    def __init__(self, task: Task, plan: Plan, bench: Bench, channel: Channel, deadline: float) -> None:
        self._task = task
        self._plan = plan
        self._bench = bench
        self._channel = channel
        self._deadline = deadline
        self._earlier: dict[tuple[tuple[int, ...], ...], Sequence[torch.Tensor]] = {}

    @property
    def _left_s(self) -> float:
        return max(1.0, self._deadline - time.monotonic())

    def judge(self) -> Report:
        """Judge the candidate.

        :raises RefusedError: when it is wrong, or caught; the message says why.
        :raises Ended: when its process ends early.
        """
        hello = self._channel.ask({"do": "hello"}, self._left_s)
        empty = {label(shape): self._empty(shape) for shape in self._plan.timed if self._plan.measure}
        expect(self._channel.ask({"do": "load"}, self._left_s), "loaded")
        for shape in self._plan.tests:
            self._check(shape)
        rows = []
        for shape in self._plan.timed:
            if self._plan.measure:
                rows.append(self._time(shape, empty[label(shape)]))
            else:
                self._check(shape)
        failed = self._try_hidden()
        with contextlib.suppress(Ended):  # everything is judged; how it leaves does not matter
            self._channel.tell({"do": "end"})
        device = str(hello.get("device", self._bench.device))[:80]
        return Report(device, len(self._plan.tests), rows, len(self._plan.hidden), failed)

    # -- one call ---------------------------------------------------------------------------------------

    def _call(self, shape: Shape, count: int = 1) -> Ran:
        """Calls on fresh inputs, found right; one, or ``count`` in a row.

        :raises RefusedError: when one is wrong, naming the shape and what the output looks like.
        """
        cases = [self._task.draw(shape, generator(fresh_seed(), self._bench.device)) for _ in range(count)]
        outputs = self._task.outputs(shape)
        try:
            ran = self._bench.call(self._channel, cases, outputs, self._left_s)
        except RefusedError as error:
            raise RefusedError(error.status, f"{label(shape)}: {error.message}") from error
        for case, found in zip(cases, ran.outputs, strict=True):
            expected = self._task.answer(case)
            wrong = compare.find_wrong(found, expected, outputs)
            if wrong:
                looks = self._looks_like(case, found, outputs)
                raise RefusedError(Status.INVALID, f"{label(shape)}: {wrong}{looks}")
            self._earlier[_sizes(outputs)] = expected
        return ran

    def _check(self, shape: Shape) -> None:
        self._call(shape)

    def _looks_like(self, case: Case, found: Sequence[torch.Tensor], outputs: Sequence[Output]) -> str:
        """What a wrong output may be, from ``"; "`` on; empty when nothing known fits."""
        earlier = self._earlier.get(_sizes(outputs))
        if earlier is not None and compare.same(found, earlier, outputs):
            return "; it is the output for earlier inputs"
        for words, mistaken in self._task.mistakes(case):
            if compare.same(found, mistaken, outputs):
                return f"; {words}"
        for name, leaf in case.leaves.items():
            if leaf.shape == found[0].shape and torch.equal(leaf.to(found[0].dtype), found[0]):
                return f"; it is the input {name}"
        return ""

    # -- times ------------------------------------------------------------------------------------------

    def _empty(self, shape: Shape) -> _Empty:
        """What everything but the kernel takes, by calls that run none."""
        case = self._task.draw(shape, generator(fresh_seed(), self._bench.device))
        outputs = self._task.outputs(shape)

        def walls_us(count: int, times: int) -> list[float]:
            ran = []
            for _ in range(times):
                ran.append(self._bench.call(self._channel, [case] * count, outputs, self._left_s, empty=True))
                # as between real calls: what the GPU and the processes did before matters
                self._task.answer(case)
            return [each.wall_us for each in ran[2:]]

        count = batch_of(self._task, self._plan, case)
        one_us = timing.typical(walls_us(1, _EMPTY_CALLS), self._plan.rules)
        return _Empty(one_us, count, min(walls_us(count, _EMPTY_BATCHES)), self._own_us(shape))

    def _own_us(self, shape: Shape) -> float:
        """What one of many empty calls takes whose outputs are too small to take any time themselves."""
        bare = [Case(shape, {}, None)] * self._plan.rules.most_batch
        tiny = [attrs.evolve(output, shape=(1,)) for output in self._task.outputs(shape)]
        told_us = []
        for _ in range(_EMPTY_BATCHES):
            ran = self._bench.call(self._channel, bare, tiny, self._left_s, empty=True)
            told_us.append(ran.told_us)
        return min(told_us) / len(bare)

    def _time(self, shape: Shape, empty: _Empty) -> Row:
        """Times that both bounds bear out.

        :raises RefusedError: as rejected, when calls in a row contradict the claims; as infrastructure, when
            only single calls do, time and again: then the machine is too busy for times, or the program does
            in many calls at once what it cannot do in one.
        """
        for _ in range(self._plan.warmups):
            self._call(shape)
        rules = self._plan.rules
        for _ in range(rules.series):
            repeats = self._series(shape, empty)
            kept = [repeat for repeat in repeats if not repeat.is_disturbed(rules)] or repeats
            claims = [repeat.claimed_us for repeat in kept]
            single = timing.refused_claims(repeats, rules)
            reason = self._audit(shape, statistics.fmean(claims), empty)
            if reason:
                raise RefusedError(Status.REJECTED, f"{label(shape)}: {single or reason}")
            if not single:
                return Row(
                    shape=label(shape),
                    mean_us=statistics.fmean(claims),
                    error_us=statistics.stdev(claims) / len(claims) ** 0.5,
                    least_us=min(claims),
                    repeats=len(claims),
                    gap_us=statistics.fmean(repeat.gap_us for repeat in kept),
                    floor_us=self._task.floor_us(shape),
                )
        message = "this machine was too busy to take times; judge again when it is quiet"
        raise RefusedError(Status.INFRASTRUCTURE, f"{message}: {label(shape)}: {single}")

    def _series(self, shape: Shape, empty: _Empty) -> list[timing.Repeat]:
        """Repeats until they are enough; as many disturbed ones as kept ones end them too."""
        rules, started = self._plan.rules, time.monotonic()
        repeats: list[timing.Repeat] = []
        believed: list[float] = []
        while len(repeats) < 2 * rules.most and not (
            timing.enough(believed, time.monotonic() - started, rules)
            or len(repeats) - len(believed) > rules.least + len(believed)
        ):
            ran = self._call(shape)
            repeat = timing.Repeat(ran.claimed_us, ran.wall_us - empty.one_us)
            repeats.append(repeat)
            if not repeat.is_disturbed(rules):
                believed.append(repeat.claimed_us)
        return repeats

    def _audit(self, shape: Shape, mean_us: float, empty: _Empty) -> str:
        """Why rounds of calls in a row refuse the mean of the claims; empty once one bears it out."""
        rules = self._plan.rules
        bounds_us: list[float] = []
        reason = ""
        for _ in range(rules.audits):
            whole_us = self._call(shape, empty.batch).wall_us - empty.batch_us
            bounds_us.append(whole_us / empty.batch)
            reason = timing.refused_batches(mean_us, bounds_us, empty.batch, rules, empty.own_us)
            if not reason:
                break
        return reason

    # -- shapes that nobody named -------------------------------------------------------------------------

    def _try_hidden(self) -> list[str]:
        """The hidden shapes that fail, with the reason; once its process is gone all others fail too."""
        failed: list[str] = []
        gone = ""
        for shape in self._plan.hidden:
            if gone:
                failed.append(f"{label(shape)}: {gone}")
                continue
            try:
                self._check(shape)
            except RefusedError as error:
                failed.append(error.message)
            except Ended as error:
                gone = str(error)
                failed.append(f"{label(shape)}: {gone}")
        return failed


def _sizes(outputs: Sequence[Output]) -> tuple[tuple[int, ...], ...]:
    return tuple(output.shape for output in outputs)


def failure_of(error: Exception) -> dict[str, Any]:
    """A refusal or an early end as JSON."""
    if isinstance(error, RefusedError):
        return {"status": error.status.value, "message": error.message}
    return {"ended": str(error)}
