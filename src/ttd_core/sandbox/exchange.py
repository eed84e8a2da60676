"""Follow one running job from the trusted process: read its result and its output, keep its deadline.

Nothing read here is believed: the frame is checked byte by byte as it arrives, output is counted and only
its tail kept, and a clock of our own ends what the server fails to end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ttd_core.sandbox.base import GIB, Limits
from ttd_core.sandbox.connection import Connection
from ttd_core.sandbox.inside import frames

#: Seconds beyond the wall limit that the server has to report before it is ended itself; and seconds more
#: for each GiB that the kernel may have to take back.
GRACE_S = 1.0
GRACE_PER_GIB_S = 0.5
_CHUNK = 1 << 16
#: Capacity in bytes of a pipe that carries large results.
_LARGE_PIPE = 1 << 20


class DeadlineMissed(Exception):
    """A job ran out of time and its server did not report its end: both must go."""


OutputListener = Callable[[bytes], None]


class StreamTail:
    """Counts the bytes of a stream and keeps its last ones.

    :param kept: bytes to keep.
    :param limit: bytes after which :attr:`over` is true.
    """

    def __init__(self, kept: int, limit: int) -> None:
        self._kept = kept
        self._limit = limit
        self._data = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take more bytes."""
        self.total += len(data)
        self._data += data
        if len(self._data) > 2 * self._kept + _CHUNK:
            del self._data[: -self._kept]

    @property
    def over(self) -> bool:
        """Whether more came than allowed."""
        return self.total > self._limit

    def bytes(self) -> bytes:
        """The end of the stream."""
        return bytes(self._data[-self._kept :])


class FrameReader:
    """Reads one frame into memory of our own, refusing the first byte that does not fit.

    :param limit: most bytes after the header.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._arrays: list[np.ndarray[Any, Any]] = []
        self._body = bytearray()
        self._buffers = self._expected()
        #: Where the next bytes go; ``None`` after the last one.
        self._buffer: memoryview | None = next(self._buffers)
        self.header: frames.Header | None = None
        self.error = ""
        self.over = False
        self.started = False

    def _expected(self) -> Iterator[memoryview]:
        """The buffers that the frame's bytes go to, in order; each is made when its length is known."""
        prefix = bytearray(frames.PREFIX.size)
        yield memoryview(prefix)
        text = bytearray(frames.header_length(bytes(prefix)))
        yield memoryview(text)
        header = frames.read_header(bytes(text))
        if header.total > self._limit:
            self.over = True
            raise frames.FrameError(
                f"the result takes {header.total} bytes: at most {self._limit} are allowed"
            )
        self.header = header
        self._body = bytearray(header.body)
        yield memoryview(self._body)
        for dtype, shape in header.arrays:
            array = _empty_array(shape, dtype)
            self._arrays.append(array)
            if array.size:
                yield array.reshape(-1).view(np.uint8).data

    def read(self, descriptor: int) -> bool:
        """Read what is there.

        :return: False at the stream's end, or once the frame has proved wrong.
        """
        buffer = self._buffer if self._buffer is not None else memoryview(bytearray(1))
        count = os.readv(descriptor, [buffer])
        if count == 0:
            return False
        self.started = True
        if self._buffer is None:
            self.error = "bytes follow the end of the frame"
            return False
        left = buffer[count:]
        try:
            self._buffer = left if left.nbytes else next(self._buffers, None)
        except frames.FrameError as error:
            self.error = str(error)
            return False
        return True

    @property
    def complete(self) -> bool:
        """Whether a whole frame came, and nothing after it."""
        return self._buffer is None and not self.error

    def value(self) -> Any:
        """The value framed; its arrays are read-only.

        :raises FrameError: when its JSON, or what an array holds, is not allowed.
        """
        for index, array in enumerate(self._arrays):
            _check_content(array, index)
            array.setflags(write=False)
        return frames.decode(bytes(self._body), self._arrays)


