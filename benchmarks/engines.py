"""Measurements in processes of their own: what breaks one engine costs its own rows and no others.

A script starts itself again for each engine (:class:`Job`, :func:`run`). The next child starts while one
measures, so that importing libraries costs no time; it touches the device only when it is told to
(:func:`wait_for_turn`). Rows are printed as they come (:func:`send`); a child that fails or hangs is named,
and the next one goes on.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

Row = dict[str, Any]
_ROW, _LAST = "@row ", "@last"
#: Lines of a failed child's output that are shown.
_TAIL = 15


@attrs.frozen
class Job:
    """One engine and what it measures.

    :param name: for people.
    :param command: path of the script that serves it, and arguments.
    :param environment: variables that it gets besides.
    :param quiet: its output goes to its log only, rows aside.
    :param otherwise: what to run if this one brings no row at all.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = {}
    quiet: bool = False
    otherwise: Job | None = None


def run(jobs: Sequence[Job], budget: float, each: float, show: Callable[[Row], None]) -> list[Row]:
    """Run the jobs one after another and return their rows.

    :param budget: seconds for all of them; what has no time left is named.
    :param each: most seconds of one.
    :param show: is called with each row as it comes.
    """
    end = time.monotonic() + budget
    rows: list[Row] = []
    waiting = collections.deque(jobs)
    with _ends_in_order(), tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        following: _Child | None = None
        while waiting:
            job = waiting.popleft()
            left = end - time.monotonic()
            if left < 5:
                names = ", ".join(other.name for other in [job, *waiting])
                print(f"no time left for {names}: {budget:.0f} s are over", flush=True)
                break
            child = following if following is not None and following.job is job else _Child(job, folder)
            stack.callback(child.kill)
            child.begin()
            following = _Child(waiting[0], folder) if waiting else None
            if following is not None:
                stack.callback(following.kill)
            before = len(rows)
            for row in child.rows(min(each, left)):
                rows.append(row)
                show(row)
            if child.failure:
                print(f"{job.name}: {child.failure}", flush=True)
            if job.otherwise is not None and len(rows) == before:
                print(f"{job.name} gave no row; next: {job.otherwise.name}", flush=True)
                if following is not None:
                    following.kill()
                    following = None
                waiting.appendleft(job.otherwise)
    return rows


@contextlib.contextmanager
def _ends_in_order() -> Iterator[None]:
    """Let this process's termination end its children too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Child:
    """A child process, started and waiting for its turn."""

    def __init__(self, job: Job, folder: str) -> None:
        self.job = job
        self._log = pathlib.Path(tempfile.mkstemp(suffix=".log", dir=folder)[1])
        self._late = False
        #: Why it did not come to its end, with what it said last.
        self.failure = ""
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, *job.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                errors="replace",
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(job.environment),
            )

    def begin(self) -> None:
        """Tell it that the device is its own."""
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write("begin\n")
            self._process.stdin.flush()

    def rows(self, limit: float) -> Iterator[Row]:
        """Its rows as they come; it is killed after ``limit`` seconds."""
        assert self._process.stdout is not None
        timer = threading.Timer(limit, self._give_up)
        timer.start()
        complete = False
        with self._log.open("a") as log:
            for line in self._process.stdout:
                if line.startswith(_ROW):
                    yield json.loads(line[len(_ROW) :])
                elif line.startswith(_LAST):
                    complete = True
                    break
                else:
                    log.write(line)
                    log.flush()
                    if not self.job.quiet:
                        print(line, end="", flush=True)
        timer.cancel()
        self.kill()
        code = self._process.wait()
        if not complete:
            why = f"stopped after {limit:.0f} s" if self._late else f"ended with code {code}"
            said = [line.rstrip()[:200] for line in self._log.read_text(errors="replace").splitlines()]
            self.failure = "\n".join([f"{why}; it said last:", *(f"  | {line}" for line in said[-_TAIL:])])

    def _give_up(self) -> None:
        self._late = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it and whatever it started, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()


def wait_for_turn() -> None:
    """In a child, when everything is imported: wait until the device is free."""
    if not sys.stdin.readline():
        os._exit(1)


def send(**row: Any) -> None:
    """In a child: hand a row to the parent."""
    print(_ROW + json.dumps(row), flush=True)


def finish() -> None:
    """In a child: end at once, without waiting for an engine to be taken down."""
    print(_LAST, flush=True)
    os._exit(0)


@contextlib.contextmanager
def guarded(**names: Any) -> Iterator[None]:
    """In a child: a failure within is a row with its reason, and the child goes on.

    :param names: what the row says of what was tried.
    """
    try:
        yield
    except Exception as error:
        import torch

        is_memory = isinstance(error, torch.OutOfMemoryError)
        reason = "out of memory" if is_memory else f"{type(error).__name__}: {error}".splitlines()[0][:160]
        send(**names, failed=reason)
        # What the failed frames hold is memory of the device.
        error.__traceback__ = None
        gc.collect()
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
