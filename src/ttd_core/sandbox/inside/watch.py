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
#: Bytes of page tables that a process has in any case: those of the libraries it was forked with.
_TABLES = 16 << 20


class Usage(NamedTuple):
    """What processes use now.

    :param memory: resident bytes.
    :param unseen: bytes that these leave out: page tables, and what was swapped out.
    :param cpu_s: processor seconds, with those of children that were waited for.
    :param own_cpu_s: without.
    :param threads: their number.
    :param started: when, in clock ticks; of a single process.
    """

    memory: int = 0
    unseen: int = 0
    cpu_s: float = 0.0
    own_cpu_s: float = 0.0
    threads: int = 0
    started: int = 0


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
        with open(f"/proc/{pid}/status", "rb") as file:
            status = file.read()
    except OSError:
        return Usage()
    # fields counted from the state, which follows the name: utime 11, stime 12, cutime 13, cstime 14,
    # threads 17, start 19, resident pages 21
    ticks = [int(fields[index]) for index in (11, 12, 13, 14)]
    return Usage(
        memory=int(fields[21]) * _PAGE,
        unseen=_kib_of(status, b"VmPTE:") + _kib_of(status, b"VmSwap:"),
        cpu_s=sum(ticks) / _TICK,
        own_cpu_s=sum(ticks[:2]) / _TICK,
        threads=int(fields[17]),
        started=int(fields[19]),
    )


def _kib_of(status: bytes, name: bytes) -> int:
    """Bytes that a line of /proc/PID/status gives in KiB; 0 where it is missing, as of one that ends."""
    place = status.find(name)
    return int(status[place + len(name) :].split(maxsplit=1)[0]) * 1024 if place >= 0 else 0


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


def tree_usage(roots: list[int], descendants: bool) -> dict[tuple[int, int], Usage]:
    """What processes use and, if asked for, all their descendants; by number and start."""
    found: dict[tuple[int, int], Usage] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        usage = _usage_of(pid)
        found[pid, usage.started] = usage
        if descendants:
            waiting.extend(children_of(pid))
    return found


class ProcessorTime:
    """Seconds that a tree of processes has used, with those that ended and that nobody waited for.

    Of a process that ends between two looks, what it used after the last one is not counted.
    """

    def __init__(self) -> None:
        self._own: dict[tuple[int, int], float] = {}
        self._total = 0.0
        self.seconds = 0.0

    def add(self, tree: dict[tuple[int, int], Usage]) -> None:
        """Take in what a look at the tree showed."""
        for process, usage in tree.items():
            self._total += max(0.0, usage.own_cpu_s - self._own.get(process, 0.0))
            self._own[process] = max(usage.own_cpu_s, self._own.get(process, 0.0))
        living = sum(usage.cpu_s for usage in tree.values())
        self.seconds = max(self.seconds, self._total, living)


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
        self.time = ProcessorTime()
        self.nameless = folders.NamelessFiles(scratch)
        self.disk_due = 0.0

    def exceeded(self) -> str:
        """The limit that is exceeded now, or an empty string."""
        now = time.monotonic()
        if now - self.started > self.limits["wall_s"]:
            return "wall"
        roots = children_of() if self.forks else [self._proc_pid]
        tree = tree_usage(roots, self.forks)
        memory = sum(usage.memory for usage in tree.values())
        self.peak = max(self.peak, memory)
        self.time.add(tree)
        if memory + sum(usage.unseen for usage in tree.values()) > self.limits["memory"] + _TABLES:
            return "memory"
        if memory > self.limits["memory"]:
            return "memory"
        if self.time.seconds > self.cpu_limit:
            return "cpu"
        if sum(usage.threads for usage in tree.values()) > self.limits["processes"]:
            return "processes"
        if self.scratch and now > self.disk_due:
            self.disk_due = now + _DISK_INTERVAL_S
            return "scratch" if self._wrote_too_much([pid for pid, _ in tree]) else ""
        return ""

    def _wrote_too_much(self, pids: list[int]) -> bool:
        """Whether the job's files, also those without a name, take more than they may."""
        limit = self.limits["scratch"]
        used = folders.used_bytes(self.scratch, limit)
        return bool(used + self.nameless.used_bytes(pids, limit) > limit)

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
