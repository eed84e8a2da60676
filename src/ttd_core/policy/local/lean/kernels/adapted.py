"""Triton kernels that add the adapters' second product to a projection where it is read next.

A projection's product holds ``W x`` and ``A x`` side by side; ``B (A x)`` is still missing. Added by a
product of its own it costs a launch, and the whole result is read and written once more. Here each kernel
adds it to its tile of the result, in float32, and rounds once, as that product would. Launched by
:mod:`.triton_ops`.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _added(
    value,
    hidden,
    lora_b,
    first,
    count,
    column,
    inside,
    token_inside,
    b_stride,
    K: tl.constexpr,
):
    """A tile of ``W x`` with its rows ``first`` to ``first + count`` of the adapters added, rounded.

    :param value: [tokens, columns], loaded.
    :param hidden: pointers [tokens, 1] to the tokens' first entry of ``A x``.
    :param column: [columns] of the projection's result, ``inside`` which are there.
    """
    rank = tl.arange(0, K)
    used = rank < count
    a = tl.load(hidden + first + rank[None, :], mask=token_inside[:, None] & used[None, :], other=0.0)
    b = tl.load(
        lora_b + (first + rank[:, None]) * b_stride + column[None, :],
        mask=used[:, None] & inside[None, :],
        other=0.0,
    )
    return (value.to(tl.float32) + tl.dot(a, b, input_precision="ieee")).to(value.dtype)


@triton.jit
def _normed(low, high, is_query, query_weight, key_weight, column, eps, HALF: tl.constexpr):
    """Both halves of a head of some tokens with the norm of queries or of keys, rounded where it rounds."""
    low_weight = tl.where(is_query, tl.load(query_weight + column), tl.load(key_weight + column))
    column += HALF
    high_weight = tl.where(is_query, tl.load(query_weight + column), tl.load(key_weight + column))
    wide_low, wide_high = low.to(tl.float32), high.to(tl.float32)
    square = tl.sum(wide_low * wide_low, 1) + tl.sum(wide_high * wide_high, 1)
    scale = (1.0 / tl.sqrt(square / (2 * HALF) + eps))[:, None]
    low = low_weight[None, :] * (wide_low * scale).to(low.dtype)
    high = high_weight[None, :] * (wide_high * scale).to(high.dtype)
    return low, high


@triton.jit
def _both_halves(start, mask, HALF: tl.constexpr):
    return tl.load(start, mask=mask, other=0.0), tl.load(start + HALF, mask=mask, other=0.0)


@triton.jit
def swiglu(
    product,
    lora_b,
    output,
    tokens,
    row_stride,
    b_stride,
    gate_rank,
    up_rank,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
    K: tl.constexpr,
):
    """One program for some tokens and a block of columns: both adapters' parts added, then SwiGLU."""
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token_inside, inside = token < tokens, column < SIZE
    both = token_inside[:, None] & inside[None, :]
    row = product + token[:, None] * row_stride
    hidden = row + 2 * SIZE
    gate = tl.load(row + column[None, :], mask=both, other=0.0)
    up = tl.load(row + SIZE + column[None, :], mask=both, other=0.0)
    gate = _added(gate, hidden, lora_b, 0, gate_rank, column, inside, token_inside, b_stride, K)
    up = _added(up, hidden, lora_b, gate_rank, up_rank, SIZE + column, inside, token_inside, b_stride, K)
    wide = gate.to(tl.float32)
    silu = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype)
    tl.store(output + token[:, None] * SIZE + column[None, :], silu * up, mask=both)


@triton.jit
def rotate_and_store(
    product,
    lora_b,
    cos,
    sin,
    query_weight,
    key_weight,
    keys,
    values,
    slots,
    eps,
    tokens,
    row_stride,
    b_stride,
    page_stride,
    query_rank,
    key_rank,
    value_rank,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PAGE: tl.constexpr,
    NORM: tl.constexpr,
    TOKENS: tl.constexpr,
    K: tl.constexpr,
):
    """One program for some tokens and one head: adapter added, normed (with NORM), rotated, stored.

    Queries, keys and values are stored in place; keys and values in their pages too.
    """
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)).to(tl.int64)
    head = tl.program_id(1)
    column = tl.arange(0, HALF)
    token_inside = token < tokens
    inside = column < HALF
    mask = token_inside[:, None] & inside[None, :]
    is_query, is_value = head < HEADS, head >= HEADS + KV_HEADS
    first = tl.where(is_query, 0, tl.where(is_value, query_rank + key_rank, query_rank))
    count = tl.where(is_query, query_rank, tl.where(is_value, value_rank, key_rank))

    row = product + token[:, None] * row_stride
    hidden = row + (HEADS + 2 * KV_HEADS) * 2 * HALF
    start = head * 2 * HALF + column
    low = tl.load(row + start[None, :], mask=mask, other=0.0)
    high = tl.load(row + HALF + start[None, :], mask=mask, other=0.0)
    low = _added(low, hidden, lora_b, first, count, start, inside, token_inside, b_stride, K)
    high = _added(high, hidden, lora_b, first, count, HALF + start, inside, token_inside, b_stride, K)
    if is_value == 0:
        if NORM:
            low, high = _normed(low, high, is_query, query_weight, key_weight, column, eps, HALF)
        angle = token[:, None] * 2 * HALF + column[None, :]
        cos_low, cos_high = _both_halves(cos + angle, mask, HALF)
        sin_low, sin_high = _both_halves(sin + angle, mask, HALF)
        new_low = low * cos_low - high * sin_low
        high = high * cos_high + low * sin_high
        low = new_low
    tl.store(row + start[None, :], low, mask=mask)
    tl.store(row + HALF + start[None, :], high, mask=mask)
    if head >= HEADS:
        slot = tl.load(slots + token, mask=token_inside, other=0)
        kv_head = tl.where(is_value, head - HEADS - KV_HEADS, head - HEADS)
        target = (slot // PAGE) * page_stride + (kv_head * PAGE + slot % PAGE) * 2 * HALF
        target = target[:, None] + column[None, :]
        if is_value:
            tl.store(values + target, low, mask=mask)
            tl.store(values + HALF + target, high, mask=mask)
        else:
            tl.store(keys + target, low, mask=mask)
            tl.store(keys + HALF + target, high, mask=mask)
