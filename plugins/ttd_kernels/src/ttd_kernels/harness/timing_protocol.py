"""The timing protocol: how judge and candidate take turns in one call, and when the judge's clock runs.

On the CPU they take turns by messages, and the clock is the host's. On a GPU all of a call is queued before
it begins, on both sides: the judge's stream brings the inputs, signals *start*, waits for *done* and reads
the outputs; the candidate's waits for *start*, runs the kernel and signals *done*. Both are semaphores in
shared GPU memory. So the judge's clock is the GPU's, read in a process that no candidate reaches, and no
host, however busy, is on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import torch

from ttd_kernels.harness.channel import CandidateEndedError, Channel
from ttd_kernels.harness.looks import Looks
from ttd_kernels.helpers.shared_memory import DONE_OFFSET, START_OFFSET, Semaphore, tensor_at

#: Longest that a call is waited for to be queued before its inputs are there, seconds. One that waits for the
#: GPU in the middle never is; its times then hold what the host does after that.
_QUEUE_S = 0.02
#: Longest that a message is waited for without sleeping, seconds.
_SPIN_S = 0.2
#: Seconds after a reply for which the outputs are waited for before the wait is ended.
_PATIENCE_S = 0.05
#: Launches of the judge's that may wait behind the gate: some thousand fill the driver's queue.
_MOST_LAUNCHES = 600


@attrs.frozen
class PreparedCall:
    """One call that the candidate's process has prepared, and the judge's part in it.

    :param number: of the call, larger each time: the value that the semaphores take.
    :param launches: how many launches ``reveal_inputs`` and ``read_outputs`` make at most.
    :param timeout_s: longest that the reply is waited for, seconds.
    :param reveal_inputs: copies the inputs to where the candidate looks for them.
    :param read_outputs: copies the outputs to where the candidate cannot reach them.
    :param looks: looks at the outputs when the program has said that they are there; such a call's times say
        nothing.
    """

    number: int
    launches: int
    timeout_s: float
    reveal_inputs: Callable[[], None]
    read_outputs: Callable[[], None]
    looks: Looks | None = None


@attrs.frozen
class TimedCall:
    """A call that was made.

    :param reply: what the candidate's process said in the end.
    :param wall_us: by the judge's clock, microseconds from before the inputs come to the outputs read.
    :param queued_us: microseconds its process took to queue all of it, or for which that was waited for.
    :param queued_ahead: whether all was queued before it began.
    """

    reply: dict[str, Any]
    wall_us: float
    queued_us: float
    queued_ahead: bool


class TimingProtocol(Protocol):
    """How one call is made and timed on a device."""

    def make_call(self, channel: Channel, call: PreparedCall) -> TimedCall:
        """Have the candidate's process make a call that it has prepared.

        :raises CandidateEndedError: when the process is gone.
        """
        ...


class CpuTimingProtocol:
    """Turns by messages, on the host's clock."""

    def make_call(self, channel: Channel, call: PreparedCall) -> TimedCall:
        """See :class:`TimingProtocol`."""
        channel.send({"do": "go"})
        first_reply = channel.receive(call.timeout_s)
        began = time.perf_counter()
        call.reveal_inputs()
        channel.send({"do": "run"})
        reply = channel.receive(call.timeout_s) if "queued" in first_reply else first_reply
        if call.looks is not None:
            call.looks.look(call.number)
        call.read_outputs()
        return TimedCall(reply, 1e6 * (time.perf_counter() - began), 0.0, queued_ahead=True)


