"""One device with the memory that judge and candidate share, and one call of a kernel after another on it.

Inputs lie in memory of the judge's own and are revealed by a copy just before a call; outputs are read back
by a copy just after it. The judge's clock runs from before the first copy to the end of the last: two
processes share a GPU by turns, so whoever starts early, or has the GPU work on after saying that it is done,
delays the judge's own copies by as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import attrs
import torch

from ttd_core.types import Status
from ttd_kernels.case import Case, Output, places
from ttd_kernels.channel import Channel
from ttd_kernels.compare import POISON
from ttd_kernels.gpus import CPU
from ttd_kernels.helpers.memory import Shared, rounded, view

#: Bytes by which the place of the inputs may vary, so that no address tells a call from another.
_ROOM = {CPU: 1 << 16}
_ROOM_ON_GPU = 32 << 20
#: Bytes of an input that is revealed last, when the cache has been emptied: weights, or a token.
_SMALL = 4 << 20
#: Longest that a kernel's end is waited for awake.
_AWAKE_S = 0.2
#: Bytes written between calls so that nothing of the inputs is left in the GPU's cache.
_FLUSHED = 512 << 20


class RefusedError(Exception):
    """A candidate failed; what its verdict says."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@attrs.frozen(eq=False)
class Ran:
    """A call that returned, or some in a row.

    :param outputs: what each call wrote, in memory of the judge's own.
    :param claimed_us: microseconds of a single call, as its process says.
    :param wall_us: by the judge's clock, from before the inputs are there to after the outputs are read.
    :param told_us: by the judge's clock, from the word to start to the word that all is done.
    """

    outputs: list[list[torch.Tensor]]
    claimed_us: float
    wall_us: float
    told_us: float


class Bench:
    """A device and its shared memory.

    :param device: ``cpu`` or ``cuda:0`` and so on.
    :param input_bytes: of all cases that are there at once.
    :param output_bytes: of all their outputs.
    :param flush: whether to empty the GPU's cache before each timed call.
    """

    def __init__(self, device: str, input_bytes: int, output_bytes: int, flush: bool) -> None:
        room = _ROOM.get(device, _ROOM_ON_GPU)
        self.device = device
        self._inputs = Shared(rounded(input_bytes + room, device), device)
        self._outputs = Shared(rounded(output_bytes + room, device), device)
        self._kept = torch.empty(output_bytes + 64 * 512, dtype=torch.uint8, device=device)
        flushed = _FLUSHED if flush and device != CPU else 0
        self._flushed = torch.empty(flushed, dtype=torch.uint8, device=device)
        self.descriptors = (self._inputs.descriptor, self._outputs.descriptor)
        self.sizes = (self._inputs.size, self._outputs.size)

    def close(self) -> None:
        """Give the memory back."""
        self._inputs.close()
        self._outputs.close()

    def call(
        self,
        channel: Channel,
        cases: Sequence[Case],
        outputs: Sequence[Output],
        timeout_s: float,
        empty: bool = False,
    ) -> Ran:
        """Let the candidate's process make one call for each case, in a row.

        :param cases: of one shape.
        :param outputs: what each call must return.
        :param empty: have it run no kernel, to learn what everything else takes.
        :raises RefusedError: when the kernel fails.
        :raises Ended: when its process is gone.
        """
        leaves = [leaf for case in cases for leaf in case.leaves.values()]
        put = places([(leaf.dtype, leaf.shape) for leaf in leaves], self._inputs.size)
        got = places([(output.dtype, output.shape) for output in outputs] * len(cases), self._outputs.size)
        expect(channel.ask(_preparation(cases, put, got, empty), timeout_s), "ready")
        self._synchronize()
        began = time.perf_counter()
        kept = self._room_for(got)
        written = [view(self._outputs.flat, place) for place in got]
        for each in written:
            each.reshape(-1).view(torch.uint8).fill_(POISON)
        early, late = _by_size(list(zip(leaves, put, strict=True)))
        for leaf, place in early:
            view(self._inputs.flat, place).copy_(leaf)
        if self._flushed.numel():
            self._flushed.fill_(0)
        for leaf, place in late:
            view(self._inputs.flat, place).copy_(leaf)
        self._synchronize()
        told = time.perf_counter()
        channel.tell({"do": "go"})
        answer = channel.hear(timeout_s, 0.0 if self.device == CPU else _AWAKE_S)
        answered = time.perf_counter()
        for mine, theirs in zip(kept, written, strict=True):
            mine.copy_(theirs)
        self._synchronize()
        ended = time.perf_counter()
        claimed = expect(answer, "event_us")
        return Ran(
            _split(kept, len(cases)), _microseconds(claimed), 1e6 * (ended - began), 1e6 * (answered - told)
        )

    def _room_for(self, got: Sequence[Any]) -> list[torch.Tensor]:
        first = got[0][0]
        return [view(self._kept, (offset - first, name, shape)) for offset, name, shape in got]

    def _synchronize(self) -> None:
        if self.device != CPU:
            torch.cuda.synchronize(self.device)


def _by_size(pairs: list[tuple[torch.Tensor, Any]]) -> tuple[list[Any], list[Any]]:
    """Inputs to reveal first, and the small ones to reveal last, without which little can be begun."""
    least = max(_SMALL, min((leaf.nbytes for leaf, _ in pairs), default=0))
    early = [pair for pair in pairs if pair[0].nbytes > least]
    return early, [pair for pair in pairs if pair[0].nbytes <= least]


def _split(items: Sequence[Any], parts: int) -> list[list[Any]]:
    """In equal parts, in order."""
    size = len(items) // parts
    return [list(items[size * part : size * (part + 1)]) for part in range(parts)]


def _preparation(
    cases: Sequence[Case], put: Sequence[Any], got: Sequence[Any], empty: bool
) -> dict[str, Any]:
    """What the candidate's side is told: where everything will be."""
    calls = [
        {"leaves": {} if empty else dict(zip(case.leaves, there, strict=True)), "outputs": back}
        for case, there, back in zip(cases, _split(put, len(cases)), _split(got, len(cases)), strict=True)
    ]
    return {"do": "prepare", "tree": None if empty else cases[0].tree, "calls": calls, "null": empty}


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
