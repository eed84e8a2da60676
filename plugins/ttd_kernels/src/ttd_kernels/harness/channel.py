"""The channel between judge and candidate: one JSON object a line, each way, with a deadline."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any

#: Longest line taken from a candidate, bytes.
_LONGEST = 1 << 16
#: What is said of a line that is no message.
_NO_MESSAGE = "the program wrote to the harness's channel what no harness writes"


class CandidateEndedError(Exception):
    """The candidate's process is gone, or said what the harness never says; the message tells which."""


class Channel:
    """The judge's end of the channel.

    :param end: a stream socket; the other end is the candidate's.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = b""
        end.setblocking(False)

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for the reply.

        :param timeout_s: longest wait, seconds.
        :raises CandidateEndedError: when the process hangs up, talks nonsense, or takes longer.
        """
        self.send(message)
        return self.receive(timeout_s)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message and wait for nothing.

        :raises CandidateEndedError: when the process has hung up, or wrote what nobody asked for.
        """
        if self._buffer:
            raise CandidateEndedError("the program wrote to the harness's channel unasked")
        data = json.dumps(message).encode() + b"\n"
        try:
            self._end.setblocking(True)
            self._end.sendall(data)
        except OSError as error:
            raise CandidateEndedError("the program ended before it was judged") from error
        finally:
            with contextlib.suppress(OSError):  # hung up: the next read says so
                self._end.setblocking(False)

    def receive(self, timeout_s: float, spin_s: float = 0.0) -> dict[str, Any]:
        """The next message.

        :param timeout_s: longest wait, seconds.
        :param spin_s: seconds to wait without sleeping, since to be woken takes a while.
        :raises CandidateEndedError: as :meth:`request`.
        """
        message = self.receive_within(timeout_s, spin_s)
        if message is None:
            raise CandidateEndedError(f"no answer within {timeout_s:g} s")
        return message

    def receive_within(self, timeout_s: float, spin_s: float = 0.0) -> dict[str, Any] | None:
        """The next message; ``None`` if it does not come in time. What is there already is read in any case.

        :raises CandidateEndedError: when the process hangs up, or talks nonsense.
        """
        started = time.monotonic()
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LONGEST:
                raise CandidateEndedError(_NO_MESSAGE)
            waited = time.monotonic() - started
            try:
                chunk = self._end.recv(1 << 16)
            except BlockingIOError:
                if waited > timeout_s:
                    return None
                if waited >= spin_s:
                    select.select([self._end], [], [], timeout_s - waited)
                continue
            except OSError:
                chunk = b""
            if not chunk:
                raise CandidateEndedError("the program ended before it was judged")
            self._buffer += chunk
            if waited > timeout_s and b"\n" not in self._buffer:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _json_object(line)

    def hang_up(self) -> None:
        """End the conversation: either side's next read sees it."""
        with contextlib.suppress(OSError):  # hung up before
            self._end.shutdown(socket.SHUT_RDWR)


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CandidateEndedError(_NO_MESSAGE) from error
    if not isinstance(value, dict):
        raise CandidateEndedError(_NO_MESSAGE)
    return value
