"""Log-probabilities of chosen tokens without ever holding the whole [tokens, vocabulary] matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

#: Rows of logits held at once; 512 rows of 150,000 float32 logits are 300 MB.
CHUNK = 512


def chosen_logprobs(
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

    def one(rows: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        logits = head(rows)
        if temperature != 1.0:
            logits = logits / temperature
        return logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=-1)

    parts = []
    for start in range(0, len(targets), CHUNK):
        rows, chosen = hidden[start : start + CHUNK], targets[start : start + CHUNK]
        if torch.is_grad_enabled() and rows.requires_grad:
            parts.append(checkpoint(one, rows, chosen, use_reentrant=False))
        else:
            parts.append(one(rows, chosen))
    return torch.cat(parts)
