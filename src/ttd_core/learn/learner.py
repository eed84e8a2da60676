"""From the groups of a step to one optimiser step.

:func:`compute_advantages` takes a group's rewards to advantages (:mod:`~ttd_core.learn.objective`).
:func:`learn` gives each sampled token the advantage of its reply, shapes it by the KL against the model
without its adapter, and calls the trainer once.

A group whose rewards are all equal carries no gradient: it enters neither the loss nor the KL mean. A rollout
that was lost to our own infrastructure is left out of its group; so is, with ``repeats = "drop"``, one whose
program merely repeats what it started from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.config import LearnConfig
from ttd_core.learn.objective import GroupAdvantages, group_advantages
from ttd_core.metrics import Metric
from ttd_core.policy.base import Sequences, Trainer
from ttd_core.stages import Counted, compared
from ttd_core.types import Completion, Group, Status


@attrs.frozen(eq=False)
class GroupWithAdvantages:
    """A group and the advantages of its rollouts.

    :param group: the group, whole.
    :param counted: bool [rollouts], False for a rollout that is left out.
    :param advantages: of the counted rollouts, in the group's order.
    """

    group: Group
    counted: npt.NDArray[np.bool_]
    advantages: GroupAdvantages

    @property
    def counted_completions(self) -> list[Completion]:
        """The replies of the counted rollouts, in the group's order."""
        return [
            rollout.completion for rollout, counts in zip(self.group, self.counted, strict=True) if counts
        ]

    @property
    def by_rollout(self) -> npt.NDArray[np.float64]:
        """float64 [rollouts]: the advantage of each rollout, NaN where it is not counted."""
        values = np.full(len(self.counted), np.nan)
        values[self.counted] = self.advantages.values
        return values


@attrs.frozen(eq=False)
class LearnedLogprobs:
    """What learning computed of one reply, before its step.

    :param base: float32 [length], log-probabilities under the model without its adapter.
    :param recomputed: float32 [length], under the model that learns; NaN where the trainer does not tell.
    """

    base: npt.NDArray[np.float32]
    recomputed: npt.NDArray[np.float32]


def compute_advantages(
    group: Group,
    config: LearnConfig,
    repeated: npt.NDArray[np.bool_] | None = None,
    others: Sequence[Counted] = (),
) -> GroupWithAdvantages:
    """The advantages of a group's rollouts, by the objective that the config names.

    :param repeated: bool [rollouts], which programs merely repeat what they started from; ``None`` for none.
        ``config.repeats`` says what such a rollout is worth: its reward (``count``), nothing, as it brings no
        news (``drop``: left out of the group), or as little as a failed one (``fail``).
    :param others: rollouts that the group is compared with and that are not learned from here: of a late
        group those of its own step (:func:`counted_rollouts`).
    """
    together = np.array(compared([*others, *group.counted]), np.float64)
    counts, rewards = _by_repeats(group, config, repeated, together[len(others) :])
    advantages = group_advantages(np.concatenate([together[: len(others)], rewards[counts]]), config)
    if others:
        values = advantages.values[len(others) :]
        advantages = attrs.evolve(
            advantages, values=values, informative=advantages.informative and bool(values.size)
        )
    return GroupWithAdvantages(group, counts, advantages)


def counted_rollouts(
    group: Group, config: LearnConfig, repeated: npt.NDArray[np.bool_] | None = None
) -> list[Counted]:
    """The rollouts of a group that count, with their rewards, for those of the group that come later.

    :param repeated: as in :func:`compute_advantages`.
    """
    counts, rewards = _by_repeats(group, config, repeated, group.rewards)
    # One that repeats and so fails bounds nobody, as any that failed.
    failed = np.zeros(len(counts), np.bool_)
    if repeated is not None and config.repeats == "fail":
        failed = repeated
    return [
        attrs.evolve(each, value=float(rewards[index]), valid=each.valid and not failed[index])
        for index, each in enumerate(group.counted)
        if counts[index]
    ]


