"""Looks at samples of a call's outputs as soon as its program has said *done*: are they complete by then?

Between *done* and the judge's own copies a GPU changes processes, and the judge's clock takes for that what
an empty call takes. A program that says *done* early works on meanwhile, unseen. So in some calls, which
nobody can tell from the others, samples are read without a change of processes: on a GPU by a copy engine,
which serves both processes at once, over and over from before *start*, each time the semaphore first and the
samples after it. The first samples after *done* must be bit for bit what the judge's copies find later. What
one look cannot exclude is what happened between the beginning of the last look that saw no *done* and the end
of the one that did, by the judge's own clock: the look's *age*. A busy host makes it older, never younger.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import Protocol, Self

import attrs
import torch

from ttd_kernels.helpers.shared_memory import CopyToHost

#: Bytes of one sample, and samples of all outputs of a call together; the number varies, so that no pattern
#: of work left for later falls between them.
_WIDTH, _FEWEST, _MOST = 32, 192, 256
#: Samples of each output at least, however many there are.
_LEAST_EACH = 16
#: Looks that may be under way at once, and how many are kept: also those before them.
_AHEAD, _SLOTS = 4, 16
#: What the semaphore's copy is until it has landed: no call has such a number.
_NOT_YET = -(2**31)
#: Room for the samples of a look, bytes.
_ROOM = 64 * _LEAST_EACH * _WIDTH


@attrs.frozen
class SampleGrid:
    """Where the samples of an output lie in it, in bytes: ``count`` times ``width``, ``pitch`` apart."""

    start: int
    pitch: int
    count: int
    width: int

    @classmethod
    def random(cls, nbytes: int, outputs: int = 1) -> Self:
        """Samples all over an output, at places that nobody can foretell.

        :param nbytes: of the output, at least one.
        :param outputs: how many outputs share the samples.
        """
        width = min(_WIDTH, nbytes)
        wanted = max(_LEAST_EACH, (_FEWEST + secrets.randbelow(_MOST - _FEWEST + 1)) // outputs)
        count = max(1, min(wanted, nbytes // width))
        pitch = nbytes // count
        start = secrets.randbelow(nbytes - (count - 1) * pitch - width + 1)
        return cls(start, pitch, count, width)

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return self.count * self.width

    def of(self, output: torch.Tensor) -> torch.Tensor:
        """The samples of a contiguous output, a view: uint8 [count, width]."""
        flat = output.reshape(-1).view(torch.uint8)
        return flat.as_strided((self.count, self.width), (self.pitch, 1), flat.storage_offset() + self.start)


@attrs.frozen
class LookResult:
    """What the looks at one call found.

    :param changed: samples that were not yet what they were in the end.
    :param samples: how many there are.
    :param age_us: how long after *done* they may have been read, microseconds; infinite where no look saw it.
    """

    changed: int
    samples: int
    age_us: float


class Looks(Protocol):
    """Looks at the outputs of one call."""

    def look(self, number: int) -> bool:
        """Look once; whether *done* has been seen.

        :param number: of the call, which the semaphore has when the program has said *done*.
        """
        ...

    def result(self, outputs: Sequence[torch.Tensor]) -> LookResult:
        """What the looks found, once the call is over.

        :param outputs: as the judge copied them.
        """
        ...


def changed(
    samples: Sequence[torch.Tensor], grids: Sequence[SampleGrid], outputs: Sequence[torch.Tensor]
) -> int:
    """How many samples differ from the outputs, bit for bit.

    :param samples: uint8 [count, width] for each output, on the host.
    :param outputs: as the judge copied them.
    """
    return sum(
        int((early != grid.of(output).cpu()).any(1).sum())
        for early, grid, output in zip(samples, grids, outputs, strict=True)
    )


class CpuLooks:
    """Looks by the host, on the CPU: one, when the program has answered.

    :param outputs: in shared memory.
    """

    def __init__(self, outputs: Sequence[torch.Tensor]) -> None:
        self._outputs = outputs
        self._grids = [SampleGrid.random(output.nbytes, len(outputs)) for output in outputs]
        self._samples: list[torch.Tensor] = []
        self._age_us = math.inf

    def look(self, number: int) -> bool:
        """See :class:`Looks`; ``number`` is not needed."""
        began = time.perf_counter()
        self._samples = [
            grid.of(output).clone() for grid, output in zip(self._grids, self._outputs, strict=True)
        ]
        self._age_us = 1e6 * (time.perf_counter() - began)
        return True

    def result(self, outputs: Sequence[torch.Tensor]) -> LookResult:
        """See :class:`Looks`."""
        grids = self._grids if self._samples else []
        differing = changed(self._samples, grids, outputs[: len(grids)])
        return LookResult(differing, sum(grid.count for grid in grids), self._age_us)


class GpuLooker:
    """What looks on a GPU need, kept from call to call.

    :param done: the semaphore of *done*, int32 [1] in shared memory.
    """

    def __init__(self, done: torch.Tensor) -> None:
        self.done = done
        self.stream = torch.cuda.Stream(done.device)  # type: ignore[no-untyped-call]
        self.copy, self.clock = CopyToHost(), time.perf_counter
        self.words = torch.zeros(_SLOTS, dtype=torch.int32, pin_memory=True)
        self.samples = torch.zeros((_SLOTS, _ROOM), dtype=torch.uint8, pin_memory=True)

    def at(self, outputs: Sequence[torch.Tensor]) -> GpuLooks:
        """Looks at the outputs of one call."""
        self.stream.synchronize()
        return GpuLooks(self, outputs)


class GpuLooks:
    """Looks by a copy engine of the GPU: each is queued while those before it are under way.

    That one has come is told from its semaphore's copy, which the host reads where it lands, so that nothing
    but copies is asked of the GPU.

    :param looker: stream and memory.
    :param outputs: in shared memory.
    """

    def __init__(self, looker: GpuLooker, outputs: Sequence[torch.Tensor]) -> None:
        self._looker = looker
        self._grids = [SampleGrid.random(output.nbytes, len(outputs)) for output in outputs]
        self._sources = [
            output.data_ptr() + grid.start for output, grid in zip(outputs, self._grids, strict=True)
        ]
        self._done, self._stream = looker.done.data_ptr(), looker.stream.cuda_stream
        self._words, self._word_at = looker.words.numpy(), looker.words.data_ptr()
        self._samples_at = looker.samples.data_ptr()
        self._asked_s = [0.0] * _SLOTS
        self._queued = self._landed = 0
        self._saw_done: int | None = None
        self._age_us = math.inf

    def look(self, number: int) -> bool:
        """See :class:`Looks`."""
        if self._queued - self._landed < _AHEAD:
            self._queue()
        while self._landed < self._queued and self._words[self._landed % _SLOTS] != _NOT_YET:
            if self._saw_done is not None:
                # the look after it has begun, so all of it has landed
                asked_s = self._asked_s[(self._saw_done - 1) % _SLOTS]
                if self._saw_done > 0:
                    self._age_us = 1e6 * (self._looker.clock() - asked_s)
                return True
            if self._words[self._landed % _SLOTS] >= number:
                self._saw_done = self._landed
            self._landed += 1
        return False

    def _queue(self) -> None:
        """The semaphore, then the samples: one stream's copies come one after the other."""
        slot = self._queued % _SLOTS
        self._words[slot] = _NOT_YET
        self._asked_s[slot] = self._looker.clock()
        rows = self._looker.copy.rows
        rows(self._word_at + 4 * slot, self._done, 4, 4, 1, self._stream)
        target = self._samples_at + _ROOM * slot
        for grid, source in zip(self._grids, self._sources, strict=True):
            rows(target, source, grid.width, grid.pitch, grid.count, self._stream)
            target += grid.nbytes
        self._queued += 1

    def result(self, outputs: Sequence[torch.Tensor]) -> LookResult:
        """See :class:`Looks`."""
        self._looker.stream.synchronize()
        if self._saw_done is None:
            return LookResult(0, 0, math.inf)
        row, samples = self._looker.samples[self._saw_done % _SLOTS], []
        for grid in self._grids:
            samples.append(row[: grid.nbytes].view(grid.count, grid.width))
            row = row[grid.nbytes :]
        found = changed(samples, self._grids, outputs)
        return LookResult(found, sum(grid.count for grid in self._grids), self._age_us)
