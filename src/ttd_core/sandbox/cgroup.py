"""Control groups (cgroups) of fork servers, where this process may make them: caps on memory and processes.

Both hierarchies are known: version 2 (one tree) and version 1 (a tree per controller). A server enters its
groups once, before it imports anything; moving every job would cost more than the job. What the server
itself uses is measured when it is ready and added to each limit.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import time

import attrs

from ttd_core.host import own_group
from ttd_core.sandbox.base import MIB

_NAMES = itertools.count()
#: Bytes of kernel memory and page cache that a job may cause beside its own.
_SLACK = 32 * MIB
#: Processes of the server itself: supervisors waiting, the server, a program's companion.
_OWN_PROCESSES = 16


@attrs.frozen
class _Files:
    """Names of one hierarchy's files."""

    controller: str
    limit: str
    usage: str


_MEMORY_1 = _Files("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
_MEMORY_2 = _Files("", "memory.max", "memory.current")
_PIDS_1 = _Files("pids", "pids.max", "pids.current")
_PIDS_2 = _Files("", "pids.max", "pids.current")


def _candidates(controller: str) -> list[pathlib.Path]:
    """Where a group might be made: in our own, beside it, at the top."""
    found = own_group(controller)
    if found is None:
        return []
    mount, here = found
    return list(dict.fromkeys([here, here.parent if here != mount else mount, mount]))


def _make(files: _Files, name: str, needed: str) -> pathlib.Path | None:
    """A new group whose file ``needed`` is writable; ``None`` where none can be made."""
    for parent in _candidates(files.controller):
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        if os.access(group / needed, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK):
            return group
        group.rmdir()
    return None


@attrs.define
class ControlGroups:
    """The control groups of one server; those that cannot be made here are ``None``.

    :param memory: folder of the group that bounds memory, with the names of its files.
    :param pids: the same for processes.
    :param kill: folder of a group with ``cgroup.kill``.
    """

    memory: tuple[pathlib.Path, _Files] | None = None
    pids: tuple[pathlib.Path, _Files] | None = None
    kill: pathlib.Path | None = None
    _baseline_memory: int = 0
    _set: tuple[int, int] = (0, 0)

    @classmethod
    def make(cls, nice: int = 0) -> ControlGroups:
        """Make whatever groups can be made here; perhaps none.

        :param nice: by how much the priority of those inside is lowered beside other groups, 0 to 19; of use
            where the kernel shares processors out by group (``cpu.weight``).
        """
        name = f"ttd-{os.getpid()}-{next(_NAMES)}"
        groups = cls()
        if unified := _make(_MEMORY_2, name, _MEMORY_2.limit):
            groups.memory = (unified, _MEMORY_2)
            if os.access(unified / _PIDS_2.limit, os.W_OK):
                groups.pids = (unified, _PIDS_2)
        elif bounded := _make(_MEMORY_1, name, _MEMORY_1.limit):
            groups.memory = (bounded, _MEMORY_1)
        if groups.pids is None and (counted := _make(_PIDS_1, name, _PIDS_1.limit)):
            groups.pids = (counted, _PIDS_1)
        groups.kill = unified or _make(_MEMORY_2, name, "cgroup.kill")
        weight = groups.kill / "cpu.weight.nice" if groups.kill else None
        # absent where the controller is not on: then processes count by themselves
        if nice and weight is not None and os.access(weight, os.W_OK):
            weight.write_text(str(nice))
        return groups

    @property
    def folders(self) -> list[pathlib.Path]:
        """The folder of every group made, once each."""
        folders = [pair[0] for pair in (self.memory, self.pids) if pair is not None]
        return list(dict.fromkeys([*folders, *([self.kill] if self.kill else [])]))

    def open_procs(self) -> list[int]:
        """Descriptors through which a process enters the groups by writing ``0``; the caller closes them."""
        return [os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    def measure_baseline(self) -> None:
        """Note what the server uses by itself, now that its modules are imported."""
        if self.memory is not None:
            folder, files = self.memory
            self._baseline_memory = int((folder / files.usage).read_text())

    def limit(self, memory: int, processes: int) -> None:
        """Bound the next job: bytes, and processes and threads together."""
        if self._set == (memory, processes):
            return
        wanted = (
            (self.memory, self._baseline_memory + memory + _SLACK),
            (self.pids, processes + _OWN_PROCESSES),
        )
        for pair, value in wanted:
            if pair is not None:
                folder, files = pair
                (folder / files.limit).write_text(str(value))
        self._set = (memory, processes)

    def cpu_seconds(self) -> float:
        """Processor seconds that every process inside has used so far; 0 where no group counts them."""
        for folder in self.folders:
            with contextlib.suppress(OSError):  # version 1 has no such file
                for line in (folder / "cpu.stat").read_text().splitlines():
                    if line.startswith("usage_usec "):
                        return int(line.split()[1]) / 1e6
        return 0.0

    def memory_kills(self) -> int:
        """How many processes inside the kernel has ended for want of memory; 0 where no group counts them."""
        if self.memory is None:
            return 0
        with contextlib.suppress(OSError):
            for name in ("memory.events", "memory.oom_control"):  # of version 2, and of version 1
                if not (self.memory[0] / name).exists():
                    continue
                for line in (self.memory[0] / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    def kill_all(self) -> None:
        """Kill every process inside, where the kernel offers that."""
        if self.kill is not None:
            with contextlib.suppress(OSError):  # already empty and removed
                (self.kill / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove the groups; a process that is just ending is given a moment."""
        for folder in self.folders:
            for _ in range(100):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.005)


def remove_stale() -> None:
    """Remove groups that a process of ours left behind when it was killed."""
    for controller in ("", "memory", "pids"):
        for parent in _candidates(controller):
            for folder in parent.glob("ttd-*-*"):
                number = folder.name.split("-")[1]
                if number.isdigit() and not os.path.exists(f"/proc/{number}"):
                    with contextlib.suppress(OSError):  # another sweep was faster
                        folder.rmdir()
