"""The steps of training as Triton kernels; see :mod:`.reference_training` for what each computes."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.kernels import backward, sampling
from ttd_core.policy.local.lean.kernels.triton_ops import VOCABULARY_BLOCK, add_norm, gated

__all__ = [
    "add_norm",
    "add_norm_backward",
    "chosen",
    "gated",
    "gated_backward",
    "rotate",
    "rotate_backward",
]


def add_norm_backward(
    total: Tensor, weight: Tensor, eps: float, grad_total: Tensor | None, grad_normed: Tensor
) -> Tensor:
    """See the reference."""
    tokens, size = total.shape
    grad = torch.empty_like(total)
    block = triton.next_power_of_2(size)
    backward.add_norm_backward[(tokens,)](
        total,
        weight,
        total if grad_total is None else grad_total,
        grad_normed,
        grad,
        eps,
        grad_normed.stride(0),
        SIZE=size,
        BLOCK=block,
        ADD=grad_total is not None,
        num_warps=max(1, min(8, block // 512)),
    )
    return grad


def rotate(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    heads: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """See the reference."""
    tokens, size = cos.shape
    query = qkv.new_empty(tokens, heads[0], size)
    key = qkv.new_empty(tokens, heads[1], size)
    query_weight, key_weight = norms if norms is not None else (qkv, qkv)
    backward.rotate[(tokens,)](
        qkv,
        cos,
        sin,
        query_weight,
        key_weight,
        query,
        key,
        eps,
        qkv.stride(0),
        **_head_blocks(heads, size),
        NORM=norms is not None,
    )
    return query, key


def rotate_backward(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    heads: tuple[int, int],
    grads: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """See the reference."""
    tokens, size = cos.shape
    grad = qkv.new_empty(tokens, (heads[0] + 2 * heads[1]) * size)
    query_weight, key_weight = norms if norms is not None else (qkv, qkv)
    query, key, value = (part.contiguous() for part in grads)
    backward.rotate_backward[(tokens,)](
        qkv,
        cos,
        sin,
        query_weight,
        key_weight,
        query,
        key,
        value,
        grad,
        eps,
        qkv.stride(0),
        **_head_blocks(heads, size),
        NORM=norms is not None,
    )
    return grad


def gated_backward(gate_and_up: Tensor, grad: Tensor) -> Tensor:
    """See the reference."""
    tokens, both = gate_and_up.shape
    found = gate_and_up.new_empty(tokens, both)
    block = 1024
    backward.gated_backward[(tokens, triton.cdiv(both // 2, block))](
        gate_and_up, grad.contiguous(), found, gate_and_up.stride(0), SIZE=both // 2, BLOCK=block
    )
    return found


def chosen(logits: Tensor, targets: Tensor, temperature: Tensor, pull: bool) -> Tensor:
    """See the reference."""
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, VOCABULARY_BLOCK)
    tops = torch.empty((rows, blocks), dtype=torch.float32, device=logits.device)
    totals = torch.empty_like(tops)
    sampling.block_totals[(rows, blocks)](
        logits, temperature, tops, totals, vocabulary, blocks, BLOCK=VOCABULARY_BLOCK, num_warps=8
    )
    normalisers = (tops + totals.log()).logsumexp(-1)
    found = logits.gather(1, targets[:, None])[:, 0].float() / temperature - normalisers
    if pull:
        backward.pulls[(rows, blocks)](
            logits, targets, normalisers, temperature, vocabulary, BLOCK=VOCABULARY_BLOCK, num_warps=8
        )
    return found


def _head_blocks(heads: tuple[int, int], size: int) -> dict[str, int]:
    return {
        "HEADS": heads[0],
        "KV_HEADS": heads[1],
        "BLOCK_HEADS": triton.next_power_of_2(heads[0]),
        "BLOCK_KV": triton.next_power_of_2(heads[1]),
        "HALF": size // 2,
    }
