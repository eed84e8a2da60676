"""Which nodes of a Ray cluster an executor uses: those there when it opens, and those that come later.

A node is used from the moment its actor has formed the sandbox. One that goes away is used no more, and jobs
that ran there are run elsewhere. A node whose actor stopped answering is asked until it answers again (Ray
restarts an actor whose process died), or until Ray says that the node is gone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from ttd_core.errors import EnvironmentLacksError, SandboxUnavailableError, one_line
from ttd_core.sandbox.base import Level
from ttd_core.sandbox.nodes import Node, NodeScheduler
from ttd_core.text import counted, showable

_log = logging.getLogger("ttd_core")
#: Seconds that a node's actor has to form the sandbox, or to answer again.
_START_TIMEOUT_S = 120.0
#: Seconds between two looks at the cluster; and while some node does not answer.
_LOOK_S = 5.0
_LOOK_AGAIN_S = 0.5
#: Seconds after which a node that had no processors free is tried again.
_TRY_AGAIN_S = 60.0
#: Characters of an error that are shown.
_LONGEST_LINE = 400


def own_version() -> str:
    """The version of ttd-core here."""
    return importlib.metadata.version("ttd-core")


@attrs.define(eq=False)
class _Asked:
    """A node that was asked to describe itself.

    :param answer: names what it will say.
    :param deadline: by :func:`time.monotonic`.
    """

    node: Node
    answer: Any
    deadline: float


class Membership:
    """Keeps a scheduler's nodes those of the cluster.

    :param ray: the module, connected.
    :param scheduler: is given nodes, and relieved of them.
    :param start: starts the actor of a node, by its id, with as many workers; its ``describe`` gives level
        and version.
    :param workers: most jobs at once in the whole cluster; ``None`` for one a processor.
    :param reserve: processors of this process's own node that are left out.
    :param joined: called, in the thread that looks, when a node has come.
    """

    def __init__(
        self,
        ray: Any,
        scheduler: NodeScheduler,
        start: Callable[[str, int], Any],
        workers: int | None,
        reserve: int,
        joined: Callable[[], None],
    ) -> None:
        self._ray = ray
        self._scheduler = scheduler
        self._start = start
        self._workers = workers
        self._reserve = reserve
        self._joined = joined
        self._here = ray.get_runtime_context().get_node_id()
        self._starting: list[_Asked] = []
        self._suspected: list[_Asked] = []
        #: By id, until when a node is left alone; for good if its sandbox will never do.
        self._left_alone: dict[str, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._follow, name="ray-nodes", daemon=True)
        #: The weakest isolation of any node that was used.
        self.level = Level.STRONG

    def begin(self) -> None:
        """Use the nodes that are there.

        :raises EnvironmentLacksError: when there is no node with a free processor.
        :raises SandboxUnavailableError: when a node, which it names, cannot form the level, or has another
            version of ttd.
        """
        self._begin_new(self._alive())
        if not self._starting:
            raise EnvironmentLacksError("the Ray cluster has no node with a processor")
        for asked in list(self._starting):
            left = max(0.1, asked.deadline - time.monotonic())
            try:
                described = self._ray.get(asked.answer, timeout=left)
            except self._ray.exceptions.GetTimeoutError:
                raise EnvironmentLacksError(_busy(asked.node)) from None
            except self._ray.exceptions.RayError as error:
                raise SandboxUnavailableError(f"node {asked.node.address}: {last_line(error)}") from error
            self._use(asked, described)

    def follow(self) -> None:
        """Follow the cluster from now on."""
        self._thread.start()

    def suspect(self, node: Node) -> None:
        """Give a node no more jobs until it has answered again: a call to it has failed."""
        self._scheduler.set_answers(node, False)
        with self._lock:
            if all(asked.node is not node for asked in self._suspected):
                self._suspected.append(_Asked(node, None, time.monotonic() + _START_TIMEOUT_S))
        self._wake.set()

    def close(self) -> None:
        """Follow no more, and end every actor."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for node in [*self._scheduler.nodes, *(asked.node for asked in self._starting)]:
            self._end(node)

    # -- in the thread that looks ----------------------------------------------------------------------

    def _follow(self) -> None:
        told = ""
        while not self._closed:
            self._wake.wait(_LOOK_AGAIN_S if self._suspected or self._starting else _LOOK_S)
            self._wake.clear()
            try:
                if not self._closed:
                    self._look()
            except (self._ray.exceptions.RayError, OSError, RuntimeError) as error:
                # the cluster's head does not answer; jobs that run go on without it
                if told != (told := last_line(error)):
                    _log.warning(f"the Ray cluster cannot be looked at: {told}")

    def _look(self) -> None:
        """One look at the cluster."""
        alive = self._alive()
        for node in self._scheduler.nodes:
            if node.id not in alive:
                self._lose(node, "it has left the cluster")
        for asked in list(self._suspected):
            if asked.node.id not in alive or asked.node not in self._scheduler.nodes:
                self._forget_suspicion(asked)
            else:
                self._ask_again(asked)
        for asked in list(self._starting):
            self._take_answer(asked, asked.node.id in alive)
        self._begin_new(alive)

    def _alive(self) -> dict[str, tuple[str, int]]:
        """Address and processors of each node that is there, by id."""
        return {
            node["NodeID"]: (node["NodeManagerAddress"], int(node["Resources"].get("CPU", 0)))
            for node in self._ray.nodes()
            if node["Alive"]
        }

    def _begin_new(self, alive: dict[str, tuple[str, int]]) -> None:
        """Start an actor on each node that has none, as far as workers are wanted."""
        used = [*self._scheduler.nodes, *(asked.node for asked in self._starting)]
        known = {node.id for node in used}
        left = None if self._workers is None else self._workers - sum(node.workers for node in used)
        for name, (address, processors) in alive.items():
            count = processors
            if name == self._here and processors:
                count = max(1, processors - self._reserve)
            count = count if left is None else min(count, left)
            if name in known or count <= 0 or time.monotonic() < self._left_alone.get(name, 0.0):
                continue
            left = None if left is None else left - count
            node = Node(name, address, count, self._start(name, count))
            deadline = time.monotonic() + _START_TIMEOUT_S
            self._starting.append(_Asked(node, node.actor.describe.remote(), deadline))

    def _use(self, asked: _Asked, described: tuple[str, str]) -> None:
        """Use a node that has described itself.

        :raises SandboxUnavailableError: when it has another version of ttd.
        """
        level, version = described
        node = asked.node
        if version != own_version():
            raise SandboxUnavailableError(
                f"node {node.address} has ttd-core {version}, this machine {own_version()}: install the same"
            )
        self.level = min(self.level, Level(level), key=lambda each: each.rank)
        self._starting.remove(asked)
        self._scheduler.add(node)

    def _take_answer(self, asked: _Asked, alive: bool) -> None:
        """Use a node that comes later, once it has described itself."""
        node = asked.node
        ready, _ = self._ray.wait([asked.answer], timeout=0)
        until, why = 0.0, ""
        if ready:
            try:
                self._use(asked, self._ray.get(asked.answer))
            except SandboxUnavailableError as error:
                until, why = float("inf"), one_line(error)
            except self._ray.exceptions.RayError as error:
                until, why = float("inf"), f"node {node.address}: {last_line(error)}"
            else:
                _log.info(f"node {node.address} has joined with {node.workers} processors")
                self._joined()
                return
        elif alive and time.monotonic() <= asked.deadline:
            return
        elif alive:
            until, why = time.monotonic() + _TRY_AGAIN_S, _busy(node)
        self._starting.remove(asked)
        self._end(node)
        self._left_alone[node.id] = until
        if alive:
            _log.warning(f"a node of the Ray cluster is not used: {why}")

    def _ask_again(self, asked: _Asked) -> None:
        """See whether a node that had stopped answering answers, or ask it once more."""
        try:
            answers = self._has_answered(asked)
        except self._ray.exceptions.RayError:
            self._forget_suspicion(asked)
            self._lose(asked.node, "its actor is gone")
            return
        if answers:
            self._forget_suspicion(asked)
            self._scheduler.set_answers(asked.node, True)
        elif time.monotonic() > asked.deadline:
            self._forget_suspicion(asked)
            self._lose(asked.node, f"no answer for {_START_TIMEOUT_S:.0f} s")

    def _has_answered(self, asked: _Asked) -> bool:
        """Whether a node has described itself since it was suspected.

        :raises RayError: when it never will.
        """
        if asked.answer is None:
            asked.answer = asked.node.actor.describe.remote()
        ready, _ = self._ray.wait([asked.answer], timeout=_LOOK_AGAIN_S)
        if not ready:
            return False
        answer, asked.answer = asked.answer, None
        try:
            self._ray.get(answer)
        except self._ray.exceptions.ActorUnavailableError:
            return False  # not restarted yet, or Ray has not noticed its end
        return True

    def _forget_suspicion(self, asked: _Asked) -> None:
        with self._lock:
            self._suspected.remove(asked)

    def _lose(self, node: Node, why: str) -> None:
        if self._scheduler.remove(node):
            jobs = counted(node.running, "job")
            _log.warning(f"node {node.address} of the Ray cluster is lost ({why}): {jobs} to run elsewhere")
        self._left_alone[node.id] = time.monotonic() + _TRY_AGAIN_S
        self._end(node)

    def _end(self, node: Node) -> None:
        """End a node's actor, and Ray's attempts to restart it."""
        with contextlib.suppress(self._ray.exceptions.RayError):  # it is gone already
            self._ray.kill(node.actor)


def _busy(node: Node) -> str:
    return (
        f"node {node.address} of the Ray cluster has no {node.workers} processors free: stop other tasks, or "
        "ask for fewer workers"
    )


def last_line(error: BaseException) -> str:
    """What an error of Ray says last, which is what went wrong, as one line."""
    lines = showable(str(error)).strip().splitlines()
    return lines[-1].strip()[:_LONGEST_LINE] if lines else type(error).__name__
