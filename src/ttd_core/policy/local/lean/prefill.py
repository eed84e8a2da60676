"""Prefill: reading prompts, so that their keys and values lie in pages for every reply of the group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean.batching import SharedPrompt
from ttd_core.policy.local.lean.model import LeanModel
from ttd_core.policy.local.lean.pack_attention import flash, masked_attention, with_sinks
from ttd_core.policy.local.lean.paging import PAGE, PREFILL_TOKENS


@torch.inference_mode()
def prefill(
    model: LeanModel, prompts: Sequence[SharedPrompt], stores: Sequence[Tensor], record_routes: bool = False
) -> None:
    """Store the keys and values of some prompts, all but their last token's, in the pages they have.

    :param stores: of each kind of layers, see :class:`.kv_pages.PagePool`.
    :param record_routes: leave the experts of each token with its prompt.
    """
    device = model.device
    for batch in _batches([prompt for prompt in prompts if prompt.stored]):
        longest = max(prompt.stored for prompt in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        # Padding is written to page 0, as is what no reply will see; attention here does not read pages.
        slots = [np.zeros((len(batch), longest), np.int64) for _ in stores]
        positions = np.arange(longest)
        for index, prompt in enumerate(batch):
            ids[index, : prompt.stored] = prompt.tokens[:-1]
            used = positions[: prompt.stored]
            for target, held in zip(slots, prompt.held or [], strict=True):
                pages = np.array([*[0] * held.first, *held.pages])
                target[index, : prompt.stored] = pages[used // PAGE] * PAGE + used % PAGE
        routes = model.new_routes(ids.size) if record_routes else None
        model.forward(
            torch.from_numpy(ids.ravel()).to(device),
            torch.from_numpy(np.tile(positions, len(batch))).to(device),
            [torch.from_numpy(part.ravel()).to(device) for part in slots],
            stores,
            _CausalAttention(model, len(batch)),
            routes,
        )
        if routes is not None:
            chosen = routes.transpose(0, 1).cpu().numpy()
            chosen = chosen.reshape(*ids.shape, *chosen.shape[1:])
            for index, prompt in enumerate(batch):
                prompt.routes = chosen[index, : prompt.stored].copy()


@attrs.frozen(eq=False)
class _CausalAttention:
    """Attention of whole prompts laid end to end, each padded at its end to the same length.

    :param prompts: how many.
    """

    model: LeanModel
    prompts: int

    def __call__(self, layer: int, qkv: Tensor) -> Tensor:
        heads = self.model.heads
        parts = qkv.view(self.prompts, -1, heads[0] + 2 * heads[1], self.model.head_size)
        window, sinks = self.model.layers[layer].window, self.model.layers[layer].sinks
        if not window and sinks is None:
            query, key, value = torch.split(parts.transpose(1, 2), [heads[0], heads[1], heads[1]], dim=1)
            output = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True
            )
            return output.transpose(1, 2).reshape(len(qkv), -1)
        return self._windowed(parts, window, sinks).reshape(len(qkv), -1)

    def _windowed(self, parts: Tensor, window: int, sinks: Tensor | None) -> Tensor:
        heads, length = self.model.heads, parts.shape[1]
        query, key, value = torch.split(parts, [heads[0], heads[1], heads[1]], dim=2)
        if parts.device.type == "cuda" and parts.dtype in (torch.bfloat16, torch.float16):
            starts = torch.arange(self.prompts + 1, dtype=torch.int32, device=parts.device) * length
            query, key, value = (part.flatten(0, 1) for part in (query, key, value))
            sequences = (starts, starts, length, length)
            return with_sinks(*flash(query, key, value, sequences, True, window), sinks)[0]
        positions = torch.arange(length, device=parts.device)
        before = positions[:, None] - positions[None, :]
        mask = (before >= 0) & (before < window if window else True)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        return masked_attention(query, key, value, mask[None, None], sinks).transpose(1, 2)


def _batches(prompts: Sequence[SharedPrompt]) -> Iterator[list[SharedPrompt]]:
    """Prompts of similar length together, within PREFILL_TOKENS padded tokens, or alone."""
    batch: list[SharedPrompt] = []
    for prompt in sorted(prompts, key=lambda prompt: prompt.stored):
        if batch and prompt.stored * (len(batch) + 1) > PREFILL_TOKENS:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch
