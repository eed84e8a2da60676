"""From what a job left behind to a status; a claim is never believed beyond what it may say."""

from __future__ import annotations

import os
import signal
import types
from typing import Any

import pytest

from ttd_core.sandbox.base import MIB, Artifact, CompileJob, Job, Level, Limits, ProgramJob, PythonJob
from ttd_core.sandbox.exchange import Exchange, FrameReader, StreamTail
from ttd_core.sandbox.inside import frames
from ttd_core.sandbox.outcome import job_result, one_line
from ttd_core.types import Status

LIMITS = Limits(wall_s=3.0, memory=100 * MIB)
PYTHON = PythonJob("", "run", limits=LIMITS)
PROGRAM = ProgramJob(Artifact("0"), limits=LIMITS)
COMPILE = CompileJob("", limits=LIMITS)


def ended(
    job: Job, status: int = 0, frame: bytes = b"", printed: bytes = b"", stopped: str = "", **report: Any
):
    reader = FrameReader(1000) if isinstance(job, PythonJob) else None
    whole = StreamTail(1000, 1000) if isinstance(job, ProgramJob) else None
    exchange = Exchange(types.SimpleNamespace(), job.limits, frame=reader, stdout=whole)  # type: ignore[arg-type]
    exchange.stopped = stopped
    exchange.output.add(printed)
    if reader is not None:
        reading, writing = os.pipe()
        os.write(writing, frame)
        os.close(writing)
        while reader.read(reading):
            continue
        os.close(reading)
    facts = {
        "setup_error": "",
        "reason": "",
        "status": status,
        "wall_s": 0.1,
        "cpu_s": 0.1,
        "peak": 5,
        **report,
    }
    return job_result(job, facts, exchange, Level.STRONG, 0)


def claim(status: str, message: str = "") -> bytes:
    return b"".join(bytes(memoryview(part)) for part in frames.encode(None, status, message))


@pytest.mark.parametrize(
    ("reason", "status", "told"),
    [
        ("wall", Status.TIMEOUT, "3 s of wall time"),
        ("cpu", Status.TIMEOUT, "3 s of processor time"),
        ("memory", Status.MEMORY, "100 MiB"),
        ("processes", Status.FORBIDDEN, "64 processes"),
        ("scratch", Status.OUTPUT_LIMIT, "files"),
        ("cancelled", Status.INFRASTRUCTURE, "cancelled"),
    ],
)
def test_a_limit_that_was_hit_decides(reason: str, status: Status, told: str) -> None:
    result = ended(PYTHON, frame=claim("ok"), reason=reason)
    assert result.status is status
    assert told in result.message
    assert result.value is None


@pytest.mark.parametrize("claimed", ["infrastructure", "timeout", "rejected", "parse_error", "nonsense", ""])
def test_what_a_job_may_not_say_of_itself_is_a_crash(claimed: str) -> None:
    assert ended(PYTHON, frame=claim(claimed, "believe me")).status is Status.CRASH


@pytest.mark.parametrize(
    "claimed", ["syntax_error", "crash", "memory", "forbidden", "invalid", "output_limit"]
)
def test_what_a_job_may_say_of_itself(claimed: str) -> None:
    result = ended(PYTHON, frame=claim(claimed, "why\nand\twhere\x1b[31m"))
    assert result.status.value == claimed
    assert result.message == "why and where[31m"


@pytest.mark.parametrize(
    ("number", "report", "status"),
    [
        (signal.SIGSEGV, {}, Status.CRASH),
        (signal.SIGSYS, {}, Status.FORBIDDEN),
        (signal.SIGXCPU, {}, Status.TIMEOUT),
        (signal.SIGXFSZ, {}, Status.OUTPUT_LIMIT),
        (signal.SIGKILL, {}, Status.MEMORY),
        (signal.SIGKILL, {"cpu_s": 2.9}, Status.TIMEOUT),
        (signal.SIGABRT, {}, Status.CRASH),
    ],
)
def test_a_signal_says_how_it_ended(number: signal.Signals, report: dict[str, Any], status: Status) -> None:
    for job in (PYTHON, PROGRAM, COMPILE):
        result = ended(job, status=int(number), **report)
        assert result.status is status
        assert result.message


def test_a_program_out_of_memory_by_its_own_words() -> None:
    printed = b"terminate called after throwing an instance of 'std::bad_alloc'\n"
    assert ended(PROGRAM, status=int(signal.SIGABRT), printed=printed).status is Status.MEMORY


def test_an_error_before_the_candidate_started_is_ours() -> None:
    result = ended(PYTHON, setup_error="OSError: out of descriptors")
    assert result.status is Status.INFRASTRUCTURE
    assert "out of descriptors" in result.message


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            b"main.cpp:3:5: error: 'x' was not declared\nmain.cpp:9:1: error: more",
            "error: 'x' was not declared (line 3)",
        ),
        (b"main.cpp:1:10: fatal error: no.h: No such file", "error: no.h: No such file (line 1)"),
        (b"collect2: error: ld returned 1 exit status", "collect2: error: ld returned 1 exit status"),
        (b"", "the compiler failed without a message"),
        (
            b"/usr/bin/ld: Scrt1.o: in function `_start':\n(.text+0x17): undefined reference to `main'\n"
            b"collect2: error: ld returned 1 exit status",
            "the linker: undefined reference to `main'",
        ),
        (
            b"/tmp/c.s: Assembler messages:\n/tmp/c.s:4: Error: file not found: /dev/zero",
            "the assembler: file not found: /dev/zero",
        ),
        (
            b"g++: internal compiler error: Segmentation fault signal terminated program cc1plus\n"
            b"See <file:///usr/share/doc/README.Bugs> for instructions.",
            "the compiler failed: Segmentation fault signal terminated program cc1plus",
        ),
        (
            b"main.cpp:1:2: error: #error g++: internal compiler error: Killed signal terminated program x",
            "error: #error g++: internal compiler error: Killed signal terminated program x (line 1)",
        ),
    ],
)
def test_the_first_error_of_a_compiler(printed: bytes, message: str) -> None:
    result = ended(COMPILE, status=1 << 8, printed=printed)
    assert result.status is Status.SYNTAX_ERROR
    assert result.message == message


@pytest.mark.parametrize(
    ("printed", "status", "message"),
    [
        (
            b"g++: internal compiler error: File size limit exceeded signal terminated program as\nPlease",
            Status.OUTPUT_LIMIT,
            "wrote a file larger than 32 MiB",
        ),
        (
            b"collect2: fatal error: ld terminated with signal 25 [File size limit exceeded]\n",
            Status.OUTPUT_LIMIT,
            "wrote a file larger than 32 MiB",
        ),
        (
            b"g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
            Status.MEMORY,
            "used more than 2048 MiB of memory (SIGKILL)",
        ),
        (
            b"cc1plus: out of memory allocating 65536 bytes after a total of 1 bytes",
            Status.MEMORY,
            "used more than 2048 MiB of memory",
        ),
        (b"virtual memory exhausted: Cannot allocate memory\n", Status.MEMORY, "2048 MiB"),
    ],
)
def test_a_limit_that_a_tool_of_the_compiler_met(printed: bytes, status: Status, message: str) -> None:
    result = ended(CompileJob(""), status=1 << 8, printed=printed)
    assert result.status is status
    assert message in result.message


def test_a_message_is_one_printable_line() -> None:
    assert one_line("a\nb\x00c\ud800d" + "e" * 1000) == "a bc?d" + "e" * 494
