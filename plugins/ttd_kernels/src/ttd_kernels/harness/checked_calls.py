"""Calls of one candidate's kernel: each on inputs that nobody has seen, each output compared whole."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ttd_core.types import Status
from ttd_kernels.harness import compare
from ttd_kernels.harness.channel import Channel
from ttd_kernels.harness.device_session import CallResult, DeviceSession
from ttd_kernels.harness.evaluation_plan import KernelDefinition
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, shape_label
from ttd_kernels.harness.random_tensors import fresh_seed, seeded_generator
from ttd_kernels.harness.replies import EvaluationError
from ttd_kernels.harness.stopwatch import Stopwatch


class CheckedCalls:
    """Calls of one candidate's kernel.

    :param kernel: draws inputs and computes what is right.
    :param session: the device, and the memory shared with the candidate's process.
    :param channel: to that process.
    :param deadline: on the monotonic clock, seconds, when the sandbox ends the candidate.
    :param watch: counts where the time goes.
    """

    def __init__(
        self,
        kernel: KernelDefinition,
        session: DeviceSession,
        channel: Channel,
        deadline: float,
        watch: Stopwatch,
    ) -> None:
        self._kernel = kernel
        self._session = session
        self._channel = channel
        self._deadline = deadline
        self.watch = watch
        self._called: set[str] = set()
        # the latest right outputs by the sizes of all, to recognise a program that returns them again
        self._earlier: dict[tuple[tuple[int, ...], ...], Sequence[torch.Tensor]] = {}

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, at least one."""
        return max(1.0, self._deadline - time.monotonic())

    def call(self, shape: Shape, look: bool = False) -> CallResult:
        """A call on fresh inputs whose outputs are right.

        :param look: look whether they are complete when the program says so; its times then say nothing.
        :raises EvaluationError: when they are wrong, naming the shape and what the output looks like; as
            rejected, when a look found them incomplete.
        :raises CandidateEndedError: when the candidate's process is gone.
        """
        label, inputs = shape_label(shape), self._draw(shape)
        specs = self._kernel.output_specs(shape)
        try:
            with self.watch.part("calls" if label in self._called else "first calls"):
                result = self._session.call_kernel(self._channel, inputs, specs, self.seconds_left, look=look)
        except EvaluationError as error:
            raise EvaluationError(error.status, f"{label}: {error.message}", error.uninterpretable) from error
        self._called.add(label)
        with self.watch.part("reference"):
            expected = self._kernel.expected_outputs(inputs)
        with self.watch.part("comparison"):
            mismatch = compare.describe_mismatch(result.outputs, expected, specs)
            if mismatch:
                likeness = self._likeness(inputs, result.outputs, specs)
                raise EvaluationError(Status.INVALID, f"{label}: {mismatch}{likeness}")
        if result.look is not None and result.look.changed:
            found = f"{result.look.changed} of {result.look.samples} samples changed afterwards"
            message = f"{label}: it says that it is done before its outputs are complete: {found}"
            raise EvaluationError(Status.REJECTED, message)
        self._earlier[_sizes(specs)] = expected
        return result

    def empty_calls(self, shape: Shape, count: int, looks: int = 0) -> list[CallResult]:
        """``count`` calls that run no kernel, to learn what everything else takes.

        :param looks: how many of them, the first, are looked at, to learn how soon that can be.
        """
        inputs = self._draw(shape)
        specs = self._kernel.output_specs(shape)
        results = []
        for number in range(count):
            with self.watch.part("calls"):
                results.append(
                    self._session.call_kernel(
                        self._channel, inputs, specs, self.seconds_left, True, number < looks
                    )
                )
            if number >= looks - 1:
                # as between real calls: what the GPU and the processes did before matters
                with self.watch.part("reference"):
                    self._kernel.expected_outputs(inputs)
        return results

    def _draw(self, shape: Shape) -> KernelInputs:
        with self.watch.part("inputs"):
            return self._kernel.draw_inputs(shape, seeded_generator(fresh_seed(), self._session.device))

    def _likeness(
        self, inputs: KernelInputs, outputs: Sequence[torch.Tensor], specs: Sequence[OutputSpec]
    ) -> str:
        """What wrong outputs may be, from ``"; "`` on; empty when nothing known fits."""
        earlier = self._earlier.get(_sizes(specs))
        if earlier is not None and compare.all_close(outputs, earlier, specs):
            return "; it is the output for earlier inputs"
        for words, mistaken in self._kernel.known_mistakes(inputs):
            if compare.all_close(outputs, mistaken, specs):
                return f"; {words}"
        first = outputs[0]
        for name, tensor in inputs.tensors.items():
            if tensor.shape == first.shape and torch.equal(tensor.to(first.dtype), first):
                return f"; it is the input {name}"
        return ""


def _sizes(specs: Sequence[OutputSpec]) -> tuple[tuple[int, ...], ...]:
    return tuple(spec.shape for spec in specs)
