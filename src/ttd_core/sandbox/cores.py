"""Processor cores for jobs: each is pinned to a few, a timed one to cores that no other job is on.

Some may be kept for the run's own process, whose thread drives a GPU; and the kernel may grant fewer than it
shows (the quota of a container).
"""

from __future__ import annotations

import collections
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ttd_core import host

#: Seconds that a measurement of the load is used, and that it takes: some ticks of the clock.
_FRESH_S = 5.0
_MEASURE_S = 0.05


def busy_ticks(stat: pathlib.Path = pathlib.Path("/proc/stat")) -> dict[int, int]:
    """Clock ticks that each core has been busy since the machine started; empty where nothing says so."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    ticks = {}
    for line in lines:
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdigit():
            user, nice, system, _idle, _waiting, *rest = (int(field) for field in fields[:8])
            ticks[int(name[3:])] = user + nice + system + sum(rest)
    return ticks


def usable_cores() -> int:
    """How many cores' work this process may do at once: those it may run on, and no more than its quota."""
    cores = len(os.sched_getaffinity(0))
    quota = host.processor_quota()
    return cores if quota is None else min(cores, max(1, math.floor(quota + 0.01)))


def _threads_of_core(core: int, folder: pathlib.Path) -> frozenset[int]:
    """The processors that are one core in hardware, this one among them; it alone where nothing says so."""
    found = {core}
    try:
        text = (folder / f"cpu{core}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return frozenset({core})
    return frozenset(found)


def kept_cores(
    cores: Sequence[int], count: int, folder: pathlib.Path = pathlib.Path("/sys/devices/system/cpu")
) -> tuple[int, ...]:
    """Which cores are kept: the last ones, those that are one in hardware together.

    :param cores: to choose from.
    :param count: how many.
    """
    kept: list[int] = []
    for core in sorted(cores, reverse=True):
        if len(kept) >= count:
            break
        if core not in kept:
            together = _threads_of_core(core, folder) & set(cores)
            kept += sorted(together, reverse=True)
    return tuple(sorted(kept[:count]))


class CoreLoad:
    """How busy each core is at the moment, with whatever runs on this machine beside our jobs.

    :param ticks: called for the clock ticks that each core has been busy; :func:`busy_ticks`.
    """

    def __init__(self, ticks: Callable[[], Mapping[int, int]] = busy_ticks) -> None:
        self._ticks = ticks
        self._measured_at = -math.inf
        self._busy: Mapping[int, int] = {}

    def busy(self) -> Mapping[int, int]:
        """Busy ticks of each core during a measurement, which is made now or was a moment ago."""
        if time.monotonic() - self._measured_at > _FRESH_S:
            before = self._ticks()
            time.sleep(_MEASURE_S)
            self._busy = {core: ticks - before.get(core, ticks) for core, ticks in self._ticks().items()}
            self._measured_at = time.monotonic()
        return self._busy


class CorePool:
    """The cores this process may use, and how many jobs are on each.

    First come, first served: a job that waits for cores of its own holds back those behind it, so it is
    never starved. Of cores with equally many jobs, those come first that are least busy, so that two runs on
    one machine keep out of each other's way.

    :param cores: their numbers; all that this process may run on by default.
    :param load: how busy they are.
    :param reserve: how many of them are kept from jobs (:func:`kept_cores`), but not from one that asks for
        more than the others are.
    """

    def __init__(self, cores: tuple[int, ...] = (), load: CoreLoad | None = None, reserve: int = 0) -> None:
        self._all = cores or tuple(sorted(os.sched_getaffinity(0)))
        kept = kept_cores(self._all, reserve)
        self._open = tuple(core for core in self._all if core not in kept)
        self._load = load or CoreLoad()
        self._users: collections.Counter[int] = collections.Counter()
        self._exclusive: set[int] = set()
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def _pick(self, count: int, exclusive: bool) -> tuple[int, ...] | None:
        usable = self._open if count <= len(self._open) else self._all
        free = [core for core in usable if core not in self._exclusive]
        if exclusive:
            free = [core for core in free if self._users[core] == 0]
        if len(free) < (count if exclusive else 1):
            return None
        # Measuring takes some time, so it is left out where there is nothing to choose.
        busy = self._load.busy() if len(free) > count else {}
        return tuple(sorted(sorted(free, key=lambda core: (self._users[core], busy.get(core, 0)))[:count]))

    def take(self, count: int, exclusive: bool) -> tuple[int, ...]:
        """Wait for ``count`` cores (fewer where the machine has fewer) and take them.

        :param exclusive: whether no other job may be on them.
        :return: their numbers; empty once closed.
        """
        count = min(count, len(self._all))
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while not self._closed:
                    picked = self._pick(count, exclusive) if self._queue[0] is ticket else None
                    if picked is not None:
                        self._users.update(picked)
                        self._exclusive.update(picked if exclusive else ())
                        return picked
                    self._changed.wait()
                return ()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def give_back(self, cores: tuple[int, ...], exclusive: bool) -> None:
        """Return what :meth:`take` gave."""
        with self._changed:
            self._users.subtract(cores)
            if exclusive:
                self._exclusive.difference_update(cores)
            self._changed.notify_all()

    def close(self) -> None:
        """Wake everyone who waits, with nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
