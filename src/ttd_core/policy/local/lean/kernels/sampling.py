"""Triton kernels that draw tokens by the inverse of the cumulative distribution. Launched by :mod:`.device`.

The logits are read once, block by block; only the block in which the random number falls is read again.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_totals(logits, temperature, tops, totals, vocabulary, blocks, BLOCK: tl.constexpr):
    """One program a row and block: the block's largest logit, and its sum of exponentials over that."""
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * vocabulary + place, mask=place < vocabulary, other=float("-inf")).to(
        tl.float32
    )
    x = x / tl.load(temperature)
    top = tl.max(x, 0)
    tl.store(tops + row * blocks + block, top)
    tl.store(totals + row * blocks + block, tl.sum(tl.exp(x - top), 0))


@triton.jit
def draw(
    logits,
    temperature,
    tops,
    totals,
    uniforms,
    forced,
    ends,
    step,
    tokens,
    logprobs,
    lengths,
    last,
    left,
    vocabulary,
    blocks,
    MAX_STEPS: tl.constexpr,
    ENDS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a row: find the block, then the token in it; then move the row on."""
    row = tl.program_id(0).to(tl.int64)
    now = tl.load(step)
    part = tl.arange(0, BLOCKS)
    block_tops = tl.load(tops + row * blocks + part, mask=part < blocks, other=float("-inf"))
    top = tl.max(block_tops, 0)
    masses = tl.load(totals + row * blocks + part, mask=part < blocks, other=0.0) * tl.exp(block_tops - top)
    total = tl.sum(masses, 0)
    mark = tl.load(uniforms + row * MAX_STEPS + now) * total
    sums = tl.cumsum(masses, 0)
    # Rounding may leave the mark beyond the last sum: then the last block with any mass is meant.
    block = tl.minimum(tl.sum((sums <= mark).to(tl.int32), 0), tl.max(tl.where(masses > 0, part, 0), 0))
    before = tl.sum(tl.where(part < block, masses, 0.0), 0)

    place = tl.arange(0, BLOCK)
    where = block * BLOCK + place
    x = tl.load(logits + row * vocabulary + where, mask=where < vocabulary, other=float("-inf")).to(
        tl.float32
    )
    x = x / tl.load(temperature)
    chances = tl.exp(x - top)
    inner = tl.cumsum(chances, 0)
    index = tl.minimum(
        tl.sum((inner <= mark - before).to(tl.int32), 0), tl.max(tl.where(chances > 0, place, 0), 0)
    )
    logprob = tl.sum(tl.where(place == index, x, 0.0), 0) - top - tl.log(total)
    must = tl.load(forced + row * MAX_STEPS + now)
    token = tl.where(must >= 0, must, block * BLOCK + index)
    tl.store(tokens + row * MAX_STEPS + now, token)
    tl.store(logprobs + row * MAX_STEPS + now, logprob)

    ended = must < 0
    end = tl.full([], 0, tl.int32)
    for position in tl.static_range(ENDS):
        end += (tl.load(ends + position) == token).to(tl.int32)
    ended = ended & (end > 0)
    remaining = tl.load(left + row)
    running = remaining > 0
    tl.store(lengths + row, tl.load(lengths + row) + running.to(tl.int32))
    tl.store(last + row, tl.where(running, token.to(tl.int64), tl.load(last + row)))
    tl.store(left + row, tl.where(running & (ended == 0), remaining - 1, 0))
