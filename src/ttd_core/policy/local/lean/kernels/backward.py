"""Triton kernels of training: rotation without storing, and the gradients of the steps of one pass.

Launched by :mod:`.device_training`. Sums are taken in float32; results are rounded once.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from ttd_core.policy.local.lean.kernels.pointwise import turned


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
    """One program a token: the gradient of what went into the norm, plus the residual stream's own."""
    token = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    inside = place < SIZE
    x = tl.load(total + token * SIZE + place, mask=inside, other=0.0).to(tl.float32)
    given = tl.load(grad_normed + token * normed_stride + place, mask=inside, other=0.0).to(tl.float32)
    given *= tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, 0) / SIZE + eps)
    found = scale * given - x * (scale * scale * scale * (tl.sum(x * given, 0) / SIZE))
    if ADD:
        found += tl.load(grad_total + token * SIZE + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad + token * SIZE + place, found.to(grad.dtype.element_ty), mask=inside)


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
    place = tl.arange(0, HALF)
    cos += token * 2 * HALF
    sin += token * 2 * HALF
    line = qkv + token * row_stride
    head = tl.arange(0, BLOCK_HEADS)
    inside = (head < HEADS)[:, None] & (place >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + place[None, :]
    low, high = turned(line + offset, inside, place, query_weight, cos, sin, eps, HALF, NORM)
    tl.store(query + token * HEADS * 2 * HALF + offset, low, mask=inside)
    tl.store(query + token * HEADS * 2 * HALF + offset + HALF, high, mask=inside)
    head = tl.arange(0, BLOCK_KV)
    inside = (head < KV_HEADS)[:, None] & (place >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + place[None, :]
    low, high = turned(line + HEADS * 2 * HALF + offset, inside, place, key_weight, cos, sin, eps, HALF, NORM)
    tl.store(key + token * KV_HEADS * 2 * HALF + offset, low, mask=inside)
    tl.store(key + token * KV_HEADS * 2 * HALF + offset + HALF, high, mask=inside)


@triton.jit
def _unturned(base, given, inside, place, weight, cos, sin, eps, HALF: tl.constexpr, NORM: tl.constexpr):
    """Gradient of both halves of some heads before norm and rotation: float32 [heads, HALF] each."""
    from_low = tl.load(given, mask=inside, other=0.0).to(tl.float32)
    from_high = tl.load(given + HALF, mask=inside, other=0.0).to(tl.float32)
    cos_low, cos_high = tl.load(cos + place)[None, :], tl.load(cos + HALF + place)[None, :]
    sin_low, sin_high = tl.load(sin + place)[None, :], tl.load(sin + HALF + place)[None, :]
    low = from_low * cos_low + from_high * sin_high
    high = from_high * cos_high - from_low * sin_low
    if NORM:
        low *= tl.load(weight + place)[None, :].to(tl.float32)
        high *= tl.load(weight + HALF + place)[None, :].to(tl.float32)
        x_low = tl.load(base, mask=inside, other=0.0).to(tl.float32)
        x_high = tl.load(base + HALF, mask=inside, other=0.0).to(tl.float32)
        square = tl.sum(x_low * x_low, 1) + tl.sum(x_high * x_high, 1)
        scale = 1.0 / tl.sqrt(square / (2 * HALF) + eps)
        product = (tl.sum(x_low * low, 1) + tl.sum(x_high * high, 1)) / (2 * HALF)
        pull = (scale * scale * scale * product)[:, None]
        low = scale[:, None] * low - x_low * pull
        high = scale[:, None] * high - x_high * pull
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
    place = tl.arange(0, HALF)
    cos += token * 2 * HALF
    sin += token * 2 * HALF
    line = qkv + token * row_stride
    target = grad + token * (HEADS + 2 * KV_HEADS) * 2 * HALF
    kind = grad.dtype.element_ty

    head = tl.arange(0, BLOCK_HEADS)
    inside = (head < HEADS)[:, None] & (place >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + place[None, :]
    given = grad_query + token * HEADS * 2 * HALF + offset
    low, high = _unturned(line + offset, given, inside, place, query_weight, cos, sin, eps, HALF, NORM)
    tl.store(target + offset, low.to(kind), mask=inside)
    tl.store(target + offset + HALF, high.to(kind), mask=inside)

    head = tl.arange(0, BLOCK_KV)
    inside = (head < KV_HEADS)[:, None] & (place >= 0)[None, :]
    offset = head[:, None] * 2 * HALF + place[None, :]
    given = grad_key + token * KV_HEADS * 2 * HALF + offset
    line += HEADS * 2 * HALF
    target += HEADS * 2 * HALF
    low, high = _unturned(line + offset, given, inside, place, key_weight, cos, sin, eps, HALF, NORM)
    tl.store(target + offset, low.to(kind), mask=inside)
    tl.store(target + offset + HALF, high.to(kind), mask=inside)
    target += KV_HEADS * 2 * HALF
    given = grad_value + token * KV_HEADS * 2 * HALF + offset
    tl.store(target + offset, tl.load(given, mask=inside, other=0.0), mask=inside)
    tl.store(target + offset + HALF, tl.load(given + HALF, mask=inside, other=0.0), mask=inside)


@triton.jit
def gated_backward(both, given, grad, row_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One program a token and block."""
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < SIZE
    gate = tl.load(both + token * row_stride + place, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + token * row_stride + SIZE + place, mask=inside, other=0.0).to(tl.float32)
    from_above = tl.load(given + token * SIZE + place, mask=inside, other=0.0).to(tl.float32)
    chance = 1.0 / (1.0 + tl.exp(-gate))
    to_gate = from_above * up * chance * (1.0 + gate * (1.0 - chance))
    kind = grad.dtype.element_ty
    tl.store(grad + token * 2 * SIZE + place, to_gate.to(kind), mask=inside)
    tl.store(grad + token * 2 * SIZE + SIZE + place, (from_above * gate * chance).to(kind), mask=inside)


@triton.jit
def pulls(logits, targets, normalisers, temperature, vocabulary, BLOCK: tl.constexpr):
    """One program a row and block: logits become the derivative of the chosen log-probability by them."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < vocabulary
    heat = tl.load(temperature)
    x = tl.load(logits + row * vocabulary + place, mask=inside, other=0.0).to(tl.float32)
    chosen = (place == tl.load(targets + row)).to(tl.float32)
    found = (chosen - tl.exp(x / heat - tl.load(normalisers + row))) / heat
    tl.store(logits + row * vocabulary + place, found.to(logits.dtype.element_ty), mask=inside)
