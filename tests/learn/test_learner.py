"""From groups to one step: KL shaping, masks, groups that carry nothing."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.config import LearnConfig
from ttd_core.learn import learner
from ttd_core.learn.learner import compute_advantages, counted_rollouts, shape_with_kl
from ttd_core.policy.base import Sequences
from ttd_core.stages import Stage
from ttd_core.types import Completion, Group, Reward, Rollout, State, Status, Verdict

CONFIG = LearnConfig()


class RecordingTrainer:
    """Keeps the batch it was given; its base model finds every token 0.5 nats likelier than the sampler."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Sequences]] = []

    def base_logprobs(
        self, prompt_tokens: npt.NDArray[np.int64], completions: Sequence[Completion], temperature: float
    ) -> list[npt.NDArray[np.float32]]:
        return [completion.logprobs + np.float32(0.5) for completion in completions]

    def train_step(self, batch: Sequence[Sequences], temperature: float) -> Mapping[str, float]:
        self.batches.append(batch)
        return {"loss": 1.0}

    def save(self, folder: pathlib.Path) -> None: ...

    def load(self, folder: pathlib.Path) -> None: ...

    def adapter_digest(self) -> str:
        return ""


def learn(
    trainer: RecordingTrainer, groups: Sequence[Group], config: LearnConfig, temperature: float
) -> dict[str, float]:
    return learner.learn(
        trainer, [compute_advantages(group, config) for group in groups], config, temperature
    )


def reply(length: int, forced: int = 0) -> Completion:
    trained = np.ones(length, bool)
    trained[:forced] = False
    logprobs = np.where(trained, -1.0, 0.0).astype(np.float32)
    return Completion("x", np.arange(length), logprobs, trained)


def verdict(value: float | None, status: Status = Status.CRASH) -> Verdict:
    if value is None:
        return Verdict.failed(status, "no")
    return Verdict(Status.OK, state=State(), reward=Reward(value, value))


def group(values: Sequence[float | None], lengths: Sequence[int] | None = None, **kwargs: Any) -> Group:
    sizes = lengths or [3] * len(values)
    rollouts = [Rollout(reply(size, **kwargs), verdict(v)) for v, size in zip(values, sizes, strict=True)]
    return Group(0, [], np.arange(4), rollouts)


def test_one_step_on_the_informative_groups() -> None:
    trainer = RecordingTrainer()
    metrics = learn(trainer, [group([0, 1, 2, 3]), group([1, 1, 1, 1])], CONFIG, 1.0)
    (batch,) = trainer.batches
    assert len(batch) == 1
    assert metrics["groups_used"] == 1
    assert metrics["tokens_trained"] == 12
    assert metrics["kl"] == pytest.approx(-0.5)
    assert metrics["loss"] == 1.0
    # A constant divergence is its own mean: centred shaping then leaves the advantages alone.
    golden = [-0.96963308, -0.86669806, -0.33870056, 8.86541794]
    for found, expected in zip(batch[0].advantages, golden, strict=True):
        assert found == pytest.approx(np.full(3, expected), abs=1e-6)


def test_uncentred_kl_subtracts_the_divergence() -> None:
    trainer = RecordingTrainer()
    config = attrs.evolve(CONFIG, kl_center=False)
    learn(trainer, [group([0, 1, 2, 3])], config, 1.0)
    assert trainer.batches[0][0].advantages[3] == pytest.approx(np.full(3, 8.86541794 + 0.1 * 0.5), abs=1e-6)


def test_forced_tokens_are_left_out_of_everything() -> None:
    trainer = RecordingTrainer()
    metrics = learn(trainer, [group([0, 1, 2, 3], [5, 5, 5, 5], forced=2)], CONFIG, 1.0)
    assert metrics["tokens_trained"] == 12
    assert metrics["kl"] == pytest.approx(-0.5)
    for advantages in trainer.batches[0][0].advantages:
        assert (advantages[:2] == 0).all()
        assert (advantages[2:] != 0).all()


def test_nothing_to_learn_moves_nothing() -> None:
    trainer = RecordingTrainer()
    metrics = learn(trainer, [group([None, None]), group([2.0])], CONFIG, 1.0)
    assert trainer.batches == []
    assert metrics["tokens_trained"] == 0


def test_infrastructure_failures_do_not_count() -> None:
    rollouts = [
        Rollout(reply(3), verdict(1.0)),
        Rollout(reply(3), verdict(None, Status.INFRASTRUCTURE)),
        Rollout(reply(3), verdict(1.0)),
    ]
    lost = Group(0, [], np.arange(4), rollouts)
    # Counted as a zero it would make the others winners.
    assert np.isnan(compute_advantages(lost, CONFIG).by_rollout[1])
    assert (compute_advantages(lost, CONFIG).by_rollout[[0, 2]] == 0).all()


