"""The executor of this machine: warm fork servers, one a worker, in the strongest sandbox there can be."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from types import TracebackType
from typing import Self

from ttd_core.config import RunConfig
from ttd_core.sandbox import launch, probe
from ttd_core.sandbox.artifacts import ArtifactStore, digest_of
from ttd_core.sandbox.attempt import Attempt
from ttd_core.sandbox.base import Access, Artifact, CompileJob, Job, JobResult, Level, PythonJob
from ttd_core.sandbox.connection import Connection, ServerLost
from ttd_core.sandbox.cores import CorePool, usable_cores
from ttd_core.sandbox.exchange import OutputListener
from ttd_core.sandbox.futures import CancelSignal, JobFuture
from ttd_core.sandbox.isolation import IsolationMethod, UserIds
from ttd_core.sandbox.pool import JobPool, at_exit
from ttd_core.sandbox.priority import LOWERED
from ttd_core.sandbox.reserve import reserved_cores, sampling_devices
from ttd_core.types import Status

#: A server is replaced after so many jobs, or when it has grown by more bytes than that.
_RECYCLE_JOBS = 1000
#: The same where jobs use a device. The server never does, so its next job finds the driver as its first did;
#: 1 would give each a server of its own, and have it wait for torch to be imported.
_RECYCLE_DEVICE_JOBS = 1000
_RECYCLE_GROWTH = 64 << 20
_RETRIES = 1


class LocalExecutor:
    """Runs jobs on this machine. See :class:`ttd_core.sandbox.base.Executor` for the contract.

    :param workers: jobs at once; one per core by default.
    :param level: the least isolation to accept: ``best`` (strong or standard), ``strong``, ``standard`` or
        ``unprotected``.
    :param preload: modules ready in Python jobs that name none themselves.
    :param exactly: form this level, or use this method, even if a stronger one can be formed (comparisons,
        tests).
    :param recycle_jobs: jobs after which a server is replaced.
    :param reserve: cores that are kept from jobs, fewer than there are.
    :param lower_priority: whether jobs give way to this process and to others on a busy core; those that are
        timed, or use a device, never do.
    :raises SandboxUnavailableError: when the level cannot be formed here; says what to install or set.
    """

    def __init__(
        self,
        workers: int | None = None,
        level: str = "best",
        preload: tuple[str, ...] = ("numpy",),
        *,
        exactly: Level | IsolationMethod | None = None,
        recycle_jobs: int = _RECYCLE_JOBS,
        reserve: int = 0,
        lower_priority: bool = False,
    ) -> None:
        self._method = probe.choose(level, exactly)
        launch.remove_stale()
        self._preload = tuple(preload)
        self._recycle_jobs = recycle_jobs
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._artifacts = ArtifactStore()
        self._cores = CorePool(reserve=reserve)
        self._lower_priority = lower_priority
        self._user_ids = UserIds(self._method)
        self._numbers = itertools.count(1)
        # starts every server: the kernel ties bubblewrap's life to the thread that started it
        self._launcher = concurrent.futures.ThreadPoolExecutor(1, "sandbox-launcher")
        self._pool = JobPool(workers or max(1, usable_cores() - reserve), self._run)
        self._cancel_at_exit = at_exit(self.close)

    @property
    def level(self) -> Level:
        """The isolation every job gets."""
        return self._method.level

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
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
        """Kill what runs, drop what waits, release every process, descriptor and file."""
        if not self._pool.cancel_all():
            return
        self._cores.close()
        self._pool.join()
        for connection in self._idle:
            connection.close()
        self._launcher.shutdown()
        self._cancel_at_exit()
        self._artifacts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- programs ------------------------------------------------------------------------------------

    def add_program(self, digest: str, program: bytes) -> Artifact:
        """Hold a program compiled elsewhere, unless it is held already.

        :return: what keeps it held.
        """
        return self._artifacts.add_bytes(digest, [program])

    def held_program(self, digest: str) -> Artifact | None:
        """What keeps a program held, if it is; else ``None``."""
        return self._artifacts.take(digest)

    def program(self, digest: str) -> bytes:
        """A program held here, as bytes."""
        return self._artifacts.read(digest)

    # -- workers -------------------------------------------------------------------------------------

    def _run(self, future: JobFuture) -> JobResult:
        job = future.job
        if isinstance(job, CompileJob):
            try:
                held = self._artifacts.take(digest_of(job))
            except ValueError as error:
                return JobResult(Status.SYNTAX_ERROR, str(error), level=self.level)
            if held is not None:
                return JobResult(Status.OK, artifact=held, level=self.level)
        exclusive = job.limits.exclusive_core
        cores = self._cores.take(job.limits.cpus, exclusive)
        cancelled = CancelSignal(future)
        try:
            if future.cancelled():
                return JobResult(Status.INFRASTRUCTURE, "cancelled", level=self.level)
            return self._attempts(future, cores, cancelled.descriptor)
        finally:
            cancelled.close()
            self._cores.give_back(cores, exclusive)

    def _attempts(self, future: JobFuture, cores: tuple[int, ...], cancel: int) -> JobResult:
        """Run a job, and once more if the sandbox itself failed."""
        retries = 0
        while True:
            result = self._attempt(future, cores, cancel, retries)
            # what a job has sent through a descriptor it inherited cannot be taken back
            talks = isinstance(future.job, PythonJob) and future.job.descriptors
            again = result.status is Status.INFRASTRUCTURE and not future.cancelled() and not talks
            if not again or retries >= _RETRIES:
                return result
            retries += 1

    def _attempt(self, future: JobFuture, cores: tuple[int, ...], cancel: int, retries: int) -> JobResult:
        job = future.job
        spec = self._spec_of(job)
        uid = self._user_ids.job_uid(next(self._numbers))
        with Attempt(job, self._artifacts, self.level, retries, future.listener) as attempt:
            connection = self._connect(spec)
            kills = connection.memory_kills()
            try:
                result, clean = attempt.run(connection, next(self._numbers), cores, uid, cancel)
            except ServerLost as error:
                out_of_memory = connection.memory_kills() > kills
                connection.kill()
                connection.close()
                return attempt.lost(error, out_of_memory)
            except BaseException:
                connection.close()
                raise
            most = (
                min(self._recycle_jobs, _RECYCLE_DEVICE_JOBS) if spec.access.devices else self._recycle_jobs
            )
            worn = connection.is_worn(most, _RECYCLE_GROWTH)
            if not clean or not connection.alive or worn:
                connection.close()
            else:
                self._put_back(connection)
            return result

    # -- servers -------------------------------------------------------------------------------------

    def _spec_of(self, job: Job) -> launch.ServerSpec:
        """The kind of server that a job needs."""
        access = job.access if isinstance(job, PythonJob) else Access()
        timed = job.limits.exclusive_core or bool(access.devices)
        nice = LOWERED if self._lower_priority and not timed else 0
        if isinstance(job, PythonJob):
            return launch.ServerSpec(job.preload or self._preload, access, nice)
        return launch.ServerSpec(nice=nice)

    def _connect(self, spec: launch.ServerSpec) -> Connection:
        """An idle server of this kind, or a new one."""
        with self._lock:
            for connection in reversed(self._idle):
                if connection.spec == spec:
                    self._idle.remove(connection)
                    return connection
        id_base = self._user_ids.server_base()
        starting = self._launcher.submit(launch.start_server, self._method, spec, id_base)
        return Connection(starting.result(), spec)

    def _put_back(self, connection: Connection) -> None:
        """Make a server idle; end the longest idle one when there are too many."""
        with self._lock:
            self._idle.append(connection)
            surplus = self._idle.pop(0) if len(self._idle) > 2 * self.workers else None
        if surplus is not None:
            surplus.close()


def open_local(config: RunConfig) -> LocalExecutor:
    """The executor that a run's config asks for.

    :raises SandboxUnavailableError: when the level cannot be formed here.
    """
    return LocalExecutor(
        config.sandbox.workers,
        config.sandbox.level,
        reserve=reserved_cores(config, usable_cores()),
        lower_priority=sampling_devices(config) > 0,
    )
