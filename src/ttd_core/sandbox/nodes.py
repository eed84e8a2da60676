"""Which node of a cluster a job goes to: by free cores, among those that are there."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import attrs

_log = logging.getLogger("ttd_core")
#: Seconds between two looks of a waiting job at whether it was cancelled.
_LOOK_S = 0.2


@attrs.define(eq=False)
class Node:
    """A node as the driver sees it.

    :param id: the cluster's name for it, never used twice.
    :param address: for people.
    :param workers: jobs at once, one a core.
    :param actor: what runs them there.
    :param running: jobs there now.
    :param taken: cores that these were promised.
    :param done: jobs that ended there with a result.
    :param answers: whether it takes jobs: False while it is being asked whether it still lives.
    """

    id: str
    address: str
    workers: int
    actor: Any
    running: int = 0
    taken: int = 0
    done: int = 0
    answers: bool = True

    @property
    def free_cores(self) -> int:
        """Cores that no job was promised; below 0 where jobs share cores."""
        return self.workers - self.taken


@attrs.frozen
class NodeUse:
    """What one node has done for an executor.

    :param address: of the node.
    :param workers: jobs at once.
    :param done: jobs that ended there with a result.
    :param lost: whether it went away.
    """

    address: str
    workers: int
    done: int
    lost: bool


class NodeScheduler:
    """The nodes of an executor, and who of those waiting for one goes where. Thread-safe.

    No node runs more jobs than it has workers: the others wait here, so that a node that comes takes them at
    once, and none waits at a node that goes.

    :param patience_s: seconds that jobs wait for a node to come when there is none.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._nodes: list[Node] = []
        self._gone: list[Node] = []
        self._changed = threading.Condition()
        self._alone_since: float | None = time.monotonic()

    @property
    def workers(self) -> int:
        """How many jobs run at once, on all nodes that are there."""
        with self._changed:
            return sum(node.workers for node in self._nodes)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are there."""
        with self._changed:
            return list(self._nodes)

    def use(self) -> list[NodeUse]:
        """What each node has done, those that are there first."""
        with self._changed:
            return [
                NodeUse(node.address, node.workers, node.done, lost)
                for nodes, lost in ((self._nodes, False), (self._gone, True))
                for node in nodes
            ]

    def add(self, node: Node) -> None:
        """Use a node from now on."""
        with self._changed:
            self._nodes.append(node)
            self._alone_since = None
            self._changed.notify_all()

    def remove(self, node: Node) -> bool:
        """Use a node no more.

        :return: whether it was in use.
        """
        with self._changed:
            if node not in self._nodes:
                return False
            self._nodes.remove(node)
            self._gone.append(node)
            if not self._nodes:
                self._alone_since = time.monotonic()
                _log.warning(
                    "every node of the Ray cluster is lost: jobs wait "
                    f"{self._patience_s:.0f} s for one to come (ray start --address=...)"
                )
            self._changed.notify_all()
            return True

    def set_answers(self, node: Node, answers: bool) -> None:
        """Say whether a node takes jobs at the moment."""
        with self._changed:
            node.answers = answers
            self._changed.notify_all()

    def take(self, cores: int, cancelled: threading.Event) -> Node | None:
        """Wait for a worker of some node and take it: where most cores are free.

        :param cores: that the job was promised.
        :param cancelled: set once nobody waits for the job any more.
        :return: ``None`` when it was cancelled, or when no node came within :attr:`patience_s`.
        """
        with self._changed:
            while not cancelled.is_set():
                free = [node for node in self._nodes if node.answers and node.running < node.workers]
                if free:
                    node = max(free, key=lambda each: each.free_cores)
                    node.running += 1
                    node.taken += cores
                    return node
                since = self._alone_since
                if since is not None and time.monotonic() - since > self._patience_s:
                    return None
                self._changed.wait(_LOOK_S)
            return None

    def give_back(self, node: Node, cores: int, done: bool) -> None:
        """Return what :meth:`take` gave.

        :param done: whether the job ended there with a result.
        """
        with self._changed:
            node.running -= 1
            node.taken -= cores
            node.done += done
            self._changed.notify()
