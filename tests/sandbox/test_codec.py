"""Jobs and results survive their way to another process unchanged."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from ttd_core.errors import UsageError
from ttd_core.sandbox import codec
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
from ttd_core.types import Status


def _same(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray):
        return (
            isinstance(second, np.ndarray) and first.dtype == second.dtype and np.array_equal(first, second)
        )
    if isinstance(first, list | tuple):
        return (
            isinstance(second, list | tuple) and all(map(_same, first, second)) and len(first) == len(second)
        )
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and first.keys() == second.keys()
            and all(_same(first[key], second[key]) for key in first)
        )
    return first == second and type(first) is type(second)


JOBS: list[Job] = [
    PythonJob(
        "def run(): pass",
        "run",
        args=[np.arange(3), {"a": [1, 2.5, "é", None]}],
        kwargs={"seed": 3},
        inject={"h": np.zeros((2, 0))},
        helpers="x = 1",
        preload=("numpy", "scipy"),
        limits=Limits(wall_s=1.5, cpu_s=2.0, exclusive_core=True),
        access=Access(
            devices=("/dev/null",),
            executables=("/bin/true",),
            environment=(("A", "b"),),
            links=(("/a", "/b"),),
            pools=True,
        ),
    ),
    CompileJob("int main() {}", ("cc", "-O3"), ".c"),
    ProgramJob(Artifact("ab" * 32), b"\x00\xff\n", ("one", "two"), Limits(wall_s=2.0)),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    back = codec.decode_job(codec.encode_job(job))
    assert type(back) is type(job)
    for field in attrs.fields(type(job)):
        assert _same(getattr(job, field.name), getattr(back, field.name)), field.name


def test_large_arrays_are_taken_out_and_put_back() -> None:
    large, small = np.arange(300.0), np.arange(3)
    job = PythonJob(
        "def run(): pass",
        "run",
        args=[small, [1, {"deep": [large, "x"]}], list(range(1000))],
        kwargs={"again": large},
        inject={"h": large.astype(np.float32), "none": None},
    )
    frame, found = codec.encode_without(job, large.nbytes // 2)
    assert len(frame) < 8000, "the numbers of the list and the small array alone"
    assert sorted(map(str, (each.place for each in found))) == [
        "['args', 1, 1, 'deep', 0]",
        "['inject', 'h']",
        "['kwargs', 'again']",
    ]
    by_digest = {each.digest: each.array for each in found}
    assert len(by_digest) == 2, "equal arrays are one; those of another type are not"
    back = codec.decode_job(frame, by_digest)
    for field in attrs.fields(PythonJob):
        assert _same(getattr(job, field.name), getattr(back, field.name)), field.name
    program = ProgramJob(Artifact("ab" * 32), b"input " * 1000)
    frame, found = codec.encode_without(program, 1000)
    assert [each.place for each in found] == [["stdin"]]
    assert codec.decode_job(frame, {found[0].digest: found[0].array}).stdin == program.stdin
    small_frame, found = codec.encode_without(job, 1 << 20)
    assert found == []
    assert len(small_frame) > 2 * large.nbytes


def test_a_result_comes_back_as_it_was() -> None:
    result = JobResult(
        Status.OK,
        "line",
        [np.array([1.0, 2.0]), 3],
        "out",
        3,
        b"\x00\x01",
        Artifact("cd" * 32),
        1.0,
        0.5,
        7,
        Level.STANDARD,
        1,
    )
    back = codec.decode_result(codec.encode_result(result))
    for field in attrs.fields(JobResult):
        assert _same(getattr(result, field.name), getattr(back, field.name)), field.name
    assert not back.value[0].flags.writeable


def test_descriptors_stay_on_the_machine_that_opened_them() -> None:
    with pytest.raises(UsageError, match="this machine alone"):
        codec.encode_job(PythonJob("", "run", descriptors=(3,)))
