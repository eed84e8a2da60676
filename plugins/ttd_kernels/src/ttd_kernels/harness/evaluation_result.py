"""What came of an evaluation, as values and as the JSON that a judge's process answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from ttd_core.sandbox.base import JobResult
from ttd_kernels.harness.stopwatch import rounded


@attrs.frozen
class ShapeTiming:
    """What was measured at one shape; times in microseconds.

    :param shape: its label.
    :param mean_us: the time that counts.
    :param error_us: standard error of the mean of the claims.
    :param repeats: how many timed calls count.
    :param host_us: what the host took to queue a call, beyond an empty one.
    :param unseen_us: the most that it can have done after it said *done* without being seen.
    """

    shape: str
    mean_us: float
    error_us: float
    repeats: int
    host_us: float
    unseen_us: float


@attrs.frozen
class EvaluationResult:
    """What is known of a candidate that was right wherever it had to be.

    :param device: the GPU's name, or ``cpu``.
    :param tests: how many shapes it was tested on, beside the timed ones.
    :param timings: one for each timed shape, in the plan's order; empty where no time was taken.
    :param hidden: how many hidden shapes it was tried on.
    :param untried: how many more there were, for which no time was left.
    :param failed: those it got wrong: their labels, each with the reason.
    """

    device: str
    tests: int
    timings: Sequence[ShapeTiming]
    hidden: int
    failed: Sequence[str]
    untried: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A result from what ``attrs.asdict`` made of one."""
        return cls(**{**data, "timings": [ShapeTiming(**timing) for timing in data["timings"]]})


@attrs.frozen
class EvaluationOutcome:
    """How an evaluation ended, by both processes.

    :param judgement: what the judge says, JSON: ``result``, an :class:`EvaluationResult`; or ``status`` and
        ``message`` of a failure; or ``ended``, why the candidate's process could not be judged to the end;
        and ``seconds``.
    :param job: how the candidate's process ended.
    """

    judgement: Mapping[str, Any]
    job: JobResult

    @property
    def result(self) -> EvaluationResult | None:
        """The result of a candidate that was right."""
        data = self.judgement.get("result")
        return None if data is None else EvaluationResult.from_json(data)

    @property
    def seconds(self) -> dict[str, dict[str, float]]:
        """Where the time went, by stage and part (:mod:`ttd_kernels.harness.stopwatch`), to milliseconds."""
        return rounded(self.judgement.get("seconds", {}))
