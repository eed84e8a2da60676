"""A fork made before its job is known: it waits, still trusted, and costs the job no time.

A fork copies page tables, in a server that holds scipy for milliseconds. It is made when no job runs, so that
nothing of one job is in it and ending one job never meets the fork of the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Self

_PACKET = 1 << 18
_MOST_DESCRIPTORS = 8


def alone(kind: str) -> bool:
    """Whether a job of this kind is the first process of its namespace, with none beside it."""
    return kind == "python"


class Spare:
    """The server's end of such a fork.

    :param kind: of the jobs it can become.
    :param pid: its process.
    :param keeper: the first process of its namespace, where that is another one; else 0.
    :param channel: what it listens to.
    :param trouble: where it says what failed before the candidate's code ran.
    """

    def __init__(self, kind: str, pid: int, keeper: int, channel: socket.socket, trouble: int) -> None:
        self.kind = kind
        self.pid = pid
        self.keeper = keeper
        self.channel = channel
        self.trouble = trouble

    @classmethod
    def fork(
        cls,
        kind: str,
        keeper: int,
        control: socket.socket,
        become: Callable[[dict[str, Any], list[int]], None],
        rehearse: Callable[[], None] | None,
    ) -> Self:
        """Make one, in the namespaces that the caller has entered for it.

        :param control: the server's socket, closed in the fork, so that the server's end shows.
        :param become: what the fork does with its job and its descriptors, the last of which is for trouble;
            never returns.
        :param rehearse: what it does meanwhile, so that the job finds its pages its own.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        trouble, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                control.close()
                os.setsid()
                if rehearse is not None:
                    rehearse()
                message, descriptors, _, _ = socket.recv_fds(its, _PACKET, _MOST_DESCRIPTORS)
                if message:
                    become(json.loads(message), [*descriptors, report])
            finally:
                os._exit(0)
        its.close()
        os.close(report)
        return cls(kind, pid, keeper, ours, trouble)

    def fits(self, kind: str) -> bool:
        """Whether it can become a job of this kind."""
        return alone(kind) == alone(self.kind)

    def hand(self, job: dict[str, Any], descriptors: list[int]) -> None:
        """Tell it what it is.

        :raises OSError: when it is gone.
        """
        socket.send_fds(self.channel, [json.dumps(job).encode()], descriptors)
        self.channel.close()

    def drop(self) -> None:
        """End it."""
        self.channel.close()
        os.close(self.trouble)
        for pid in (self.pid, self.keeper):
            if pid:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
