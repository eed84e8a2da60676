"""From the groups of a step to one optimiser step.

Advantages per group (:mod:`~ttd_core.learn.objective`), spread over the tokens that were sampled; KL
shaping against the model without its adapter; then one call of the trainer. Groups whose rewards are all
equal carry no gradient: they enter neither the loss nor the KL mean. A rollout lost to our own
infrastructure is left out of its group.
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
from ttd_core.types import Completion, Group, Status


@attrs.frozen(eq=False)
class WeightedGroup:
    """A group with what the objective says of it.

    :param group: the group, whole.
    :param counted: bool [rollouts], False where a rollout does not count: lost to our own infrastructure.
    :param advantages: of the rollouts that count, in the group's order.
    """

    group: Group
    counted: npt.NDArray[np.bool_]
    advantages: GroupAdvantages

    @property
    def completions(self) -> list[Completion]:
        """The replies that count."""
        return [
            rollout.completion for rollout, counts in zip(self.group, self.counted, strict=True) if counts
        ]

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """float64 [rollouts]: the advantage of each rollout, NaN where it does not count."""
        values = np.full(len(self.counted), np.nan)
        values[self.counted] = self.advantages.values
        return values


def weigh(group: Group, config: LearnConfig) -> WeightedGroup:
    """Compute a group's advantages."""
    counted = np.array(
        [rollout.verdict.status is not Status.INFRASTRUCTURE for rollout in group], dtype=np.bool_
    )
    return WeightedGroup(group, counted, group_advantages(group.rewards[counted], config))


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
    trainer: Trainer, groups: Sequence[WeightedGroup], config: LearnConfig, temperature: float
) -> dict[str, float]:
    """One gradient step on the whole batch.

    :param groups: of the step, from :func:`weigh`.
    :return: metrics (:class:`~ttd_core.metrics.Metric`): of the objective, and the trainer's own.
        ``tokens_trained`` is 0 and nothing moves when no group carries gradient.
    """
    useful = [item for item in groups if item.advantages.informative]
    spread = np.concatenate([item.advantages.values for item in useful]) if useful else np.zeros(0)
    metrics: dict[str, float] = {
        Metric.GROUPS_USED: float(len(useful)),
        Metric.TOKENS_TRAINED: 0.0,
        Metric.ADVANTAGE_STD: float(spread.std()) if spread.size else 0.0,
    }
    if not useful:
        return metrics
    betas = [item.advantages.beta for item in useful if np.isfinite(item.advantages.beta)]
    if betas:
        metrics[Metric.BETA_MEAN] = float(np.mean(betas))
    started = time.monotonic()
    completions = [item.completions for item in useful]
    base = [
        trainer.base_logprobs(item.group.prompt_tokens, replies, temperature)
        for item, replies in zip(useful, completions, strict=True)
    ]
    metrics[Metric.SECONDS_BASE] = time.monotonic() - started
    batch, metrics[Metric.KL] = _batch(useful, completions, base, config)
    metrics[Metric.TOKENS_TRAINED] = float(sum(int(c.trained.sum()) for s in batch for c in s.completions))
    started = time.monotonic()
    metrics.update(trainer.train_step(batch, temperature))
    metrics[Metric.SECONDS_TRAIN] = time.monotonic() - started
    return metrics


def _batch(
    useful: Sequence[WeightedGroup],
    completions: Sequence[Sequence[Completion]],
    base: Sequence[Sequence[npt.NDArray[np.float32]]],
    config: LearnConfig,
) -> tuple[list[Sequences], float]:
    """Spread advantages over tokens and shape them with the KL, over the whole batch at once."""
    replies = [reply for group in completions for reply in group]
    values = np.concatenate([item.advantages.values for item in useful])
    tokens = [np.full(len(reply.tokens), value) for reply, value in zip(replies, values, strict=True)]
    flat_base = [logprobs for group in base for logprobs in group]
    divergences = [
        reply.logprobs.astype(np.float64) - logprobs.astype(np.float64)
        for reply, logprobs in zip(replies, flat_base, strict=True)
    ]
    shaped, mean = shape_with_kl(tokens, divergences, [reply.trained for reply in replies], config)
    batch, position = [], 0
    for item, group in zip(useful, completions, strict=True):
        batch.append(Sequences(item.group.prompt_tokens, group, shaped[position : position + len(group)]))
        position += len(group)
    return batch, mean
