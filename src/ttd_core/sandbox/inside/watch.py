"""Watch one job's processes: wall clock, processor time, memory, number; and kill what is left of them."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any, NamedTuple

from ttd_core.sandbox.inside import folders

_PAGE = os.sysconf("SC_PAGESIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_INTERVAL_S = 0.02
_DISK_INTERVAL_S = 0.05


class Usage(NamedTuple):
    """What a tree of processes uses now: resident bytes, processor seconds, threads."""

    memory: int
    cpu_s: float
    threads: int


def _pid_in_proc(descriptor: int) -> int:
    """The pid of a pidfd's process as /proc shows it, which may be that of a pid namespace around ours."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        for line in file:
            if line.startswith(b"Pid:"):
                return int(line.split()[1])
    return -1


def _usage_of(pid: int) -> Usage:
    """Of one process, by its number in /proc; zeros once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return Usage(0, 0.0, 0)
    # fields counted from the state, which follows the name: utime 11, stime 12, cutime 13, cstime 14,
    # threads 17, resident pages 21
    cpu = sum(int(fields[index]) for index in (11, 12, 13, 14)) / _TICK
    return Usage(int(fields[21]) * _PAGE, cpu, int(fields[17]))


def children_of(pid: int | str = "self") -> list[int]:
    """Direct children of all threads of a process, as /proc numbers them."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children.extend(int(child) for child in file.read().split())
    except OSError:
        return children
    return children


def tree_usage(roots: list[int], descendants: bool) -> Usage:
    """What processes use and, if asked for, all their descendants."""
    memory, cpu, threads = 0, 0.0, 0
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        usage = _usage_of(pid)
        memory, cpu, threads = memory + usage.memory, cpu + usage.cpu_s, threads + usage.threads
        if descendants:
            waiting.extend(children_of(pid))
    return Usage(memory, cpu, threads)


class JobWatch:
    """Waits for a job's first process to end, or for a limit, whichever is first.

    :param pid: the job's first process, a child of this one.
    :param limits: the fields of :class:`ttd_core.sandbox.base.Limits`.
    :param forks: whether the job may start processes of its own.
    :param scratch: folder whose size is polled; empty where a sized tmpfs bounds it.
    """

    def __init__(self, pid: int, limits: dict[str, Any], forks: bool, scratch: str = "") -> None:
        self._job = os.pidfd_open(pid)
        self._proc_pid = _pid_in_proc(self._job)
        self.forks = forks
        self.scratch = scratch
        self.limits = limits
        self.cpu_limit = limits["cpu_s"] or limits["wall_s"] * limits["cpus"]
        self.started = time.monotonic()
        self.peak = 0
        self.disk_due = 0.0

    def exceeded(self) -> str:
        """The limit that is exceeded now, or an empty string."""
        now = time.monotonic()
        if now - self.started > self.limits["wall_s"]:
            return "wall"
        roots = children_of() if self.forks else [self._proc_pid]
        usage = tree_usage(roots, self.forks)
        self.peak = max(self.peak, usage.memory)
        if usage.memory > self.limits["memory"]:
            return "memory"
        if usage.cpu_s > self.cpu_limit:
            return "cpu"
        if usage.threads > self.limits["processes"]:
            return "processes"
        if self.scratch and now > self.disk_due:
            self.disk_due = now + _DISK_INTERVAL_S
            limit = self.limits["scratch"]
            if folders.used_bytes(self.scratch, limit) > limit:
                return "scratch"
        return ""

    def wait(self, control: int) -> str:
        """Block until the job ends by itself (empty string) or must be ended (the reason).

        :param control: the supervisor's socket; anything arriving on it, or its end, ends the job.
        """
        poller = select.poll()
        poller.register(self._job, select.POLLIN)
        poller.register(control, select.POLLIN)
        try:
            while True:
                left = self.limits["wall_s"] - (time.monotonic() - self.started)
                for descriptor, _ in poller.poll(max(0.0, min(_INTERVAL_S, left + 0.001)) * 1000):
                    return "" if descriptor == self._job else "cancelled"
                reason = self.exceeded()
                if reason:
                    return reason
        finally:
            os.close(self._job)


def kill_children(timeout_s: float = 2.0) -> bool:
    """Kill and reap every child of this process, those too that became ours when their parent ended.

    :return: whether none is left.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            for child in children_of():
                # reaped only here, so the number cannot have gone to another process
                os.kill(child, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
