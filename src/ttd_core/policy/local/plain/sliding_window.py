"""Attention with sliding windows and sinks, for whole sequences: prompts and packs.

A window hides keys that lie ``window`` or more positions back. A sink is one more logit a head that takes
part in the softmax and has no value (the models of the gpt-oss family learn it). Torch's own attention knows
neither sinks nor the positions of a pack, so where there are sinks the products are written out, a chunk of
queries at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

#: Queries whose scores are held at once.
CHUNK = 256


def windowed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor | None,
    positions: Tensor,
    scaling: float,
    window: int | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention over one sequence.

    :param query: [1, heads, length, head size].
    :param key: [1, kv heads, length, head size]; ``value`` likewise.
    :param allowed: bool [1, 1, length, length], True where attention is allowed; ``None`` is causal.
    :param positions: int64 [1, length], what a window counts in.
    :param scaling: of the scores.
    :param window: positions a token sees, itself included; ``None`` is all.
    :param sinks: [heads], the extra logit of each head.
    :return: [1, length, heads, head size].
    """
    length = query.shape[2]
    if allowed is None:
        order = torch.arange(length, device=query.device)
        allowed = (order[None, :] <= order[:, None])[None, None]
    if window is not None:
        allowed = allowed & (positions[0, :, None] - positions[0, None, :] < window)
    if sinks is None:
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)
    parts = []
    for start in range(0, length, CHUNK):
        rows = slice(start, start + CHUNK)
        arguments = (query[:, :, rows], key, value, allowed[:, :, rows], scaling, sinks)
        if torch.is_grad_enabled():
            parts.append(checkpoint(_with_sinks, *arguments, use_reentrant=False))
        else:
            parts.append(_with_sinks(*arguments))
    return torch.cat(parts, dim=2).transpose(1, 2)


def _with_sinks(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, scaling: float, sinks: Tensor
) -> Tensor:
    """The result for some queries: [1, heads, queries, head size]."""
    _, heads, rows, size = query.shape
    kv_heads = key.shape[1]
    grouped = query.view(1, kv_heads, heads // kv_heads, rows, size)
    scores = torch.matmul(grouped, key[:, :, None].transpose(3, 4)).float() * scaling
    scores = scores.masked_fill(~allowed[:, :, None], float("-inf"))
    sink = sinks.float().view(1, kv_heads, -1, 1, 1).expand(*scores.shape[:-1], 1)
    weights = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    return torch.matmul(weights.to(value.dtype), value[:, :, None]).view(1, heads, rows, size)
