"""The evaluation of one candidate: correctness, then times with every repeat checked, then hidden shapes.

What the judge believes: outputs that it read itself and compared with its own, and its own clock. What a
candidate's process says can only make things worse for it.
"""

from __future__ import annotations

import contextlib
import time

from ttd_kernels.harness.channel import CandidateEndedError, Channel
from ttd_kernels.harness.checked_calls import CheckedCalls
from ttd_kernels.harness.device_session import DeviceSession
from ttd_kernels.harness.empty_calls import KnownEmptyCalls
from ttd_kernels.harness.evaluation_plan import EvaluationPlan, KernelDefinition
from ttd_kernels.harness.evaluation_result import EvaluationResult
from ttd_kernels.harness.kernel_io import shape_label
from ttd_kernels.harness.replies import EvaluationError, reply_value
from ttd_kernels.harness.shape_timer import ShapeTimer
from ttd_kernels.harness.stopwatch import Stopwatch

#: Longest device name taken from a candidate, characters.
_LONGEST_NAME = 80


class Evaluation:
    """One candidate's way through a plan.

    :param kernel: draws inputs and computes what is right.
    :param plan: shapes and rules.
    :param session: the device, and the memory shared with the candidate's process.
    :param channel: to that process.
    :param deadline: on the monotonic clock, seconds, when the sandbox ends the candidate.
    :param watch: counts where the time goes.
    :param known: empty calls of earlier candidates on this device.
    """

    def __init__(
        self,
        kernel: KernelDefinition,
        plan: EvaluationPlan,
        session: DeviceSession,
        channel: Channel,
        deadline: float,
        watch: Stopwatch,
        known: KnownEmptyCalls,
    ) -> None:
        self._plan = plan
        self._session = session
        self._channel = channel
        self._watch = watch
        watch.settle = session.synchronize
        self._calls = CheckedCalls(kernel, session, channel, deadline, watch)
        self._timer = ShapeTimer(self._calls, plan.timing_rules, plan.warmups, known)

    def run(self) -> EvaluationResult:
        """Take the candidate through the plan.

        :raises EvaluationError: when it is wrong, or caught; the message says why.
        :raises CandidateEndedError: when its process ends early.
        """
        plan, timings = self._plan, []
        with self._watch.part("candidate"):
            hello = self._request("hello")
        with self._watch.stage("empty calls"):
            empty = [self._timer.time_empty_call(shape) for shape in plan.timed_shapes if plan.measure]
        # until here no byte of the candidate's source has run
        with self._watch.part("load"):
            reply_value(self._request("load"), "loaded")
        with self._watch.stage("tests"):
            for shape in plan.test_shapes:
                self._calls.call(shape)
        floors = plan.floors_us or [0.0] * len(plan.timed_shapes)
        for number, shape in enumerate(plan.timed_shapes):
            if plan.measure:
                timings.append(self._timer.time_kernel(shape, empty[number], floors[number]))
            else:
                self._calls.call(shape)
        with self._watch.stage("hidden"):
            tried, failed = self._try_hidden_shapes()
        with contextlib.suppress(CandidateEndedError):  # everything is judged; how it leaves does not matter
            self._channel.send({"do": "end"})
        device = str(hello.get("device", self._session.device))[:_LONGEST_NAME]
        untried = len(plan.hidden_shapes) - tried
        return EvaluationResult(device, len(plan.test_shapes), timings, tried, failed, untried)

    def _request(self, command: str) -> dict[str, object]:
        return self._channel.request({"do": command}, self._calls.seconds_left)

    def _try_hidden_shapes(self) -> tuple[int, list[str]]:
        """How many hidden shapes there was time for, and those that fail, with the reason.

        Once the candidate's process is gone all others fail too.
        """
        failed: list[str] = []
        gone, began, limit_s = "", time.monotonic(), self._plan.hidden_s
        for number, shape in enumerate(self._plan.hidden_shapes):
            if number and limit_s is not None and time.monotonic() - began > limit_s:
                return number, failed
            if gone:
                failed.append(f"{shape_label(shape)}: {gone}")
                continue
            try:
                self._calls.call(shape)
            except EvaluationError as error:
                failed.append(error.message)
            except CandidateEndedError as error:
                gone = str(error)
                failed.append(f"{shape_label(shape)}: {gone}")
        return len(self._plan.hidden_shapes), failed
