"""One device with the memory that judge and candidate share, and one call of a kernel after another on it.

Inputs lie in memory of the judge's own and are revealed by a copy just before a call; outputs are read back
by a copy just after it (:mod:`ttd_kernels.harness.timing_protocol`). The judge's clock runs from before the
first copy to the end of the last: two processes share a GPU by turns, so whoever starts early, or has the GPU
work on after saying that it is done, delays the judge's own copies by as much.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import torch

from ttd_kernels.harness.channel import Channel
from ttd_kernels.harness.compare import POISON
from ttd_kernels.harness.gpus import CPU
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec
from ttd_kernels.harness.looks import CpuLooks, GpuLooker, LookResult
from ttd_kernels.harness.memory_layout import ALIGNMENT, TensorLocation, random_locations
from ttd_kernels.harness.replies import claimed_microseconds, reply_value
from ttd_kernels.harness.timing_protocol import (
    CpuTimingProtocol,
    GpuTimingProtocol,
    PreparedCall,
    TimingProtocol,
)
from ttd_kernels.helpers.shared_memory import (
    DONE_OFFSET,
    HEADER_BYTES,
    SharedMemory,
    allocation_size,
    tensor_at,
)

#: Bytes by which the start of the tensors in shared memory may vary, so that no address tells a call from
#: another.
_SPARE_BYTES_ON_CPU, _SPARE_BYTES_ON_GPU = 1 << 16, 32 << 20
#: Bytes of an input that is revealed last, when the cache has been emptied: weights, or a token.
_SMALL_BYTES = 4 << 20
#: Bytes written between calls so that nothing of the inputs is left in the GPU's cache.
_FLUSHED_BYTES = 512 << 20
#: Cycles for which a kernel of the harness's own runs in an empty call that is looked at, some 500 us: looks
#: must come as soon beside one of a candidate's, and some GPU may let them wait for it.
_SPUN_CYCLES = 1_000_000
#: Most outputs of a kernel for which there is room between their starts.
_MOST_OUTPUTS = 64

#: A tensor in the judge's own memory, and where it is copied to in shared memory.
_Copy = tuple[torch.Tensor, torch.Tensor]


@attrs.frozen(eq=False)
class CallResult:
    """A call that returned.

    :param outputs: what the kernel wrote, in memory of the judge's own.
    :param claimed_us: microseconds of the kernel, as its process says; 0 for an empty call.
    :param wall_us: by the judge's clock, from before the inputs are there to after the outputs are read.
    :param queued_us: what the candidate's process took to queue all of it, by the host's clock.
    :param queued_ahead: whether it was queued before it began, so that the GPU waited for no launch.
    :param look: what looks at the outputs found when they were said to be there, where there were any.
    """

    outputs: list[torch.Tensor]
    claimed_us: float
    wall_us: float
    queued_us: float
    queued_ahead: bool
    look: LookResult | None = None


class DeviceSession:
    """A device and the memory on it that the judge shares with one candidate's process.

    ``descriptors`` and ``sizes`` are what that process maps: the inputs' memory and the outputs'.

    :param device: ``cpu`` or ``cuda:0`` and so on.
    :param input_bytes: of the largest inputs of a call.
    :param output_bytes: of the largest outputs of a call.
    :param flush_l2: whether to empty the GPU's cache before each call.
    """

    def __init__(self, device: str, input_bytes: int, output_bytes: int, flush_l2: bool) -> None:
        spare = _SPARE_BYTES_ON_CPU if device == CPU else _SPARE_BYTES_ON_GPU
        self.device = device
        self._inputs = SharedMemory(allocation_size(HEADER_BYTES + input_bytes + spare, device), device)
        self._outputs = SharedMemory(allocation_size(output_bytes + spare, device), device)
        own_bytes = output_bytes + _MOST_OUTPUTS * ALIGNMENT
        self._own_outputs = torch.empty(own_bytes, dtype=torch.uint8, device=device)
        flushed_bytes = _FLUSHED_BYTES if flush_l2 and device != CPU else 0
        self._flushed = torch.empty(flushed_bytes, dtype=torch.uint8, device=device)
        self.descriptors = (self._inputs.descriptor, self._outputs.descriptor)
        self.sizes = (self._inputs.size, self._outputs.size)
        self._protocol: TimingProtocol = (
            CpuTimingProtocol() if device == CPU else GpuTimingProtocol(self._inputs.bytes)
        )
        self._looks_at = (
            CpuLooks
            if device == CPU
            else GpuLooker(tensor_at(self._inputs.bytes, (DONE_OFFSET, "int32", [1]))).at
        )
        self._calls = 0

    def synchronize(self) -> None:
        """Wait until the device has done what this process gave it."""
        if self.device != CPU:
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """Give the memory back."""
        self._inputs.close()
        self._outputs.close()

    def call_kernel(
        self,
        channel: Channel,
        inputs: KernelInputs,
        specs: Sequence[OutputSpec],
        timeout_s: float,
        empty: bool = False,
        look: bool = False,
    ) -> CallResult:
        """Have the candidate's process call its kernel.

        :param inputs: on this device.
        :param specs: what the kernel must return.
        :param timeout_s: longest wait for each reply, seconds.
        :param empty: have it run no kernel, to learn what everything else takes.
        :param look: look whether the outputs are complete when it says so; the times then say nothing.
        :raises EvaluationError: when the kernel fails.
        :raises CandidateEndedError: when its process is gone.
        """
        tensors = inputs.tensors.values()
        input_locations = random_locations(
            [(tensor.dtype, tensor.shape) for tensor in tensors], self._inputs.size, HEADER_BYTES
        )
        output_locations = random_locations([(spec.dtype, spec.shape) for spec in specs], self._outputs.size)
        own = self._own_tensors(output_locations)
        shared_outputs = [tensor_at(self._outputs.bytes, location) for location in output_locations]
        reveals = [
            (tensor, tensor_at(self._inputs.bytes, location))
            for tensor, location in zip(tensors, input_locations, strict=True)
        ]
        self._calls += 1
        preparation = {
            "do": "prepare",
            "argument": None if empty else inputs.argument,
            "tensors": {} if empty else dict(zip(inputs.tensors, input_locations, strict=True)),
            "outputs": output_locations,
            "empty": empty,
            "spin": _SPUN_CYCLES if empty and look else 0,
            "call_number": self._calls,
        }
        reply_value(channel.request(preparation, timeout_s), "ready")
        call = PreparedCall(
            number=self._calls,
            launches=2 * len(shared_outputs) + len(reveals) + 1,
            timeout_s=timeout_s,
            reveal_inputs=functools.partial(self._reveal, reveals, shared_outputs),
            read_outputs=functools.partial(_copy_all, list(zip(shared_outputs, own, strict=True))),
            looks=self._looks_at(shared_outputs) if look else None,
        )
        timed = self._protocol.make_call(channel, call)
        claim = reply_value(timed.reply, "event_us")
        claimed_us = 0.0 if empty else claimed_microseconds(claim)
        seen = None if call.looks is None else call.looks.result(own)
        return CallResult(own, claimed_us, timed.wall_us, timed.queued_us, timed.queued_ahead, seen)

    def _reveal(self, reveals: Sequence[_Copy], shared_outputs: Sequence[torch.Tensor]) -> None:
        """Fill the outputs with what is no number, and bring the inputs; on a GPU this is queued."""
        for output in shared_outputs:
            output.reshape(-1).view(torch.uint8).fill_(POISON)
        large, small = _by_size(reveals)
        _copy_all(large)
        if self._flushed.numel():
            self._flushed.fill_(0)
        _copy_all(small)

    def _own_tensors(self, locations: Sequence[TensorLocation]) -> list[torch.Tensor]:
        """Tensors in the judge's own memory that lie to each other as those at ``locations``."""
        first = locations[0][0]
        return [
            tensor_at(self._own_outputs, (offset - first, name, sizes)) for offset, name, sizes in locations
        ]


def _copy_all(copies: Sequence[_Copy]) -> None:
    for source, target in copies:
        target.copy_(source)


def _by_size(reveals: Sequence[_Copy]) -> tuple[list[_Copy], list[_Copy]]:
    """Inputs to reveal first, and the small ones to reveal last, without which little can be begun."""
    limit = max(_SMALL_BYTES, min((tensor.nbytes for tensor, _ in reveals), default=0))
    large = [copy for copy in reveals if copy[0].nbytes > limit]
    return large, [copy for copy in reveals if copy[0].nbytes <= limit]
