"""GPU time of trusted code in this process: events, all of a call queued before it begins, the cache emptied.

The judge times a candidate in a process of its own. Peers are libraries that one trusts, with an interface of
their own, so they are timed here, and our program beside them by the same clock: two sets of fresh inputs in
turn, each call behind a wait on the GPU that outlasts its launches.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import torch

#: A call on inputs that are already in place; what it returns are its outputs.
Call = Callable[[], Sequence[torch.Tensor]]

#: Bytes written before each call so that nothing of its inputs is left in the GPU's cache.
FLUSHED_BYTES = 512 << 20
#: Calls that are not timed, and cycles that the GPU waits for launches, at first and at most.
WARMUPS, FIRST_WAIT, LONGEST_WAIT = 3, 4_000_000, 64_000_000


@attrs.frozen
class GpuTime:
    """What a call takes.

    :param us: the median of the timed calls, microseconds.
    :param queued_ahead: whether every call was queued before it began; if not, the host's time is in it.
    """

    us: float
    queued_ahead: bool


class Clock(Protocol):
    """What times calls on inputs that lie on its device."""

    #: Where inputs are to be, as torch names it.
    device: str

    def time(self, calls: Sequence[Call]) -> GpuTime:
        """The time of calls that do the same on different inputs, taken in turn."""
        ...


class GpuClock:
    """Times calls on the current GPU.

    :param repeats: timed calls, at least one.
    """

    device = "cuda"

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self._flushed = torch.empty(FLUSHED_BYTES, dtype=torch.uint8, device="cuda")
        self._wait_cycles = FIRST_WAIT

    def time(self, calls: Sequence[Call]) -> GpuTime:
        """See :class:`Clock`."""
        for number in range(max(WARMUPS, len(calls))):
            calls[number % len(calls)]()
        times_us, ahead = [], True
        for number in range(self._repeats):
            took_us, queued = self._once(calls[number % len(calls)])
            while not queued and self._wait_cycles < LONGEST_WAIT:
                self._wait_cycles *= 2
                took_us, queued = self._once(calls[number % len(calls)])
            times_us.append(took_us)
            ahead = ahead and queued
        return GpuTime(statistics.median(times_us), ahead)

    def _once(self, call: Call) -> tuple[float, bool]:
        """Microseconds of one call, and whether it was queued before it began."""
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        self._flushed.fill_(0)
        torch.cuda._sleep(self._wait_cycles)  # type: ignore[no-untyped-call]
        began.record()
        call()
        ended.record()
        queued_ahead = not began.query()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        return 1e3 * began.elapsed_time(ended), queued_ahead
