"""The executor of a Ray cluster: on every node, the sandbox of :mod:`ttd_core.sandbox.local`.

One actor a node holds a :class:`~ttd_core.sandbox.local.LocalExecutor` and claims from Ray as many processors
as it has workers, so that Ray gives them to nobody else. Jobs and results cross as the sandbox's own frames;
large arrays and programs are put into Ray's object store once, and fetched by each node that needs them
(:mod:`.shared`). A job goes to the node with most cores free (:mod:`.nodes`). A node that is lost costs its
jobs a retry on another one, and one that joins is used as soon as its sandbox is formed (:mod:`.ray_nodes`).
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import attrs
import numpy as np

from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError, one_line
from ttd_core.sandbox import codec
from ttd_core.sandbox.artifacts import ArtifactStore, source_bytes
from ttd_core.sandbox.base import CompileJob, Job, JobResult, Level, ProgramJob
from ttd_core.sandbox.cores import usable_cores
from ttd_core.sandbox.exchange import OutputListener
from ttd_core.sandbox.futures import JobFuture
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.nodes import Node, NodeScheduler, NodeUse
from ttd_core.sandbox.pool import JobPool, at_exit
from ttd_core.sandbox.ray_nodes import Membership, last_line, own_version
from ttd_core.sandbox.reserve import reserved_cores, sampling_devices
from ttd_core.sandbox.shared import LARGE_ARRAY, SharedData
from ttd_core.text import showable_line
from ttd_core.types import Status

#: How often a job is tried again after its node was lost.
_RETRIES = 3
_PAUSE_S = 0.5
#: Seconds that jobs wait for a node when every node is lost.
_PATIENCE_S = 600.0
_CONNECT_TIMEOUT_S = 10.0

#: A digest, and what names the data in Ray's object store.
_Stored = tuple[str, Any]


class NodeSandbox:
    """Runs on a node, inside a Ray actor: takes framed jobs, gives framed results.

    :param workers: jobs at once.
    :param lower_priority: as for :class:`~ttd_core.sandbox.local.LocalExecutor`, as is :param reserve:.
    """

    def __init__(
        self, workers: int, level: str, preload: tuple[str, ...], reserve: int, lower_priority: bool
    ) -> None:
        self._ray = _load()
        self._executor = LocalExecutor(
            workers, level, preload, reserve=reserve, lower_priority=lower_priority
        )
        self._running: dict[int, JobFuture] = {}

    def describe(self) -> tuple[str, str]:
        """The isolation formed on this node, and the version of ttd-core that is installed on it."""
        return self._executor.level.value, own_version()

    def run(
        self, number: int, job: bytes, arrays: Sequence[_Stored], program: Sequence[_Stored]
    ) -> Iterator[bytes]:
        """Run a job; yields what it prints as it comes, then its result, then the program it compiled.

        :param number: to cancel it by.
        :param job: framed, without its large arrays.
        :param arrays: those.
        :param program: what a program job runs, fetched if this node does not hold it; else empty.
        :return: pieces that begin with ``o`` (output), ``r`` (the framed result) or ``p`` (the program).
        """
        fetched = self._ray.get([stored for _, stored in arrays])
        names = [digest for digest, _ in arrays]
        decoded = codec.decode_job(job, dict(zip(names, fetched, strict=True)))
        if isinstance(decoded, ProgramJob):
            for digest, stored in program:
                held = self._executor.held_program(digest)
                if held is None:
                    held = self._executor.add_program(digest, self._ray.get(stored))
                decoded = attrs.evolve(decoded, artifact=held)
        pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        future = self._running[number] = self._executor.submit(decoded, pieces.put)
        future.add_done_callback(lambda _: pieces.put(None))
        while (piece := pieces.get()) is not None:
            yield b"o" + piece
        del self._running[number]
        if future.cancelled():
            result = JobResult(Status.INFRASTRUCTURE, "cancelled", level=self._executor.level)
        else:
            result = future.result()
        yield b"r" + codec.encode_result(result)
        if result.artifact is not None:
            yield b"p" + self._executor.program(result.artifact.digest)

    def cancel(self, number: int) -> None:
        """End a job."""
        future = self._running.get(number)
        if future is not None:
            future.cancel()


@attrs.frozen
class ClusterUse:
    """What an executor has used of its cluster.

    :param nodes: those that are there first.
    :param job_bytes: of framed jobs that were sent.
    :param put_bytes: of arrays and programs, put once for all nodes.
    :param saved_bytes: of arrays and programs that jobs shared with earlier ones.
    """

    nodes: list[NodeUse]
    job_bytes: int
    put_bytes: int
    saved_bytes: int


class RayExecutor:
    """Runs jobs on every node of a Ray cluster. See :class:`ttd_core.sandbox.base.Executor`.

    Joins the cluster that this process is connected to, or that ``RAY_ADDRESS`` names, or starts a local
    one, which it stops again when closed.

    :param workers: jobs at once in the whole cluster; one per processor by default.
    :param level: as for :class:`~ttd_core.sandbox.local.LocalExecutor`, on every node.
    :param preload: modules ready in Python jobs that name none themselves.
    :param reserve: cores of this machine, where it is a node, that are kept from jobs.
    :param lower_priority: whether jobs on this machine give way to this process.
    :raises EnvironmentLacksError: when ray is not installed, or the cluster has no free processor.
    :raises SandboxUnavailableError: when a node cannot form the level; names the node.
    """

    def __init__(
        self,
        workers: int | None = None,
        level: str = "best",
        preload: tuple[str, ...] = ("numpy",),
        *,
        reserve: int = 0,
        lower_priority: bool = False,
    ) -> None:
        self._ray = _load()
        self._started = not self._ray.is_initialized()
        if self._started:
            _connect(self._ray, os.environ.get("RAY_ADDRESS"))
        self._lock = threading.Lock()
        self._numbers = 0
        self._job_bytes = 0
        self._programs = ArtifactStore()
        self._shared = SharedData(self._ray.put)
        self._of_actors = (level, tuple(preload))
        self._here = self._ray.get_runtime_context().get_node_id()
        self._on_own_node = (reserve, lower_priority)
        self._scheduler = NodeScheduler(_PATIENCE_S)
        self._members = Membership(
            self._ray, self._scheduler, self._start_actor, workers, reserve, self._grow
        )
        try:
            self._members.begin()
        except BaseException:
            self._end_nodes()
            raise
        self._pool = JobPool(self._scheduler.workers, self._run)
        self._members.follow()
        self._cancel_at_exit = at_exit(self.close)

    @property
    def level(self) -> Level:
        """The isolation of the weakest node."""
        return self._members.level

    @property
    def workers(self) -> int:
        """How many jobs run at once in the whole cluster, as it is now."""
        return max(1, self._scheduler.workers)

    def use(self) -> ClusterUse:
        """What was used of the cluster so far."""
        shared = self._shared
        return ClusterUse(self._scheduler.use(), self._job_bytes, shared.put_bytes, shared.saved_bytes)

    def submit(self, job: Job, on_output: OutputListener | None = None) -> JobFuture:
        """Queue a job; blocks while twice as many as there are workers wait.

        :param on_output: called with each piece of what the job prints, as it comes.
        :raises RuntimeError: when the executor is closed.
        """
        return self._pool.submit(job, on_output)

    def run(self, job: Job, on_output: OutputListener | None = None) -> JobResult:
        """Run a job and wait for it."""
        return self.submit(job, on_output).result()

    def close(self) -> None:
        """Kill what runs, drop what waits, end the actors with all they started."""
        if not self._pool.cancel_all():
            return
        self._pool.join()
        self._shared.close()
        self._end_nodes()
        self._programs.close()
        self._cancel_at_exit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- nodes ---------------------------------------------------------------------------------------

    def _start_actor(self, node: str, count: int) -> Any:
        """The actor of a node, which Ray starts there once that many processors are free.

        :param node: its id.
        """
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        options = {
            "num_cpus": count,
            "max_restarts": -1,
            # a waiting job's thread is needed to hear of its cancelling
            "max_concurrency": 2 * count + 2,
            "scheduling_strategy": strategy(node, soft=False),
        }
        on_node = self._on_own_node if node == self._here else (0, False)
        return self._ray.remote(NodeSandbox).options(**options).remote(count, *self._of_actors, *on_node)

    def _grow(self) -> None:
        """Have a thread for each worker, now that a node has come."""
        self._pool.grow(self._scheduler.workers)

    def _end_nodes(self) -> None:
        self._members.close()
        if self._started:
            self._ray.shutdown()

    # -- jobs ----------------------------------------------------------------------------------------

    def _run(self, future: JobFuture) -> JobResult:
        """Run a job on some node, and on another when that one is lost."""
        retries, cores = 0, future.job.limits.cpus
        cancelled = threading.Event()
        future.add_done_callback(lambda done: cancelled.set() if done.cancelled() else None)
        while True:
            node = self._scheduler.take(cores, cancelled)
            if node is None:
                return self._failed("every node of the Ray cluster is lost", retries)
            result: JobResult | None = None
            try:
                result = self._run_on(node, future)
                return attrs.evolve(result, retries=result.retries + retries)
            except self._ray.exceptions.RayError as error:
                # what the actor itself raised says nothing against the node
                if not isinstance(error, self._ray.exceptions.RayTaskError):
                    self._members.suspect(node)
                if retries >= _RETRIES or future.cancelled():
                    return self._failed(f"node {node.address}: {last_line(error)}", retries)
            finally:
                self._scheduler.give_back(node, cores, result is not None)
            retries += 1
            time.sleep(_PAUSE_S)

    def _run_on(self, node: Node, future: JobFuture) -> JobResult:
        """Run a job on a node; its output goes to the listener as it comes.

        :raises RayError: when the node, or its actor, is lost.
        """
        job = future.job
        if isinstance(job, CompileJob):
            try:
                source_bytes(job.source)
            except ValueError as error:
                return JobResult(Status.SYNTAX_ERROR, str(error), level=self.level)
        frame, large = codec.encode_without(job, LARGE_ARRAY)
        arrays = [(each.digest, self._stored(each.digest, each.array)) for each in large]
        program = self._stored_program(job.artifact.digest) if isinstance(job, ProgramJob) else []
        with self._lock:
            self._numbers += 1
            self._job_bytes += len(frame)
            number = self._numbers
        call = node.actor.run.options(num_returns="streaming").remote(number, frame, arrays, program)
        future.add_done_callback(lambda done: node.actor.cancel.remote(number) if done.cancelled() else None)
        result: JobResult | None = None
        for reference in call:
            piece: bytes = self._ray.get(reference)
            if piece[:1] == b"o" and future.listener is not None:
                future.listener(piece[1:])
            elif piece[:1] == b"r":
                result = codec.decode_result(piece[1:])
            elif piece[:1] == b"p" and isinstance(job, CompileJob) and result and result.artifact:
                artifact = self._programs.add_bytes(result.artifact.digest, [piece[1:]])
                result = attrs.evolve(result, artifact=artifact)
        return result or self._failed("the node gave no result", 0)

    def _stored(self, digest: str, array: np.ndarray[Any, Any]) -> Any:
        return self._shared.reference(digest, array.nbytes, array)

    def _stored_program(self, digest: str) -> list[_Stored]:
        """A program in Ray's object store; empty where it is no longer held here."""
        program = self._programs.read(digest)
        return [(digest, self._shared.reference(digest, len(program), program))] if program else []

    def _failed(self, message: str, retries: int) -> JobResult:
        return JobResult(Status.INFRASTRUCTURE, message, level=self.level, retries=retries)


