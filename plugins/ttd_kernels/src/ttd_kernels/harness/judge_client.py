"""Judges in processes of their own, as the run's process sees them: started, asked, kept, replaced."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import attrs

from ttd_core.problem import Execute
from ttd_core.sandbox.base import JobResult
from ttd_core.types import Status
from ttd_kernels.harness import judge_process
from ttd_kernels.harness.candidate import Candidate
from ttd_kernels.harness.evaluation_plan import EvaluationPlan, KernelDefinition
from ttd_kernels.harness.evaluation_result import EvaluationOutcome
from ttd_kernels.harness.launch import evaluate_here
from ttd_kernels.harness.stopwatch import completed, total

#: Longest message that comes with the descriptors, bytes.
_LONGEST_MESSAGE = 1 << 20
#: The channel, the inputs' memory and the outputs' memory.
_DESCRIPTORS = 3


class JudgeLostError(Exception):
    """The judge's process died; its last words are the message."""


class JudgeProcess:
    """A judge in a process of its own, for one device; evaluates one candidate after the other."""

    def __init__(self) -> None:
        # when it was started, for its first evaluation has to wait for that
        self._asked: float | None = time.monotonic()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", judge_process.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        self._connection = ours
        self._judgements = ours.makefile("rb")

    def evaluate(
        self, kernel: KernelDefinition, plan: EvaluationPlan, candidate: Candidate, execute: Execute
    ) -> EvaluationOutcome:
        """Evaluate one candidate.

        :param execute: runs the candidate's job in the sandbox.
        :raises JudgeLostError: when the process dies.
        """
        request = evaluation_request(kernel, plan, candidate.device, candidate.limits.wall_s)
        asked, self._asked = self._asked or time.monotonic(), None
        try:
            self._connection.sendall(request)
            message, descriptors, _, _ = socket.recv_fds(self._connection, _LONGEST_MESSAGE, _DESCRIPTORS)
        except OSError as error:
            raise JudgeLostError(self._last_words() or str(error)) from error
        try:
            if len(descriptors) != _DESCRIPTORS:
                raise JudgeLostError(self._last_words() or message.decode(errors="replace"))
            opened = json.loads(message)
            judge_s = time.monotonic() - asked - total(opened["seconds"])
            result = execute(candidate.job(tuple(descriptors), opened["sizes"]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        judgement = self._judgements.readline()
        if not judgement:
            raise JudgeLostError(self._last_words())
        whole = json.loads(judgement)
        seconds = completed(whole["seconds"], time.monotonic() - asked, judge_s)
        return EvaluationOutcome({**whole, "seconds": seconds}, result)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it left no message"

    def close(self) -> None:
        """End the process."""
        self._judgements.close()
        self._connection.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class JudgePool:
    """The judges of this process, one a device; :meth:`evaluate` may be called from several threads."""

    def __init__(self) -> None:
        self._kept: dict[str, JudgeProcess] = {}
        self._lock = threading.Lock()

    def evaluate(
        self, kernel: KernelDefinition, plan: EvaluationPlan, candidate: Candidate, execute: Execute
    ) -> EvaluationOutcome:
        """Evaluate one candidate, whose device is the caller's alone; a judge that dies is an outcome.

        :param execute: runs the candidate's job in the sandbox.
        """
        with self._lock:
            judge = self._kept.pop(candidate.device, None)
        judge = judge or JudgeProcess()
        try:
            outcome = judge.evaluate(kernel, plan, candidate, execute)
        except JudgeLostError as error:
            judge.close()
            message = f"the judge's process ended: {error}"
            return EvaluationOutcome({"ended": message}, JobResult(Status.INFRASTRUCTURE, message))
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
def judge_pool() -> JudgePool:
    """The judges of this process; they end with it."""
    pool = JudgePool()
    atexit.register(pool.close)
    return pool


def evaluate_apart(
    kernel: KernelDefinition, plan: EvaluationPlan, candidate: Candidate, execute: Execute
) -> EvaluationOutcome:
    """Evaluate a candidate with a judge of its own process; with this process as its judge where the kernel's
    class cannot be imported by name.

    :param execute: runs the candidate's job in the sandbox.
    """
    if importlib.util.find_spec(type(kernel).__module__) is None:
        return evaluate_here(kernel, plan, candidate, execute)
    return judge_pool().evaluate(kernel, plan, candidate, execute)


def evaluation_request(kernel: Any, plan: EvaluationPlan, device: str, timeout_s: float) -> bytes:
    """What a judge's process is asked, one line of JSON.

    :param kernel: a problem with ``options``, of a class that can be imported by name.
    :param timeout_s: seconds that the candidate may take in all.
    """
    problem = type(kernel)
    request = {
        "problem": f"{problem.__module__}:{problem.__qualname__}",
        "options": attrs.asdict(kernel.options),
        "plan": attrs.asdict(plan),
        "device": device,
        "timeout_s": timeout_s,
    }
    return json.dumps(request).encode() + b"\n"
