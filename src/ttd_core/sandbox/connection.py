"""The trusted process's end of one fork server: wait for its start, send it jobs one at a time, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from typing import Any

from ttd_core.errors import SandboxUnavailableError
from ttd_core.sandbox import launch
from ttd_core.sandbox.inside import frames

_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 2.0


class ServerLost(Exception):
    """The fork server died or stopped answering; its job is ours to retry."""


class Connection:
    """A connection to a warm fork server.

    :param server: its processes and descriptors, owned from here on.
    :param spec: what kind of server it is.
    :raises SandboxUnavailableError: when it cannot be started, with the reason.
    """

    def __init__(self, server: launch.ServerProcess, spec: launch.ServerSpec) -> None:
        self._process = server.process
        self._log = server.log
        self._scratch = server.scratch
        self.control = server.control
        self._groups = server.groups
        self.spec = spec
        #: Jobs served; and the server's resident bytes after the first of them and after the last.
        self.jobs = 0
        self.first_resident = 0
        self.resident = 0
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        self.control.settimeout(_START_TIMEOUT_S)
        try:
            message = self.control.recv(frames.PACKET)
        except OSError:
            message = b""
        self.control.settimeout(None)
        answer = (
            frames.strict_json(message) if message else {"failure": self.log_tail() or "it ended at once"}
        )
        if answer["failure"]:
            self.close()
            raise SandboxUnavailableError(f"the sandbox cannot start: {answer['failure']}")
        self._groups.measure_baseline()

    def set_limits(self, memory: int, processes: int) -> None:
        """Bound the next job by the server's control groups: bytes, and processes and threads together."""
        self._groups.limit(memory, processes)

    def cpu_seconds(self) -> float:
        """Processor seconds of the server and all its jobs so far; 0 where no control group counts them."""
        return self._groups.cpu_seconds()

    def memory_kills(self) -> int:
        """How many of its processes and its jobs' the kernel has ended for want of memory."""
        return self._groups.memory_kills()

    def log_tail(self) -> str:
        """The last line that the server printed itself, for messages."""
        lines = os.pread(self._log, 1 << 16, 0).decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Send one packet.

        :raises ServerLost: when the server is gone.
        """
        try:
            socket.send_fds(self.control, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            raise ServerLost(f"the fork server is gone: {self.log_tail() or error}") from error

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The report of a job, with the descriptors attached to it.

        :raises ServerLost: when the server is gone.
        """
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, frames.PACKET, 2)
        except OSError as error:
            raise ServerLost(f"the fork server is gone: {error}") from error
        if not message:
            raise ServerLost(f"the fork server ended: {self.log_tail() or 'without a word'}")
        report: dict[str, Any] = frames.strict_json(message)
        self.jobs += 1
        self.resident = report["resident"]
        self.first_resident = self.first_resident or self.resident
        return report, descriptors

    def close(self) -> None:
        """Hang up, which ends the server and its job, and make sure of it."""
        self.control.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        with contextlib.suppress(OSError):  # closed already by an earlier call
            os.close(self._log)
        self._log = -1
        self._groups.remove()
        launch.remove_folder(self._scratch)

    def kill(self) -> None:
        """End every process of the server now: by its control group, its process group, bubblewrap's end."""
        self._groups.kill_all()
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether the outermost process still runs."""
        return self._process.poll() is None

    def is_worn(self, jobs: int, growth: int) -> bool:
        """Whether it is to be replaced: it has served so many jobs, or grown by more bytes than that."""
        return self.jobs >= jobs or self.resident > self.first_resident + growth
