"""The judge as a process of its own: one line of JSON for each candidate in, memory out, one verdict back.

Started as ``python -P -m ttd_kernels.judge DESCRIPTOR`` by :class:`JudgeProcess`, and kept for the next
candidate on the same device, since a context on a GPU takes seconds to make.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any

import torch

from ttd_core.errors import one_line
from ttd_core.problem import Execute
from ttd_core.sandbox.base import JobResult
from ttd_core.types import Status
from ttd_kernels.channel import Channel
from ttd_kernels.conductor import Plan, Task
from ttd_kernels.gpus import CPU
from ttd_kernels.judging import Candidate, Outcome, conduct, judge_here, make_bench, request
from ttd_kernels.timing import Rules

_LINE = 1 << 20


class JudgeLost(Exception):
    """The judge's process died; its last words are the message."""


class JudgeProcess:
    """A judge kept for one device."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ttd_kernels.judge", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self._line = ours
        self._answers = ours.makefile("rb")

    def judge(self, task: Task, plan: Plan, candidate: Candidate, execute: Execute) -> Outcome:
        """Judge one candidate.

        :raises JudgeLost: when the process dies.
        """
        try:
            self._line.sendall(request(task, plan, candidate.device, candidate.limits.wall_s))
            told, descriptors, _, _ = socket.recv_fds(self._line, _LINE, 3)
        except OSError as error:
            raise JudgeLost(self._last_words() or str(error)) from error
        try:
            if len(descriptors) != 3:
                raise JudgeLost(self._last_words() or told.decode(errors="replace"))
            result = execute(candidate.job(tuple(descriptors), json.loads(told)["sizes"]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        answer = self._answers.readline()
        if not answer:
            raise JudgeLost(self._last_words())
        return Outcome(json.loads(answer), result)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it left no message"

    def close(self) -> None:
        """End the process."""
        self._answers.close()
        self._line.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Judges:
    """The judges of this process, one a device; :meth:`judge` may be called from several threads."""

    def __init__(self) -> None:
        self._kept: dict[str, JudgeProcess] = {}
        self._lock = threading.Lock()

    def judge(self, task: Task, plan: Plan, candidate: Candidate, execute: Execute) -> Outcome:
        """Judge one candidate, whose device is the caller's alone; a judge that dies is an outcome."""
        with self._lock:
            judge = self._kept.pop(candidate.device, None)
        judge = judge or JudgeProcess()
        try:
            outcome = judge.judge(task, plan, candidate, execute)
        except JudgeLost as error:
            judge.close()
            message = f"the judge's process ended: {error}"
            return Outcome({"ended": message}, JobResult(Status.INFRASTRUCTURE, message))
        except BaseException:
            judge.close()
            raise
        with self._lock:
            self._kept[candidate.device] = judge
        return outcome

    def close(self) -> None:
        """End them all."""
        with self._lock:
            kept, self._kept = self._kept, {}
        for judge in kept.values():
            judge.close()


@functools.cache
def judges() -> Judges:
    """The judges of this process; they end with it."""
    made = Judges()
    atexit.register(made.close)
    return made


def judge_apart(task: Task, plan: Plan, candidate: Candidate, execute: Execute) -> Outcome:
    """Judge in a process of its own; in this one where a problem's class cannot be imported by name."""
    if importlib.util.find_spec(type(task).__module__) is None:
        return judge_here(task, plan, candidate, execute)
    return judges().judge(task, plan, candidate, execute)


# -- in the process ----------------------------------------------------------------------------------------


def serve(line: socket.socket) -> None:
    """Judge candidates until the other end closes."""
    torch.set_float32_matmul_precision("highest")
    with line.makefile("rb") as asked:
        for told in asked:
            answer = _serve_one(line, json.loads(told))
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                line.sendall(json.dumps(answer).encode() + b"\n")


def _serve_one(line: socket.socket, told: dict[str, Any]) -> dict[str, Any]:
    module, _, name = told["problem"].partition(":")
    kind: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    task = kind(kind.options_type(**told["options"]))
    given = told["plan"]
    plan = Plan(**{**given, "rules": Rules(**given["rules"])})
    bench = make_bench(task, plan, told["device"])
    try:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                sizes = json.dumps({"sizes": bench.sizes}).encode()
                socket.send_fds(line, [sizes], [theirs.fileno(), *bench.descriptors])
            return conduct(task, plan, bench, Channel(ours), told["timeout_s"])
    finally:
        bench.close()
        del bench
        if told["device"] != CPU:
            # a policy may share the GPU
            torch.cuda.empty_cache()


def main() -> None:
    """Serve at the descriptor that the command line names."""
    with socket.socket(fileno=int(sys.argv[1])) as line:
        try:
            serve(line)
        except Exception as error:
            sys.stderr.write(f"{one_line(error)}\n")
            raise


if __name__ == "__main__":
    main()
