"""Training's operations in plain torch; gradients are torch's own, of the forward operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ttd_core.policy.local.lean.kernels.reference_ops import add_norm, rms_norm, rotate_half, swiglu

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
    """Gradient with respect to the sum that :func:`add_norm` normed, [tokens, hidden size].

    :param total: the sum.
    :param grad_total: gradient with respect to the residual stream it returned; ``None`` is zero.
    :param grad_normed: gradient with respect to the normed stream it returned.
    """
    (grad,) = _gradients(lambda x: (rms_norm(x, weight, eps),), [total], [grad_normed])
    return grad if grad_total is None else grad + grad_total


def rotate(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    heads: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Queries [tokens, heads, head size] and keys, normed where the model does and rotated.

    :param qkv: [tokens, (heads + 2 kv heads) * head size].
    :param cos: [tokens, head size], of the rotary embedding; ``sin`` likewise.
    :param norms: weights [head size] of the queries' and keys' norms.
    :param heads: number of query heads and of key-value heads.
    """
    parts = qkv.view(len(qkv), -1, cos.shape[1])
    query, key = parts[:, : heads[0]], parts[:, heads[0] : heads[0] + heads[1]]
    if norms is not None:
        query, key = rms_norm(query, norms[0], eps), rms_norm(key, norms[1], eps)
    return (
        query * cos[:, None] + rotate_half(query) * sin[:, None],
        key * cos[:, None] + rotate_half(key) * sin[:, None],
    )


def rotate_backward(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    heads: tuple[int, int],
    grads: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Gradient with respect to ``qkv``, [tokens, (heads + 2 kv heads) * head size].

    :param grads: with respect to queries, keys and values, [tokens, heads, head size] each.
    """
    (grad,) = _gradients(lambda x: rotate(x, cos, sin, norms, eps, heads), [qkv], grads[:2])
    grad = grad.view(len(qkv), -1, cos.shape[1])
    grad[:, heads[0] + heads[1] :] = grads[2]
    return grad.flatten(1)


def swiglu_backward(gate_and_up: Tensor, grad: Tensor) -> Tensor:
    """Gradient with respect to gate and up, side by side: [tokens, 2 * size].

    :param grad: [tokens, size], with respect to what :func:`swiglu` returned.
    """
    (grad_gate_and_up,) = _gradients(lambda x: (swiglu(x),), [gate_and_up], [grad])
    return grad_gate_and_up


def target_logprobs(logits: Tensor, targets: Tensor, temperature: Tensor, differentiate: bool) -> Tensor:
    """float32 [rows]: log softmax(logits / temperature) at ``targets``.

    :param logits: [rows, vocabulary]; with ``differentiate`` they are overwritten by the derivative of the
        result with respect to them.
    :param targets: int64 [rows].
    :param temperature: float32 [1].
    """
    logprobs = (logits.float() / temperature).log_softmax(-1)
    at_targets = logprobs.gather(1, targets[:, None])[:, 0]
    if differentiate:
        derivative = -logprobs.exp()
        derivative.scatter_add_(1, targets[:, None], torch.ones_like(at_targets)[:, None])
        logits.copy_(derivative / temperature)
    return at_targets


def _gradients(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of ``function`` with respect to ``inputs``, given those with respect to what it returns."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*leaves), leaves, list(grads))
