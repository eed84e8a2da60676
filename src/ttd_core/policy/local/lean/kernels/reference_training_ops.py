"""The steps of training in plain torch; gradients are torch's own, of the forward step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ttd_core.policy.local.lean.kernels.reference_ops import add_norm, gated, rms, rotate_half

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
    """Gradient by the sum that :func:`add_norm` normed.

    :param grad_total: gradient by the residual stream it returned; ``None`` is zero.
    """
    (grad,) = _gradients(lambda x: (rms(x, weight, eps),), [total], [grad_normed])
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
    """
    parts = qkv.view(len(qkv), -1, cos.shape[1])
    query, key = parts[:, : heads[0]], parts[:, heads[0] : heads[0] + heads[1]]
    if norms is not None:
        query, key = rms(query, norms[0], eps), rms(key, norms[1], eps)
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
    """Gradient by ``qkv`` of queries, keys and values."""
    (grad,) = _gradients(lambda x: rotate(x, cos, sin, norms, eps, heads), [qkv], grads[:2])
    grad = grad.view(len(qkv), -1, cos.shape[1])
    grad[:, heads[0] + heads[1] :] = grads[2]
    return grad.flatten(1)


def gated_backward(gate_and_up: Tensor, grad: Tensor) -> Tensor:
    """Gradient by both halves, side by side."""
    (found,) = _gradients(lambda x: (gated(x),), [gate_and_up], [grad])
    return found


def chosen(logits: Tensor, targets: Tensor, temperature: Tensor, pull: bool) -> Tensor:
    """float32 [rows]: log softmax(logits / temperature) at ``targets``.

    :param logits: [rows, vocabulary]; with ``pull`` they become the derivative of the result by them.
    :param temperature: float32 [1].
    """
    logprobs = (logits.float() / temperature).log_softmax(-1)
    found = logprobs.gather(1, targets[:, None])[:, 0]
    if pull:
        derivative = -logprobs.exp()
        derivative.scatter_add_(1, targets[:, None], torch.ones_like(found)[:, None])
        logits.copy_(derivative / temperature)
    return found


def _gradients(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        fresh = [x.detach().requires_grad_() for x in inputs]
        return torch.autograd.grad(function(*fresh), fresh, list(grads))
