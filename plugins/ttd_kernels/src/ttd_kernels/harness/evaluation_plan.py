"""What a candidate is evaluated against: the definition of a kernel, and the shapes and rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import attrs
import torch

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape
from ttd_kernels.harness.timing import TimingRules


class KernelDefinition(Protocol):
    """What the judge needs to know of a kernel: a :class:`~ttd_kernels.problem.KernelProblem` says it."""

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Fresh inputs at a shape, on the generator's device."""
        ...

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """What must be returned at a shape, in order."""
        ...

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """The right outputs, by the reference; inputs stay as they are."""
        ...

    def known_mistakes(self, inputs: KernelInputs) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """Outputs of well-known mistakes, each with words for it."""
        ...


@attrs.frozen
class EvaluationPlan:
    """What one candidate is evaluated on.

    :param test_shapes: must be right.
    :param timed_shapes: must be right in every repeat, and are timed where ``measure`` is set.
    :param hidden_shapes: tell whether the kernel generalises.
    :param floors_us: the least that each timed shape can take, microseconds; empty where nobody knows.
    :param measure: whether to take times.
    :param timing_rules: when repeats are enough, and which are believed.
    :param flush_l2: whether the GPU's cache is emptied before each call.
    :param hidden_s: seconds after which no further hidden shape is begun; ``None`` for no limit.
    :param warmups: untimed calls of a timed shape, checked like the others.
    """

    test_shapes: Sequence[Shape]
    timed_shapes: Sequence[Shape]
    hidden_shapes: Sequence[Shape]
    measure: bool
    timing_rules: TimingRules = attrs.field(factory=TimingRules)
    flush_l2: bool = True
    warmups: int = 2
    floors_us: Sequence[float] = ()
    hidden_s: float | None = None

    @property
    def shapes(self) -> list[Shape]:
        """All of them."""
        return [*self.test_shapes, *self.timed_shapes, *self.hidden_shapes]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A plan from what ``attrs.asdict`` made of one."""
        return cls(**{**data, "timing_rules": TimingRules(**data["timing_rules"])})
