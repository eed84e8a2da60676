"""One attempt at a job: make its descriptors, send it to a server, follow it, read its result."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Any, Self

import attrs

from ttd_core.sandbox.artifacts import ArtifactStore, digest_of, sealed_memory, source_bytes
from ttd_core.sandbox.base import MIB, CompileJob, Job, JobResult, Level, ProgramJob, PythonJob
from ttd_core.sandbox.connection import Connection, ServerLost
from ttd_core.sandbox.exchange import DeadlineMissed, Exchange, FrameReader, OutputListener, StreamTail
from ttd_core.sandbox.inside import frames
from ttd_core.sandbox.outcome import job_result, one_line, size_text
from ttd_core.types import Status

_COMPILER_SCRATCH = 256 * MIB
#: Processor seconds that the server itself may take around a job.
_SERVER_CPU_S = 0.05
_KINDS: dict[type, str] = {PythonJob: "python", CompileJob: "compile", ProgramJob: "program"}


def _starts_processes(job: Job) -> bool:
    return isinstance(job, CompileJob) or (isinstance(job, PythonJob) and bool(job.access.executables))


class Attempt:
    """One attempt at a job; a context manager that closes its descriptors.

    :param artifacts: where compiled programs are kept.
    :param level: that the server's jobs run at.
    :param retries: how often the job was tried before.
    :param listener: called with each piece of output as it comes.
    """

    def __init__(
        self, job: Job, artifacts: ArtifactStore, level: Level, retries: int, listener: OutputListener | None
    ) -> None:
        self._job = job
        self._artifacts = artifacts
        self._level = level
        self._retries = retries
        self._listener = listener
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _close_later(self, descriptor: int) -> int:
        self._open.callback(os.close, descriptor)
        return descriptor

    def _pipe(self) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._close_later(reading)
        return reading, writing

    def _inputs(self) -> list[int]:
        """What the job is given, as sealed memory.

        :raises LookupError: when the program to run is not held here.
        """
        job = self._job
        if isinstance(job, PythonJob):
            fields = {name: getattr(job, name) for name in ("source", "entry", "helpers")}
            fields |= {"args": job.args, "kwargs": job.kwargs, "inject": job.inject}
            return [self._close_later(sealed_memory(frames.encode(fields, trusted=True)))]
        if isinstance(job, CompileJob):
            return [self._close_later(sealed_memory([source_bytes(job.source)]))]
        program = self._artifacts.open(job.artifact.digest)
        if program is None:
            raise LookupError("the compiled program is no longer held by this executor: compile it again")
        return [self._close_later(sealed_memory([job.stdin])), self._close_later(program)]

    def run(
        self,
        connection: Connection,
        number: int,
        cores: tuple[int, ...],
        uid: int | None,
        cancel: int,
    ) -> tuple[JobResult, bool]:
        """Run the job on a server.

        :param number: of the job, unique in this executor.
        :param cores: the processors it may run on.
        :param uid: its own user id inside, when it gets one.
        :param cancel: descriptor that becomes readable to end it.
        :return: its result, and whether the server is fit for another.
        :raises ServerLost: when the server dies or misses the deadline.
        """
        job = self._job
        try:
            inputs = self._inputs()
        except LookupError as error:
            return self._failed(str(error)), True
        message: dict[str, Any] = {
            "job": number,
            "kind": _KINDS[type(job)],
            "limits": attrs.asdict(job.limits),
        }
        message |= {"cores": list(cores), "uid": uid}
        if isinstance(job, CompileJob):
            message |= {"command": list(job.command), "suffix": job.suffix}
        elif isinstance(job, ProgramJob):
            message["arguments"] = list(job.arguments)
        # Ends of pipes: the job writes to one of each, we read from the other.
        output, job_output = self._pipe()
        result = None
        job_ends = [job_output]
        descriptors = [job_output, *inputs]
        if not isinstance(job, CompileJob):
            result, job_result_end = self._pipe()
            job_ends.append(job_result_end)
            descriptors.insert(2, job_result_end)
        if isinstance(job, PythonJob):
            descriptors += job.descriptors
        exchange = self._exchange(connection)
        connection.set_limits(job.limits.memory + job.limits.scratch, job.limits.processes)
        before = connection.cpu_seconds() if _starts_processes(job) else 0.0
        try:
            connection.send(message, descriptors)
        finally:
            for descriptor in job_ends:
                os.close(descriptor)
        try:
            report, attached = exchange.follow(output, result, cancel)
        except DeadlineMissed:
            return self._overdue(exchange), False
        for descriptor in attached:
            self._close_later(descriptor)
        if _starts_processes(job):
            # processes that ended unseen, and that nobody waited for, are counted by their group alone
            used_s = connection.cpu_seconds() - before - _SERVER_CPU_S
            report["cpu_s"] = max(report["cpu_s"], used_s)
        ended = job_result(job, report, exchange, self._level, self._retries)
        if isinstance(job, CompileJob) and ended.ok:
            ended = self._keep_program(job, ended, attached)
        return ended, bool(report["clean"])

    def _exchange(self, connection: Connection) -> Exchange:
        job = self._job
        frame = FrameReader(job.limits.result) if isinstance(job, PythonJob) else None
        stdout = StreamTail(job.limits.result, job.limits.result) if isinstance(job, ProgramJob) else None
        return Exchange(connection, job.limits, frame=frame, stdout=stdout, listener=self._listener)

    def _keep_program(self, job: CompileJob, result: JobResult, attached: list[int]) -> JobResult:
        """Keep the program that the server attached to its report.

        :return: the result with it, or as failed.
        """
        if not attached:
            return attrs.evolve(result, status=Status.CRASH, message="the compiler left no program")
        try:
            artifact = self._artifacts.add(digest_of(job), attached[0], job.limits.result)
        except ValueError as error:
            return attrs.evolve(result, status=Status.OUTPUT_LIMIT, message=str(error))
        return attrs.evolve(result, artifact=artifact)

    def _failed(self, message: str) -> JobResult:
        return JobResult(Status.INFRASTRUCTURE, one_line(message), level=self._level, retries=self._retries)

    def _overdue(self, exchange: Exchange) -> JobResult:
        """The result of a job that its server did not manage to end in time."""
        limits = self._job.limits
        return JobResult(
            Status.TIMEOUT,
            f"stopped after {limits.wall_s:g} s of wall time",
            output=exchange.output.bytes().decode(errors="replace"),
            output_bytes=exchange.output.total,
            wall_s=limits.wall_s,
            level=self._level,
            retries=self._retries,
        )

    def lost(self, error: ServerLost, out_of_memory: bool) -> JobResult:
        """The result when the server died under the job.

        :param out_of_memory: whether the kernel ended processes meanwhile because memory was used up. What a
            job before has not given back yet may be why, so that counts against this one the second time.
        """
        if out_of_memory and self._retries:
            message = f"used more than {size_text(self._job.limits.memory)} of memory"
            return attrs.evolve(self._failed(message), status=Status.MEMORY)
        return self._failed(str(error))
