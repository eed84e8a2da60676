"""The lean decoder with a clock: seconds of each launch of steps, and calls that end after a few launches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.policy.local.lean.decode import LeanDecoder
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, whole_groups


class _EnoughError(Exception):
    """As many launches as were asked for are done."""


@attrs.frozen
class Sampled:
    """One call.

    :param replies: those that ended; without extrapolation, all.
    :param seconds: of the whole call, reading the prompts included; extrapolated if ``launches`` says so.
    :param first: seconds until the first steps were collected: reading the prompts is among them.
    :param launches: launches measured, where the others were extrapolated; else 0.
    """

    replies: list[DecodingReply]
    seconds: float
    first: float
    launches: int


class TimedDecoder(LeanDecoder):
    """Notes when each launch is collected."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most: int | None = None
        #: Steps of each launch, and the time when it was collected.
        self._log: list[tuple[int, float]] = []

    def _collect(self, steps: int, forced: Sequence[int], limits: DecodeLimits) -> list[DecodingReply]:
        finished = super()._collect(steps, forced, limits)
        self._log.append((steps, time.perf_counter()))
        if self._most is not None and len(self._log) >= self._most:
            raise _EnoughError
        return finished

    def call(
        self,
        prompts: Sequence[Sequence[int]],
        group: int,
        limits: DecodeLimits,
        seed: int,
        launches: int | None = None,
        length: int | None = None,
    ) -> Sampled:
        """Sample ``group`` replies to each prompt, all of the length that ``limits`` says.

        :param launches: stop after so many and extrapolate: seconds a step grow linearly with a reply's
            length. All replies must be under way from the start. Those that ended before are returned.
        :param length: extrapolate to replies of so many tokens, though these end earlier.
        :raises ValueError: when there was nothing to sample, and so nothing to time.
        """
        self._most, self._log = launches, []
        replies: list[DecodingReply] = []
        enough = False
        start = time.perf_counter()
        try:
            for reply in self._decode(prompts, group, limits, seed):
                replies.append(reply)
        except _EnoughError:
            # The rest is extrapolated; any other error is the caller's.
            enough = True
        took = time.perf_counter() - start
        if not self._log:
            raise ValueError(f"no launch was made for {len(prompts)} prompts of {group} replies each")
        first = self._log[0][1] - start
        longest = max(limits.max_tokens)
        if not enough and (length is None or length <= longest):
            return Sampled(replies, took, first, 0)
        return Sampled(replies, took + self._rest(length or longest), first, len(self._log))

    def _decode(
        self, prompts: Sequence[Sequence[int]], group: int, limits: DecodeLimits, seed: int
    ) -> Iterator[DecodingReply]:
        return self.decode(prompts, whole_groups(len(prompts), group), 1.0, limits, seed)

    def _rest(self, length: int) -> float:
        """Seconds of the steps that were not run, to replies of ``length`` tokens."""
        steps = np.array([steps for steps, _ in self._log])
        ends = np.cumsum(steps)
        # The first launch reads the prompts too.
        a_step = np.diff([when for _, when in self._log]) / steps[1:]
        middles = (ends - steps / 2)[1:]
        if not len(a_step):
            return 0.0
        slope, base = np.polyfit(middles, a_step, 1) if len(a_step) > 1 else (0.0, a_step[0])
        rest = np.arange(ends[-1], length)
        return float((base + max(slope, 0.0) * rest).sum())
