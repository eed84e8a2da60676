"""The result of a job that has ended, from what it sent and its server reports: one status, one line."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

from ttd_core.sandbox.base import MIB, CompileJob, Job, JobResult, Level, ProgramJob, PythonJob
from ttd_core.sandbox.exchange import Exchange
from ttd_core.sandbox.inside import frames
from ttd_core.types import Status

#: What a candidate's process may say about itself. Never ``infrastructure``: that would buy it a retry.
_CLAIMS = {
    status.value: status
    for status in (
        Status.SYNTAX_ERROR,
        Status.CRASH,
        Status.MEMORY,
        Status.FORBIDDEN,
        Status.INVALID,
        Status.OUTPUT_LIMIT,
    )
}
_COMPILER_ERROR = re.compile(r"^[^\n:]*:(\d+):(?:\d+:)? (?:fatal )?(error: [^\n]*)", re.MULTILINE)
#: What else the tools of a compiler say; none of these names a line of the source.
_TOOL_ERRORS = (
    (re.compile(r"^[^\n:]*\.s:(?:\d+:)? Error: ([^\n]*)", re.MULTILINE), "the assembler"),
    (re.compile(r"((?:undefined reference to|multiple definition of) [^\n]*)"), "the linker"),
    (re.compile(r"^[^\n:]*: internal compiler error: ([^\n]*)", re.MULTILINE), "the compiler failed"),
)
#: How a compiler tells that one of its tools was ended by a limit, or got no more memory.
_TOOL_ENDED = re.compile(
    r"^[^\n:]*: (?:internal compiler|fatal) error: (?:ld terminated with signal \d+ \[)?"
    r"(Killed|CPU time limit exceeded|File size limit exceeded)\b",
    re.MULTILINE,
)
_NO_MEMORY = re.compile(
    r"^(?:[^\n: ]*: )?(?:out of memory allocating|virtual memory exhausted)", re.MULTILINE
)
_TOOL_SIGNALS = {
    "CPU time limit exceeded": signal.SIGXCPU,
    "File size limit exceeded": signal.SIGXFSZ,
}
#: Fraction of the processor time from which a SIGKILL is taken for the kernel's limit on it.
_NEAR = 0.9

#: A status, and a line for people.
Ending = tuple[Status, str]


def one_line(text: str) -> str:
    """Printable text on one line, at most 500 characters."""
    joined = " ".join(text.encode(errors="replace").decode().split())
    return "".join(character for character in joined if character.isprintable())[: frames.MAX_MESSAGE]


def size_text(count: float) -> str:
    """An amount of bytes for people: in MiB, or in bytes below one."""
    return f"{count / MIB:.0f} MiB" if count >= MIB else f"{count:.0f} bytes"


def _stopped(job: Job, reason: str, exchange: Exchange) -> Ending:
    """Why we, or the server, ended the job."""
    limits = job.limits
    cpu = limits.cpu_s or limits.wall_s * limits.cpus
    printed_to = " to standard error" if isinstance(job, ProgramJob) else ""
    endings = {
        "wall": (Status.TIMEOUT, f"stopped after {limits.wall_s:g} s of wall time"),
        "cpu": (Status.TIMEOUT, f"stopped after {cpu:g} s of processor time"),
        "memory": (Status.MEMORY, f"used more than {size_text(limits.memory)} of memory"),
        "processes": (Status.FORBIDDEN, f"started more than {limits.processes} processes and threads"),
        "scratch": (Status.OUTPUT_LIMIT, f"wrote more than {size_text(limits.scratch)} of files"),
        "output": (Status.OUTPUT_LIMIT, f"printed more than {size_text(limits.output)}{printed_to}"),
        "result": (Status.OUTPUT_LIMIT, f"wrote more than {size_text(limits.result)} to standard output"),
        "cancelled": (Status.INFRASTRUCTURE, "cancelled"),
    }
    if reason == "frame":
        assert exchange.frame is not None
        status = Status.OUTPUT_LIMIT if exchange.frame.over else Status.INVALID
        return status, exchange.frame.error
    return endings[reason]


def _died(job: Job, code: int, report: dict[str, Any], output: bytes) -> Ending:
    """What a signal, or an exit code other than 0, says."""
    limits = job.limits
    if code >= 0:
        return Status.CRASH, f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    cpu = limits.cpu_s or limits.wall_s * limits.cpus
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and report["cpu_s"] >= _NEAR * cpu):
        return Status.TIMEOUT, f"stopped after {cpu:g} s of processor time"
    if -code == signal.SIGSYS:
        return Status.FORBIDDEN, "made a system call that the sandbox denies (SIGSYS)"
    if -code == signal.SIGKILL or b"std::bad_alloc" in output[-2000:]:
        return Status.MEMORY, f"used more than {size_text(limits.memory)} of memory ({name})"
    if -code == signal.SIGXFSZ:
        largest = min(limits.scratch, limits.result) if isinstance(job, CompileJob) else limits.scratch
        return Status.OUTPUT_LIMIT, f"wrote a file larger than {size_text(largest)}"
    return Status.CRASH, f"killed by {name} ({signal.strsignal(-code)})"


def _returned(exchange: Exchange, code: int) -> tuple[Ending, Any]:
    """What a Python job that ended by itself sent: how it ended, and the value."""
    frame = exchange.frame
    assert frame is not None
    if not frame.complete or frame.header is None:
        if frame.error:
            return (Status.INVALID, frame.error), None
        ended = "in the middle of its result" if frame.started else "without returning"
        return (Status.CRASH, f"the program exited {ended} (code {code})"), None
    try:
        if frame.header.status != "ok":
            status = _CLAIMS.get(frame.header.status, Status.CRASH)
            return (status, frame.header.message), None
        return (Status.OK, ""), frame.value()
    except frames.FrameError as error:
        return (Status.INVALID, str(error)), None


def _compiler_message(text: str) -> str:
    """The first error with its line, else what another tool says, else the last thing that was printed."""
    error = _COMPILER_ERROR.search(text)
    if error:
        return f"{error[2]} (line {error[1]})"
    for pattern, tool in _TOOL_ERRORS:
        if said := pattern.search(text):
            return f"{tool}: {said[1]}"
    lines = text.strip().splitlines()
    return lines[-1] if lines else "the compiler failed without a message"


def _compiler_failed(job: Job, report: dict[str, Any], output: bytes) -> Ending:
    """Of a compiler that ended by itself without a program: the limit that a tool of it met, or an error."""
    text = output.decode(errors="replace")
    if not _COMPILER_ERROR.search(text):
        if met := _TOOL_ENDED.search(text):
            return _died(job, -_TOOL_SIGNALS.get(met[1], signal.SIGKILL), report, output)
        if _NO_MEMORY.search(text):
            return Status.MEMORY, f"used more than {size_text(job.limits.memory)} of memory"
    return Status.SYNTAX_ERROR, _compiler_message(text)


def _ending(job: Job, report: dict[str, Any], exchange: Exchange) -> tuple[Ending, Any]:
    if report["setup_error"]:
        return (Status.INFRASTRUCTURE, f"the sandbox could not start the job: {report['setup_error']}"), None
    reason = exchange.stopped or report["reason"]
    if reason:
        return _stopped(job, reason, exchange), None
    code = os.waitstatus_to_exitcode(report["status"])
    output = exchange.output.bytes()
    if code < 0:
        return _died(job, code, report, output), None
    if isinstance(job, PythonJob):
        return _returned(exchange, code)
    if code == 0:
        return (Status.OK, ""), None
    if isinstance(job, CompileJob):
        return _compiler_failed(job, report, output), None
    return _died(job, code, report, output), None


def job_result(job: Job, report: dict[str, Any], exchange: Exchange, level: Level, retries: int) -> JobResult:
    """The result of a job that has ended.

    :param report: from the server: wait status, the limit that was hit, what was used.
    :param exchange: what the job sent.
    :param level: that it ran at.
    :param retries: how often it was tried before.
    """
    (status, message), value = _ending(job, report, exchange)
    stdout = exchange.stdout.bytes() if exchange.stdout is not None else b""
    return JobResult(
        status=status,
        message=one_line(message),
        value=value,
        output=exchange.output.bytes().decode(errors="replace"),
        output_bytes=exchange.output.total,
        stdout=stdout if isinstance(job, ProgramJob) else b"",
        wall_s=report["wall_s"],
        cpu_s=report["cpu_s"],
        peak_memory=report["peak"],
        level=level,
        retries=retries,
    )
