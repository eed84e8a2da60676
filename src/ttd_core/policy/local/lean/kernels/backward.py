"""Triton kernels of training: rotation without storing, and the gradients of the operations of one pass.

Launched by :mod:`.triton_training_ops`. Sums are taken in float32; results are rounded once.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from ttd_core.policy.local.lean.kernels.pointwise import norm_and_rotate


@triton.jit
def add_norm_backward(
    total,
    weight,
    grad_total,
    grad_normed,
    grad,
    eps,
    normed_stride,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
):
    """One program a token: the gradient of what went into the norm, plus (with ADD) the residual stream's."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    x = tl.load(total + token * SIZE + column, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(grad_normed + token * normed_stride + column, mask=inside, other=0.0).to(tl.float32)
    upstream *= tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 0) / SIZE + eps)
    result = scale * upstream - x * (scale * scale * scale * (tl.sum(x * upstream, 0) / SIZE))
    if ADD:
        result += tl.load(grad_total + token * SIZE + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad + token * SIZE + column, result.to(grad.dtype.element_ty), mask=inside)


@triton.jit
def rotate(
    qkv,
    cos,
    sin,
    query_weight,
    key_weight,
    query,
    key,
    eps,
    row_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_KV: tl.constexpr,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    """One program a token: queries and keys, normed where the model does and rotated."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF)
    cos += token * 2 * HALF
    sin += token * 2 * HALF
    row = qkv + token * row_stride
    head = tl.arange(0, BLOCK_HEADS)
    inside = (head < HEADS)[:, None] & (column >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + column[None, :]
    low, high = norm_and_rotate(row + offset, inside, column, query_weight, cos, sin, eps, HALF, NORM)
    tl.store(query + token * HEADS * 2 * HALF + offset, low, mask=inside)
    tl.store(query + token * HEADS * 2 * HALF + offset + HALF, high, mask=inside)
    head = tl.arange(0, BLOCK_KV)
    inside = (head < KV_HEADS)[:, None] & (column >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + column[None, :]
    row += HEADS * 2 * HALF
    low, high = norm_and_rotate(row + offset, inside, column, key_weight, cos, sin, eps, HALF, NORM)
    tl.store(key + token * KV_HEADS * 2 * HALF + offset, low, mask=inside)
    tl.store(key + token * KV_HEADS * 2 * HALF + offset + HALF, high, mask=inside)


@triton.jit
def _norm_and_rotate_backward(
    base, upstream, inside, column, weight, cos, sin, eps, HALF: tl.constexpr, NORM: tl.constexpr
):
    """Gradient of both halves of some heads before norm and rotation: float32 [heads, HALF] each.

    ``base`` points to the heads, ``upstream`` to the gradients of what :func:`norm_and_rotate` made of them.
    """
    grad_low = tl.load(upstream, mask=inside, other=0.0).to(tl.float32)
    grad_high = tl.load(upstream + HALF, mask=inside, other=0.0).to(tl.float32)
    cos_low, cos_high = tl.load(cos + column)[None, :], tl.load(cos + HALF + column)[None, :]
    sin_low, sin_high = tl.load(sin + column)[None, :], tl.load(sin + HALF + column)[None, :]
    low = grad_low * cos_low + grad_high * sin_high
    high = grad_high * cos_high - grad_low * sin_low
    if NORM:
        low *= tl.load(weight + column)[None, :].to(tl.float32)
        high *= tl.load(weight + HALF + column)[None, :].to(tl.float32)
        x_low = tl.load(base, mask=inside, other=0.0).to(tl.float32)
        x_high = tl.load(base + HALF, mask=inside, other=0.0).to(tl.float32)
        square = tl.sum(x_low * x_low, 1) + tl.sum(x_high * x_high, 1)
        scale = 1.0 / tl.sqrt(square / (2 * HALF) + eps)
        product = (tl.sum(x_low * low, 1) + tl.sum(x_high * high, 1)) / (2 * HALF)
        along_x = (scale * scale * scale * product)[:, None]
        low = scale[:, None] * low - x_low * along_x
        high = scale[:, None] * high - x_high * along_x
    return low, high


@triton.jit
def rotate_backward(
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
    row_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_KV: tl.constexpr,
    HALF: tl.constexpr,
    NORM: tl.constexpr,
):
    """One program a token: the gradient of queries, keys and values side by side."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF)
    cos += token * 2 * HALF
    sin += token * 2 * HALF
    row = qkv + token * row_stride
    target = grad + token * (HEADS + 2 * KV_HEADS) * 2 * HALF
    dtype = grad.dtype.element_ty

    head = tl.arange(0, BLOCK_HEADS)
    inside = (head < HEADS)[:, None] & (column >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + column[None, :]
    upstream = grad_query + token * HEADS * 2 * HALF + offset
    low, high = _norm_and_rotate_backward(
        row + offset, upstream, inside, column, query_weight, cos, sin, eps, HALF, NORM
    )
    tl.store(target + offset, low.to(dtype), mask=inside)
    tl.store(target + offset + HALF, high.to(dtype), mask=inside)

    head = tl.arange(0, BLOCK_KV)
    inside = (head < KV_HEADS)[:, None] & (column >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + column[None, :]
    upstream = grad_key + token * KV_HEADS * 2 * HALF + offset
    row += HEADS * 2 * HALF
    target += HEADS * 2 * HALF
    low, high = _norm_and_rotate_backward(
        row + offset, upstream, inside, column, key_weight, cos, sin, eps, HALF, NORM
    )
    tl.store(target + offset, low.to(dtype), mask=inside)
    tl.store(target + offset + HALF, high.to(dtype), mask=inside)
    target += KV_HEADS * 2 * HALF
    upstream = grad_value + token * KV_HEADS * 2 * HALF + offset
    tl.store(target + offset, tl.load(upstream, mask=inside, other=0.0), mask=inside)
    tl.store(target + offset + HALF, tl.load(upstream + HALF, mask=inside, other=0.0), mask=inside)


@triton.jit
def swiglu_backward(gate_and_up, grad_output, grad, row_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One program a token and block of columns: the gradient of gate and up, side by side."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < SIZE
    gate = tl.load(gate_and_up + token * row_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_and_up + token * row_stride + SIZE + column, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(grad_output + token * SIZE + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-gate))
    grad_gate = upstream * up * sigmoid * (1.0 + gate * (1.0 - sigmoid))
    grad_up = upstream * gate * sigmoid
    dtype = grad.dtype.element_ty
    tl.store(grad + token * 2 * SIZE + column, grad_gate.to(dtype), mask=inside)
    tl.store(grad + token * 2 * SIZE + SIZE + column, grad_up.to(dtype), mask=inside)


@triton.jit
def differentiate_logprobs(logits, targets, logsumexp, temperature, vocabulary, BLOCK: tl.constexpr):
    """One program a row and block: logits become the derivative of the target's log-probability by them."""
    row = tl.program_id(0).to(tl.int64)
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = entry < vocabulary
    t = tl.load(temperature)
    x = tl.load(logits + row * vocabulary + entry, mask=inside, other=0.0).to(tl.float32)
    is_target = (entry == tl.load(targets + row)).to(tl.float32)
    derivative = (is_target - tl.exp(x / t - tl.load(logsumexp + row))) / t
    tl.store(logits + row * vocabulary + entry, derivative.to(logits.dtype.element_ty), mask=inside)
