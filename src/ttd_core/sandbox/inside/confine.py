"""Put the calling process, a fresh fork, under a job's limits and layers, for good."""

from __future__ import annotations

import contextlib
import math
import os
import resource
from typing import Any, NamedTuple

from ttd_core.sandbox.inside import kernel, landlock, seccomp

#: Virtual bytes beyond the resident limit that a process may reserve: thread stacks, arenas, caches.
_RESERVED = 256 << 20
#: Bytes of stack that a native program may use: contest programs recurse deeply.
_STACK = 256 << 20
#: Seconds of processor time after which the kernel kills what the watcher overlooked.
_CPU_GRACE = 2
#: Where the kernel tells of itself and of processes: mounted anew for each job, where that can be done.
_PROC = "/proc/"
#: What a process reads of itself in /proc. Left out is what tells of others (``net``, ``mounts``,
#: ``cgroup``), and which pages of its files were in memory before it (``io``, ``smaps``, ``pagemap``).
_OWN_PROC = (
    *("auxv", "cmdline", "comm", "environ", "fd", "fdinfo", "limits", "maps", "oom_score", "oom_score_adj"),
    *("stat", "statm", "status"),
)


class Layers(NamedTuple):
    """Which layers this server applies to its jobs; decided by probing.

    :param landlock: restrict paths.
    :param seccomp: filter system calls.
    :param own_pids: each job gets a pid and an IPC namespace of its own.
    :param scoped: the server stands in a Landlock signal scope, so ``kill(-1)`` ends its job alone.
    :param mounts: the server may mount a job's scratch folder as a sized tmpfs.
    :param bounded: a control group bounds the memory of its jobs.
    """

    landlock: bool
    seccomp: bool
    own_pids: bool
    scoped: bool
    mounts: bool
    bounded: bool

    def filter_for(self, profile: str, pid: int, program: int, drivers: bool) -> bytes:
        """The system call filter of a job; see :func:`ttd_core.sandbox.inside.seccomp.filter_for`."""
        return seccomp.filter_for(
            profile, pid, program, drivers, shared=not self.own_pids, unbounded=not self.bounded
        )


def _limit(which: int, value: int) -> None:
    """Lower a limit; never above the hard one this process was given."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _data_in_use() -> int:
    """Bytes of private writable memory mapped now, as RLIMIT_DATA counts it."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


def apply_limits(limits: dict[str, Any], kind: str, others: int, drivers: bool) -> None:
    """Set the resource limits of one job.

    :param limits: the fields of :class:`ttd_core.sandbox.base.Limits`.
    :param others: processes that the kernel already counts for this user.
    :param drivers: whether device drivers may reserve memory without bound.
    """
    cpu = limits["cpu_s"] or limits["wall_s"] * limits["cpus"]
    _limit(resource.RLIMIT_CPU, math.ceil(cpu) + _CPU_GRACE)
    if not drivers:
        _limit(resource.RLIMIT_DATA, _data_in_use() + limits["memory"] + _RESERVED)
    _limit(resource.RLIMIT_NPROC, limits["processes"] + others)
    # what a compiler makes on the way to a program may be no larger than the program itself
    largest = min(limits["scratch"], limits["result"]) if kind == "compile" else limits["scratch"]
    _limit(resource.RLIMIT_FSIZE, largest)
    _limit(resource.RLIMIT_NOFILE, 512)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_SIGPENDING, 256)
    if kind != "python":
        # a thread's stack takes this much address space too, so it is not all of the memory
        _limit(resource.RLIMIT_STACK, min(limits["memory"], _STACK))
    # a server's entries in /proc are closed even to itself; a job's own are open to it
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    # the job, not the trainer, is what the kernel should end when the machine runs out of memory;
    # a read-only /proc forbids saying so, and the watcher still holds the limit
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def drop_privileges(uid: int | None, keep: int) -> None:
    """Take a job's own uid, where there is one, and give up every capability but those of the mask ``keep``.

    :raises OSError: when the kernel refuses.
    """
    if uid is not None:
        if keep:
            kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities(keep)
    # another user's id closed them again
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def landlock_rules(kind: str, paths: dict[str, list[str]]) -> list[bytes]:
    """The Landlock rules of one kind of job, made once by the server; without those on /proc.

    A compiler reads what its source names, so it gets no device that never ends, and nothing of /sys.

    :param paths: ``listed`` folders whose names may be read, ``readable`` trees, ``writable`` ones,
        ``devices``, ``drivers`` (devices that may be controlled too), ``system`` folders, ``loaders`` that a
        program needs to start, ``tools`` that a compile job may execute, ``executable`` ones that a Python
        job may.
    """
    device = landlock.READ_FILE | landlock.WRITE_FILE
    execute = landlock.READ | landlock.EXECUTE
    if kind == "compile":
        system = [path for path in paths["system"] if not path.startswith("/sys/")]
        paths = {**paths, "devices": ["/dev/null"], "system": system}
    allowed = [("devices", device), ("writable", landlock.WORK)]
    if kind == "python":
        allowed += [("listed", landlock.READ_DIR), ("readable", landlock.READ)]
        allowed += [("drivers", device | landlock.IOCTL_DEV), ("executable", execute)]
        if paths["executable"]:
            allowed.append(("loaders", execute))
    else:
        allowed += [("system", landlock.READ), ("loaders", execute)]
    if kind == "compile":
        allowed.append(("tools", execute))
    rules = (
        landlock.rule(path, rights)
        for name, rights in allowed
        for path in paths[name]
        if not path.startswith(_PROC)
    )
    return [rule for rule in rules if rule is not None]


def job_ruleset(kind: str, shared: list[bytes], paths: dict[str, list[str]], drivers: bool) -> int:
    """The Landlock ruleset of one job: its kind's rules, and those on its own /proc. Made in its process.

    :param kind: of job; a compiler gets no part of /proc.
    :param shared: of :func:`landlock_rules`.
    :param paths: as there.
    :param drivers: whether a device driver's library names its threads there; then it gets all of that part.
    :return: its descriptor.
    """
    rights = landlock.READ | (landlock.WRITE_FILE | landlock.TRUNCATE if drivers else 0)
    if kind == "compile":
        return landlock.ruleset(shared)
    facts = [path for path in paths["readable" if kind == "python" else "system"] if path.startswith(_PROC)]
    own = [landlock.rule(path, landlock.READ) for path in facts]
    own += [landlock.rule(f"/proc/self/{path}", rights) for path in ([""] if drivers else _OWN_PROC)]
    own.append(landlock.rule("/proc/self/task", landlock.READ_DIR))
    return landlock.ruleset([*shared, *(each for each in own if each is not None)])


def enforce(layers: Layers, profile: str, ruleset: int, program: int = -1, drivers: bool = False) -> None:
    """The last step: no new privileges, Landlock, seccomp.

    :param profile: of system calls, see :data:`ttd_core.sandbox.inside.seccomp.PROFILES`.
    :param ruleset: descriptor of the Landlock ruleset, closed here; not used without that layer.
    :param program: descriptor that a program job executes.
    :param drivers: whether a device driver's library gets what it needs.

    :raises OSError: when a layer that was found by probing now fails.
    """
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if layers.landlock:
        landlock.enforce(ruleset)
        os.close(ruleset)
    if layers.seccomp:
        seccomp.install(layers.filter_for(profile, os.getpid(), program, drivers))
