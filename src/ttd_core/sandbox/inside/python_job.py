"""Run one candidate's function in a process that is already confined, and frame what it returns.

Whatever is reported from here is a claim: the trusted process reads the frame as data and never more.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import linecache
import mmap
import os
import random
import sys
import traceback
import types
from collections.abc import Mapping
from typing import Any

from ttd_core.sandbox.inside import frames

CANDIDATE = "<candidate>"
HELPERS = "<helpers>"

_FRAMES_SHOWN = 8
_TRACEBACK_BYTES = 4000
_DENIED = {errno.EPERM, errno.EACCES, errno.EROFS}


def _read_input(descriptor: int) -> dict[str, Any]:
    """The job, mapped privately: arrays are writable, and copied only where they are written."""
    size = os.fstat(descriptor).st_size
    mapped = mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(descriptor)
    job = frames.decode_buffer(memoryview(mapped))
    assert isinstance(job, dict)
    return job


def _fresh_randomness() -> None:
    """Seed the global generators anew: forks of one server would otherwise all draw the same numbers."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _module(name: str, filename: str, source: str) -> types.ModuleType:
    """A module object that classes, dataclasses and tracebacks of the candidate can refer to."""
    module = types.ModuleType(name)
    module.__file__ = filename
    sys.modules[name] = module
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    return module


def _call(job: Mapping[str, Any]) -> Any:
    module = _module("candidate", CANDIDATE, job["source"])
    namespace = module.__dict__
    namespace.update(job["inject"])
    if job["helpers"]:
        exec(compile(job["helpers"], HELPERS, "exec"), namespace)
    exec(compile(job["source"], CANDIDATE, "exec", dont_inherit=True), namespace)
    entry = namespace.get(job["entry"])
    if not callable(entry):
        raise NameError(f"the program defines no function named {job['entry']}")
    return entry(*job["args"], **job["kwargs"])


def dry_run(job: memoryview) -> None:
    """Do with a harmless job all that :func:`run` does with a candidate's, and leave no trace of it.

    :param job: framed.
    """
    decoded = frames.decode_buffer(job)
    assert isinstance(decoded, dict)
    _fresh_randomness()
    _encoded(_call(decoded), 1 << 16)
    _flush()
    del sys.modules["candidate"]
    linecache.cache.clear()


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 (the candidate's own __str__ may raise anything)
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:300]}" if text else name


def _line_of(error: BaseException) -> int | None:
    """The deepest line of the candidate's own source that the error passed through."""
    if isinstance(error, SyntaxError) and error.filename == CANDIDATE:
        return error.lineno
    line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == CANDIDATE:
            line = number
    return line


def _is_syntax_error(error: BaseException) -> bool:
    """Whether the candidate's own text failed to compile, not some text that it compiled itself."""
    if isinstance(error, SyntaxError) and error.filename == CANDIDATE:
        return True
    ran = any(frame.f_code.co_filename == CANDIDATE for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, SyntaxError | ValueError) and not ran and "null bytes" in str(error)


def describe(error: BaseException) -> tuple[str, str]:
    """Status and one line for people: the error's type and text, and the candidate's line."""
    line = _line_of(error)
    if isinstance(error, SystemExit):
        message = f"SystemExit: the program called exit({error.code!r})"[:300]
    elif isinstance(error, SyntaxError):
        message = f"{type(error).__name__}: {error.msg}"
    else:
        message = _one_line(error)
    if line:
        message += f" (line {line})"
    if _is_syntax_error(error):
        return "syntax_error", message
    if isinstance(error, MemoryError):
        return "memory", message
    if isinstance(error, OSError) and error.errno in _DENIED:
        return "forbidden", message
    return "crash", message


def _write(descriptor: int, buffers: list[Any]) -> None:
    for buffer in buffers:
        left = memoryview(buffer)
        while left:
            left = left[os.write(descriptor, left) :]


def _encoded(value: Any, limit: int) -> list[Any]:
    try:
        buffers = frames.encode(value)
    except frames.FrameError as error:
        return frames.encode(None, "invalid", f"the function returned something unusable: {error}")
    size = sum(memoryview(buffer).nbytes for buffer in buffers)
    if size > limit:
        return frames.encode(
            None, "output_limit", f"the result takes {size} bytes: at most {limit} are allowed"
        )
    return buffers


def _flush() -> None:
    """Push out what was printed, through whatever the candidate put in place of the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            BaseException
        ):  # nothing that the candidate's own stream raises matters here
            stream.flush()


def _print_traceback(error: BaseException) -> None:
    """Show the candidate its own frames, and none of ours."""
    if isinstance(error, SystemExit):
        return
    with contextlib.suppress(BaseException):  # an error whose own text raises has no traceback to show
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename not in {CANDIDATE, HELPERS}:
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace, limit=-_FRAMES_SHOWN)
        os.write(2, "".join(lines).encode(errors="replace")[-_TRACEBACK_BYTES:])


def run(input_descriptor: int, result_descriptor: int, result_limit: int) -> None:
    """Call the candidate's function and write one frame to ``result_descriptor``. Never raises."""
    gc.enable()
    try:
        job = _read_input(input_descriptor)
        _fresh_randomness()
        buffers = _encoded(_call(job), result_limit)
    except BaseException as error:  # noqa: BLE001 (whatever a candidate raises is its result)
        _flush()
        _print_traceback(error)
        buffers = frames.encode(None, *describe(error))
    _flush()
    _write(result_descriptor, buffers)
