"""How the judge and a candidate's process meet at one piece of shared memory, and what the judge's clock saw.

On the CPU they take turns by word, and the clock is the host's. On a GPU all of a call is queued before it
begins, on both sides: the judge's stream brings the inputs, writes the word to start, waits for the word that
all is done and reads the outputs; the candidate's waits for the one word and writes the other. So the judge's
clock is the GPU's, read in a process that no candidate reaches, and no host, however busy, is on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import torch

from ttd_kernels.channel import Channel, Ended
from ttd_kernels.helpers.memory import DONE, START, Word, view

#: Longest that a call is waited for to be queued before its inputs are there. One that waits for the GPU in
#: the middle never is; its times then hold what the host does after that.
_AHEAD_S = 0.02
#: Longest that an answer is waited for awake.
_AWAKE_S = 0.2
#: How long after an answer the outputs are waited for before the wait is ended.
_PATIENCE_S = 0.05
#: Launches of ours that may wait behind the gate: some thousand fill the driver's queue.
_MOST_LAUNCHES = 600


@attrs.frozen
class Met:
    """A candidate's process called its kernel.

    :param answer: what it said in the end.
    :param wall_us: by the judge's clock, microseconds from before the inputs come to the outputs read.
    :param queued_us: what its process took to queue all of it, or for how long that was waited for.
    :param ahead: whether all was queued before it began.
    """

    answer: dict[str, Any]
    wall_us: float
    queued_us: float
    ahead: bool


@attrs.frozen
class Turn:
    """One meeting.

    :param ticket: a number that is larger each time.
    :param launches: how many ``reveal`` and ``read`` are at most.
    :param timeout_s: longest that the answer is waited for.
    :param reveal: brings the inputs.
    :param read: reads the outputs.
    """

    ticket: int
    launches: int
    timeout_s: float
    reveal: Callable[[], None]
    read: Callable[[], None]


class Place(Protocol):
    """Where they meet."""

    def meet(self, channel: Channel, turn: Turn) -> Met:
        """Have a call made that has been prepared.

        :raises Ended: when the process is gone.
        """
        ...


class OnCpu:
    """Memory of the host."""

    def meet(self, channel: Channel, turn: Turn) -> Met:
        """See :class:`Place`."""
        channel.tell({"do": "go"})
        first = channel.hear(turn.timeout_s)
        began = time.perf_counter()
        turn.reveal()
        channel.tell({"do": "run"})
        answer = channel.hear(turn.timeout_s) if "queued" in first else first
        turn.read()
        return Met(answer, 1e6 * (time.perf_counter() - began), 0.0, ahead=True)


class OnGpu:
    """Memory of a GPU.

    :param shared: uint8, whose head holds the words.
    """

    def __init__(self, shared: torch.Tensor) -> None:
        self._device = shared.device
        # in the host's memory, so that it opens without a launch; nobody else can reach it
        self._gate = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        self._opened = Word(self._gate)
        self._start, self._done = (Word(view(shared, (at, "int32", [1])).zero_()) for at in (START, DONE))
        self._aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def meet(self, channel: Channel, turn: Turn) -> Met:
        """See :class:`Place`."""
        torch.cuda.synchronize(self._device)
        until = time.monotonic() + turn.timeout_s
        if turn.launches > _MOST_LAUNCHES:
            self._gate.fill_(turn.ticket)
        began, ended = self._queue(turn)
        try:
            told = time.perf_counter()
            channel.tell({"do": "go"})
            first = channel.hear_within(_AHEAD_S, _AWAKE_S)
            queued = time.perf_counter()
            self._gate.fill_(turn.ticket)
            answer = answer_after(first, channel, turn.timeout_s)
        finally:
            self._leave(turn.ticket, ended, until)
        ahead = first is not None and "queued" in first
        return Met(answer, 1e3 * began.elapsed_time(ended), 1e6 * (queued - told), ahead)

    def _queue(self, turn: Turn) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        """Our side of a call, behind the gate; the events between which it takes place."""
        stream = torch.cuda.current_stream(self._device)
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._opened.wait(turn.ticket, stream.cuda_stream)
        began.record(stream)
        turn.reveal()
        self._start.write(turn.ticket, stream.cuda_stream)
        self._done.wait(turn.ticket, stream.cuda_stream)
        turn.read()
        ended.record(stream)
        return began, ended

    def _leave(self, ticket: int, ended: torch.cuda.Event, until: float) -> None:
        """Wait for our side's end; where the candidate's word does not come, or is overwritten, write it.

        :raises Ended: when even that does not help, since the candidate goes on overwriting it.
        """
        self._gate.fill_(ticket)
        patience = time.monotonic() + _PATIENCE_S
        while not ended.query():  # type: ignore[no-untyped-call]
            now = time.monotonic()
            if now > patience:
                self._done.write(ticket, self._aside.cuda_stream)
                time.sleep(0.001)
            if now > max(until, patience + _PATIENCE_S):
                raise Ended("the program kept the judge from reading its outputs")


def answer_after(first: dict[str, Any] | None, channel: Channel, timeout_s: float) -> dict[str, Any]:
    """The answer to a call.

    :param first: what the candidate's process said before the call began: that all is queued, or already the
        answer; none where it said nothing in time, so that both are still to come, or the answer alone.
    :raises Ended: when the process is gone.
    """
    if first is not None and "queued" not in first:
        return first
    answer = channel.hear(timeout_s, _AWAKE_S)
    if first is None and "queued" in answer:
        answer = channel.hear(timeout_s, _AWAKE_S)
    return answer
