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
from ttd_kernels.case import Case, Output, Shape, fresh_seed, generator, label
from ttd_kernels.channel import Channel, Ended

#: Empty calls for each shape, to learn what everything but the kernel takes.
_EMPTY_CALLS = 18


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
    :param host_us: what the host took to queue a call, beyond an empty one.
    """

    shape: str
    mean_us: float
    error_us: float
    repeats: int
    host_us: float
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
    """What a call without a kernel takes, microseconds.

    :param wall_us: by the judge's clock, in the mean.
    :param queued_us: to queue it, by the host's clock; the median.
    """

    wall_us: float
    queued_us: float


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
            self._call(shape)
        rows = []
        for shape in self._plan.timed:
            if self._plan.measure:
                rows.append(self._time(shape, empty[label(shape)]))
            else:
                self._call(shape)
        failed = self._try_hidden()
        with contextlib.suppress(Ended):  # everything is judged; how it leaves does not matter
            self._channel.tell({"do": "end"})
        device = str(hello.get("device", self._bench.device))[:80]
        return Report(device, len(self._plan.tests), rows, len(self._plan.hidden), failed)

    # -- one call ---------------------------------------------------------------------------------------

    def _call(self, shape: Shape) -> Ran:
        """A call on fresh inputs, found right.

        :raises RefusedError: when it is wrong, naming the shape and what the output looks like.
        """
        case = self._task.draw(shape, generator(fresh_seed(), self._bench.device))
        outputs = self._task.outputs(shape)
        try:
            ran = self._bench.call(self._channel, case, outputs, self._left_s)
        except RefusedError as error:
            raise RefusedError(error.status, f"{label(shape)}: {error.message}") from error
        expected = self._task.answer(case)
        wrong = compare.find_wrong(ran.outputs, expected, outputs)
        if wrong:
            looks = self._looks_like(case, ran.outputs, outputs)
            raise RefusedError(Status.INVALID, f"{label(shape)}: {wrong}{looks}")
        self._earlier[_sizes(outputs)] = expected
        return ran

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
        calls = []
        for _ in range(_EMPTY_CALLS):
            calls.append(self._bench.call(self._channel, case, outputs, self._left_s, empty=True))
            # as between real calls: what the GPU and the processes did before matters
            self._task.answer(case)
        kept = calls[2:]
        wall_us = timing.typical([call.wall_us for call in kept], self._plan.rules)
        return _Empty(wall_us, statistics.median(call.queued_us for call in kept))

    def _time(self, shape: Shape, empty: _Empty) -> Row:
        """Times that the judge's clock bears out.

        :raises RefusedError: as rejected, when its clock contradicts every claim; as infrastructure, when it
            contradicts some, time and again: then the GPU is too busy for times.
        """
        for _ in range(self._plan.warmups):
            self._call(shape)
        rules, reason = self._plan.rules, ""
        for _ in range(rules.series):
            repeats = self._series(shape, empty)
            reason = timing.refused(repeats, rules)
            if not reason:
                return self._row(shape, timing.undisturbed(repeats, rules))
            if timing.all_contradicted(repeats, rules):
                raise RefusedError(Status.REJECTED, f"{label(shape)}: {reason}")
        message = "this GPU was too busy to take times; judge again when it is quiet"
        raise RefusedError(Status.INFRASTRUCTURE, f"{message}: {label(shape)}: {reason}")

    def _row(self, shape: Shape, repeats: Sequence[timing.Repeat]) -> Row:
        claims = [repeat.claimed_us for repeat in repeats]
        return Row(
            shape=label(shape),
            mean_us=timing.believed(repeats),
            error_us=statistics.stdev(claims) / len(claims) ** 0.5,
            repeats=len(claims),
            host_us=max(0.0, statistics.median(repeat.host_us for repeat in repeats)),
            floor_us=self._task.floor_us(shape),
        )

    def _series(self, shape: Shape, empty: _Empty) -> list[timing.Repeat]:
        """Repeats until they are enough; as many disturbed ones as kept ones end them too."""
        rules, started = self._plan.rules, time.monotonic()
        repeats: list[timing.Repeat] = []
        claims: list[float] = []
        while len(repeats) < 2 * rules.most and not (
            timing.enough(claims, time.monotonic() - started, rules)
            or len(repeats) - len(claims) > rules.least + len(claims)
        ):
            ran = self._call(shape)
            repeat = timing.Repeat(
                claimed_us=ran.claimed_us,
                bound_us=ran.wall_us - empty.wall_us,
                host_us=ran.queued_us - empty.queued_us,
                ahead=ran.ahead,
            )
            repeats.append(repeat)
            if not repeat.is_disturbed(rules):
                claims.append(repeat.claimed_us)
        return repeats

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
                self._call(shape)
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
