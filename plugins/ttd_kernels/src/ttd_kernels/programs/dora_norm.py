"""Norms of the rows of W + s B A in one pass over W, without B A in memory.

A program takes some rows and a part of the columns. The rows of B stay with it; tile by tile, the tensor cores make
the product with A, which is added to W's tile, squared and summed in registers, so neither the product nor any
cancelling difference of sums exists. A is small and read from the L2 cache, once for each block of rows: blocks are
tall where the rank is high, and columns are split until every multiprocessor has its share.

The parts of a block's sums meet in memory: the program that comes last (a counter for each block of rows, zero
again afterwards) adds them in a fixed order and takes the root, so there is no second kernel.
"""

import functools

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction


@triton.jit
def row_norms(
    w_ptr, a_ptr, b_ptr, scale_ptr, out_ptr, part_ptr, count_ptr, M, N, r, each, splits,
    BM: tl.constexpr, BN: tl.constexpr, R: tl.constexpr, SPLITS: tl.constexpr, STAGES: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """BM rows by `each` columns, BN at a time. EVEN: no tile reaches beyond W, and R is the rank. SPLITS is a power
    of two that is not below `splits`."""
    split = tl.program_id(0) % splits
    block = tl.program_id(0) // splits
    i = block * BM + tl.arange(0, BM)
    k = tl.arange(0, R)
    j = tl.arange(0, BN)
    scale = tl.load(scale_ptr)
    b_at = b_ptr + i.to(tl.int64)[:, None] * r + k[None, :]
    rows = i.to(tl.int64)[:, None] * N
    if EVEN:
        b = tl.load(b_at)
    else:
        b = tl.load(b_at, mask=(i < M)[:, None] & (k < r)[None, :], other=0.0)
    total = tl.zeros([BM], tl.float32)
    end = tl.minimum(N, (split + 1) * each)
    for start in tl.range(split * each, end, BN, num_stages=STAGES):
        c = start + j
        a_at = a_ptr + k.to(tl.int64)[:, None] * N + c[None, :]
        w_at = w_ptr + rows + c[None, :]
        if EVEN:
            a = tl.load(a_at)
            w = tl.load(w_at)
        else:
            inside = (c < end)[None, :]
            a = tl.load(a_at, mask=(k < r)[:, None] & inside, other=0.0)
            w = tl.load(w_at, mask=(i < M)[:, None] & inside, other=0.0)
        value = tl.dot(b, a) * scale + w.to(tl.float32)
        total += tl.sum(value * value, 1)
    if SPLITS == 1:
        tl.store(out_ptr + i, tl.sqrt(total), mask=i < M)
    else:
        at = part_ptr + block * splits * BM + tl.arange(0, BM)
        tl.store(at + split * BM, total)
        # What all threads have stored is there for whoever sees the counter.
        tl.debug_barrier()
        before = tl.atomic_add(count_ptr + block, 1, sem="acq_rel", scope="gpu")
        tl.debug_barrier()
        if before == splits - 1:
            s = tl.arange(0, SPLITS)
            places = part_ptr + block * splits * BM + s[:, None] * BM + tl.arange(0, BM)[None, :]
            parts = tl.load(places, mask=(s < splits)[:, None], other=0.0, cache_modifier=".cg")
            tl.store(out_ptr + i, tl.sqrt(tl.sum(parts, 0)), mask=i < M)
            tl.atomic_xchg(count_ptr + block, 0, sem="relaxed", scope="gpu")


INTERPRETED = isinstance(row_norms, InterpretedFunction)

#: By the highest padded rank: rows and columns of a tile, stages, warps, programs on a multiprocessor.
PLANS = ((32, 64, 64, 4, 4, 4), (64, 128, 64, 4, 8, 2), (128, 256, 64, 3, 8, 1), (256, 128, 64, 3, 8, 1))
#: Ranks above that are added up in pieces by PyTorch.
HIGHEST = PLANS[-1][0]
MOST_SPLITS = 32


def plan_for(rank):
    """Rows and columns of a tile, stages, warps and programs on a multiprocessor, for a padded rank."""
    return next(plan[1:] for plan in PLANS if rank <= plan[0])


@functools.cache
def multiprocessors(device):
    """How many the device has."""
    return 2 if INTERPRETED else torch.cuda.get_device_properties(device).multi_processor_count


_SCRATCH = {}


def scratch(blocks, splits, rows, device):
    """Memory for the parts [blocks, splits, rows] and a counter for each block, kept from call to call.

    Parts are written before they are read; counters are zero between calls.
    """
    key = (blocks, splits, rows, device)
    if key not in _SCRATCH:
        _SCRATCH.clear()
        _SCRATCH[key] = (
            torch.empty(blocks * splits * rows, dtype=torch.float32, device=device),
            torch.zeros(blocks, dtype=torch.int32, device=device),
        )
    return _SCRATCH[key]


def custom_kernel(data):
    """float32 [M] of `data` = (w [M, N], a [r, N], b [M, r], scale [1])."""
    w, a, b, scale = (each.contiguous() for each in data)
    M, N = w.shape
    r = a.shape[0]
    rank = max(16, triton.next_power_of_2(r))
    if rank > HIGHEST:
        return torch.linalg.vector_norm(w.float() + scale * (b.float() @ a.float()), dim=1)
    BM, BN, stages, warps, resident = plan_for(rank)
    blocks = triton.cdiv(M, BM)
    # as many programs as the GPU holds at once, and never more splits than tiles
    tiles = triton.cdiv(N, BN)
    wanted = min(max(1, multiprocessors(w.device) * resident // blocks), tiles, MOST_SPLITS)
    each = triton.cdiv(tiles, wanted) * BN
    splits = triton.cdiv(N, each)
    parts, counts = scratch(blocks, splits, BM, w.device)
    out = torch.empty(M, dtype=torch.float32, device=w.device)
    row_norms[(blocks * splits,)](
        w, a, b, scale, out, parts, counts, M, N, r, each, splits,
        BM, BN, rank, triton.next_power_of_2(splits), stages, M % BM == 0 and N % BN == 0 and r == rank, num_warps=warps)  # fmt: skip
    return out
