"""A candidate and its judge brought together: memory allocated, the job started, the candidate evaluated.

On a GPU the judge is a process of its own (:mod:`ttd_kernels.harness.judge_client`), so that neither the
threads nor the GPU work of a run disturb its clock. On the CPU, where no time is taken, it is this process.
"""

from __future__ import annotations

import concurrent.futures
import socket
import time
from typing import Any

import attrs
import torch

from ttd_core.problem import Execute
from ttd_core.sandbox.base import JobResult, PythonJob
from ttd_core.types import Status
from ttd_kernels.harness.candidate import Candidate
from ttd_kernels.harness.channel import CandidateEndedError, Channel
from ttd_kernels.harness.device_session import DeviceSession
from ttd_kernels.harness.empty_calls import KnownEmptyCalls
from ttd_kernels.harness.evaluation import Evaluation
from ttd_kernels.harness.evaluation_plan import EvaluationPlan, KernelDefinition
from ttd_kernels.harness.evaluation_result import EvaluationOutcome
from ttd_kernels.harness.kernel_io import shape_label
from ttd_kernels.harness.memory_layout import ALIGNMENT
from ttd_kernels.harness.no_gpu import cannot_be_checked
from ttd_kernels.harness.random_tensors import fresh_seed, seeded_generator
from ttd_kernels.harness.replies import EvaluationError
from ttd_kernels.harness.stopwatch import Stopwatch, completed

#: Seconds a sandbox may take to be ready, beyond a candidate's own time.
_START_S = 180.0


@attrs.frozen
class KnownOfProblem:
    """What a judge keeps from one candidate for a problem to the next: nothing of theirs.

    :param empty_calls: how long calls without a kernel take.
    :param input_bytes: of the inputs at a shape, by its label.
    """

    empty_calls: KnownEmptyCalls = attrs.field(factory=KnownEmptyCalls)
    input_bytes: dict[str, int] = attrs.field(factory=dict)


def open_session(
    kernel: KernelDefinition, plan: EvaluationPlan, device: str, known: KnownOfProblem
) -> DeviceSession:
    """A session whose memory has room for every call of a plan.

    :param known: from earlier candidates; sizes are added.
    """
    input_bytes = output_bytes = 0
    for shape in plan.shapes:
        label = shape_label(shape)
        if label not in known.input_bytes:
            inputs = kernel.draw_inputs(shape, seeded_generator(fresh_seed(), device))
            known.input_bytes[label] = inputs.aligned_nbytes
        input_bytes = max(input_bytes, known.input_bytes[label])
        specs = kernel.output_specs(shape)
        output_bytes = max(output_bytes, sum(spec.nbytes + ALIGNMENT for spec in specs))
    return DeviceSession(device, input_bytes, output_bytes, plan.flush_l2)


def evaluate_over(
    channel: Channel,
    kernel: KernelDefinition,
    plan: EvaluationPlan,
    session: DeviceSession,
    timeout_s: float,
    watch: Stopwatch,
    known: KnownOfProblem,
) -> dict[str, Any]:
    """Evaluate the candidate at the other end of a channel, and hang up.

    :param timeout_s: seconds that the candidate may take in all, beyond the start of its sandbox.
    :param watch: counts where the time goes.
    :param known: from earlier candidates on this device.
    :return: see :attr:`~ttd_kernels.harness.evaluation_result.EvaluationOutcome.judgement`.
    """
    deadline = time.monotonic() + timeout_s + _START_S
    evaluation = Evaluation(kernel, plan, session, channel, deadline, watch, known.empty_calls)
    return {**_judgement(evaluation, plan, channel), "seconds": watch.seconds}


def _judgement(evaluation: Evaluation, plan: EvaluationPlan, channel: Channel) -> dict[str, Any]:
    try:
        return {"result": attrs.asdict(evaluation.run())}
    except EvaluationError as error:
        if error.uninterpretable and not plan.measure:
            return {"status": Status.INFRASTRUCTURE.value, "message": cannot_be_checked(error.message)}
        return {"status": error.status.value, "message": error.message}
    except CandidateEndedError as error:
        return {"ended": str(error)}
    except torch.cuda.OutOfMemoryError:
        message = "it left too little of the GPU's memory to judge it"
        return {"status": Status.MEMORY.value, "message": message}
    finally:
        channel.hang_up()


def evaluate_here(
    kernel: KernelDefinition, plan: EvaluationPlan, candidate: Candidate, execute: Execute
) -> EvaluationOutcome:
    """Evaluate a candidate with this process as its judge.

    :param execute: runs the candidate's job in the sandbox.
    """
    began, watch, known = time.monotonic(), Stopwatch(), KnownOfProblem()
    with watch.part("memory"):
        session = open_session(kernel, plan, candidate.device, known)
    ours, theirs = socket.socketpair()
    try:
        job = candidate.job((theirs.fileno(), *session.descriptors), session.sizes)
        with ours, theirs, concurrent.futures.ThreadPoolExecutor(1, "candidate") as runner:
            running = runner.submit(_run_and_close, execute, job, theirs)
            limit_s = job.limits.wall_s
            judgement = evaluate_over(Channel(ours), kernel, plan, session, limit_s, watch, known)
            result = running.result()
            seconds = completed(watch.seconds, time.monotonic() - began)
            return EvaluationOutcome({**judgement, "seconds": seconds}, result)
    finally:
        session.close()


def _run_and_close(execute: Execute, job: PythonJob, theirs: socket.socket) -> JobResult:
    """Run the job; closing our copy of its end lets the judge see that it is gone."""
    try:
        return execute(job)
    finally:
        theirs.close()
