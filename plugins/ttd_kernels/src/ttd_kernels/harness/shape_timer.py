"""Timing a kernel at one shape: empty calls, then repeats until the judge's clock bears the claims out."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Iterator, Sequence

from ttd_core.types import Status
from ttd_kernels.harness import timing
from ttd_kernels.harness.checked_calls import CheckedCalls
from ttd_kernels.harness.empty_calls import EmptyCallTime, KnownEmptyCalls
from ttd_kernels.harness.evaluation_result import ShapeTiming
from ttd_kernels.harness.kernel_io import Shape, shape_label
from ttd_kernels.harness.replies import EvaluationError
from ttd_kernels.harness.timing import Repeat, TimingRules


class ShapeTimer:
    """Times one candidate's kernel, shape by shape.

    :param calls: of its kernel; every repeat is checked like any other call.
    :param rules: when repeats are enough, and which are believed.
    :param warmups: calls before the first repeat of a shape.
    :param known: empty calls of earlier candidates on this device, to which this one's are added.
    """

    def __init__(self, calls: CheckedCalls, rules: TimingRules, warmups: int, known: KnownEmptyCalls) -> None:
        self._calls = calls
        self._rules = rules
        self._warmups = warmups
        self._known = known

    def time_empty_call(self, shape: Shape) -> EmptyCallTime:
        """What everything but the kernel takes at a shape, by calls that run none."""
        return self._known.time_at(shape, self._calls, self._rules)

    def time_kernel(self, shape: Shape, empty: EmptyCallTime, floor_us: float = 0.0) -> ShapeTiming:
        """The kernel's time at a shape, borne out by the judge's clock.

        :param floor_us: the least time it can take, see :func:`timing.allowed_error`; 0 where nobody knows.
        :raises EvaluationError: when an output is wrong; as rejected, when the judge's clock contradicts
            every claim; as infrastructure, when it contradicts some, time and again: the GPU is too busy.
        """
        with self._calls.watch.stage("warm-ups"):
            walls_us = [self._calls.call(shape).wall_us for _ in range(self._warmups)]
        rules = timing.rules_for(min(walls_us, default=0.0), self._rules)
        contradiction = ""
        for _ in range(rules.max_series):
            with self._calls.watch.stage("repeats"):
                repeats, ages = self._repeats(shape, empty, floor_us, rules)
            contradiction = timing.contradiction(repeats, rules)
            if not contradiction:
                unseen = timing.unseen_us(ages, empty.wall_us)
                charged = timing.charged_us(unseen, empty.unseen_us, rules) if rules.looks else 0.0
                timed = _summary(shape, timing.undisturbed(repeats, rules), unseen, charged)
                if rules.looks >= timing.rules_for(timed.mean_us, self._rules).looks:
                    return timed
                # slow in its warm-ups alone, so that nothing was looked at
                rules = self._rules
                continue
            if timing.all_contradicted(repeats, rules):
                raise EvaluationError(Status.REJECTED, f"{shape_label(shape)}: {contradiction}")
        message = "this GPU was too busy to take times; judge again when it is quiet"
        raise EvaluationError(Status.INFRASTRUCTURE, f"{message}: {shape_label(shape)}: {contradiction}")

    def _repeats(
        self, shape: Shape, empty: EmptyCallTime, floor_us: float, rules: TimingRules
    ) -> tuple[list[Repeat], list[float]]:
        """Repeats until they are enough; as many disturbed ones as kept ones end them too. With them the ages
        of the looks that were made between them."""
        started = time.monotonic()
        repeats: list[Repeat] = []
        claims: list[float] = []
        ages: list[float] = []
        for number, looked_at in enumerate(calls_to_look_at(rules)):
            enough = (
                len(repeats) >= 2 * rules.max_repeats
                or timing.enough_repeats(claims, time.monotonic() - started, rules, floor_us)
                or len(repeats) - len(claims) >= rules.least_disturbed + len(claims)
            )
            if enough and number >= rules.looks + rules.min_repeats:
                break
            result = self._calls.call(shape, looked_at)
            if result.look is not None:
                ages.append(result.look.age_us)
                continue
            repeat = Repeat(
                claimed_us=result.claimed_us,
                judge_us=result.wall_us - empty.wall_us,
                host_us=result.queued_us - empty.queued_us,
                queued_ahead=result.queued_ahead,
            )
            repeats.append(repeat)
            if not repeat.is_disturbed(rules):
                claims.append(repeat.claimed_us)
        return repeats, ages


def calls_to_look_at(rules: TimingRules) -> Iterator[bool]:
    """Which calls of a shape are looked at, without end: among the first, as many as the rules ask for, at
    places drawn anew, so that nobody can tell one from a timed call; later a share of them."""
    chance = random.SystemRandom()
    first = [True] * rules.looks + [False] * rules.min_repeats
    chance.shuffle(first)
    later = (chance.random() < rules.look_share for _ in itertools.count())
    return itertools.chain(first, later)


def _summary(shape: Shape, repeats: Sequence[Repeat], unseen: float, charged: float) -> ShapeTiming:
    claims = [repeat.claimed_us for repeat in repeats]
    return ShapeTiming(
        shape=shape_label(shape),
        mean_us=timing.believed_us(repeats, charged),
        error_us=statistics.stdev(claims) / len(claims) ** 0.5,
        repeats=len(claims),
        host_us=max(0.0, statistics.median(repeat.host_us for repeat in repeats)),
        unseen_us=unseen,
    )
