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
from tinker import types as wire

from ttd_core.config import LearnConfig
from ttd_core.policy.base import Sequences
from ttd_core.policy.losses import token_losses

Floats = npt.NDArray[np.float32]


@attrs.frozen(eq=False)
class Trained:
    """One reply that is learned from.

    :param prompt: tokens of its prompt.
    :param tokens: int64 [length] of the reply.
    :param sampler: float32 [length], log-probabilities it was sampled with.
    :param advantages: float32 [length], 0 where forced.
    :param mask: bool [length], False where forced.
    """

    prompt: int
    tokens: npt.NDArray[np.int64]
    sampler: Floats
    advantages: Floats
    mask: npt.NDArray[np.bool_]


def data_of(
    batch: Sequence[Sequences], sequence_loss: Literal["sum", "mean"]
) -> tuple[list[wire.Datum], list[Trained]]:
    """The data of a training pass, and what each is; replies without tokens are left out.

    :param sequence_loss: ``mean`` for a server that divides a sequence's loss by its length, and the gradient
        by the number of sequences: both are multiplied into the advantages.
    """
    found = [
        (item.prompt_tokens, _trained(item, index))
        for item in batch
        for index, completion in enumerate(item.completions)
        if len(completion.tokens)
    ]
    data = []
    for prompt, one in found:
        whole = np.concatenate([prompt, one.tokens]).astype(np.int64)
        before = np.zeros(len(prompt) - 1, np.float32)
        scale = float((len(whole) - 1) * len(found)) if sequence_loss == "mean" else 1.0
        inputs = {
            "target_tokens": whole[1:],
            "logprobs": np.concatenate([before, one.sampler]),
            "advantages": np.concatenate([before, one.advantages * np.float32(scale)]),
        }
        model_input = wire.ModelInput.from_ints(whole[:-1].tolist())
        data.append(wire.Datum(model_input=model_input, loss_fn_inputs=inputs))
    return data, [one for _, one in found]


def _trained(item: Sequences, index: int) -> Trained:
    completion = item.completions[index]
    advantages = np.where(completion.trained, item.advantages[index], 0.0).astype(np.float32)
    sampler = np.where(completion.trained, completion.logprobs, 0.0).astype(np.float32)
    return Trained(len(item.prompt_tokens), completion.tokens, sampler, advantages, completion.trained)


def loss_of(config: LearnConfig) -> tuple[str, dict[str, float] | None]:
    """The protocol's name and settings of ``learn.loss``."""
    if config.loss == "importance":
        return "importance_sampling", None
    if config.loss == "truncated":
        # Its CISPO with no lower bound is the truncated form: a constant weight on the score function.
        return "cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": config.clip_high}
    return "ppo", {"clip_low_threshold": config.clip_low, "clip_high_threshold": config.clip_high}


def step_metrics(
    logprobs: Sequence[Floats], sequences: Sequence[Trained], config: LearnConfig, step: Mapping[str, float]
) -> dict[str, float]:
    """Metrics of a step, named as the local policy names them.

    :param logprobs: float32 [prompt + reply - 1] per sequence, recomputed by the server.
    :param step: what the server says of the optimiser's step.
    """
    loss, count, gap, gap_max, ratio_max = 0.0, 0, 0.0, 0.0, 0.0
    for found, one in zip(logprobs, sequences, strict=True):
        own = np.asarray(found, np.float32)[one.prompt - 1 :][: len(one.tokens)][one.mask]
        sampler, advantages = one.sampler[one.mask], one.advantages[one.mask]
        if config.loss == "truncated":
            # Its value is nought by construction; the surrogate's is what can be watched.
            loss -= float((advantages * np.minimum(np.exp(own - sampler), config.clip_high)).sum())
        else:
            recomputed, sampled, advantage = map(torch.from_numpy, (own, sampler, advantages))
            loss += float(token_losses(recomputed, sampled, advantage, config).sum())
        difference = own.astype(np.float64) - sampler
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
    norm = next((value for name, value in step.items() if name.endswith("grad_norm")), None)
    return metrics if norm is None else metrics | {"grad_norm": float(norm)}
