"""A training step: log-probabilities of packed replies, the gradient of their loss, the optimiser's step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch

from ttd_core.config import LearnConfig
from ttd_core.policy.base import Sequences
from ttd_core.policy.local.adapter import Adapter, global_norm
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.training import LeanTrainer
from ttd_core.policy.local.logprobs import target_logprobs
from ttd_core.policy.local.memory import free_bytes
from ttd_core.policy.local.packing import Pack, build_pack, pack_replies, plan_packs
from ttd_core.policy.local.plain.attention import PromptCache, ReplyCache, cache_argument
from ttd_core.policy.losses import token_losses
from ttd_core.types import Completion

#: Activations kept for the backward pass, in hidden-size vectors a token and layer: attention, MLP, norms and
#: the adapters' float32 inputs. Measured on a 0.5B Qwen2 at rank 16: 49.
_ACTIVATION_VECTORS = 50
#: Fraction of the free memory beyond which activations are recomputed instead of kept.
_CROWDED = 0.25


class LogprobModel:
    """A causal language model in its two parts, backbone and head, and log-probabilities of packs under it.

    :param causal: the transformers model (adapter layers already in place).
    :param checkpointing: activation checkpointing: ``on``, ``off``, or ``auto`` (on when activations would
        take more than a quarter of the free memory).
    :param lean: the same model for the lean engine, where it runs; then that computes log-probabilities.
    """

    def __init__(self, causal: Any, checkpointing: str, lean: LeanModel | None = None) -> None:
        self.causal = causal
        self._lean = lean
        self._trainer = LeanTrainer(lean) if lean is not None else None
        self._keep_activations = False
        self._base = getattr(causal, causal.base_model_prefix)
        self._cache_argument = cache_argument(self._base)
        self._checkpointing = checkpointing
        self._checkpointed = False
        config = causal.config
        self.layers: int = config.num_hidden_layers
        self.longest_context: int = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        self._hidden_size: int = config.hidden_size
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        # Some families scale their logits, dividing or multiplying.
        multiplier = float(getattr(config, "logit_scale", None) or 1.0)
        divisor = float(getattr(config, "logits_scaling", None) or 1.0)
        self._logit_scale = multiplier / divisor

    def backbone(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: PromptCache | ReplyCache, decoding: bool
    ) -> torch.Tensor:
        """Hidden states [rows, length, hidden size] while sampling.

        :param ids: int64 [rows, length]; ``positions`` likewise.
        :param cache: of one prompt, or while decoding of the replies.
        """
        extra = {self._cache_argument: cache} | ({"replies": cache} if decoding else {})
        output = self._base(input_ids=ids, position_ids=positions, use_cache=False, **extra)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [rows, vocabulary] of hidden states [rows, hidden size]."""
        logits: torch.Tensor = self.causal.get_output_embeddings()(hidden).float()
        if self._logit_scale != 1.0:
            logits = logits * self._logit_scale
        return logits if self._softcap is None else self._softcap * (logits / self._softcap).tanh()

    def pack_logprobs(self, pack: Pack, temperature: float) -> torch.Tensor:
        """Float32 [reply tokens]: log-probability of each of ``pack.targets``, with gradient if enabled."""
        if self._trainer is not None:
            return self._trainer.logprobs(pack, temperature, self._keep_activations)
        output = self._base(
            input_ids=pack.ids, position_ids=pack.positions, attention_mask=pack.mask, use_cache=False
        )
        hidden = output.last_hidden_state[0, pack.sources]
        return target_logprobs(hidden, pack.targets, self.head, temperature)

    def reply_logprobs(
        self,
        prompt: npt.NDArray[np.int64],
        completions: Sequence[Completion],
        temperature: float,
        budget: int,
    ) -> list[npt.NDArray[np.float32]]:
        """Log-probability of each reply's tokens, float32 [length] each; no gradient is kept.

        :param budget: most tokens of a pack.
        """
        self._load_adapter()
        replies = [completion.tokens for completion in completions]
        logprobs = [np.zeros(len(reply), np.float32) for reply in replies]
        for members in plan_packs(len(prompt), [len(reply) for reply in replies], budget):
            pack = build_pack(prompt, replies, members, self.causal.device)
            values = self.pack_logprobs(pack, temperature).cpu().numpy()
            ends = np.cumsum([len(replies[member]) for member in members])
            for member, part in zip(members, np.split(values, ends[:-1]), strict=True):
                logprobs[member] = part
        return logprobs

    def set_training(self, longest_pack: int) -> None:
        """Get ready for backward passes: choose activation checkpointing.

        :param longest_pack: most tokens of a pack that follows.
        """
        self._load_adapter()
        crowded = self._activation_bytes(longest_pack) > _CROWDED * free_bytes(self.causal.device)
        checkpoint = self._checkpointing == "on" or (self._checkpointing == "auto" and crowded)
        if self._trainer is not None:
            self._keep_activations = not checkpoint
            return
        if checkpoint and not self._checkpointed:
            _enable_checkpointing(self.causal)
            self._checkpointed = True
        # Layers checkpoint only in training mode; there is no dropout that it would switch on.
        self.causal.train(checkpoint)

    def set_sampling(self) -> None:
        """Back to evaluation mode."""
        if self._trainer is None:
            self.causal.eval()

    def _load_adapter(self) -> None:
        """Let the lean model take the adapter as it is now."""
        if self._lean is not None:
            self._lean.load_adapter()

    def _activation_bytes(self, tokens: int) -> float:
        if self._trainer is not None:
            return float(self._trainer.activation_bytes(tokens))
        element_size = next(self.causal.parameters()).element_size()
        return float(tokens * self.layers * self._hidden_size * _ACTIVATION_VECTORS * element_size)


