"""What an evaluator may return in place of a dictionary: metrics, and artifacts beside them."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class EvaluationResult:
    """Metrics by name, and artifacts: texts or bytes for the next prompt."""

    metrics: dict
    artifacts: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, metrics):
        """Of metrics alone."""
        return cls(metrics)

    def to_dict(self):
        """The metrics."""
        return self.metrics

    def has_artifacts(self):
        """Whether there are artifacts."""
        return bool(self.artifacts)
