"""Triton kernels of one pass over the tokens: norms, rotation, SwiGLU. Launched by :mod:`.triton_ops`."""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_norm(
    residual,
    update,
    weight,
    total,
    normed,
    eps,
    update_stride,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
):
    """One program a token. Sums and norms are rounded to the model's dtype where the model rounds them."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    x = tl.load(residual + token * SIZE + column, mask=inside, other=0.0)
    if ADD:
        x += tl.load(update + token * update_stride + column, mask=inside, other=0.0)
        tl.store(total + token * SIZE + column, x, mask=inside)
    wide = x.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / SIZE + eps)
    weights = tl.load(weight + column, mask=inside, other=0.0)
    tl.store(normed + token * SIZE + column, weights * (wide * scale).to(x.dtype), mask=inside)


@triton.jit
def norm_and_rotate(base, inside, column, weight, cos, sin, eps, HALF: tl.constexpr, NORM: tl.constexpr):
    """Both halves of some heads of one token, normed (with NORM) and rotated: [heads, HALF] each.

    ``base`` points to the first halves, ``column`` is ``arange(HALF)``, and ``inside`` masks absent heads.
    """
    low = tl.load(base, mask=inside, other=0.0)
    high = tl.load(base + HALF, mask=inside, other=0.0)
    if NORM:
        wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
        square = tl.sum(wide_low * wide_low, 1) + tl.sum(wide_high * wide_high, 1)
        scale = (1.0 / tl.sqrt(square / (2 * HALF) + eps))[:, None]
        low = tl.load(weight + column)[None, :] * (wide_low * scale).to(low.dtype)
        high = tl.load(weight + HALF + column)[None, :] * (wide_high * scale).to(high.dtype)
    new_low = low * tl.load(cos + column)[None, :] - high * tl.load(sin + column)[None, :]
    new_high = high * tl.load(cos + HALF + column)[None, :] + low * tl.load(sin + HALF + column)[None, :]
    return new_low, new_high


@triton.jit
def rotate_and_store(
    qkv,
    cos,
    sin,
    query_weight,
    key_weight,
    keys,
    values,
    slots,
    eps,
    row_stride,
    page_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_KV: tl.constexpr,
    HALF: tl.constexpr,
    PAGE: tl.constexpr,
    NORM: tl.constexpr,
):
    """One program a token: rotate queries and keys in place, and store keys and values in their page."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, HALF)
    cos += token * 2 * HALF
    sin += token * 2 * HALF
    row = qkv + token * row_stride

    head = tl.arange(0, BLOCK_HEADS)
    base = row + head[:, None] * 2 * HALF + column[None, :]
    inside = (head < HEADS)[:, None] & (column >= 0)[None, :]
    low, high = norm_and_rotate(base, inside, column, query_weight, cos, sin, eps, HALF, NORM)
    tl.store(base, low, mask=inside)
    tl.store(base + HALF, high, mask=inside)

    slot = tl.load(slots + token)
    head = tl.arange(0, BLOCK_KV)
    inside = (head < KV_HEADS)[:, None] & (column >= 0)[None, :]
    target = (slot // PAGE) * page_stride + (head[:, None] * PAGE + slot % PAGE) * 2 * HALF + column[None, :]
    base = row + (HEADS + head[:, None]) * 2 * HALF + column[None, :]
    low, high = norm_and_rotate(base, inside, column, key_weight, cos, sin, eps, HALF, NORM)
    tl.store(base, low, mask=inside)
    tl.store(base + HALF, high, mask=inside)
    tl.store(keys + target, low, mask=inside)
    tl.store(keys + target + HALF, high, mask=inside)
    base += KV_HEADS * 2 * HALF
    tl.store(values + target, tl.load(base, mask=inside, other=0.0), mask=inside)
    tl.store(values + target + HALF, tl.load(base + HALF, mask=inside, other=0.0), mask=inside)


@triton.jit
def swiglu(gate_and_up, output, row_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One program a token and block of columns."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < SIZE
    gate = tl.load(gate_and_up + token * row_stride + column, mask=inside, other=0.0)
    up = tl.load(gate_and_up + token * row_stride + SIZE + column, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
    tl.store(output + token * SIZE + column, silu * up, mask=inside)
