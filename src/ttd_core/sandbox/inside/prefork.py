"""A fork made before its job is known: it waits, still trusted, and costs the job no time.

A fork copies page tables, which takes milliseconds in a server that holds scipy. It is a fork of the server,
never of a job, so nothing of a job is in it; and it is made only where it outlives the end of the job before.
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


def runs_as_init(kind: str) -> bool:
    """Whether a job of this kind is the init process of its pid namespace, with none beside it."""
    return kind == "python"


class Prefork(NamedTuple):
    """The server's end of such a fork.

    :param kind: of the jobs it can become.
    :param pid: its process.
    :param init: the init process of its pid namespace, where that is another one; else 0.
    :param channel: socket through which it gets its job.
    :param error_pipe: read end of a pipe that says what failed before the candidate's code ran.
    """

    kind: str
    pid: int
    init: int
    channel: socket.socket
    error_pipe: int

    @classmethod
    def fork(
        cls,
        kind: str,
        init: int,
        control: socket.socket,
        become: Callable[[dict[str, Any], list[int]], None],
        prepare: Callable[[str], None],
    ) -> Self:
        """Make one, in the namespaces that the caller has entered for it.

        :param control: the server's socket, closed in the fork, so that the server's end shows.
        :param become: what the fork does with its job and its descriptors, the last of which is the write end
            of the pipe for errors; never returns.
        :param prepare: what it does meanwhile, told its kind; also so that the pages a job writes to are its
            own already.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        error_pipe, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                control.close()
                # a group of its own, in the server's session: a new session would be a new scheduling group
                # (autogroup) of ordinary weight, whatever the server's has
                os.setpgid(0, 0)
                prepare(kind)
                message, descriptors, _, _ = socket.recv_fds(theirs, frames.PACKET, frames.PACKET_DESCRIPTORS)
                if message:
                    become(json.loads(message), [*descriptors, write_end])
            except OSError as error:
                os.write(2, f"{error}\n".encode())  # the server's log, for it ends as well
            finally:
                os._exit(0)
        theirs.close()
        os.close(write_end)
        return cls(kind, pid, init, ours, error_pipe)

    def fits(self, kind: str) -> bool:
        """Whether it can become a job of this kind."""
        return runs_as_init(kind) == runs_as_init(self.kind)

    def assign(self, message: bytes, descriptors: list[int]) -> None:
        """Give it its job.

        :param message: as it came from the trusted process.

        :raises OSError: when it is gone.
        """
        socket.send_fds(self.channel, [message], descriptors)
        self.channel.close()

    def discard(self) -> None:
        """End it without a job."""
        self.channel.close()
        os.close(self.error_pipe)
        for pid in (self.pid, self.init):
            if pid:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
