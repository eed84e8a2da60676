"""The executor of a Ray cluster: on every node, the sandbox of :mod:`ttd_core.sandbox.local`.

One actor a node holds a :class:`~ttd_core.sandbox.local.LocalExecutor` and claims from Ray as many processors
as it has workers, so that Ray gives them to nobody else. Jobs and results cross as the sandbox's own frames.
A node that is lost costs its jobs a retry on another one. Nodes that join later are not used by an executor
already open.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import attrs

from ttd_core.config import RunConfig
from ttd_core.errors import EnvironmentLacksError, SandboxUnavailableError, one_line
from ttd_core.sandbox import codec
from ttd_core.sandbox.artifacts import ArtifactStore, source_bytes
from ttd_core.sandbox.base import CompileJob, Job, JobResult, Level, ProgramJob
from ttd_core.sandbox.exchange import OutputListener
from ttd_core.sandbox.futures import JobFuture
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.sandbox.pool import JobPool, at_exit
from ttd_core.types import Status

_START_TIMEOUT_S = 120.0
_RETRIES = 3
_PAUSE_S = 0.5


class NodeSandbox:
    """Runs on a node, inside a Ray actor: takes framed jobs, gives framed results.

    :param workers: jobs at once.
    """

    def __init__(self, workers: int, level: str, preload: tuple[str, ...]) -> None:
        self._executor = LocalExecutor(workers, level, preload)
        self._running: dict[int, JobFuture] = {}

    def level(self) -> str:
        """The isolation formed on this node."""
        return self._executor.level.value

    def run(self, number: int, job: bytes, program: bytes) -> Iterator[bytes]:
        """Run a job; yields what it prints as it comes, then its result, then the program it compiled.

        :param number: to cancel it by.
        :param job: framed.
        :param program: what a program job runs, in case this node does not hold it; else empty.
        :return: pieces that begin with ``o`` (output), ``r`` (the framed result) or ``p`` (the program).
        """
        decoded = codec.decode_job(job)
        if program and isinstance(decoded, ProgramJob):
            held = self._executor.add_program(decoded.artifact.digest, program)
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


@attrs.define(eq=False)
class _Node:
    """A node as the driver sees it.

    :param actor: handle of its :class:`NodeSandbox`.
    :param busy: jobs that run there now.
    :param lost: whether its actor is gone for good.
    """

    actor: Any
    address: str
    workers: int
    busy: int = 0
    lost: bool = False


class RayExecutor:
    """Runs jobs on every node of a Ray cluster. See :class:`ttd_core.sandbox.base.Executor`.

    Joins the cluster that this process is connected to, or that ``RAY_ADDRESS`` names, or starts a local
    one, which it stops again when closed.

    :param workers: jobs at once in the whole cluster; one per processor by default.
    :param level: as for :class:`~ttd_core.sandbox.local.LocalExecutor`, on every node.
    :param preload: modules ready in Python jobs that name none themselves.
    :raises EnvironmentLacksError: when ray is not installed, or the cluster has no free processor.
    :raises SandboxUnavailableError: when a node cannot form the level; names the node.
    """

    def __init__(
        self, workers: int | None = None, level: str = "best", preload: tuple[str, ...] = ("numpy",)
    ) -> None:
        self._ray = _load()
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(log_to_driver=False, address=os.environ.get("RAY_ADDRESS"))
        self._lock = threading.Lock()
        self._numbers = 0
        self._programs = ArtifactStore()
        self._nodes: list[_Node] = []
        try:
            self._start_nodes(workers, level, tuple(preload))
            self._level = min((self._level_of(node) for node in self._nodes), key=lambda level: level.rank)
        except BaseException:
            self._end_nodes()
            raise
        self._pool = JobPool(sum(node.workers for node in self._nodes), self._run)
        self._cancel_at_exit = at_exit(self.close)

    @property
    def level(self) -> Level:
        """The isolation of the weakest node."""
        return self._level

    @property
    def workers(self) -> int:
        """How many jobs run at once in the whole cluster."""
        return self._pool.workers

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

    def _start_nodes(self, workers: int | None, level: str, preload: tuple[str, ...]) -> None:
        """One actor a node, as many workers as asked for in all."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        left = workers
        for node in self._ray.nodes():
            count = int(node["Resources"].get("CPU", 0)) if node["Alive"] else 0
            count = count if left is None else min(count, left)
            if count == 0:
                continue
            left = None if left is None else left - count
            options = {
                "num_cpus": count,
                "max_restarts": -1,
                # a waiting job's thread is needed to hear of its cancelling
                "max_concurrency": 2 * count + 2,
                "scheduling_strategy": strategy(node["NodeID"], soft=False),
            }
            actor = self._ray.remote(NodeSandbox).options(**options).remote(count, level, preload)
            self._nodes.append(_Node(actor, node["NodeManagerAddress"], count))
        if not self._nodes:
            raise EnvironmentLacksError("the Ray cluster has no node with a processor")

    def _level_of(self, node: _Node) -> Level:
        try:
            return Level(self._ray.get(node.actor.level.remote(), timeout=_START_TIMEOUT_S))
        except self._ray.exceptions.GetTimeoutError:
            raise EnvironmentLacksError(
                f"node {node.address} of the Ray cluster has no {node.workers} processors free: "
                "stop other tasks, or ask for fewer workers"
            ) from None
        except self._ray.exceptions.RayError as error:
            raise SandboxUnavailableError(f"node {node.address}: {_last_line(error)}") from error

    def _end_nodes(self) -> None:
        for node in self._nodes:
            with contextlib.suppress(self._ray.exceptions.RayError):  # it is gone already
                self._ray.kill(node.actor)
        if self._started:
            self._ray.shutdown()

    def _pick(self) -> _Node | None:
        """The node with most workers free, taken for one job; ``None`` when all are lost."""
        with self._lock:
            present = [node for node in self._nodes if not node.lost]
            if not present:
                return None
            node = min(present, key=lambda each: each.busy / each.workers)
            node.busy += 1
            return node

    # -- jobs ----------------------------------------------------------------------------------------

    def _run(self, future: JobFuture) -> JobResult:
        """Run a job on some node, and on another when that one is lost."""
        retries = 0
        while True:
            node = self._pick()
            if node is None:
                return self._failed("every node of the Ray cluster is lost", retries)
            try:
                return attrs.evolve(result := self._run_on(node, future), retries=result.retries + retries)
            except self._ray.exceptions.RayError as error:
                node.lost = not self._answers(node)
                if retries >= _RETRIES or future.cancelled():
                    return self._failed(f"node {node.address}: {_last_line(error)}", retries)
            finally:
                with self._lock:
                    node.busy -= 1
            retries += 1
            time.sleep(_PAUSE_S)

    def _run_on(self, node: _Node, future: JobFuture) -> JobResult:
        """Run a job on a node; its output goes to the listener as it comes.

        :raises RayError: when the node, or its actor, is lost.
        """
        job = future.job
        program = b""
        if isinstance(job, CompileJob):
            try:
                source_bytes(job.source)
            except ValueError as error:
                return JobResult(Status.SYNTAX_ERROR, str(error), level=self._level)
        if isinstance(job, ProgramJob):
            program = self._programs.read(job.artifact.digest)
        with self._lock:
            self._numbers += 1
            number = self._numbers
        call = node.actor.run.options(num_returns="streaming").remote(number, codec.encode_job(job), program)
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

    def _answers(self, node: _Node) -> bool:
        """Whether a node's actor is there again, restarted by Ray."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                self._ray.get(node.actor.level.remote(), timeout=_START_TIMEOUT_S)
                return True
            except self._ray.exceptions.ActorUnavailableError:
                # Ray has not restarted it yet, or has not noticed its end.
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE_S)
            except self._ray.exceptions.RayError:
                return False

    def _failed(self, message: str, retries: int) -> JobResult:
        return JobResult(Status.INFRASTRUCTURE, message, level=self._level, retries=retries)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return one_line(Exception(lines[-1] if lines else type(error).__name__))


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


def open_ray(config: RunConfig) -> RayExecutor:
    """The executor that a run's config asks for.

    :raises EnvironmentLacksError: when ray, the cluster or a node's sandbox is missing.
    """
    return RayExecutor(config.sandbox.workers, config.sandbox.level)
