"""A fork made before its job is known: it waits, still trusted, and costs the job no time.

A fork copies page tables, in a server that holds scipy for milliseconds. It is one of the server, never of a
job, so nothing of a job is in it; and it is made where ending the job before it cannot meet it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from ttd_core.sandbox.inside import frames


def alone(kind: str) -> bool:
    """Whether a job of this kind is the first process of its namespace, with none beside it."""
    return kind == "python"


class Prefork(NamedTuple):
    """The server's end of such a fork.

    :param kind: of the jobs it can become.
    :param pid: its process.
    :param keeper: the first process of its namespace, where that is another one; else 0.
    :param channel: what it listens to.
    :param trouble: where it says what failed before the candidate's code ran.
    """

    kind: str
    pid: int
    keeper: int
    channel: socket.socket
    trouble: int

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
                message, descriptors, _, _ = socket.recv_fds(its, frames.PACKET, frames.PACKET_DESCRIPTORS)
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

    def hand(self, message: bytes, descriptors: list[int]) -> None:
        """Tell it what it is, in the words of the trusted process.

        :raises OSError: when it is gone.
        """
        socket.send_fds(self.channel, [message], descriptors)
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
