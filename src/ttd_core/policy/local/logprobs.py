"""Log-probabilities of given tokens without ever holding the whole [tokens, vocabulary] matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

#: Rows of logits held at once; 512 rows of 150,000 float32 logits are 300 MB.
CHUNK = 512


def target_logprobs(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    temperature: float,
) -> torch.Tensor:
    """log softmax(head(hidden) / temperature) at ``targets``.

    With gradients enabled each chunk's logits are recomputed in the backward pass.

    :param hidden: [tokens, hidden size].
    :param targets: int64 [tokens].
    :param head: hidden states to float32 logits.
    :return: float32 [tokens].
    """

    def of_chunk(rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = head(rows)
        if temperature != 1.0:
            logits = logits / temperature
        return logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(dim=-1)

    parts = []
    for start in range(0, len(targets), CHUNK):
        rows, ids = hidden[start : start + CHUNK], targets[start : start + CHUNK]
        if torch.is_grad_enabled() and rows.requires_grad:
            parts.append(checkpoint(of_chunk, rows, ids, use_reentrant=False))
        else:
            parts.append(of_chunk(rows, ids))
    return torch.cat(parts)
