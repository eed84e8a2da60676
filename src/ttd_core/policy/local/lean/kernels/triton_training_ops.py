"""Training's operations as Triton kernels; :mod:`.reference_training_ops` says what each computes."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.kernels import backward
from ttd_core.policy.local.lean.kernels.triton_ops import VOCABULARY_BLOCK, add_norm, block_totals, swiglu

__all__ = [
    "add_norm",
    "add_norm_backward",
    "rotate",
    "rotate_backward",
    "swiglu",
    "swiglu_backward",
    "target_logprobs",
]


def add_norm_backward(
    total: Tensor, weight: Tensor, eps: float, grad_total: Tensor | None, grad_normed: Tensor
) -> Tensor:
    """See :func:`.reference_training_ops.add_norm_backward`."""
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
    """See :func:`.reference_training_ops.rotate`."""
    tokens, head_size = cos.shape
    query = qkv.new_empty(tokens, heads[0], head_size)
    key = qkv.new_empty(tokens, heads[1], head_size)
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
        **_head_blocks(heads, head_size),
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
    """See :func:`.reference_training_ops.rotate_backward`."""
    tokens, head_size = cos.shape
    grad = qkv.new_empty(tokens, (heads[0] + 2 * heads[1]) * head_size)
    query_weight, key_weight = norms if norms is not None else (qkv, qkv)
    grad_query, grad_key, grad_value = (part.contiguous() for part in grads)
    backward.rotate_backward[(tokens,)](
        qkv,
        cos,
        sin,
        query_weight,
        key_weight,
        grad_query,
        grad_key,
        grad_value,
        grad,
        eps,
        qkv.stride(0),
        **_head_blocks(heads, head_size),
        NORM=norms is not None,
    )
    return grad


def swiglu_backward(gate_and_up: Tensor, grad: Tensor) -> Tensor:
    """See :func:`.reference_training_ops.swiglu_backward`."""
    tokens, both = gate_and_up.shape
    grad_gate_and_up = gate_and_up.new_empty(tokens, both)
    block = 1024
    backward.swiglu_backward[(tokens, triton.cdiv(both // 2, block))](
        gate_and_up,
        grad.contiguous(),
        grad_gate_and_up,
        gate_and_up.stride(0),
        SIZE=both // 2,
        BLOCK=block,
    )
    return grad_gate_and_up


def target_logprobs(logits: Tensor, targets: Tensor, temperature: Tensor, differentiate: bool) -> Tensor:
    """See :func:`.reference_training_ops.target_logprobs`."""
    rows, vocabulary = logits.shape
    peaks, totals = block_totals(logits, temperature)
    logsumexp = (peaks + totals.log()).logsumexp(-1)
    at_targets = logits.gather(1, targets[:, None])[:, 0].float() / temperature - logsumexp
    if differentiate:
        backward.differentiate_logprobs[(rows, peaks.shape[1])](
            logits, targets, logsumexp, temperature, vocabulary, BLOCK=VOCABULARY_BLOCK, num_warps=8
        )
    return at_targets


def _head_blocks(heads: tuple[int, int], head_size: int) -> dict[str, int]:
    return {
        "HEADS": heads[0],
        "KV_HEADS": heads[1],
        "BLOCK_HEADS": triton.next_power_of_2(heads[0]),
        "BLOCK_KV": triton.next_power_of_2(heads[1]),
        "HALF": head_size // 2,
    }
