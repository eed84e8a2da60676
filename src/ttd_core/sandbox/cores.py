"""Hand out processor cores: each job gets its own few, a timed job cores that nobody else has."""

from __future__ import annotations

import collections
import os
import threading


class Cores:
    """The cores this process may use, and how many jobs are on each.

    First come, first served: a job that waits for cores of its own holds back those behind it, so it is
    never starved.

    :param cores: their numbers; all that this process may run on by default.
    """

    def __init__(self, cores: tuple[int, ...] = ()) -> None:
        self._all = cores or tuple(sorted(os.sched_getaffinity(0)))
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
        return tuple(sorted(sorted(free, key=lambda core: self._users[core])[:count]))

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
