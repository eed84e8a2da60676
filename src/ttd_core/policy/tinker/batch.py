"""Batches in the form of the Tinker protocol, and what a step's answer says about them.

A datum is prompt and reply as one sequence, shifted by one: its inputs are all tokens but the last, its
targets all but the first. Prompt and forced tokens have advantage 0, so they carry no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import numpy as np
import numpy.typing as npt
import torch
from tinker import types as protocol

from ttd_core.config import LearnConfig
from ttd_core.policy.base import Sequences
from ttd_core.policy.losses import token_losses

Floats = npt.NDArray[np.float32]


@attrs.frozen(eq=False)
class TrainedReply:
    """One reply that is learned from.

    :param prompt_length: tokens of its prompt.
    :param tokens: int64 [length] of the reply.
    :param sampler_logprobs: float32 [length], those it was sampled with; 0 where forced.
    :param advantages: float32 [length], 0 where forced.
    :param trained: bool [length], False where forced.
    """

    prompt_length: int
    tokens: npt.NDArray[np.int64]
    sampler_logprobs: Floats
    advantages: Floats
    trained: npt.NDArray[np.bool_]


def build_data(
    batch: Sequence[Sequences], sequence_loss: Literal["sum", "mean"]
) -> tuple[list[protocol.Datum], list[TrainedReply]]:
    """The data of a training pass, and the reply of each; replies without tokens are left out.

    :param sequence_loss: ``mean`` for a server that divides a sequence's loss by its length, and the gradient
        by the number of sequences: both are multiplied into the advantages.
    """
    replies = [
        (group.prompt_tokens, _trained_reply(group, index))
        for group in batch
        for index, completion in enumerate(group.completions)
        if len(completion.tokens)
    ]
    data = []
    for prompt, reply in replies:
        sequence = np.concatenate([prompt, reply.tokens]).astype(np.int64)
        prompt_zeros = np.zeros(len(prompt) - 1, np.float32)
        scale = float((len(sequence) - 1) * len(replies)) if sequence_loss == "mean" else 1.0
        inputs = {
            "target_tokens": sequence[1:],
            "logprobs": np.concatenate([prompt_zeros, reply.sampler_logprobs]),
            "advantages": np.concatenate([prompt_zeros, reply.advantages * np.float32(scale)]),
        }
        model_input = protocol.ModelInput.from_ints(sequence[:-1].tolist())
        data.append(protocol.Datum(model_input=model_input, loss_fn_inputs=inputs))
    return data, [reply for _, reply in replies]


def fill_recomputed(batch: Sequence[Sequences], logprobs: Sequence[Floats]) -> None:
    """Write what the server recomputed where the batch wants it.

    :param logprobs: float32 [prompt + reply - 1] per datum of :func:`build_data`.
    """
    remaining = iter(logprobs)
    for group in batch:
        for index, completion in enumerate(group.completions):
            if len(completion.tokens):
                of_reply = np.asarray(next(remaining), np.float32)[len(group.prompt_tokens) - 1 :]
                if group.recomputed is not None:
                    group.recomputed[index][: len(of_reply)] = of_reply[: len(completion.tokens)]


def _trained_reply(group: Sequences, index: int) -> TrainedReply:
    completion = group.completions[index]
    advantages = np.where(completion.trained, group.advantages[index], 0.0).astype(np.float32)
    logprobs = np.where(completion.trained, completion.logprobs, 0.0).astype(np.float32)
    return TrainedReply(len(group.prompt_tokens), completion.tokens, logprobs, advantages, completion.trained)


def protocol_loss(config: LearnConfig) -> tuple[str, dict[str, float] | None]:
    """The protocol's name and settings of ``learn.loss``."""
    if config.loss == "importance":
        return "importance_sampling", None
    if config.loss == "truncated":
        # Its CISPO with no lower bound is the truncated form: a constant weight on the score function.
        return "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": config.clip_high}
    return "ppo", {"clip_low_threshold": config.clip_low, "clip_high_threshold": config.clip_high}


def step_metrics(
    logprobs: Sequence[Floats],
    replies: Sequence[TrainedReply],
    config: LearnConfig,
    optimiser_metrics: Mapping[str, float],
) -> dict[str, float]:
    """Metrics of a step, named as the local policy names them.

    :param logprobs: float32 [prompt + reply - 1] per sequence, recomputed by the server.
    :param optimiser_metrics: what the server says of the optimiser's step.
    """
    loss, count, gap, gap_max, ratio_max = 0.0, 0, 0.0, 0.0, 0.0
    for sequence_logprobs, reply in zip(logprobs, replies, strict=True):
        reply_logprobs = np.asarray(sequence_logprobs, np.float32)[reply.prompt_length - 1 :]
        recomputed = reply_logprobs[: len(reply.tokens)][reply.trained]
        sampled, advantages = reply.sampler_logprobs[reply.trained], reply.advantages[reply.trained]
        if config.loss == "truncated":
            # Its value is nought by construction; the surrogate's is what can be watched.
            loss -= float((advantages * np.minimum(np.exp(recomputed - sampled), config.clip_high)).sum())
        else:
            learner, sampler, weights = map(torch.from_numpy, (recomputed, sampled, advantages))
            loss += float(token_losses(learner, sampler, weights, config).sum())
        difference = recomputed.astype(np.float64) - sampled
        if difference.size:
            count += difference.size
            gap += float(np.abs(difference).sum())
            gap_max = max(gap_max, float(np.abs(difference).max()))
            ratio_max = max(ratio_max, float(np.exp(difference.max())))
    metrics = {
        "loss": loss,
        "logprob_gap": gap / max(count, 1),
        "logprob_gap_max": gap_max,
        "ratio_max": ratio_max,
    }
    grad_norm = next((v for name, v in optimiser_metrics.items() if name.endswith("grad_norm")), None)
    return metrics if grad_norm is None else metrics | {"grad_norm": float(grad_norm)}