def test_what_a_repeat_is_worth() -> None:
    replies = [Rollout(reply(3), verdict(value)) for value in (2.0, 2.5, 1.0, None)]
    whole = Group(0, [], np.arange(4), replies)
    repeated = np.array([False, True, False, False])

    def advantages(repeats: str, of: Group = whole) -> npt.NDArray[np.float64]:
        config = attrs.evolve(CONFIG, repeats=repeats)
        return compute_advantages(of, config, repeated[: len(of.rollouts)]).by_rollout

    assert np.array_equal(advantages("count"), compute_advantages(whole, CONFIG).by_rollout)
    assert advantages("count").argmax() == 1
    dropped = advantages("drop")
    assert np.isnan(dropped[1])
    without = Group(0, [], np.arange(4), [replies[0], *replies[2:]])
    assert np.array_equal(dropped[[0, 2, 3]], compute_advantages(without, CONFIG).by_rollout)
    failed = advantages("fail")
    assert failed.argmax() == 0
    assert failed[1] == failed[3] < 0


@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=6), min_size=1, max_size=6),
    st.floats(0, 2),
)
def test_centred_shaping_keeps_the_total_advantage(rows: list[list[float]], weight: float) -> None:
    divergences = [np.array(row) for row in rows]
    advantages = [np.ones(len(row)) for row in rows]
    masks = [np.ones(len(row), bool) for row in rows]
    config = attrs.evolve(CONFIG, kl_coefficient=weight)
    shaped, mean = shape_with_kl(advantages, divergences, masks, config)
    assert mean == pytest.approx(np.concatenate(divergences).mean(), abs=1e-12)
    assert sum(part.sum() for part in shaped) == pytest.approx(sum(map(len, rows)), abs=1e-9)


def of_runs(*values: float | None) -> Rollout:
    """A program that came to these values with a tenth of its budget, and with all of it."""
    shares = (0.1, 1.0)
    stages = tuple(
        Stage(share, share, share, "crash" if value is None else "ok", value, value)
        for share, value in zip(shares, values, strict=False)
    )
    best = max((value for value in values if value is not None), default=None)
    if best is None:
        verdict = Verdict.failed(Status.CRASH, "")
    else:
        verdict = Verdict(Status.OK, state=State("x", {"number": best}), reward=Reward(best, best))
    return Rollout(reply(3), attrs.evolve(verdict, stages=stages))


def staged(*rollouts: Rollout) -> Group:
    return Group(0, [], np.zeros(0, np.int64), rollouts)


values = st.floats(0.01, 10.0)


@given(
    group=st.lists(st.one_of(st.tuples(values), st.tuples(values, st.none() | values)), min_size=2),
    late=st.sets(st.integers(0, 9), min_size=1),
)
def test_late_rollouts_of_a_cascade_have_the_advantage_of_the_whole_group(
    group: list[tuple[float | None, ...]], late: set[int]
) -> None:
    """Those that were in time count for no more than a late one that went further."""
    rollouts = [of_runs(*each) for each in group]
    chosen = [index for index in range(len(rollouts)) if index in late]
    in_time = staged(*(each for index, each in enumerate(rollouts) if index not in chosen))
    config = LearnConfig(advantage="mean")
    others = counted_rollouts(in_time, config)
    joined = compute_advantages(staged(*(rollouts[index] for index in chosen)), config, None, others)
    whole = compute_advantages(staged(*rollouts), config)
    np.testing.assert_allclose(joined.by_rollout, whole.by_rollout[chosen], atol=1e-12)


def test_one_that_repeats_its_start_bounds_no_late_one() -> None:
    config = LearnConfig(repeats="fail")
    group = staged(of_runs(0.4), of_runs(0.2, 0.6), of_runs(0.3, None), of_runs(0.5, 0.7))
    repeated = np.array([False, False, False, True])
    others = counted_rollouts(group, config, repeated)
    assert [(each.value, each.runs, each.valid) for each in others] == [
        (0.4, 1, True),
        (0.6, 2, True),
        (0.0, 2, False),
        (0.0, 2, False),
    ]
    late = compute_advantages(staged(of_runs(0.9)), config, None, others)
    # As far as the one with all of its budget that came to 0.6.
    assert late.by_rollout[0] == late.by_rollout.max() > 0