def _empty_array(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    try:
        return np.empty(shape, dtype)
    except ValueError:  # no bytes in all, and yet lengths beyond any address
        raise frames.FrameError("an array's shape is not one that numpy can have") from None


def _check_content(array: np.ndarray[Any, Any], index: int) -> None:
    """Refuse what numpy's dtype admits and a verifier should never meet."""
    flat = array.reshape(-1)
    if array.dtype == np.bool_ and flat.size and flat.view(np.uint8).max() > 1:
        raise frames.FrameError(f"array {index} holds truth values that are neither true nor false")
    if array.dtype.kind != "f":
        return
    step = 1 << 20
    for start in range(0, flat.size, step):
        finite = np.isfinite(flat[start : start + step])
        if not finite.all():
            indices = np.unravel_index(start + int(np.argmin(finite)), array.shape)
            where = ", ".join(str(int(index)) for index in indices)
            raise frames.FrameError(
                f"an array holds {array[indices]} at [{where}]: only finite numbers can be returned"
            )


class Exchange:
    """What one job under way on a server sends: its result, what it prints, and the server's report.

    :param connection: the server, which has been sent the job.
    :param limits: what the job may use.
    :param frame: reader of the result, for Python jobs.
    :param stdout: collector of a program's standard output.
    :param listener: called with each piece of output as it comes.
    """

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        *,
        frame: FrameReader | None = None,
        stdout: StreamTail | None = None,
        listener: OutputListener | None = None,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self.frame = frame
        self.stdout = stdout
        #: What the job prints.
        self.output = StreamTail(limits.output_kept, limits.output)
        self._listener = listener
        #: Why we ended it; empty when we did not.
        self.stopped = ""
        self._readers: dict[int, Callable[[int], bool]] = {}

    def _read_output(self, descriptor: int) -> bool:
        data = os.read(descriptor, _CHUNK)
        self.output.add(data)
        if data and self._listener is not None:
            self._listener(data)
        if self.output.over:
            self._stop("output")
        return bool(data)

    def _read_stdout(self, descriptor: int) -> bool:
        assert self.stdout is not None
        data = os.read(descriptor, _CHUNK)
        self.stdout.add(data)
        if self.stdout.over:
            self._stop("result")
        return bool(data)

    def _read_frame(self, descriptor: int) -> bool:
        assert self.frame is not None
        more = self.frame.read(descriptor)
        if self.frame.error:
            self._stop("frame")
        return more

    def _stop(self, reason: str) -> None:
        if not self.stopped:
            self.stopped = reason
            self._connection.send({"kind": "cancel"}, [])

    def follow(self, output: int, result: int | None, cancel: int) -> tuple[dict[str, Any], list[int]]:
        """Read until the server reports the job's end, then drain what is left.

        :param output: read end of the pipe the job prints to.
        :param result: read end of the pipe its result, or its standard output, comes through.
        :param cancel: descriptor that becomes readable when the job should end.
        :return: the server's report and the descriptors attached to it.
        :raises ServerLost: when the server dies.
        :raises DeadlineMissed: when it does not report in time.
        """
        self._readers[output] = self._read_output
        if result is not None:
            self._readers[result] = self._read_frame if self.frame is not None else self._read_stdout
        control = self._connection.control.fileno()
        if result is not None and self._limits.result > _LARGE_PIPE:
            with contextlib.suppress(OSError):  # the user's pipes together may not grow further
                fcntl.fcntl(result, fcntl.F_SETPIPE_SZ, _LARGE_PIPE)
        poller = select.poll()
        for descriptor in (*self._readers, control, cancel):
            poller.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + self._limits.wall_s + GRACE_S
        deadline += GRACE_PER_GIB_S * self._limits.memory / GIB
        while True:
            events = {
                descriptor for descriptor, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            }
            if not events:
                raise DeadlineMissed
            if cancel in events:
                poller.unregister(cancel)
                self._stop("cancelled")
            for descriptor in events & set(self._readers):
                self._read_once(descriptor, poller)
            if control in events:
                answer = self._connection.receive()
                self._drain()
                return answer

    def _read_once(self, descriptor: int, poller: select.poll) -> None:
        if not self._readers[descriptor](descriptor):
            poller.unregister(descriptor)
            del self._readers[descriptor]

    def _drain(self) -> None:
        """Read what the ended job left in the pipes; every writer is dead, so each has an end."""
        for descriptor, read in self._readers.items():
            os.set_blocking(descriptor, False)
            try:
                while not self.stopped and read(descriptor):
                    continue
            except BlockingIOError:
                continue
