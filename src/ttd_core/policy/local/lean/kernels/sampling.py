"""Triton kernels that sample tokens by the inverse of the cumulative distribution; see :mod:`.triton_ops`.

The logits are read once, block by block; only the block in which the random number falls is read again.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_totals(logits, temperature, peaks, totals, vocabulary, blocks, BLOCK: tl.constexpr):
    """One program a row and block: the block's largest logit, and its sum of exponentials over that."""
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    entry = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * vocabulary + entry, mask=entry < vocabulary, other=float("-inf")).to(
        tl.float32
    )
    x = x / tl.load(temperature)
    peak = tl.max(x, 0)
    tl.store(peaks + row * blocks + block, peak)
    tl.store(totals + row * blocks + block, tl.sum(tl.exp(x - peak), 0))


@triton.jit
def sample(
    logits,
    temperature,
    peaks,
    totals,
    uniforms,
    forced_tokens,
    end_tokens,
    step,
    new_tokens,
    new_logprobs,
    own_lengths,
    next_input,
    remaining,
    vocabulary,
    blocks,
    MAX_STEPS: tl.constexpr,
    END_TOKENS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a row: find the block, then the token in it; then move the row on.

    ``peaks`` and ``totals`` are of :func:`block_totals`; the other pointers are a ``DecodeState``'s tensors.
    """
    row = tl.program_id(0).to(tl.int64)
    now = tl.load(step)
    block_index = tl.arange(0, BLOCKS)
    block_peaks = tl.load(peaks + row * blocks + block_index, mask=block_index < blocks, other=float("-inf"))
    peak = tl.max(block_peaks, 0)
    block_sums = tl.load(totals + row * blocks + block_index, mask=block_index < blocks, other=0.0)
    masses = block_sums * tl.exp(block_peaks - peak)
    total = tl.sum(masses, 0)
    threshold = tl.load(uniforms + row * MAX_STEPS + now) * total
    cumulative = tl.cumsum(masses, 0)
    # Rounding may leave the threshold beyond the last sum: then the last block with any mass is meant.
    block = tl.minimum(
        tl.sum((cumulative <= threshold).to(tl.int32), 0), tl.max(tl.where(masses > 0, block_index, 0), 0)
    )
    before = tl.sum(tl.where(block_index < block, masses, 0.0), 0)

    offset = tl.arange(0, BLOCK)
    entry = block * BLOCK + offset
    x = tl.load(logits + row * vocabulary + entry, mask=entry < vocabulary, other=float("-inf")).to(
        tl.float32
    )
    x = x / tl.load(temperature)
    weights = tl.exp(x - peak)
    in_block = tl.cumsum(weights, 0)
    index = tl.minimum(
        tl.sum((in_block <= threshold - before).to(tl.int32), 0),
        tl.max(tl.where(weights > 0, offset, 0), 0),
    )
    logprob = tl.sum(tl.where(offset == index, x, 0.0), 0) - peak - tl.log(total)
    forced = tl.load(forced_tokens + row * MAX_STEPS + now)
    token = tl.where(forced >= 0, forced, block * BLOCK + index)
    tl.store(new_tokens + row * MAX_STEPS + now, token)
    tl.store(new_logprobs + row * MAX_STEPS + now, logprob)

    ends = tl.full([], 0, tl.int32)
    for position in tl.static_range(END_TOKENS):
        ends += (tl.load(end_tokens + position) == token).to(tl.int32)
    ended = (forced < 0) & (ends > 0)
    left = tl.load(remaining + row)
    running = left > 0
    tl.store(own_lengths + row, tl.load(own_lengths + row) + running.to(tl.int32))
    tl.store(next_input + row, tl.where(running, token.to(tl.int64), tl.load(next_input + row)))
    tl.store(remaining + row, tl.where(running & (ended == 0), left - 1, 0))
