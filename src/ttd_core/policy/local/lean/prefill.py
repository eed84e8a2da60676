"""Reading prompts: their keys and values go to pages, for every reply of the group to share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean.batching import SharedPrompt
from ttd_core.policy.local.lean.decode_state import PAGE
from ttd_core.policy.local.lean.model import LeanModel

#: Prompt tokens read at once, padding included.
BATCH = 16384


@torch.inference_mode()
def read_prompts(model: LeanModel, groups: Sequence[SharedPrompt], store: Tensor) -> None:
    """Store the keys and values of some prompts, all but their last token's.

    :param store: [pages, layers, 2, kv heads, PAGE, head size].
    """
    device = model.device
    for batch in _batches([group for group in groups if group.stored]):
        longest = max(group.stored for group in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        # Padding is written to page 0, and nothing reads it: attention here is causal.
        slots = np.zeros((len(batch), longest), np.int64)
        place = np.arange(longest)
        for line, group in enumerate(batch):
            ids[line, : group.stored] = group.tokens[:-1]
            mine = place[: group.stored]
            slots[line, : group.stored] = np.array(group.pages)[mine // PAGE] * PAGE + mine % PAGE
        model.hidden(
            torch.from_numpy(ids.ravel()).to(device),
            torch.from_numpy(np.tile(place, len(batch))).to(device),
            torch.from_numpy(slots.ravel()).to(device),
            store,
            _Causal(len(batch), model.heads, model.head_size),
        )


@attrs.frozen
class _Causal:
    """Attention of whole prompts, one a line, padded at the end."""

    lines: int
    heads: tuple[int, int]
    size: int

    def __call__(self, _layer: int, qkv: Tensor) -> Tensor:
        parts = qkv.view(self.lines, -1, self.heads[0] + 2 * self.heads[1], self.size).transpose(1, 2)
        query, key, value = torch.split(parts, [self.heads[0], self.heads[1], self.heads[1]], dim=1)
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return found.transpose(1, 2).reshape(len(qkv), -1)


def _batches(groups: Sequence[SharedPrompt]) -> Iterator[list[SharedPrompt]]:
    """Prompts of similar length together, within BATCH padded tokens, or alone."""
    batch: list[SharedPrompt] = []
    for group in sorted(groups, key=lambda group: group.stored):
        if batch and group.stored * (len(batch) + 1) > BATCH:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
