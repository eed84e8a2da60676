"""The line between the judge and a candidate's process: one JSON object a line, each way, with a deadline."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any

#: Longest line taken from a candidate.
_LONGEST = 1 << 16


class Ended(Exception):
    """The candidate's process is gone, or said what the harness never says; the message tells which."""


class Channel:
    """The judge's end.

    :param end: a stream socket; the other end is the candidate's.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = b""
        end.setblocking(False)

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for its answer.

        :raises Ended: when the process hangs up, talks nonsense, or takes longer.
        """
        self.tell(message)
        return self.hear(timeout_s)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message that has no answer of its own.

        :raises Ended: when the process has hung up.
        """
        if self._buffer:
            raise Ended("the program wrote to the harness's channel unasked")
        data = json.dumps(message).encode() + b"\n"
        try:
            self._end.setblocking(True)
            self._end.sendall(data)
        except OSError as error:
            raise Ended("the program ended before it was judged") from error
        finally:
            with contextlib.suppress(OSError):  # hung up: the next read says so
                self._end.setblocking(False)

    def hear(self, timeout_s: float, awake_s: float = 0.0) -> dict[str, Any]:
        """The next message.

        :param awake_s: how long to wait without sleeping, since to be woken takes a while.
        :raises Ended: as :meth:`ask`.
        """
        message = self.hear_within(timeout_s, awake_s)
        if message is None:
            raise Ended(f"no answer within {timeout_s:g} s")
        return message

    def hear_within(self, timeout_s: float, awake_s: float = 0.0) -> dict[str, Any] | None:
        """The next message; none if it does not come in time.

        :raises Ended: when the process hangs up, or talks nonsense.
        """
        started = time.monotonic()
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LONGEST:
                raise Ended("the program wrote to the harness's channel what no harness writes")
            waited = time.monotonic() - started
            if waited > timeout_s:
                return None
            try:
                chunk = self._end.recv(1 << 16)
            except BlockingIOError:
                if waited >= awake_s:
                    select.select([self._end], [], [], timeout_s - waited)
                continue
            except OSError:
                chunk = b""
            if not chunk:
                raise Ended("the program ended before it was judged")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return _object(line)

    def hang_up(self) -> None:
        """End the conversation: either side's next read sees it."""
        with contextlib.suppress(OSError):  # hung up before
            self._end.shutdown(socket.SHUT_RDWR)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Ended("the program wrote to the harness's channel what no harness writes") from error
    if not isinstance(value, dict):
        raise Ended("the program wrote to the harness's channel what no harness writes")
    return value
