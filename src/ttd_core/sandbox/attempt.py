"""One attempt at a job: its descriptors made, sent to a server, followed, judged, closed."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType
from typing import Any, Self

import attrs

from ttd_core.sandbox.artifacts import Artifacts, digest_of, sealed
from ttd_core.sandbox.base import MIB, CompileJob, Job, JobResult, Level, ProgramJob, PythonJob
from ttd_core.sandbox.connection import Connection, ServerLost
from ttd_core.sandbox.exchange import DeadlineMissed, Exchange, FrameReader, OutputListener, Tail
from ttd_core.sandbox.inside import frames
from ttd_core.sandbox.outcome import judge, one_line
from ttd_core.types import Status

_COMPILER_SCRATCH = 256 * MIB
_KINDS: dict[type, str] = {PythonJob: "python", CompileJob: "compile", ProgramJob: "program"}


class Task:
    """Owns the descriptors of one attempt; a context manager that closes them.

    :param artifacts: where compiled programs are kept.
    :param retries: how often the job was tried before.
    """

    def __init__(
        self, job: Job, artifacts: Artifacts, level: Level, retries: int, listener: OutputListener | None
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

    def _held(self, descriptor: int) -> int:
        self._open.callback(os.close, descriptor)
        return descriptor

    def _pipe(self) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._held(reading)
        return reading, writing

    def _inputs(self) -> list[int]:
        """What the job is given, as sealed memory.

        :raises LookupError: when the program to run is not held here.
        """
        job = self._job
        if isinstance(job, PythonJob):
            fields = {name: getattr(job, name) for name in ("source", "entry", "helpers")}
            fields |= {"args": job.args, "kwargs": job.kwargs, "inject": job.inject}
            return [self._held(sealed(frames.encode(fields, trusted=True)))]
        if isinstance(job, CompileJob):
            return [self._held(sealed([job.source.encode(errors="replace")]))]
        program = self._artifacts.open(job.artifact.digest)
        if program is None:
            raise LookupError("the compiled program is no longer held by this executor: compile it again")
        return [self._held(sealed([job.stdin])), self._held(program)]

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
            given = self._inputs()
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
        output, print_to = self._pipe()
        result = None
        writing = [print_to]
        descriptors = [print_to, *given]
        if not isinstance(job, CompileJob):
            result, write_to = self._pipe()
            writing.append(write_to)
            descriptors.insert(2, write_to)
        if isinstance(job, PythonJob):
            descriptors += job.descriptors
        exchange = self._exchange(connection)
        connection.bound(job.limits.memory + job.limits.scratch, job.limits.processes)
        try:
            connection.send(message, descriptors)
        finally:
            for descriptor in writing:
                os.close(descriptor)
        try:
            report, attached = exchange.follow(output, result, cancel)
        except DeadlineMissed:
            return self._overdue(exchange), False
        for descriptor in attached:
            self._held(descriptor)
        found = judge(job, report, exchange, self._level, self._retries)
        if isinstance(job, CompileJob) and found.ok:
            found = self._keep_program(job, found, attached)
        return found, bool(report["clean"])

    def _exchange(self, connection: Connection) -> Exchange:
        job = self._job
        frame = FrameReader(job.limits.result) if isinstance(job, PythonJob) else None
        whole = Tail(job.limits.result, job.limits.result) if isinstance(job, ProgramJob) else None
        return Exchange(connection, job.limits, frame=frame, stdout=whole, listener=self._listener)

    def _keep_program(self, job: CompileJob, found: JobResult, attached: list[int]) -> JobResult:
        if not attached:
            return attrs.evolve(found, status=Status.CRASH, message="the compiler left no program")
        try:
            artifact = self._artifacts.add(digest_of(job), attached[0], job.limits.result)
        except ValueError as error:
            return attrs.evolve(found, status=Status.OUTPUT_LIMIT, message=str(error))
        return attrs.evolve(found, artifact=artifact)

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

    def lost(self, error: ServerLost) -> JobResult:
        """The result when the server died under the job."""
        return self._failed(str(error))
