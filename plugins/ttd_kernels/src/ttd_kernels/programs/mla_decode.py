"""Decode step of multi-head latent attention in its absorbed form: attention runs on the latent cache itself.

q_nope is multiplied by each head's key part of KV_proj_up, so every head attends over one shared latent of
kv_lora_rank values and qk_rope_head_dim rotated ones; the value part of KV_proj_up is applied to the attended
latent. The cache is then read as it lies and keys and values of the heads never exist.

On Hopper at the sizes of the task, `prepare` does all that comes before attention in a single launch: one after
another, small products leave the GPU waiting for the host, to which every launch is 20 to 90 us of work when its
code is cold.

`attend` handles HEADS heads of one sequence over the whole cache, with an online softmax, rotating the cached
keys tile by tile. The reference rounds positions, frequencies and angles to bfloat16 (off by up to 13.6 rad near
position 4,100), so the rotation follows the same roundings; its cos and sin are a table of positions, constants
of the task, made once per device and length.
"""

import functools
import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from reference import Config, KVCache  # noqa: F401
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.runtime.interpreter import InterpretedFunction

# Gluon's names until Triton 3.6 and from 3.7 (barrier) or 3.8 (copies) on, which in 3.9 are the only ones.
thread_barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
load_tile = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
store_tile = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global
load_elements = async_copy.async_load if hasattr(async_copy, "async_load") else async_copy.async_copy_global_to_shared

_ROTATIONS = {}