@attrs.frozen
class PackTotals:
    """Sums, and largest values, over the trained tokens of some packs.

    :param loss: sum of the token losses.
    :param gap: sum of the absolute differences between recomputed and sampled log-probabilities.
    :param gap_max: largest such difference.
    :param ratio_max: largest ratio of recomputed to sampled probability.
    :param tokens: trained tokens.
    :param packs: packs.
    """

    loss: float = 0.0
    gap: float = 0.0
    gap_max: float = 0.0
    ratio_max: float = 0.0
    tokens: int = 0
    packs: int = 0

    def merge(self, other: PackTotals) -> PackTotals:
        """The totals of both together."""
        return PackTotals(
            self.loss + other.loss,
            self.gap + other.gap,
            max(self.gap_max, other.gap_max),
            max(self.ratio_max, other.ratio_max),
            self.tokens + other.tokens,
            self.packs + other.packs,
        )

    def as_dict(self) -> dict[str, float]:
        """For a message; ``PackTotals(**...)`` is the inverse."""
        return attrs.asdict(self)


def optimiser_step(
    model: LogprobModel,
    adapter: Adapter,
    optimiser: torch.optim.Optimizer,
    batch: Sequence[Sequences],
    temperature: float,
    config: LearnConfig,
) -> Mapping[str, float]:
    """Accumulate the gradient of the summed token losses over all packs, then take one step.

    The packs only divide the sum, so the step does not depend on ``micro_batch_tokens`` beyond rounding.

    :return: see :func:`take_step`.
    """
    totals = accumulate_gradients(model, adapter, batch, temperature, config)
    return take_step(adapter, optimiser, totals)


def accumulate_gradients(
    model: LogprobModel,
    adapter: Adapter,
    batch: Sequence[Sequences],
    temperature: float,
    config: LearnConfig,
) -> PackTotals:
    """The adapter's gradients become those of the summed token losses of the batch."""
    for parameter in adapter:
        parameter.grad = None
    budget = config.micro_batch_tokens
    packs = [(group, members) for group in batch for members in pack_replies(group, budget)]
    lengths = [
        len(group.prompt_tokens) + sum(len(group.completions[member].tokens) for member in members)
        for group, members in packs
    ]
    model.set_training(max(lengths, default=0))
    totals = PackTotals()
    try:
        for group, members in packs:
            totals = totals.merge(_backward_pack(model, group, members, temperature, config))
            adapter.collect_gradients()
    finally:
        model.set_sampling()
    return totals


def _backward_pack(
    model: LogprobModel, group: Sequences, members: Sequence[int], temperature: float, config: LearnConfig
) -> PackTotals:
    """Forward and backward pass of one pack.

    :param members: which of the group's replies.
    """
    replies = [completion.tokens for completion in group.completions]
    pack = build_pack(group.prompt_tokens, replies, members, model.causal.device)
    logprobs = model.pack_logprobs(pack, temperature)
    if group.recomputed is not None:
        ends = np.cumsum(pack.reply_lengths)
        for member, part in zip(members, np.split(logprobs.detach().cpu().numpy(), ends[:-1]), strict=True):
            group.recomputed[member][:] = part
    sampler, advantages, trained = _pack_targets(group, members, logprobs.device)
    losses = token_losses(logprobs[trained], sampler[trained], advantages[trained], config)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    difference = (logprobs.detach() - sampler)[trained]
    if not difference.numel():
        return PackTotals(packs=1)
    return PackTotals(
        loss=float(losses.detach().sum()),
        gap=float(difference.abs().sum()),
        gap_max=float(difference.abs().max()),
        ratio_max=float(difference.max().exp()),
        tokens=difference.numel(),
        packs=1,
    )


def take_step(adapter: Adapter, optimiser: torch.optim.Optimizer, totals: PackTotals) -> Mapping[str, float]:
    """One step of the optimiser along the adapter's gradients.

    :return: ``loss``, ``grad_norm``, ``update_norm`` (how far the adapter moved), ``logprob_gap`` (mean
        absolute difference of recomputed and sampled log-probabilities over trained tokens),
        ``logprob_gap_max``, ``ratio_max``, ``packs``.
    """
    weights = [parameter.detach() for parameter in adapter]
    before = [torch.empty_like(weight) for weight in weights]
    torch._foreach_copy_(before, weights)
    norm = adapter.gradient_norm()
    optimiser.step()
    adapter.copy_to_model()
    return {
        "loss": totals.loss,
        "grad_norm": norm,
        "update_norm": global_norm(torch._foreach_sub(weights, before)),
        "logprob_gap": totals.gap / max(totals.tokens, 1),
        "logprob_gap_max": totals.gap_max,
        "ratio_max": totals.ratio_max,
        "packs": float(totals.packs),
    }


def _enable_checkpointing(causal: Any) -> None:
    """Under the name that this release of transformers gives it."""
    enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _pack_targets(
    group: Sequences, members: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sampler log-probabilities, advantages (float32) and trained mask of a pack's tokens, in its order."""
    sampler = np.concatenate([group.completions[member].logprobs for member in members])
    advantages = np.concatenate([group.advantages[member] for member in members]).astype(np.float32)
    trained = np.concatenate([group.completions[member].trained for member in members])
    return (
        torch.from_numpy(sampler).to(device),
        torch.from_numpy(advantages).to(device),
        torch.from_numpy(trained).to(device),
    )
