"""One fork server as the trusted process holds it: started, given jobs one at a time, ended."""

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
    """A warm fork server.

    :param launched: the processes and descriptors behind it.
    :param order: what kind of server it is.
    :raises SandboxUnavailableError: when it cannot be started, with the reason.
    """

    def __init__(self, launched: launch.Launched, order: launch.Order) -> None:
        self._process = launched.process
        self._log = launched.log
        self._scratch = launched.scratch
        self.control = launched.control
        self._group = launched.group
        self.order = order
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
        self._group.settle()

    def bound(self, memory: int, processes: int) -> None:
        """Set what the next job may use in the server's control groups."""
        self._group.limit(memory, processes)

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
        self._group.remove()
        launch.remove_folder(self._scratch)

    def kill(self) -> None:
        """End every process of the server now: its namespace goes with bubblewrap, its group by signal."""
        self._group.end_all()
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether the outermost process still runs."""
        return self._process.poll() is None

    def worn(self, jobs: int, growth: int) -> bool:
        """Whether it has served enough jobs, or grown enough bytes, to be replaced."""
        return self.jobs >= jobs or self.resident > self.first_resident + growth
