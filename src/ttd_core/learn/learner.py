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
from ttd_core.policy.base import Sequences, Trainer
from ttd_core.types import Completion, Group, Rollout, Status


@attrs.frozen(eq=False)
class Judged:
    """A group's countable rollouts and their advantages."""

    group: Group
    rollouts: Sequence[Rollout]
    advantages: GroupAdvantages


def judge(group: Group, config: LearnConfig) -> Judged:
    """Advantages of the rollouts that count (all but infrastructure failures)."""
    counted = [r for r in group.rollouts if r.verdict.status is not Status.INFRASTRUCTURE]
    rewards = np.array([r.verdict.value for r in counted], dtype=np.float64)
    return Judged(group, counted, group_advantages(rewards, config))


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
    trainer: Trainer, groups: Sequence[Group], config: LearnConfig, temperature: float
) -> dict[str, float]:
    """One gradient step on the whole batch.

    :return: metrics: ``groups_used``, ``tokens_trained``, ``kl`` (mean log-ratio of sampler to base, nats a
        token), ``advantage_std``, ``beta_mean``, ``seconds_base``, ``seconds_train`` and the trainer's own.
        ``tokens_trained`` is 0 and nothing moves when no group carries gradient.
    """
    judged = [judge(group, config) for group in groups]
    useful = [item for item in judged if item.advantages.informative]
    spread = np.concatenate([item.advantages.values for item in useful]) if useful else np.zeros(0)
    metrics: dict[str, float] = {
        "groups_used": float(len(useful)),
        "tokens_trained": 0.0,
        "advantage_std": float(spread.std()) if spread.size else 0.0,
    }
    if not useful:
        return metrics
    betas = [item.advantages.beta for item in useful if np.isfinite(item.advantages.beta)]
    if betas:
        metrics["beta_mean"] = float(np.mean(betas))
    started = time.monotonic()
    completions = [[rollout.completion for rollout in item.rollouts] for item in useful]
    base = [
        trainer.base_logprobs(item.group.prompt_tokens, replies, temperature)
        for item, replies in zip(useful, completions, strict=True)
    ]
    metrics["seconds_base"] = time.monotonic() - started
    batch, metrics["kl"] = _batch(useful, completions, base, config)
    metrics["tokens_trained"] = float(sum(int(c.trained.sum()) for s in batch for c in s.completions))
    started = time.monotonic()
    metrics.update(trainer.train_step(batch, temperature))
    metrics["seconds_train"] = time.monotonic() - started
    return metrics


def _batch(
    useful: Sequence[Judged],
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


def advantages_of(group: Group, config: LearnConfig) -> npt.NDArray[np.float64]:
    """float64 [rollouts] of a group, NaN for a rollout that does not count (infrastructure)."""
    judged = judge(group, config)
    counted = iter(judged.advantages.values)
    return np.array(
        [np.nan if r.verdict.status is Status.INFRASTRUCTURE else next(counted) for r in group.rollouts]
    )
