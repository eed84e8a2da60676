"""Counts and rewards of one step's rollouts, added up once for the database, the events and the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from ttd_core.types import Group, Reward


@attrs.frozen
class StepTotals:
    """Totals of a step.

    :param rollouts: how many it had.
    :param valid: how many of them were ok.
    :param mean_value: mean reward, failed rollouts as 0; 0 without rollouts.
    :param best: the highest reward; ``None`` when nothing succeeded.
    """

    rollouts: int
    valid: int
    mean_value: float
    best: Reward | None

    @classmethod
    def of(cls, groups: Sequence[Group]) -> StepTotals:
        """The totals of a step's groups."""
        verdicts = [rollout.verdict for group in groups for rollout in group]
        rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
        return cls(
            rollouts=len(verdicts),
            valid=len(rewards),
            mean_value=float(np.mean([verdict.value for verdict in verdicts])) if verdicts else 0.0,
            best=max(rewards, key=lambda reward: reward.value, default=None),
        )

    @property
    def valid_share(self) -> float:
        """Valid rollouts over all, 0 to 1."""
        return self.valid / self.rollouts if self.rollouts else 0.0

    @property
    def best_value(self) -> float | None:
        """Reward of the best rollout; ``None`` when nothing succeeded."""
        return None if self.best is None else float(self.best.value)

    @property
    def best_score(self) -> float | None:
        """Score of the rollout with the highest reward; ``None`` when nothing succeeded."""
        return None if self.best is None else float(self.best.score)
