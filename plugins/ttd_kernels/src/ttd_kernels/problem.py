"""KernelProblem: what kernel problems share. A subclass says what to compute, at which shapes, how well.

A program defines ``custom_kernel(data)``. It is right when its outputs agree with the reference on fresh
inputs at every shape it is tested and timed on; its score is the geometric mean of its mean times at the
timed shapes, in microseconds, as the judge's own clock bounds them. A state holds those times, never a
candidate's word.
"""

from __future__ import annotations

import abc
import importlib.resources
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import torch

from ttd_core.errors import UsageError
from ttd_core.problem import Examples, Execute, Options, Problem, option
from ttd_core.types import Action, Reward, State, Status, Verdict
from ttd_kernels import gpus, judging, rules, telling, timing
from ttd_kernels.case import Case, Output, Shape, label
from ttd_kernels.conductor import Plan, Report
from ttd_kernels.judge import judge_apart

#: Times between which every kernel's lies, microseconds: below is less than a launch, above more than a day.
_LEAST_US, _MOST_US = 0.1, 1e11
#: What a state keeps for each timed shape.
_ARRAYS = {"times_us": "float64", "errors_us": "float64", "host_us": "float64", "repeats": "int64"}
_REPORT_OR_REFUSE = attrs.validators.in_(("report", "refuse"))


@attrs.frozen
class KernelOptions(Options):
    """Options of every kernel problem."""

    timeout_s: float = option(900.0, "wall seconds a program may take in all, compiling and judging included")
    cpus: int = option(4, "processors a program may use")
    memory_mb: int = option(16 * 1024, "resident host memory a program may use, MiB")
    output_chars: int = option(2500, "characters of the last program's table of times shown in the prompt")
    devices: str | int = option(
        "auto", "GPUs to judge on: 'auto' (all), numbers such as '0,2', or 'cpu' (no times)"
    )
    flush_l2: bool = option(True, "empty the GPU's cache before each timed call")
    triton: str = option(
        "report",
        "a program that launches no Triton kernel of its own: 'report' it or 'refuse' it",
        validator=_REPORT_OR_REFUSE,
    )
    generalise: str = option(
        "report",
        "a kernel that is wrong at shapes nobody named: 'report' it or 'refuse' it",
        validator=_REPORT_OR_REFUSE,
    )
    tests: int = option(18, "shapes a kernel is tested on, drawn anew", validator=attrs.validators.ge(1))
    hidden: int = option(6, "shapes that nobody named, drawn anew", validator=attrs.validators.ge(0))
    repeats: int = option(
        100, "most timed calls of a shape", validator=[attrs.validators.ge(3), attrs.validators.le(10_000)]
    )
    timed_s: float = option(30.0, "most seconds of timed work for a shape", validator=attrs.validators.gt(0))
    wall_s: float = option(120.0, "most seconds of wall time for a shape", validator=attrs.validators.gt(0))


def text_of(folder: str, name: str) -> str:
    """A text file shipped with the plugin: ``prompts/trimul.md``, ``programs/trimul_start.py``."""
    return importlib.resources.files("ttd_kernels").joinpath(folder, name).read_text(encoding="utf-8")


