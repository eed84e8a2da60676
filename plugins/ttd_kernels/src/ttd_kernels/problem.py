"""KernelProblem: what kernel problems share. A subclass says what to compute, at which shapes, how well.

A program defines ``custom_kernel(data)``. It is right when its outputs agree with the reference on fresh
inputs at every shape it is tested and timed on; its score is the geometric mean of its mean times at the
timed shapes, in microseconds, as the judge's own clock bounds them. A state holds those times
(:mod:`ttd_kernels.measurements`), never a candidate's word.
"""

from __future__ import annotations

import abc
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from ttd_core.package_files import package_text
from ttd_core.problem import Examples, Execute, Problem
from ttd_core.types import Action, Reward, State, Status, Verdict
from ttd_kernels import measurements
from ttd_kernels.harness import gpus, launch
from ttd_kernels.harness.candidate import Candidate
from ttd_kernels.harness.evaluation_plan import EvaluationPlan
from ttd_kernels.harness.evaluation_result import EvaluationOutcome
from ttd_kernels.harness.judge_client import evaluate_apart
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, shape_label
from ttd_kernels.harness.no_gpu import NO_GPU, cannot_be_checked
from ttd_kernels.harness.timing import TimingRules
from ttd_kernels.kernel_source import launched_triton_kernels
from ttd_kernels.options import KernelOptions
from ttd_kernels.prompt_text import task_text


