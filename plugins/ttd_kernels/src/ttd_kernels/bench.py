"""One device with the memory that judge and candidate share, and one call of a kernel after another on it.

Inputs lie in memory of the judge's own and are revealed by a copy just before a call; outputs are read back
by a copy just after it (:mod:`ttd_kernels.meeting`). The judge's clock runs from before the first copy to
the end of the last: two processes share a GPU by turns, so whoever starts early, or has the GPU work on after
saying that it is done, delays the judge's own copies by as much.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import attrs
import torch

from ttd_core.types import Status
from ttd_kernels.case import Case, Output, places
from ttd_kernels.channel import Channel
from ttd_kernels.compare import POISON
from ttd_kernels.gpus import CPU
from ttd_kernels.helpers.memory import HEAD, Shared, rounded, view
from ttd_kernels.meeting import OnCpu, OnGpu, Place, Turn

#: Bytes by which the place of the inputs may vary, so that no address tells a call from another.
_ROOM = {CPU: 1 << 16}
_ROOM_ON_GPU = 32 << 20
#: Bytes of an input that is revealed last, when the cache has been emptied: weights, or a token.
_SMALL = 4 << 20
#: Bytes written between calls so that nothing of the inputs is left in the GPU's cache.
_FLUSHED = 512 << 20

#: A tensor of the judge's own and its place in the shared memory.
Pair = tuple[torch.Tensor, torch.Tensor]


class RefusedError(Exception):
    """A candidate failed; what its verdict says."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@attrs.frozen(eq=False)
class Ran:
    """A call that returned.

    :param outputs: what it wrote, in memory of the judge's own.
    :param claimed_us: microseconds of the kernel, as its process says.
    :param wall_us: by the judge's clock, from before the inputs are there to after the outputs are read.
    :param queued_us: what the candidate's process took to queue all of it, by the host's clock.
    :param ahead: whether it was queued before it began, so that the GPU waited for no launch.
    """

    outputs: list[torch.Tensor]
    claimed_us: float
    wall_us: float
    queued_us: float
    ahead: bool


class Bench:
    """A device and its shared memory.

    :param device: ``cpu`` or ``cuda:0`` and so on.
    :param input_bytes: of the largest case.
    :param output_bytes: of its outputs.
    :param flush: whether to empty the GPU's cache before each call.
    """

    def __init__(self, device: str, input_bytes: int, output_bytes: int, flush: bool) -> None:
        room = _ROOM.get(device, _ROOM_ON_GPU)
        self.device = device
        self._inputs = Shared(rounded(HEAD + input_bytes + room, device), device)
        self._outputs = Shared(rounded(output_bytes + room, device), device)
        self._kept = torch.empty(output_bytes + 64 * 512, dtype=torch.uint8, device=device)
        flushed = _FLUSHED if flush and device != CPU else 0
        self._flushed = torch.empty(flushed, dtype=torch.uint8, device=device)
        self.descriptors = (self._inputs.descriptor, self._outputs.descriptor)
        self.sizes = (self._inputs.size, self._outputs.size)
        self._place: Place = OnCpu() if device == CPU else OnGpu(self._inputs.flat)
        self._ticket = 0

    def close(self) -> None:
        """Give the memory back."""
        self._inputs.close()
        self._outputs.close()

    def call(
        self,
        channel: Channel,
        case: Case,
        outputs: Sequence[Output],
        timeout_s: float,
        empty: bool = False,
    ) -> Ran:
        """Let the candidate's process call its kernel.

        :param outputs: what it must return.
        :param empty: have it run no kernel, to learn what everything else takes.
        :raises RefusedError: when the kernel fails.
        :raises Ended: when its process is gone.
        """
        leaves = list(case.leaves.values())
        put = places([(leaf.dtype, leaf.shape) for leaf in leaves], self._inputs.size, HEAD)
        got = places([(output.dtype, output.shape) for output in outputs], self._outputs.size)
        kept = self._room_for(got)
        written = [view(self._outputs.flat, place) for place in got]
        revealed = [(leaf, view(self._inputs.flat, place)) for leaf, place in zip(leaves, put, strict=True)]
        self._ticket += 1
        told = {
            "do": "prepare",
            "tree": None if empty else case.tree,
            "leaves": {} if empty else dict(zip(case.leaves, put, strict=True)),
            "outputs": got,
            "null": empty,
            "ticket": self._ticket,
        }
        expect(channel.ask(told, timeout_s), "ready")
        turn = Turn(
            ticket=self._ticket,
            launches=2 * len(written) + len(revealed) + 1,
            timeout_s=timeout_s,
            reveal=functools.partial(self._reveal, revealed, written),
            read=functools.partial(_copy, written, kept),
        )
        met = self._place.meet(channel, turn)
        claimed = expect(met.answer, "event_us")
        claimed_us = 0.0 if empty else _microseconds(claimed)
        return Ran(kept, claimed_us, met.wall_us, met.queued_us, met.ahead)

    def _reveal(self, revealed: Sequence[Pair], written: Sequence[torch.Tensor]) -> None:
        """Make the outputs no numbers, and bring the inputs; on a GPU this is queued."""
        for each in written:
            each.reshape(-1).view(torch.uint8).fill_(POISON)
        early, late = _by_size(revealed)
        for leaf, place in early:
            place.copy_(leaf)
        if self._flushed.numel():
            self._flushed.fill_(0)
        for leaf, place in late:
            place.copy_(leaf)

    def _room_for(self, got: Sequence[Any]) -> list[torch.Tensor]:
        first = got[0][0]
        return [view(self._kept, (offset - first, name, shape)) for offset, name, shape in got]


def _copy(written: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]) -> None:
    for theirs, mine in zip(written, kept, strict=True):
        mine.copy_(theirs)


def _by_size(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Inputs to reveal first, and the small ones to reveal last, without which little can be begun."""
    least = max(_SMALL, min((leaf.nbytes for leaf, _ in pairs), default=0))
    early = [pair for pair in pairs if pair[0].nbytes > least]
    return early, [pair for pair in pairs if pair[0].nbytes <= least]


_STATUSES = {
    "crash": Status.CRASH,
    "memory": Status.MEMORY,
    "forbidden": Status.FORBIDDEN,
}


def expect(answer: dict[str, Any], key: str) -> Any:
    """A part of an answer that tells of no failure.

    :raises RefusedError: else.
    """
    if "failed" in answer:
        status = _STATUSES.get(str(answer.get("kind")), Status.CRASH)
        raise RefusedError(status, _text(answer["failed"]))
    if "wrong" in answer:
        raise RefusedError(Status.INVALID, _text(answer["wrong"]))
    if key not in answer:
        raise RefusedError(Status.REJECTED, "the program answered the harness in its own words")
    return answer[key]


def _microseconds(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise RefusedError(Status.REJECTED, f"it claims to have taken {_text(value)} us")
    return float(value)


def _text(value: Any) -> str:
    printable = "".join(letter for letter in str(value)[:400] if letter.isprintable())
    return " ".join(printable.split())
