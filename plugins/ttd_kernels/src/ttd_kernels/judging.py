"""A candidate and its judge brought together: shared memory made, the job started, the verdict heard.

On a GPU the judge is a process of its own (:mod:`ttd_kernels.judge`), so that neither the threads nor the
GPU work of a run disturb its clock. On the CPU, where no time is taken, it is this process.
"""

from __future__ import annotations

import concurrent.futures
import importlib.resources
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch

from ttd_core.problem import Execute
from ttd_core.sandbox.base import FIRST_DESCRIPTOR, GIB, MIB, JobResult, Limits, PythonJob
from ttd_core.types import Status
from ttd_kernels import gpus
from ttd_kernels.bench import Bench, RefusedError
from ttd_kernels.case import ALIGNMENT, fresh_seed, generator
from ttd_kernels.channel import Channel, Ended
from ttd_kernels.conductor import Conductor, Plan, Report, Row, Task, failure_of

#: Seconds a sandbox may take to be ready, beyond a candidate's own time.
_START_S = 180.0
#: Files that a candidate and the compilers it calls may write, in its own folder.
_SCRATCH = {gpus.CPU: 64 * MIB}
_SCRATCH_ON_GPU = 4 * GIB
_PROCESSES = 512

#: Makes the job once the shared memory is there: its descriptors and sizes are given.
Descriptors = tuple[int, ...]


@attrs.frozen
class Outcome:
    """What came of a candidate.

    :param found: a report as JSON, or ``status`` and ``message`` of a refusal, or ``ended``.
    :param job: how its process ended.
    """

    found: dict[str, Any]
    job: JobResult

    @property
    def report(self) -> Report | None:
        """The report on a candidate that was right."""
        given = self.found.get("report")
        if given is None:
            return None
        return Report(**{**given, "rows": [Row(**row) for row in given["rows"]]})


@attrs.frozen
class Candidate:
    """What runs in the sandbox.

    :param source: the program.
    :param reference: source of the module ``reference`` that it may import.
    :param device: ``cpu`` or ``cuda:0`` and so on.
    :param limits: of the options; scratch and processes are set here.
    """

    source: str
    reference: str
    device: str
    limits: Limits

    def job(self, descriptors: Descriptors, sizes: Sequence[int]) -> PythonJob:
        """The job that serves the judge at the other end of the first descriptor."""
        on_cpu = self.device == gpus.CPU
        names = ["memory", "serve", *(["interpret"] if on_cpu else [])]
        harness = {
            "sources": {f"ttd_{name}": helper(name) for name in names},
            "reference": self.reference,
            "device": gpus.CPU if on_cpu else "cuda:0",
            "descriptor": FIRST_DESCRIPTOR,
            "sizes": list(sizes),
        }
        scratch = _SCRATCH.get(self.device, _SCRATCH_ON_GPU)
        return PythonJob(
            source=self.source,
            entry="_ttd_serve",
            inject={"ttd_harness": harness},
            helpers=helper("boot"),
            preload=("numpy", "torch", "triton"),
            limits=attrs.evolve(self.limits, scratch=scratch, processes=_PROCESSES),
            access=gpus.access(self.device),
            descriptors=descriptors,
        )


def helper(name: str) -> str:
    """Source of a module that runs in the sandbox."""
    return importlib.resources.files("ttd_kernels").joinpath("helpers", f"{name}.py").read_text("utf-8")


def make_bench(task: Task, plan: Plan, device: str) -> Bench:
    """A bench with room for every case of a plan."""
    inputs = outputs = 0
    for shape in plan.shapes:
        inputs = max(inputs, task.draw(shape, generator(fresh_seed(), device)).bytes)
        outputs = max(outputs, sum(output.bytes + ALIGNMENT for output in task.outputs(shape)))
    return Bench(device, inputs, outputs, plan.flush)


def conduct(task: Task, plan: Plan, bench: Bench, channel: Channel, timeout_s: float) -> dict[str, Any]:
    """Judge the candidate at the other end, and hang up.

    :return: see :attr:`Outcome.found`.
    """
    try:
        report = Conductor(task, plan, bench, channel, time.monotonic() + timeout_s + _START_S).judge()
        return {"report": attrs.asdict(report)}
    except (RefusedError, Ended) as error:
        return failure_of(error)
    except torch.cuda.OutOfMemoryError:
        message = "it left too little of the GPU's memory to judge it"
        return failure_of(RefusedError(Status.MEMORY, message))
    finally:
        channel.hang_up()


def judge_here(task: Task, plan: Plan, candidate: Candidate, execute: Execute) -> Outcome:
    """Judge in this process."""
    bench = make_bench(task, plan, candidate.device)
    ours, theirs = socket.socketpair()
    try:
        job = candidate.job((theirs.fileno(), *bench.descriptors), bench.sizes)
        with ours, theirs, concurrent.futures.ThreadPoolExecutor(1, "candidate") as runner:
            running = runner.submit(_run_and_close, execute, job, theirs)
            found = conduct(task, plan, bench, Channel(ours), job.limits.wall_s)
            return Outcome(found, running.result())
    finally:
        bench.close()


def _run_and_close(execute: Execute, job: PythonJob, theirs: socket.socket) -> JobResult:
    """Run the job; closing our copy of its end lets the judge see that it is gone."""
    try:
        return execute(job)
    finally:
        theirs.close()


def request(task: Any, plan: Plan, device: str, timeout_s: float) -> bytes:
    """What a judge's process is told, one line."""
    kind = type(task)
    fields = {
        "problem": f"{kind.__module__}:{kind.__qualname__}",
        "options": attrs.asdict(task.options),
        "plan": attrs.asdict(plan),
        "device": device,
        "timeout_s": timeout_s,
    }
    return json.dumps(fields).encode() + b"\n"


#: Judges a candidate on a plan.
Judge = Callable[[Task, Plan, Candidate, Execute], Outcome]