class KernelProblem(Problem):
    """A kernel to write: the definition that a judge needs of it
    (:class:`~ttd_kernels.harness.evaluation_plan.KernelDefinition`), and what is said to a model."""

    metric = "microseconds, geometric mean"
    direction = "min"
    entry = "custom_kernel"
    signature = "custom_kernel(data)"
    options_type = KernelOptions
    options: KernelOptions
    #: Shapes whose times make the score.
    timed_shapes: ClassVar[tuple[Shape, ...]]
    #: Source of the module ``reference`` that programs may import; empty for none.
    reference_source: ClassVar[str] = ""

    # -- what a problem must say ------------------------------------------------------------------------

    @abc.abstractmethod
    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Fresh inputs at a shape, on the generator's device."""

    @abc.abstractmethod
    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """What a program must return at a shape, in order."""

    @abc.abstractmethod
    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """The right outputs, by the reference; inputs stay as they are."""

    @abc.abstractmethod
    def floor_us(self, shape: Shape) -> float:
        """The least time a shape can take, microseconds; see :func:`ttd_kernels.roofline.floor_us`."""

    @abc.abstractmethod
    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Shapes for correctness, of the kinds that the prompt names; ``count`` at most."""

    @abc.abstractmethod
    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """``count`` valid shapes that no prompt names."""

    @abc.abstractmethod
    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Shapes small enough for Triton's interpreter."""

    @abc.abstractmethod
    def statement(self) -> str:
        """The task in words. Markdown."""

    # -- what a problem may say -------------------------------------------------------------------------

    def known_mistakes(self, inputs: KernelInputs) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """Outputs of well-known mistakes, each with words for it."""
        return iter(())

    def starting_program(self) -> str:
        """A kernel that is right and slow, from ``programs/``."""
        return package_text("ttd_kernels", "programs", f"{self.name}_start.py")

    # -- the problem ------------------------------------------------------------------------------------

    def floors_us(self) -> dict[str, float]:
        """Label of each timed shape and its floor, microseconds."""
        return {shape_label(shape): self.floor_us(shape) for shape in self.timed_shapes}

    def task(self) -> str:
        """The statement, how programs are judged, and a Triton primer."""
        return task_text(self.statement(), self.floors_us(), self.options)

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None: the judge calls the kernel."""
        return {}

    def require_machine(self) -> None:
        """A run is scored by times, so it needs a GPU.

        :raises NoGpuError: where there is none.
        """
        gpus.require(self._devices(), self.name)

    def _devices(self) -> list[str]:
        return gpus.chosen(str(self.options.devices))

    def plan(self, device: str) -> EvaluationPlan:
        """What a program is evaluated on; shapes drawn anew.

        :param device: ``cpu``, where small shapes are checked and no time is taken, or ``cuda:0`` and so on.
        """
        rng, options = random.SystemRandom(), self.options
        if device == gpus.CPU:
            return EvaluationPlan(self.small_shapes(rng), (), (), measure=False)
        return EvaluationPlan(
            # the cheapest first, so that a wrong program is soon known to be one
            sorted(self.test_shapes(rng, options.tests), key=self.floor_us),
            self.timed_shapes,
            self.hidden_shapes(rng, options.hidden),
            measure=True,
            timing_rules=TimingRules(
                max_repeats=options.repeats,
                timed_s=options.timed_s,
                wall_s=options.wall_s,
            ),
            flush_l2=options.flush_l2,
            hidden_s=options.hidden_s if options.generalise == "report" else None,
            floors_us=[self.floor_us(shape) for shape in self.timed_shapes],
        )

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Evaluate the program on a device that is its own while it lasts."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        if self.options.triton == "refuse" and not launched_triton_kernels(whole.code):
            message = "the program launches no Triton kernel of its own; the rules ask for one"
            return Verdict.failed(Status.INVALID, message, code=whole.code)
        with gpus.device_pool(tuple(self._devices())).lend() as device:
            candidate = Candidate(whole.code, self.reference_source, device, self.options.limits())
            plan = self.plan(device)
            evaluate = launch.evaluate_here if device == gpus.CPU else evaluate_apart
            outcome = evaluate(self, plan, candidate, execute)
        return self._concluded(whole.code, plan, outcome)

    def _concluded(self, code: str, plan: EvaluationPlan, outcome: EvaluationOutcome) -> State | Verdict:
        judgement, job, result = outcome.judgement, outcome.job, outcome.result
        metrics = {"seconds": outcome.seconds}
        if result is None:
            status, message = Status.CRASH, str(judgement.get("ended", ""))
            if "status" in judgement:
                status, message = Status(judgement["status"]), judgement["message"]
            elif not job.ok:
                status, message = job.status, job.message
                if not plan.measure and status is Status.CRASH and NO_GPU.search(message):
                    status, message = Status.INFRASTRUCTURE, cannot_be_checked(message)
            return Verdict.failed(status, message, code=code, output=job.output, metrics=metrics)
        if not plan.measure:
            message = (
                f"correct at {result.tests} of {result.tests} small shapes in Triton's CPU interpreter "
                "(autotuned kernels in their first configuration); no time was taken, since no GPU is used "
                "here, so there is no score"
            )
            return Verdict.failed(
                Status.INFRASTRUCTURE, message, code=code, output=job.output, metrics=metrics
            )
        data = measurements.from_result(result, self.options.flush_l2, outcome.seconds)
        return State(code=code, data=data, output=measurements.table(data, self.floors_us(), code))

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Never: a kernel's times are measured, whatever it returns.

        :raises ValueError: always.
        """
        raise ValueError("times are measured by the judge; give a program instead")

    def check(self, state: State) -> Sequence[str]:
        """Whether the state is one that a judge made."""
        must_generalise = self.options.generalise == "refuse"
        return measurements.violations(state.data, len(self.timed_shapes), must_generalise)

    def reward(self, state: State) -> Reward:
        """1000 / score: how many times a millisecond holds the geometric mean of the times (paper 4.2)."""
        score = statistics.geometric_mean(float(time) for time in state.data["times_us"])
        numbers = measurements.metrics(state.data, self.floors_us(), state.code)
        return Reward(1000.0 / score, score, numbers)

    def examples(self) -> Examples:
        """Two sets of times, and states that break a rule each."""
        good, bad = measurements.examples(len(self.timed_shapes))
        return Examples(
            good=[State(data=data) for data in good],
            bad=[State(data=data) for data in bad],
        )