class GpuTimingProtocol:
    """Turns by semaphores in the GPU's memory, on the GPU's clock.

    :param shared: the inputs' memory, uint8 [bytes], whose header holds the semaphores.
    """

    def __init__(self, shared: torch.Tensor) -> None:
        self._device = shared.device
        # in the host's memory, so that it opens without a launch; nobody else can reach it
        self._gate = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        self._gate_semaphore = Semaphore(self._gate)
        self._start_semaphore, self._done_semaphore = (
            Semaphore(tensor_at(shared, (offset, "int32", [1])).zero_())
            for offset in (START_OFFSET, DONE_OFFSET)
        )
        self._side_stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def make_call(self, channel: Channel, call: PreparedCall) -> TimedCall:
        """See :class:`TimingProtocol`."""
        torch.cuda.synchronize(self._device)
        deadline = time.monotonic() + call.timeout_s
        if call.launches > _MOST_LAUNCHES:
            self._open_gate(call)
        began, ended = self._queue(call)
        try:
            asked = time.perf_counter()
            channel.send({"do": "go"})
            first_reply = channel.receive_within(_QUEUE_S, _SPIN_S)
            queued = time.perf_counter()
            self._open_gate(call)
            first, reply = first_reply, None
            if call.looks is not None:
                first, reply = look_until_done(first, channel, call, call.looks)
            if reply is None:
                reply = final_reply(first, channel, call.timeout_s)
        finally:
            self._finish(call, ended, deadline)
        queued_ahead = first_reply is not None and "queued" in first_reply
        return TimedCall(reply, 1e3 * began.elapsed_time(ended), 1e6 * (queued - asked), queued_ahead)

    def _open_gate(self, call: PreparedCall) -> None:
        """Let the judge's stream begin this call."""
        self._gate.fill_(call.number)

    def _queue(self, call: PreparedCall) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        """Queue the judge's part of a call behind the gate; the events between which it takes place."""
        stream = torch.cuda.current_stream(self._device)
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._gate_semaphore.wait(call.number, stream.cuda_stream)
        began.record(stream)
        call.reveal_inputs()
        self._start_semaphore.signal(call.number, stream.cuda_stream)
        self._done_semaphore.wait(call.number, stream.cuda_stream)
        call.read_outputs()
        ended.record(stream)
        return began, ended

    def _finish(self, call: PreparedCall, ended: torch.cuda.Event, deadline: float) -> None:
        """Wait for the end of the judge's part. Where the candidate does not signal *done*, or overwrites it,
        signal it from here.

        :param deadline: on the monotonic clock.
        :raises CandidateEndedError: when even that does not help, since the candidate goes on overwriting it.
        """
        self._open_gate(call)
        patience = time.monotonic() + _PATIENCE_S
        while not ended.query():  # type: ignore[no-untyped-call]
            now = time.monotonic()
            if now > patience:
                self._done_semaphore.signal(call.number, self._side_stream.cuda_stream)
                time.sleep(0.001)
            if now > max(deadline, patience + _PATIENCE_S):
                raise CandidateEndedError("the program kept the judge from reading its outputs")


def look_until_done(
    first_reply: dict[str, Any] | None, channel: Channel, call: PreparedCall, looks: Looks
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Look at the outputs until the candidate has said *done*, or some time after its final reply.

    :param first_reply: see :func:`final_reply`.
    :return: what was said first, and the final reply, each ``None`` where it has not come.
    :raises CandidateEndedError: when the process is gone.
    """
    reply = first_reply if first_reply is not None and "queued" not in first_reply else None
    until = time.monotonic() + (_PATIENCE_S if reply is not None else call.timeout_s)
    while not looks.look(call.number) and time.monotonic() < until:
        message = None if reply is not None else channel.receive_within(0.0)
        if message is None:
            continue
        if first_reply is None and "queued" in message:
            first_reply = message
        else:
            reply, until = message, time.monotonic() + _PATIENCE_S
    return first_reply, reply


def final_reply(first_reply: dict[str, Any] | None, channel: Channel, timeout_s: float) -> dict[str, Any]:
    """The reply that ends a call.

    :param first_reply: what the candidate's process said before the call began: that all is queued, or
        already the final reply; ``None`` where it said nothing in time, so that both are still to come, or
        the final one alone.
    :raises CandidateEndedError: when the process is gone.
    """
    if first_reply is not None and "queued" not in first_reply:
        return first_reply
    reply = channel.receive(timeout_s, _SPIN_S)
    if first_reply is None and "queued" in reply:
        reply = channel.receive(timeout_s, _SPIN_S)
    return reply