def rotations(length, dim, device):
    """cos and sin in bfloat16 for positions 0..length-1: [length, 2, dim // 2]."""
    key = (length, dim, device)
    if key not in _ROTATIONS:
        theta = (10000 ** (-torch.arange(0, dim // 2, dtype=torch.bfloat16) / (dim // 2))).to(device)
        angle = torch.arange(length, device=device)[:, None] * theta[None, :]
        _ROTATIONS[key] = torch.stack([angle.cos(), angle.sin()], dim=1).contiguous()
    return _ROTATIONS[key]


@triton.jit
def scores(qc, q1, q2, latent, k1, k2, cos, sin, OPERAND: tl.constexpr):
    """Logits [HEADS, TILE] of one tile of keys, the rope halves k1, k2 rotated first."""
    k1 = k1.to(tl.float32)
    k2 = k2.to(tl.float32)
    r1 = (k1 * cos - k2 * sin).to(tl.bfloat16).to(OPERAND)
    r2 = (k2 * cos + k1 * sin).to(tl.bfloat16).to(OPERAND)
    logits = tl.dot(qc, tl.trans(latent))
    logits = tl.dot(q1, tl.trans(r1), logits)
    return tl.dot(q2, tl.trans(r2), logits)


@triton.jit
def attend(
    qc_ptr, q_ptr, cache_ptr, turn_ptr, out_ptr, length, scale,
    qc_batch, qc_head, q_batch, q_head, cache_batch, out_batch, out_head,
    RANK: tl.constexpr, NOPE: tl.constexpr, HALF: tl.constexpr, GROUPS: tl.constexpr, HEADS: tl.constexpr,
    TILE: tl.constexpr, STAGES: tl.constexpr, STATIC: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """Attended latent [HEADS, RANK] of one sequence and group of heads; `scale` is in powers of two.

    STATIC and OPERAND are for the interpreter, which cannot loop to a run-time bound under NumPy 2.4 and whose
    dot multiplies the bit patterns of bfloat16: there they are the length once more and float32.
    """
    b = tl.program_id(0) // GROUPS
    heads = (tl.program_id(0) % GROUPS) * HEADS + tl.arange(0, HEADS)
    rank = tl.arange(0, RANK)
    half = tl.arange(0, HALF)
    rows = tl.arange(0, TILE)
    qc = tl.load(qc_ptr + b.to(tl.int64) * qc_batch + heads[:, None] * qc_head + rank[None, :]).to(OPERAND)
    rope = q_ptr + b.to(tl.int64) * q_batch + heads[:, None] * q_head + NOPE + half[None, :]
    x1 = tl.load(rope).to(tl.float32)
    x2 = tl.load(rope + HALF).to(tl.float32)
    turn = turn_ptr + (length - 1) * 2 * HALF + half
    cos = tl.load(turn).to(tl.float32)[None, :]
    sin = tl.load(turn + HALF).to(tl.float32)[None, :]
    q1 = (x1 * cos - x2 * sin).to(tl.bfloat16).to(OPERAND)
    q2 = (x2 * cos + x1 * sin).to(tl.bfloat16).to(OPERAND)

    peak = tl.full([HEADS], -float("inf"), tl.float32)
    mass = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, RANK], tl.float32)
    base = cache_ptr + b.to(tl.int64) * cache_batch
    for start in tl.range(0, STATIC if STATIC else length, TILE, num_stages=STAGES):
        row = start + rows
        live = (row < length)[:, None]
        line = base + row[:, None] * (RANK + 2 * HALF)
        latent = tl.load(line + rank[None, :], mask=live, other=0.0).to(OPERAND)
        k1 = tl.load(line + RANK + half[None, :], mask=live, other=0.0)
        k2 = tl.load(line + RANK + HALF + half[None, :], mask=live, other=0.0)
        kcos = tl.load(turn_ptr + row[:, None] * 2 * HALF + half[None, :], mask=live, other=0.0)
        ksin = tl.load(turn_ptr + row[:, None] * 2 * HALF + HALF + half[None, :], mask=live, other=0.0)
        logits = scores(qc, q1, q2, latent, k1, k2, kcos.to(tl.float32), ksin.to(tl.float32), OPERAND)
        logits = tl.where((row < length)[None, :], logits * scale, -float("inf"))
        top = tl.maximum(peak, tl.max(logits, 1))
        weight = tl.exp2(logits - top[:, None])
        shrink = tl.exp2(peak - top)
        mass = mass * shrink + tl.sum(weight, 1)
        peak = top
        acc = tl.dot(weight.to(tl.bfloat16).to(OPERAND), latent, acc * shrink[:, None])
    out = out_ptr + b.to(tl.int64) * out_batch + heads[:, None] * out_head + rank[None, :]
    tl.store(out, (acc / mass[:, None]).to(tl.bfloat16))


@triton.jit
def meet(gate_ptr, PROGRAMS: tl.constexpr):
    """Every program of the grid waits here for all others, and sees what they have written.

    The gate's top bit turns over when all have come: program 0 adds 2**31 - (PROGRAMS - 1), all others 1, so
    the gate is ready for the next launch, whatever grid that has.
    """
    tl.debug_barrier()
    step = tl.where(tl.program_id(0) == 0, 2147483647 - (PROGRAMS - 2), 1)
    before = tl.atomic_add(gate_ptr, step, sem="acq_rel", scope="gpu")
    now = before
    while (before ^ now) >= 0:
        now = tl.inline_asm_elementwise(
            "ld.acquire.gpu.global.s32 $0, [$1];", "=r,l", [gate_ptr], tl.int32, is_pure=False, pack=1)  # fmt: skip
    tl.debug_barrier()


@triton.jit
def fetch(ptr, BYTES: tl.constexpr):
    """Bring BYTES from each address of `ptr` on into the L2 cache."""
    tl.inline_asm_elementwise(
        "cp.async.bulk.prefetch.L2.global [$1], " + BYTES + "; mov.u32 $0, 0;", "=r,l", [ptr], tl.int32,
        is_pure=False, pack=1)  # fmt: skip


@triton.jit(do_not_specialize=["filled"])
def prepare(
    x_ptr, qdown_ptr, qup_ptr, kvdown_ptr, kvup_ptr, cache_ptr, part_ptr, low_ptr, rope_ptr, qc_ptr, gate_ptr,
    filled, longest,
    DIM: tl.constexpr, LOW: tl.constexpr, WIDTH: tl.constexpr, RANK: tl.constexpr, NOPE: tl.constexpr,
    ROPE: tl.constexpr, VALUE: tl.constexpr, HEADS: tl.constexpr, B: tl.constexpr,
    COLUMNS: tl.constexpr, SPLIT: tl.constexpr, DEEP1: tl.constexpr, STAGES1: tl.constexpr,
    DEEP2: tl.constexpr, STAGES2: tl.constexpr,
):  # fmt: skip
    """All that comes before attention, one program a multiprocessor, all of them resident.

    1. Both down projections, SPLIT parts of the inner dimension apart: float32 sums in `part_ptr`.
    2. Their sums, rounded: the query's to `low_ptr` [B, LOW], the latent's to its place in the cache.
    3. Head by head: query up, and the key part of KV_proj_up into the query: `qc_ptr` [HEADS, B, RANK] and,
       for rotation later, `rope_ptr` [B, HEADS, ROPE].
    """
    PROGRAMS: tl.constexpr = (LOW + WIDTH) // COLUMNS * SPLIT
    TILES: tl.constexpr = (LOW + WIDTH) // COLUMNS
    pid = tl.program_id(0)
    tile = pid % TILES
    split = pid // TILES
    query = tile < LOW // COLUMNS
    b = tl.arange(0, B)
    n = tl.arange(0, COLUMNS)
    k1 = tl.arange(0, DEEP1)
    w = tl.multiple_of(tl.where(query, qdown_ptr, kvdown_ptr - LOW * DIM), 16)
    w = w + (tile * COLUMNS + n)[None, :] * DIM + split * (DIM // SPLIT) + k1[:, None]
    xs = x_ptr + b[:, None] * DIM + split * (DIM // SPLIT) + k1[None, :]
    total = tl.zeros([B, COLUMNS], tl.float32)
    for k in tl.range(0, DIM // SPLIT, DEEP1, num_stages=STAGES1):
        total = tl.dot(tl.load(xs + k), tl.load(w + k), total)
    columns = tile * COLUMNS + n
    tl.store(part_ptr + (split * B + b[:, None]) * (LOW + WIDTH) + columns[None, :], total)
    rows = tl.arange(0, NOPE)
    head = tl.minimum(pid, HEADS - 1)
    up = qup_ptr + head * (NOPE + ROPE) * LOW
    fetch(up + rows * LOW, "1024")
    fetch(up + (NOPE + tl.arange(0, ROPE)) * LOW, "1024")
    meet(gate_ptr, PROGRAMS)

    SOME: tl.constexpr = B // SPLIT
    some = split * SOME + tl.arange(0, SOME)
    total = tl.zeros([SOME, COLUMNS], tl.float32)
    for i in tl.static_range(SPLIT):
        total += tl.load(part_ptr + (i * B + some[:, None]) * (LOW + WIDTH) + columns[None, :])
    if query:
        tl.store(low_ptr + some[:, None] * LOW + columns[None, :], total.to(tl.bfloat16))
    else:
        line = (some.to(tl.int64) * longest + filled)[:, None] * WIDTH
        tl.store(cache_ptr + line + (columns - LOW)[None, :], total.to(tl.bfloat16))
    meet(gate_ptr + 32, PROGRAMS)

    if pid < HEADS:
        k2 = tl.arange(0, DEEP2)
        low = low_ptr + b[:, None] * LOW + k2[None, :]
        up1 = up + rows[None, :] * LOW + k2[:, None]
        up2 = up + (NOPE + tl.arange(0, ROPE))[None, :] * LOW + k2[:, None]
        kvup = kvup_ptr + pid * (NOPE + VALUE) * RANK
        fetch(kvup + rows * RANK, "1024")
        q1 = tl.zeros([B, NOPE], tl.float32)
        q2 = tl.zeros([B, ROPE], tl.float32)
        for k in tl.range(0, LOW, DEEP2, num_stages=STAGES2):
            each = tl.load(low + k)
            q1 = tl.dot(each, tl.load(up1 + k), q1)
            q2 = tl.dot(each, tl.load(up2 + k), q2)
        tl.store(rope_ptr + (b[:, None] * HEADS + pid) * ROPE + tl.arange(0, ROPE)[None, :], q2.to(tl.bfloat16))
        q1 = q1.to(tl.bfloat16)
        r = tl.arange(0, 128)
        for c in tl.range(0, RANK, 128, num_stages=3):
            part = tl.dot(q1, tl.load(kvup + rows[:, None] * RANK + c + r[None, :]))
            tl.store(qc_ptr + (pid * B + b[:, None]) * RANK + c + r[None, :], part.to(tl.bfloat16))


@gluon.jit
def bring(
    cache_ptr, turn_ptr, row0, start, rope, turns, rfull, s,
    TILE: gl.constexpr, RANK: gl.constexpr, HALF: gl.constexpr,
):  # fmt: skip
    """Begin to copy the unrotated rope halves of a tile of keys into buffer s, and cos and sin of their places."""
    LAY: gl.constexpr = gl.BlockedLayout([1, 8], [8, 4], [4, 1], [1, 0])
    token = start + gl.arange(0, TILE, layout=gl.SliceLayout(1, LAY))
    cols = gl.arange(0, HALF, layout=gl.SliceLayout(0, LAY))
    line = cache_ptr + (row0 + token).to(gl.int64)[:, None] * (RANK + 2 * HALF) + RANK + cols[None, :]
    turn = turn_ptr + token[:, None] * (2 * HALF) + cols[None, :]
    load_elements(rope.index(2 * s), line)
    load_elements(rope.index(2 * s + 1), line + HALF)
    load_elements(turns.index(0), turn)
    load_elements(turns.index(1), turn + HALF)
    async_copy.mbarrier_arrive(rfull.index(s), increment_count=False)


@gluon.jit
def rotate(rope, turns, s, TILE: gl.constexpr):
    """Rotate the keys of a tile where they lie, rounded once; a few rows at a time, for want of registers."""
    ROWS: gl.constexpr = 16
    LAY: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    for i in gl.static_range(TILE // ROWS):
        first = rope.index(2 * s).slice(i * ROWS, ROWS, 0)
        second = rope.index(2 * s + 1).slice(i * ROWS, ROWS, 0)
        k1 = first.load(LAY).to(gl.float32)
        k2 = second.load(LAY).to(gl.float32)
        cos = turns.index(0).slice(i * ROWS, ROWS, 0).load(LAY).to(gl.float32)
        sin = turns.index(1).slice(i * ROWS, ROWS, 0).load(LAY).to(gl.float32)
        first.store((k1 * cos - k2 * sin).to(gl.bfloat16))
        second.store((k2 * cos + k1 * sin).to(gl.bfloat16))
    fence_async_shared()


@gluon.jit
def products(q_smem, q1, q2, latent, rope, none, k, r):
    """Begin the logits of one tile: latent in buffer k, rotated keys in buffer r."""
    out = warpgroup_mma(q1, rope.index(2 * r).permute([1, 0]), none, use_acc=False, is_async=True)
    out = warpgroup_mma(q2, rope.index(2 * r + 1).permute([1, 0]), out, is_async=True)
    out = warpgroup_mma(q_smem.index(0), latent.index(2 * k).permute([1, 0]), out, is_async=True)
    return warpgroup_mma(q_smem.index(1), latent.index(2 * k + 1).permute([1, 0]), out, is_async=True)


@gluon.jit
def score_part(
    q_ptr, turn_ptr, q_smem, latent, rope, weights, shrinks, qfull, kfull, rready, pfull, pempty,
    length, scale, q_head,
    TILE: gl.constexpr, RANK: gl.constexpr, NOPE: gl.constexpr, HALF: gl.constexpr, HEADS: gl.constexpr,
    BUFFERS: gl.constexpr,
):  # fmt: skip
    """Four warps: logits and softmax weights of each tile of keys."""
    S_LAY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TILE, 16])
    DOT: gl.constexpr = gl.DotOperandLayout(0, S_LAY, 2)
    rrows = gl.arange(0, HEADS, layout=gl.SliceLayout(1, DOT))
    rcols = gl.arange(0, HALF, layout=gl.SliceLayout(0, DOT))
    part = q_ptr + (rrows * q_head)[:, None] + NOPE + rcols[None, :]
    x1 = gl.load(part).to(gl.float32)
    x2 = gl.load(part + HALF).to(gl.float32)
    cos = gl.load(turn_ptr + (length - 1) * 2 * HALF + rcols).to(gl.float32)[None, :]
    sin = gl.load(turn_ptr + (length - 1) * 2 * HALF + HALF + rcols).to(gl.float32)[None, :]
    q1 = (x1 * cos - x2 * sin).to(gl.bfloat16)
    q2 = (x2 * cos + x1 * sin).to(gl.bfloat16)
    last = length - TILE
    mbarrier.wait(qfull.index(0), 0)

    peak = gl.full([HEADS], -float("inf"), gl.float32, layout=gl.SliceLayout(1, S_LAY))
    mass = gl.zeros([HEADS], gl.float32, layout=gl.SliceLayout(1, S_LAY))
    columns = gl.arange(0, TILE, layout=gl.SliceLayout(0, S_LAY))
    tiles = gl.cdiv(length, TILE)
    none = gl.zeros([HEADS, TILE], gl.float32, layout=S_LAY)
    for i in range(tiles):
        mbarrier.wait(rready.index(i % 2), (i // 2) & 1)
        mbarrier.wait(kfull.index(i % BUFFERS), (i // BUFFERS) & 1)
        coming = products(q_smem, q1, q2, latent, rope, none, i % BUFFERS, i % 2)
        logits = warpgroup_mma_wait(0, deps=[coming])
        if i == tiles - 1:
            # The last tile ends at the last key, so its first keys may have been counted already.
            logits = gl.where((columns + last >= i * TILE)[None, :], logits, -float("inf"))
        top = gl.maximum(peak, gl.max(logits, 1))
        weight = gl.exp2(logits * scale - (top * scale)[:, None])
        shrink = gl.exp2((peak - top) * scale)
        peak = top
        mbarrier.wait(pempty.index(0), (i & 1) ^ 1)
        weights.store(weight.to(gl.bfloat16))
        shrinks.index(0).store(shrink)
        fence_async_shared()
        mbarrier.arrive(pfull.index(0), count=1)
        mass = mass * shrink + gl.sum(weight, 1)
    shrinks.index(1).store(mass)
    mbarrier.arrive(pfull.index(1), count=1)


@gluon.jit
def load_half(cache_desc, row, column, full, to, pred):
    """Begin to copy one half of a tile of latent, and have `full` count it."""
    mbarrier.expect(full, cache_desc.block_type.nbytes, pred=pred)
    load_tile(cache_desc, [row, column], full, to, pred=pred)


@gluon.jit
def value_part(
    q_desc, cache_desc, out_desc, cache_ptr, turn_ptr, q_smem, latent, rope, turns, weights, shrinks, qfull, kfull,
    rfull, rready, pfull, pempty, length, row0, head, column,
    WHICH: gl.constexpr, TILE: gl.constexpr, RANK: gl.constexpr, HALF: gl.constexpr, HEADS: gl.constexpr,
    BUFFERS: gl.constexpr,
):  # fmt: skip
    """Four warps: one half of the attended latent, for which they bring that half of the query and of each tile.

    The second half's warps also bring the keys to rotate, and the first half's rotate them: the warps that make
    the logits have no time for it. Query and result are HEADS rows of a matrix [heads, B * RANK], from row `head`
    and column `column` on.
    """
    WIDTH: gl.constexpr = RANK // 2
    LAY: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    acc = gl.zeros([HEADS, WIDTH], gl.float32, layout=LAY)
    tiles = gl.cdiv(length, TILE)
    last = length - TILE
    column += WHICH * WIDTH
    if WHICH == 1:
        lines = gl.arange(0, TILE, layout=gl.BlockedLayout([1], [32], [4], [0]))
        bring(cache_ptr, turn_ptr, row0, 0, rope, turns, rfull, 0, TILE, RANK, HALF)
    load_half(cache_desc, row0, WHICH * WIDTH, kfull.index(0), latent.index(WHICH), True)
    mbarrier.expect(qfull.index(0), HEADS * WIDTH * 2)
    load_tile(q_desc, [head, column], qfull.index(0), q_smem.index(WHICH))
    for i in gl.static_range(1, BUFFERS):
        load_half(
            cache_desc, row0 + gl.minimum(i * TILE, last), WHICH * WIDTH, kfull.index(i),
            latent.index(2 * i + WHICH), i < tiles)  # fmt: skip
    if WHICH == 0:
        for i in gl.static_range(2):
            mbarrier.wait(rfull.index(i), 0)
            rotate(rope, turns, i, TILE)
            mbarrier.arrive(rready.index(i), count=1)
    else:
        mbarrier.wait(rready.index(0), 0)
        bring(cache_ptr, turn_ptr, row0, gl.minimum(TILE, last), rope, turns, rfull, 1, TILE, RANK, HALF)
    for i in range(tiles):
        s = i % BUFFERS
        r = i + 2
        mbarrier.wait(pfull.index(0), i & 1)
        if WHICH == 1:
            # The logits of tile i are made, so its keys are done with; the tables are once the next are rotated.
            mbarrier.wait(rready.index((i + 1) % 2), ((i + 1) // 2) & 1)
            bring(
                cache_ptr, turn_ptr, row0, gl.minimum(r * TILE, last), rope, turns, rfull, i % 2, TILE, RANK, HALF)
        shrink = shrinks.index(0).load(gl.SliceLayout(1, LAY))
        acc = acc * shrink[:, None]
        acc = warpgroup_mma(weights, latent.index(2 * s + WHICH), acc, is_async=True)
        if WHICH == 1:
            # The keys to rotate are a line of their own in each row: on their way before they are asked for.
            far = (row0 + gl.minimum((i + 5) * TILE, last) + lines).to(gl.int64)
            gl.inline_asm_elementwise(
                "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [cache_ptr + far * (RANK + 2 * HALF) + RANK],
                gl.int32, False, 1)  # fmt: skip
        acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(pempty.index(0), count=1)
        load_half(
            cache_desc, row0 + gl.minimum((i + BUFFERS) * TILE, last), WHICH * WIDTH, kfull.index(s),
            latent.index(2 * s + WHICH), i + BUFFERS < tiles)  # fmt: skip
        if WHICH == 0:
            # The tensor cores make the next logits meanwhile; the ones after those need these keys.
            mbarrier.wait(rfull.index(i % 2), (r // 2) & 1)
            rotate(rope, turns, i % 2, TILE)
            mbarrier.arrive(rready.index(i % 2), count=1)
    if WHICH == 1:
        async_copy.wait_group(0)
    mbarrier.wait(pfull.index(1), 0)
    mass = shrinks.index(1).load(gl.SliceLayout(1, LAY))
    acc = acc / mass[:, None]
    # Nothing reads tiles of latent any more.
    latent.index(WHICH).store(acc.to(gl.bfloat16))
    fence_async_shared()
    thread_barrier()
    store_tile(out_desc, [head, column], latent.index(WHICH))
    tma.store_wait(0)


@gluon.jit
def attend_hopper(
    q_desc, cache_desc, out_desc, q_ptr, cache_ptr, turn_ptr, length, scale, q_batch, q_head, cache_rows,
    RANK: gl.constexpr, NOPE: gl.constexpr, HALF: gl.constexpr, GROUPS: gl.constexpr, HEADS: gl.constexpr,
    TILE: gl.constexpr, BUFFERS: gl.constexpr,
):  # fmt: skip
    """`attend` for Hopper: three groups of four warps, 64-bit barriers between them.

    Registers cap a group at one half of the output (64 x 256 float32), so two groups hold it and the third
    makes the weights. Query, tiles and output move by bulk tensor copies, in halves: each of the two groups fetches
    its half of a tile as soon as it is done with the one before. The last tile ends at the last key and masks what
    an earlier tile has counted.
    """
    K_LAY: gl.constexpr = cache_desc.layout
    R_LAY: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
    P_LAY: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=TILE * 2, element_bitwidth=16, rank=2)
    q_smem = gl.allocate_shared_memory(gl.bfloat16, [2, HEADS, RANK // 2], K_LAY)
    latent = gl.allocate_shared_memory(gl.bfloat16, [2 * BUFFERS, TILE, RANK // 2], K_LAY)
    rope = gl.allocate_shared_memory(gl.bfloat16, [4, TILE, HALF], R_LAY)
    turns = gl.allocate_shared_memory(gl.bfloat16, [2, TILE, HALF], R_LAY)
    weights = gl.allocate_shared_memory(gl.bfloat16, [HEADS, TILE], P_LAY)
    shrinks = gl.allocate_shared_memory(gl.float32, [2, HEADS], gl.SwizzledSharedLayout(1, 1, 1, order=[0]))
    qfull = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    kfull = gl.allocate_shared_memory(gl.int64, [BUFFERS, 1], mbarrier.MBarrierLayout())
    rfull = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    rready = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    pfull = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    pempty = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BUFFERS):
        mbarrier.init(kfull.index(i), count=2)
    mbarrier.init(qfull.index(0), count=2)
    for i in gl.static_range(2):
        mbarrier.init(rfull.index(i), count=128)
        mbarrier.init(rready.index(i), count=1)
        mbarrier.init(pfull.index(i), count=1)
    mbarrier.init(pempty.index(0), count=2)
    b = gl.program_id(0) // GROUPS
    head = (gl.program_id(0) % GROUPS) * HEADS
    row0 = b * cache_rows
    q_ptr += b.to(gl.int64) * q_batch + head * q_head
    gl.warp_specialize([
        (score_part, (
            q_ptr, turn_ptr, q_smem, latent, rope, weights, shrinks, qfull, kfull, rready, pfull, pempty,
            length, scale, q_head, TILE, RANK, NOPE, HALF, HEADS, BUFFERS)),
        (value_part, (
            q_desc, cache_desc, out_desc, cache_ptr, turn_ptr, q_smem, latent, rope, turns, weights, shrinks, qfull,
            kfull, rfull, rready, pfull, pempty,
            length, row0, head, b * RANK, 0, TILE, RANK, HALF, HEADS, BUFFERS)),
        (value_part, (
            q_desc, cache_desc, out_desc, cache_ptr, turn_ptr, q_smem, latent, rope, turns, weights, shrinks, qfull,
            kfull, rfull, rready, pfull, pempty,
            length, row0, head, b * RANK, 1, TILE, RANK, HALF, HEADS, BUFFERS)),
    ], [4, 4], [168, 168])  # fmt: skip


INTERPRETED = isinstance(attend, InterpretedFunction)
TILE = 64
BUFFERS = 2
LATENT_LAYOUT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)


_KERNELS = {}


@functools.cache
def hopper(device):
    """Whether the kernel for Hopper can run here."""
    return not INTERPRETED and torch.cuda.get_device_capability(device)[0] == 9


def launch(key, device, kernel, grid, *args, **options):
    """Run `kernel`; called again under the same `key`, skip Triton's dispatch, which takes longer than the launch.

    The key must settle all that the compiled code depends on: shapes, and which numbers 16 divides.
    """
    built = _KERNELS.get(key)
    if built is None:
        _KERNELS[key] = kernel[(grid,)](*args, **options)
    else:
        stream = triton.runtime.driver.active.get_current_stream(device.index)
        built.run(grid, 1, 1, stream, built.function, built.packed_metadata, None, None, None, *args)


def plain(config, x, kv_cache):
    """One decode step of any size on any device, projections by PyTorch."""
    B, heads, rank = config.batch_size, config.n_heads, config.kv_lora_rank
    nope, rope, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    flat = x.view(B, -1)
    q = F.linear(F.linear(flat, config.Q_proj_down_weight), config.Q_proj_up_weight).view(B, heads, nope + rope)
    new = F.linear(flat, config.KV_proj_down_weight)
    up = config.KV_proj_up_weight.view(heads, nope + value, rank)
    qc = torch.bmm(q[..., :nope].transpose(0, 1), up[:, :nope])
    _, length = kv_cache(new.view(B, 1, -1))
    cache = kv_cache.get_data()
    turn = rotations(cache.shape[1], rope, x.device)
    out = torch.empty((heads, B, rank), dtype=torch.bfloat16, device=x.device)
    scale = math.log2(math.e) / math.sqrt(nope + rope)
    if hopper(x.device) and heads % 64 == 0 and (rank, rope) == (512, 64) and length >= TILE and cache.is_contiguous():
        rows = (qc.view(heads, -1), cache.view(-1, rank + rope), out.view(heads, -1))
        rows = [TensorDescriptor.from_tensor(each, [64, rank // 2], LATENT_LAYOUT) for each in rows]
        aligned = not any(t.data_ptr() % 16 for t in (qc, q, cache, turn, out))
        key = (B, heads, nope, cache.shape, x.device, length % 16 == 0, length == 1, aligned)
        launch(
            key, x.device, attend_hopper, B * (heads // 64),
            *rows, q, cache, turn, length, scale, q.stride(0), q.stride(1), cache.shape[1],
            rank, nope, rope // 2, heads // 64, 64, TILE, BUFFERS, num_warps=4, maxnreg=168)  # fmt: skip
    else:
        group = min(heads, 64)
        attend[(B * (heads // group),)](
            qc, q, cache, turn, out, length, scale, qc.stride(1), qc.stride(0), q.stride(0), q.stride(1),
            cache.stride(0), out.stride(1), out.stride(0),
            RANK=rank, NOPE=nope, HALF=rope // 2, GROUPS=heads // group, HEADS=group, TILE=TILE, STAGES=2,
            STATIC=length if INTERPRETED else 0, OPERAND=tl.float32 if INTERPRETED else tl.bfloat16,
            num_warps=8)  # fmt: skip
    y = torch.empty((B, heads, value), dtype=torch.bfloat16, device=x.device)
    torch.bmm(out, up[:, nope:].transpose(1, 2), out=y.transpose(0, 1))
    return F.linear(y.view(B, 1, heads * value), config.wo_weight), cache


#: Sizes that `prepare` is made for: batch, model, heads, ranks of the latents, widths of a head.
FULL = (128, 7168, 128, 1536, 512, 128, 64, 128)
#: All constants of `prepare`, in its order.
PREPARE = (7168, 1536, 576, 512, 128, 64, 128, 128, 128, 64, 4, 128, 4, 64, 5)
PROGRAMS = 132
_SCRATCH = {}
#: What Triton's own launches ask for the current stream; absent where PyTorch has no GPU.
_STREAM = getattr(torch._C, "_cuda_getCurrentRawStream", None)


class Scratch:
    """Memory for what passes from kernel to kernel of one call: all but the gate is written before it is read.

    `begin` launches `prepare` once it is compiled.
    """

    def __init__(self, device):
        def room(*sizes, dtype=torch.bfloat16):
            return torch.empty(sizes, dtype=dtype, device=device)

        self.gate = torch.zeros(64, dtype=torch.int32, device=device)
        self.parts = room(4, 128, 2112, dtype=torch.float32)
        self.low, self.rope, self.qc = room(128, 1536), room(128, 128, 64), room(128, 128, 512)
        self.mixed, self.values = room(128, 128, 512), room(128, 128, 128)
        self.queries, self.results = (
            TensorDescriptor.from_tensor(each.view(128, -1), [64, 256], LATENT_LAYOUT) for each in (self.qc, self.mixed)
        )
        self.by_head = self.values.transpose(0, 1)
        self.tensors = (self.parts, self.low, self.rope, self.qc, self.gate)
        self.at = tuple(each.data_ptr() for each in self.tensors)
        self.begin = None


@functools.cache
def wide(device):
    """Whether every program of `prepare` has a multiprocessor of its own."""
    return hopper(device) and torch.cuda.get_device_properties(device).multi_processor_count >= PROGRAMS


def launcher(built, grid, stream):
    """What launches a compiled kernel on a stream, given its arguments; pointers may be plain numbers."""
    head = (grid, 1, 1, stream, built.function)
    tail = (built.packed_metadata, None, None, None)
    if triton.__version__.startswith("3.6."):
        # As `run` does for a kernel without scratch memory of its own.
        run = built.run
        return functools.partial(
            run.launch, *head, run.launch_cooperative_grid, run.launch_pdl, None, None, *tail)  # fmt: skip
    return functools.partial(built.run, *head, *tail)


def custom_kernel(data):
    """One decode step of `data` = (config, x [B, 1, dim], kv_cache): (output [B, 1, dim], the whole cache)."""
    # Until `prepare` is launched the GPU waits, so what can wait comes after it.
    config, x, kv_cache = data
    cache, length = kv_cache.get_data(), kv_cache.seq_len + 1
    qdown, qup = config.Q_proj_down_weight, config.Q_proj_up_weight
    kvdown, kvup = config.KV_proj_down_weight, config.KV_proj_up_weight
    a, b, c = x.data_ptr(), qdown.data_ptr(), qup.data_ptr()
    d, e, f = kvdown.data_ptr(), kvup.data_ptr(), cache.data_ptr()
    longest = cache.shape[1]
    if not (
        (
            config.batch_size, config.dim, config.n_heads, config.q_lora_rank, config.kv_lora_rank,
            config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim,
        ) == FULL
        and TILE <= length <= longest
        and not ((a | b | c | d | e | f) & 15 or longest & 15)
        and x.is_cuda
        and x.is_contiguous() and qdown.is_contiguous() and qup.is_contiguous()
        and kvdown.is_contiguous() and kvup.is_contiguous() and cache.is_contiguous()
    ):  # fmt: skip
        return plain(config, x, kv_cache)
    index = x.get_device()
    stream = _STREAM(index)
    scratch = _SCRATCH.get((index, stream, longest))
    if scratch is None:
        if not wide(x.device):
            return plain(config, x, kv_cache)
        scratch = Scratch(x.device)
        built = prepare[(PROGRAMS,)](
            x, qdown, qup, kvdown, kvup, cache, *scratch.tensors, length - 1, longest, *PREPARE,
            num_warps=8, launch_cooperative_grid=True)  # fmt: skip
        scratch.begin = launcher(built, PROGRAMS, stream)
        _SCRATCH[index, stream, longest] = scratch
    else:
        scratch.begin(a, b, c, d, e, f, *scratch.at, length - 1, longest, *PREPARE)
    kv_cache.seq_len = length
    device = x.device
    turn = rotations(longest, 64, device)
    rows = TensorDescriptor.from_tensor(cache.view(-1, 576), [TILE, 256], LATENT_LAYOUT)
    scale = math.log2(math.e) / math.sqrt(192)
    launch(
        ("attend", device, longest, length % 16 == 0), device, attend_hopper, 256,
        scratch.queries, rows, scratch.results, scratch.rope, cache, turn, length, scale, 128 * 64, 64, longest,
        512, 0, 32, 2, 64, TILE, BUFFERS, num_warps=4, maxnreg=168)  # fmt: skip
    values = kvup.view(128, 256, 512)[:, 128:].transpose(1, 2)
    torch.bmm(scratch.mixed, values, out=scratch.by_head)
    return F.linear(scratch.values.view(128, 1, 16384), config.wo_weight), cache
