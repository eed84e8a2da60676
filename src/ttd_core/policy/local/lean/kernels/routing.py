"""Triton kernels that choose experts, and sort assignments by expert without a word from the host.

Each assignment takes a number within its expert from a counter; where each expert begins then follows from
the counts. So the order within an expert is not that of the tokens, which changes no result: a row of a
product does not depend on the rows beside it. Launched by :mod:`.triton_expert_ops`.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

#: Below every logit that a router may have.
LEAST: tl.constexpr = tl.constexpr(-3.0e38)


@triton.jit
def choose_experts(
    logits,
    given,
    experts,
    shares,
    counts,
    numbers,
    row_stride,
    EXPERTS: tl.constexpr,
    CHOICES: tl.constexpr,
    BLOCK_EXPERTS: tl.constexpr,
    BLOCK_CHOICES: tl.constexpr,
    NORMALISED: tl.constexpr,
    GIVEN: tl.constexpr,
):
    """One program a token: its experts, their shares, and the number of each assignment in its expert."""
    token = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, BLOCK_EXPERTS)
    x = tl.load(logits + token * row_stride + expert, mask=expert < EXPERTS, other=float("-inf"))
    x = x.to(tl.float32)
    choice = tl.arange(0, BLOCK_CHOICES)
    inside = choice < CHOICES
    chosen = tl.zeros([BLOCK_CHOICES], tl.int32)
    if GIVEN:
        chosen = tl.load(given + token * CHOICES + choice, mask=inside, other=0).to(tl.int32)
    values = tl.full([BLOCK_CHOICES], float("-inf"), tl.float32)
    # Idle rows hold anything, no numbers too; each must still choose an expert that there is.
    left = tl.where((expert < EXPERTS) & ~(x >= LEAST), LEAST, x)
    for index in tl.static_range(CHOICES):
        if GIVEN:
            best = tl.sum(tl.where(choice == index, chosen, 0), 0)
        else:
            best = tl.argmax(left, 0).to(tl.int32)
            chosen = tl.where(choice == index, best, chosen)
        values = tl.where(choice == index, tl.sum(tl.where(expert == best, x, 0.0), 0), values)
        left = tl.where(expert == best, float("-inf"), left)
    if NORMALISED:
        weights = tl.exp(values - tl.max(values, 0))
        share = weights / tl.sum(weights, 0)
    else:
        peak = tl.max(x, 0)
        share = tl.exp(values - peak) / tl.sum(tl.exp(x - peak), 0)
    tl.store(experts + token * CHOICES + choice, chosen, mask=inside)
    tl.store(shares + token * CHOICES + choice, share, mask=inside)
    number = tl.atomic_add(counts + chosen, 1, mask=inside)
    tl.store(numbers + token * CHOICES + choice, number, mask=inside)


@triton.jit
def plan_tiles(
    counts,
    offsets,
    tile_experts,
    tile_starts,
    tiles,
    EXPERTS: tl.constexpr,
    BLOCK_EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program BLOCK tiles: which expert each serves (-1: none) and where it begins."""
    expert = tl.arange(0, BLOCK_EXPERTS)
    count = tl.load(counts + expert, mask=expert < EXPERTS, other=0)
    ends = tl.cumsum(count, 0)
    own_tiles = (count + ROWS - 1) // ROWS
    tile_ends = tl.cumsum(own_tiles, 0)
    tile = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    past = tile_ends[None, :] <= tile[:, None]
    found = tl.sum(past.to(tl.int32), 1)
    first_tile = tl.sum(tl.where(past, own_tiles[None, :], 0), 1)
    start = tl.sum(tl.where(past, count[None, :], 0), 1) + (tile - first_tile) * ROWS
    # Experts without assignments end where the one before ends, so none of them is found.
    tl.store(tile_experts + tile, tl.where(found < EXPERTS, found, -1), mask=tile < tiles)
    tl.store(tile_starts + tile, start, mask=tile < tiles)
    if tl.program_id(0) == 0:
        tl.store(offsets + expert, ends - count, mask=expert < EXPERTS)
        tl.store(offsets + EXPERTS, tl.sum(count, 0))


@triton.jit
def place_assignments(experts, numbers, offsets, order, places, assignments, BLOCK: tl.constexpr):
    """One program BLOCK assignments: the place of each, and the assignment at each place."""
    assignment = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = assignment < assignments
    expert = tl.load(experts + assignment, mask=inside, other=0)
    place = tl.load(offsets + expert, mask=inside, other=0)
    place += tl.load(numbers + assignment, mask=inside, other=0)
    tl.store(places + assignment, place, mask=inside)
    tl.store(order + place, assignment, mask=inside)
