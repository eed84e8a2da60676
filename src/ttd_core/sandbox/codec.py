"""Jobs and results as bytes, for executors whose workers are other processes: the sandbox's own frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from ttd_core.errors import UsageError
from ttd_core.sandbox.base import (
    Access,
    Artifact,
    CompileJob,
    Job,
    JobResult,
    Level,
    Limits,
    ProgramJob,
    PythonJob,
)
from ttd_core.sandbox.inside import frames
from ttd_core.sandbox.shared import LargeArray, put_back, take_out
from ttd_core.types import Status

_KINDS: dict[str, type[PythonJob] | type[CompileJob] | type[ProgramJob]] = {
    "python": PythonJob,
    "compile": CompileJob,
    "program": ProgramJob,
}
#: Fields of a job that may hold arrays.
_WITH_ARRAYS = {"args", "kwargs", "inject", "stdin"}


def _frame(value: Any) -> bytes:
    return b"".join(bytes(memoryview(buffer)) for buffer in frames.encode(value, trusted=True))


def _bytes(data: bytes) -> Any:
    return np.frombuffer(data, np.uint8)


def encode_job(job: Job) -> bytes:
    """A job as one frame.

    :raises UsageError: when it inherits descriptors, which mean nothing elsewhere.
    """
    return _frame(_packed(job))


def encode_without(job: Job, least: int) -> tuple[bytes, list[LargeArray]]:
    """A job as one frame without its large arrays, and those.

    :param least: bytes of an array that is large.
    :raises UsageError: as :func:`encode_job`.
    """
    packed, found = _packed(job), list[LargeArray]()
    for name in _WITH_ARRAYS & packed["fields"].keys():
        packed["fields"][name] = take_out(packed["fields"][name], [name], least, found)
    packed["missing"] = [[array.digest, array.place] for array in found]
    return _frame(packed), found


def _packed(job: Job) -> dict[str, Any]:
    kind = next(name for name, type_ in _KINDS.items() if type(job) is type_)
    fields = {field.name: getattr(job, field.name) for field in attrs.fields(type(job))}
    fields["limits"] = attrs.asdict(job.limits)
    if isinstance(job, PythonJob):
        if fields.pop("descriptors"):
            raise UsageError(
                "a job that inherits descriptors runs on this machine alone: use sandbox.executor = 'local'"
            )
        fields["access"] = attrs.asdict(job.access)
    elif isinstance(job, ProgramJob):
        fields["artifact"] = job.artifact.digest
        fields["stdin"] = _bytes(job.stdin)
    return {"kind": kind, "fields": fields}


def decode_job(data: bytes, arrays: Mapping[str, np.ndarray[Any, Any]] | None = None) -> Job:
    """Inverse of :func:`encode_job`, and of :func:`encode_without`.

    :param arrays: by digest, those that the frame is without.
    """
    packed = frames.decode_buffer(memoryview(data))
    fields = packed["fields"]
    for digest, place in packed.get("missing", ()):
        put_back(fields, place, (arrays or {})[digest])
    fields["limits"] = Limits(**fields["limits"])
    for name in ("preload", "command", "arguments"):
        if name in fields:
            fields[name] = tuple(fields[name])
    if "access" in fields:
        access = fields["access"]
        for name in ("environment", "links"):
            access[name] = [tuple(pair) for pair in access.get(name, ())]
        pools = access.pop("pools", False)
        fields["access"] = Access(pools=pools, **{name: tuple(values) for name, values in access.items()})
    if "artifact" in fields:
        fields["artifact"] = Artifact(fields["artifact"])
        fields["stdin"] = fields["stdin"].tobytes()
    job: Job = _KINDS[packed["kind"]](**fields)
    return job


def encode_result(result: JobResult) -> bytes:
    """A result as one frame."""
    fields = {field.name: getattr(result, field.name) for field in attrs.fields(JobResult)}
    fields["stdout"] = _bytes(result.stdout)
    fields["artifact"] = None if result.artifact is None else result.artifact.digest
    return _frame(fields)


def decode_result(data: bytes) -> JobResult:
    """Inverse of :func:`encode_result`; arrays are read-only."""
    fields = frames.decode_buffer(memoryview(data))
    fields["status"] = Status(fields["status"])
    fields["level"] = Level(fields["level"])
    fields["stdout"] = fields["stdout"].tobytes()
    fields["artifact"] = None if fields["artifact"] is None else Artifact(fields["artifact"])
    return JobResult(**fields)
