"""Hand out processor cores: each job gets its own few, a timed job cores that nobody else has."""

from __future__ import annotations

import collections
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping

#: For how long a look at the machine is believed, and over how much time it looks back at least.
_LOOK_S = 0.5


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


class Load:
    """How busy each core has been lately, with whatever runs on this machine beside our jobs.

    :param ticks: what :func:`busy_ticks` gives.
    """

    def __init__(self, ticks: Callable[[], Mapping[int, int]] = busy_ticks) -> None:
        self._ticks = ticks
        self._then = time.monotonic()
        self._before = ticks()
        self._shares: dict[int, int] = {}

    def shares(self) -> Mapping[int, int]:
        """Busy quarters of the time since the look before, 0 to 4; empty until there were two."""
        passed = time.monotonic() - self._then
        if passed >= _LOOK_S:
            now, every = self._ticks(), passed * os.sysconf("SC_CLK_TCK") / 4
            self._shares = {
                core: round((now[core] - self._before.get(core, now[core])) / every) for core in now
            }
            self._then, self._before = time.monotonic(), now
        return self._shares


class Cores:
    """The cores this process may use, and how many jobs are on each.

    First come, first served: a job that waits for cores of its own holds back those behind it, so it is
    never starved. Of cores with equally many jobs, those come first that were least busy lately, so that two
    runs on one machine keep out of each other's way.

    :param cores: their numbers; all that this process may run on by default.
    :param load: how busy they are.
    """

    def __init__(self, cores: tuple[int, ...] = (), load: Load | None = None) -> None:
        self._all = cores or tuple(sorted(os.sched_getaffinity(0)))
        self._load = load or Load()
        self._users: collections.Counter[int] = collections.Counter()
        self._exclusive: set[int] = set()
        self._line: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def _pick(self, count: int, exclusive: bool) -> tuple[int, ...] | None:
        free = [core for core in self._all if core not in self._exclusive]
        if exclusive:
            free = [core for core in free if self._users[core] == 0]
        if len(free) < (count if exclusive else 1):
            return None
        shares = self._load.shares()
        return tuple(sorted(sorted(free, key=lambda core: (self._users[core], shares.get(core, 0)))[:count]))

    def take(self, count: int, exclusive: bool) -> tuple[int, ...]:
        """Wait for ``count`` cores (fewer where the machine has fewer) and take them.

        :return: their numbers; empty once closed.
        """
        count = min(count, len(self._all))
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while not self._closed:
                    picked = self._pick(count, exclusive) if self._line[0] is ticket else None
                    if picked is not None:
                        self._users.update(picked)
                        self._exclusive.update(picked if exclusive else ())
                        return picked
                    self._changed.wait()
                return ()
            finally:
                self._line.remove(ticket)
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