def _load() -> Any:
    """The ray module.

    :raises EnvironmentLacksError: when it is not installed.
    """
    try:
        import ray  # noqa: PLC0415 (an optional extra, which takes seconds to load)
        import ray.util.scheduling_strategies  # noqa: PLC0415 (as above)
    except ImportError as error:
        raise EnvironmentLacksError("executor ray needs ray: pip install 'ttd-core[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Connect this process to a cluster.

    :param address: of its head, or ``auto``; ``None`` for a new one of this machine alone. What Ray itself
        would join then may be gone: it would try for minutes.
    :raises EnvironmentLacksError: when there is none at the address.
    """
    said = f"RAY_ADDRESS = {showable_line(address or '')!r}"
    if address and address.startswith("ray://"):
        raise EnvironmentLacksError(
            f"{said}: a run is made on a node of the cluster, not through Ray's client; give HOST:PORT of "
            "its head (ray start --head says it)"
        )
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        # Ray itself would try for minutes
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            raise EnvironmentLacksError(
                f"{said}: no Ray cluster answers there ({one_line(error)}); start one with ray start --head, "
                "or unset RAY_ADDRESS"
            ) from None
    try:
        ray.init(log_to_driver=False, address=address or "local", logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EnvironmentLacksError(f"cannot use the Ray cluster ({said}): {last_line(error)}") from error


def open_ray(config: RunConfig) -> RayExecutor:
    """The executor that a run's config asks for.

    :raises EnvironmentLacksError: when ray, the cluster or a node's sandbox is missing.
    """
    return RayExecutor(
        config.sandbox.workers,
        config.sandbox.level,
        reserve=reserved_cores(config, usable_cores()),
        lower_priority=sampling_devices(config) > 0,
    )