def _by_repeats(
    group: Group,
    config: LearnConfig,
    repeated: npt.NDArray[np.bool_] | None,
    rewards: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which rollouts of a group count, bool [rollouts], and the rewards of all, float64 [rollouts]."""
    counts = np.array(
        [rollout.verdict.status is not Status.INFRASTRUCTURE for rollout in group], dtype=np.bool_
    )
    if repeated is not None and config.repeats == "drop":
        counts &= ~repeated
    if repeated is not None and config.repeats == "fail":
        rewards = np.where(repeated, 0.0, rewards)
    return counts, rewards


def shape_with_kl(
    advantages: Sequence[npt.NDArray[np.float64]],
    divergences: Sequence[npt.NDArray[np.float64]],
    masks: Sequence[npt.NDArray[np.bool_]],
    config: LearnConfig,
) -> tuple[list[npt.NDArray[np.float64]], float]:
    """Add ``lambda * (mean(d) - d)`` to each trained token's advantage (``-lambda * d`` uncentred).

    :param advantages: float64 [reply length] per reply.
    :param divergences: d = logp_sampler - logp_base, float64 [reply length] per reply.
    :param masks: True where the token is trained; forced tokens get advantage 0 and do not enter the mean.
    :return: the shaped advantages, and the mean of d over all trained tokens (the batch's KL estimate).
    """
    trained = np.concatenate([d[mask] for d, mask in zip(divergences, masks, strict=True)] or [np.zeros(0)])
    mean = float(trained.mean()) if trained.size else 0.0
    centre = mean if config.kl_center else 0.0
    shaped = [
        np.where(mask, advantage + config.kl_coefficient * (centre - d), 0.0)
        for advantage, d, mask in zip(advantages, divergences, masks, strict=True)
    ]
    return shaped, mean


def learn(
    trainer: Trainer,
    groups: Sequence[GroupWithAdvantages],
    config: LearnConfig,
    temperature: float,
    keep: dict[tuple[int, int], LearnedLogprobs] | None = None,
) -> dict[str, float]:
    """One gradient step on the whole batch.

    :param trainer: the policy, which takes the step.
    :param groups: of the step, from :func:`compute_advantages`.
    :param temperature: at which the replies were sampled.
    :param keep: where given, takes what was computed of each reply, by the indices of group and rollout.
    :return: metrics (:class:`~ttd_core.metrics.Metric`): of the objective, and the trainer's own.
        ``tokens_trained`` is 0 and nothing moves when no group carries gradient.
    """
    informative = [item for item in groups if item.advantages.informative]
    metrics: dict[str, float] = {
        Metric.GROUPS_USED: float(len(informative)),
        Metric.TOKENS_TRAINED: 0.0,
        Metric.ADVANTAGE_STD: 0.0,
    }
    if not informative:
        return metrics
    metrics[Metric.ADVANTAGE_STD] = float(_all_advantages(informative).std())
    betas = [item.advantages.beta for item in informative if np.isfinite(item.advantages.beta)]
    if betas:
        metrics[Metric.BETA_MEAN] = float(np.mean(betas))
    started = time.monotonic()
    base_logprobs = [
        trainer.base_logprobs(item.group.prompt_tokens, item.counted_completions, temperature)
        for item in informative
    ]
    metrics[Metric.SECONDS_BASE] = time.monotonic() - started
    batch, metrics[Metric.KL] = _batch(informative, base_logprobs, config, keep is not None)
    metrics[Metric.TOKENS_TRAINED] = float(
        sum(int(completion.trained.sum()) for sequences in batch for completion in sequences.completions)
    )
    started = time.monotonic()
    metrics.update(trainer.train_step(batch, temperature))
    metrics[Metric.SECONDS_TRAIN] = time.monotonic() - started
    if keep is not None:
        numbers = [number for number, item in enumerate(groups) if item.advantages.informative]
        for number, item, base, sequences in zip(numbers, informative, base_logprobs, batch, strict=True):
            indices = np.flatnonzero(item.counted).tolist()
            learned = map(LearnedLogprobs, base, sequences.recomputed or ())
            keep.update(zip([(number, index) for index in indices], learned, strict=True))
    return metrics


def _all_advantages(groups: Sequence[GroupWithAdvantages]) -> npt.NDArray[np.float64]:
    """Those of all counted rollouts, group after group."""
    return np.concatenate([item.advantages.values for item in groups])


def _batch(
    groups: Sequence[GroupWithAdvantages],
    base_logprobs: Sequence[Sequence[npt.NDArray[np.float32]]],
    config: LearnConfig,
    recompute: bool,
) -> tuple[list[Sequences], float]:
    """Give each token its reply's advantage and shape them with the KL, over the whole batch at once.

    :param base_logprobs: per group and counted reply float32 [reply length].
    :param recompute: whether the trainer shall tell what it recomputes.
    :return: one :class:`~ttd_core.policy.base.Sequences` per group, and the batch's KL estimate.
    """
    replies = [reply for item in groups for reply in item.counted_completions]
    token_advantages = [
        np.full(len(reply.tokens), value)
        for reply, value in zip(replies, _all_advantages(groups), strict=True)
    ]
    flat_base = [logprobs for of_group in base_logprobs for logprobs in of_group]
    divergences = [
        reply.logprobs.astype(np.float64) - logprobs.astype(np.float64)
        for reply, logprobs in zip(replies, flat_base, strict=True)
    ]
    masks = [reply.trained for reply in replies]
    shaped, mean_divergence = shape_with_kl(token_advantages, divergences, masks, config)
    remaining = iter(shaped)
    batch = []
    for item in groups:
        completions = item.counted_completions
        advantages = [next(remaining) for _ in completions]
        recomputed = None
        if recompute:
            recomputed = [np.full(len(each.tokens), np.nan, np.float32) for each in completions]
        batch.append(Sequences(item.group.prompt_tokens, completions, advantages, recomputed))
    return batch, mean_divergence