class KernelProblem(Problem):
    """A kernel to write. Subclasses are the judge's :class:`~ttd_kernels.conductor.Task` as well."""

    metric = "microseconds, geometric mean"
    direction = "min"
    entry = "custom_kernel"
    signature = "custom_kernel(data)"
    options_type = KernelOptions
    options: KernelOptions
    #: Shapes whose times make the score.
    timed: ClassVar[tuple[Shape, ...]]
    #: Source of the module ``reference`` that programs may import; empty for none.
    reference_source: ClassVar[str] = ""

    # -- what a problem must say ------------------------------------------------------------------------

    @abc.abstractmethod
    def draw(self, shape: Shape, source: torch.Generator) -> Case:
        """Fresh inputs at a shape, on the generator's device."""

    @abc.abstractmethod
    def outputs(self, shape: Shape) -> Sequence[Output]:
        """What a program must return at a shape, in order."""

    @abc.abstractmethod
    def answer(self, case: Case) -> Sequence[torch.Tensor]:
        """The right outputs, by the reference; inputs stay as they are."""

    @abc.abstractmethod
    def floor_us(self, shape: Shape) -> float:
        """The least time a shape can take, see :func:`ttd_kernels.timing.floor_us`."""

    @abc.abstractmethod
    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Shapes for correctness, of the kinds that the prompt names."""

    @abc.abstractmethod
    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Valid shapes that no prompt names."""

    @abc.abstractmethod
    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Shapes small enough for Triton's interpreter."""

    @abc.abstractmethod
    def statement(self) -> str:
        """The task in words. Markdown."""

    # -- what a problem may say -------------------------------------------------------------------------

    def mistakes(self, case: Case) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """Outputs of well-known mistakes, each with words for it."""
        return iter(())

    def starting_program(self) -> str:
        """A kernel that is right and slow, from ``programs/``."""
        return text_of("programs", f"{self.name}_start.py")

    # -- the problem ------------------------------------------------------------------------------------

    def task(self) -> str:
        """The statement, how programs are judged, and a Triton primer."""
        return telling.task(self)

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

    def plan(self, device: str) -> Plan:
        """What a program is judged on; shapes drawn anew."""
        rng, options = random.SystemRandom(), self.options
        if device == gpus.CPU:
            return Plan(self.small_shapes(rng), (), (), measure=False)
        return Plan(
            self.test_shapes(rng, options.tests),
            self.timed,
            self.hidden_shapes(rng, options.hidden),
            measure=True,
            rules=timing.Rules(
                most=options.repeats,
                timed_s=options.timed_s,
                wall_s=options.wall_s,
            ),
            flush=options.flush_l2,
        )

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Judge the program on a device that is its own while it lasts."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        if self.options.triton == "refuse" and not rules.triton_kernels(whole.code):
            message = "the program launches no Triton kernel of its own; the rules ask for one"
            return Verdict.failed(Status.INVALID, message, code=whole.code)
        with gpus.pool(tuple(self._devices())).lend() as device:
            candidate = judging.Candidate(whole.code, self.reference_source, device, self.options.limits())
            plan = self.plan(device)
            judge = judging.judge_here if device == gpus.CPU else judge_apart
            outcome = judge(self, plan, candidate, execute)
        return self._concluded(whole.code, plan, outcome)

    def _concluded(self, code: str, plan: Plan, outcome: judging.Outcome) -> State | Verdict:
        found, job, report = outcome.found, outcome.job, outcome.report
        if report is None:
            status, message = Status.CRASH, str(found.get("ended", ""))
            if "status" in found:
                status, message = Status(found["status"]), found["message"]
            elif not job.ok:
                status, message = job.status, job.message
            return Verdict.failed(status, message, code=code, output=job.output)
        if not plan.measure:
            message = (
                f"correct at {report.tests} of {report.tests} small shapes in Triton's CPU interpreter "
                "(autotuned kernels in their first configuration); no time was taken, since no GPU is used "
                "here, so there is no score"
            )
            return Verdict.failed(Status.INFRASTRUCTURE, message, code=code, output=job.output)
        data = self.state_data(report)
        return State(code=code, data=data, output=telling.table(self, data, code))

    def state_data(self, report: Report) -> Mapping[str, Any]:
        """What a state keeps of a report; times in microseconds, float64 [timed shapes]."""
        return {
            "device": report.device,
            "flushed": self.options.flush_l2,
            "tests": report.tests,
            "hidden": report.hidden,
            "failed": list(report.failed),
            "times_us": np.array([row.mean_us for row in report.rows], np.float64),
            "errors_us": np.array([row.error_us for row in report.rows], np.float64),
            "host_us": np.array([row.host_us for row in report.rows], np.float64),
            "repeats": np.array([row.repeats for row in report.rows], np.int64),
        }

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Never: a kernel's times are measured, whatever it returns.

        :raises ValueError: always.
        """
        raise ValueError("times are measured by the judge; give a program instead")

    def check(self, state: State) -> Sequence[str]:
        """Whether the state is one that a judge made."""
        data = state.data
        wrong = [
            f"{name} is not {dtype}[{len(self.timed)}]"
            for name, dtype in _ARRAYS.items()
            if not _is_array(data.get(name), dtype, len(self.timed))
        ]
        wrong += [f"{name} is no count" for name in ("tests", "hidden") if not _is_count(data.get(name))]
        failed = data.get("failed")
        if type(failed) is not list or not all(type(each) is str for each in failed):
            wrong.append("failed is no list of texts")
        if type(data.get("device")) is not str or type(data.get("flushed")) is not bool:
            wrong.append("the device, or whether its cache was emptied, is missing")
        return wrong or list(self._broken_rules(data))

    def _broken_rules(self, data: Mapping[str, Any]) -> Iterator[str]:
        for name in ("times_us", "errors_us", "host_us"):
            if not np.isfinite(data[name]).all() or not (data[name] >= 0).all():
                yield f"{name} holds what is no time"
        if not ((data["times_us"] > _LEAST_US) & (data["times_us"] < _MOST_US)).all():
            yield "a time is one that no kernel takes"
        if not (data["repeats"] >= timing.Rules().least).all():
            yield f"a shape was timed fewer than {timing.Rules().least} times"
        if len(data["failed"]) > data["hidden"]:
            yield "more shapes failed than were tried"
        if self.options.generalise == "refuse" and data["failed"]:
            yield f"it does not generalise: {data['failed'][0]}"

    def reward(self, state: State) -> Reward:
        """1000 / score: how many times a millisecond holds the geometric mean of the times (paper 4.2)."""
        times = [float(time) for time in state.data["times_us"]]
        score = timing.geometric_mean(times)
        return Reward(1000.0 / score, score, telling.metrics(self, state.data, state.code))

    def examples(self) -> Examples:
        """Two sets of times, and states that break a rule each."""
        times = np.linspace(100.0, 900.0, len(self.timed))
        good = {
            "device": "a GPU",
            "flushed": True,
            "tests": 18,
            "hidden": 6,
            "failed": [],
            "times_us": times,
            "errors_us": times / 1000,
            "host_us": times / 10,
            "repeats": np.full(len(times), 30),
        }
        bad: list[Mapping[str, Any]] = [
            {**good, "times_us": -times},
            {**good, "times_us": 0 * times},
            {**good, "times_us": times * math.nan},
            {**good, "times_us": times[:-1]},
            {**good, "repeats": np.zeros(len(times), np.int64)},
            {**good, "failed": ["one"] * 7},
            {**good, "hidden": -1},
        ]
        return Examples(
            good=[State(data=good), State(data={**good, "times_us": 2 * times})],
            bad=[State(data=data) for data in bad],
        )

    def shape_of(self, text: str) -> Shape:
        """The timed shape with this label.

        :raises UsageError: when there is none.
        """
        for shape in self.timed:
            if label(shape) == text:
                return shape
        raise UsageError(f"{self.name} is not timed at {text}")


def _is_array(value: Any, dtype: str, length: int) -> bool:
    return type(value) is np.ndarray and value.dtype.name == dtype and value.shape == (length,)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
