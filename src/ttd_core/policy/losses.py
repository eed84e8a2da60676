"""Policy-gradient losses per token, in torch; ``learn.loss`` names one.

The default is the unclipped importance-sampled form: the gradient of ``-A exp(logp - logp_sampler)`` is
``-A ratio grad logp``, the policy gradient corrected for the gap between sampler and learner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttd_core.config import LearnConfig

if TYPE_CHECKING:
    import torch


def token_losses(
    logprobs: torch.Tensor, sampler: torch.Tensor, advantages: torch.Tensor, config: LearnConfig
) -> torch.Tensor:
    """Loss of each trained token.

    :param logprobs: float32 [tokens], under the model being trained, with gradient.
    :param sampler: float32 [tokens], under the model that sampled.
    :param advantages: float32 [tokens], KL shaping included.
    :return: float32 [tokens]; the batch's loss is their sum.
    """
    ratio = (logprobs - sampler).exp()
    if config.loss == "importance":
        return -advantages * ratio
    if config.loss == "truncated":
        # The weight is a constant here: truncation bounds its variance, the score function carries the
        # gradient (truncated importance sampling).
        weight = ratio.detach().clamp(max=config.clip_high)
        return -advantages * weight * (logprobs - logprobs.detach())
    clipped = ratio.clamp(config.clip_low, config.clip_high)
    return -(advantages * ratio).minimum(advantages * clipped)
