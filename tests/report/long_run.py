"""A run of many steps as its pages see it, computed rather than made: what it weighs and how it looks."""

from __future__ import annotations

import json
from typing import Any

import attrs
import numpy as np

from ttd_core.metrics import Metric, Timing
from ttd_core.report.facts import FailureKind, RunFacts
from ttd_core.run.records import StateRecord, StepRecord
from ttd_core.types import Status

CODE = "def run(seed, budget_s, last, **kwargs):\n    return [min(1.0, each + {by}) for each in last]\n"


def _state(number: int, parent: int | None, step: int, score: float) -> StateRecord:
    reward = json.dumps({"value": score, "score": score, "metrics": {}})
    code = CODE.format(by=number / 1000)
    return StateRecord(
        *(number, parent, step, parent is None, str(number), reward, code, ""), 3, None, 64, 0, "held"
    )


def long_facts(first: RunFacts, steps: int = 400, rollouts: int = 64, kept: int = 3) -> RunFacts:
    """A run like ``first`` with more steps: a score that rises in stairs, noise around it, a growing archive.

    :param kept: states that each step adds to the archive.
    """
    rng = np.random.default_rng(5)
    # Of its own, so that a metric more or less changes no score.
    of_metrics = np.random.default_rng(6)
    best = 0.6
    states = [_state(0, None, 0, best)]
    records: list[StepRecord] = []
    by_step: dict[str, dict[int, Any]] = {"rewards": {}, "statuses": {}, "metrics": {}}
    for step in range(1, steps + 1):
        best += float(rng.random() < 0.1) * 17 / steps * float(rng.random())
        values = best - np.abs(rng.normal(0, 0.1, rollouts))
        valid = int(rng.integers(rollouts // 2, rollouts))
        top = float(values[:valid].max())
        by_step["rewards"][step] = values[:valid]
        by_step["statuses"][step] = {Status.OK: valid, Status.CRASH: rollouts - valid}
        numbers = (step, float(step), rollouts, valid, float(values.mean()), top, top, 8 * step)
        records.append(StepRecord(*numbers))
        by_step["metrics"][step] = {
            **{each: float(of_metrics.random()) for each in (Metric.KL, Metric.LOSS, Metric.GRAD_NORM)},
            **{each: float(of_metrics.random()) for each in (Metric.BETA_MEAN, Metric.REPEAT_SHARE)},
            **{each.key: float(of_metrics.random()) for each in Timing},
        }
        for _ in range(kept):
            parent = int(rng.integers(max(0, len(states) - 40), len(states)))
            states.append(_state(len(states), parent, step, top - float(rng.random()) * 0.1))
    found = max(states, key=lambda each: each.reward.value if each.reward else 0.0)
    assert found.reward is not None
    failed = sum(each.rollouts - each.valid for each in records)
    return attrs.evolve(
        first,
        steps=records,
        states=states,
        best=found,
        failures=[FailureKind(Status.CRASH, failed, "ValueError: no")],
        tokens=dict.fromkeys(by_step["rewards"], 1000),
        program_seconds=dict.fromkeys(by_step["rewards"], 1.0),
        summary=attrs.evolve(first.summary, best_score=found.reward.score),
        **by_step,
    )
