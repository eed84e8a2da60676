"""Outgoing triangle multiplicative update in three passes over the pair tensor, half precision between them.

1. `project`: LayerNorm over C, the five projections, mask and sigmoid gates of one tile of positions. Left,
   right and out gate are stored with positions last ([3, B, H, N*N]), so the product over k needs no transpose.
2. A batched matrix product left @ right^T for each (b, h), on the tensor cores through cuBLAS.
3. `finish`: LayerNorm over H down the columns, times the out gate, projection to C, float32 out.

The first and the last pass exist twice: in Triton, for any GPU, any shape and the interpreter, and in Gluon for
Hopper, where groups of four warps share the work and tiles move by bulk tensor copies (which need N*N to be a
multiple of 8, or 64 for the last pass).

Half precision starts after the first LayerNorm, which bounds every value by sqrt(C) times its weight, so heavy
tails cannot overflow. Left and right each carry a factor 1/8: the sum over k stays far below 65504, and the
second LayerNorm takes the factor out again (its eps carries the square of 1/64).
"""

import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.runtime.interpreter import InterpretedFunction

EPS = 1e-5
OPERAND_SCALE = 0.125


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    if FAST:
        # One special-function operation in place of the two of exp and reciprocal; error under 2**-11.
        half = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], tl.float32, True, 1)
        return half * 0.5 + 0.5
    else:
        return tl.sigmoid(x)


@triton.jit
def prepare(
    lp, lg, rp, rg, og, to_out, gamma_ptr, beta_ptr, w_in, bias, w_out, C,
    H: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weights to half, one row a program: [5H, CP] times the first LayerNorm's weight, and to_out [C, H].

    The LayerNorm's bias becomes one float32 bias per row. Rows are ordered so that rows r and r + 8 of sixteen,
    which the tensor cores leave in one thread, are a projection and its gate, or two lines of the out gate.
    """
    row = tl.program_id(0)
    if row < 5 * H:
        which = row // H
        h = row % H
        src = lp
        if which == 1:
            src = lg
        if which == 2:
            src = rp
        if which == 3:
            src = rg
        if which == 4:
            src = og
        c = tl.arange(0, BLOCK)
        value = tl.load(src + h * C + c, mask=c < C, other=0.0)
        gamma = tl.load(gamma_ptr + c, mask=c < C, other=0.0)
        beta = tl.load(beta_ptr + c, mask=c < C, other=0.0)
        to = (which // 2) * 2 * H + (h // 8) * 16 + (which % 2) * 8 + h % 8
        if which == 4:
            to = 4 * H + (h // 64) * 64 + (h % 32 // 8) * 16 + (h % 64 // 32) * 8 + h % 8
        tl.store(w_in + to * CP + c, (value * gamma).to(tl.float16), mask=c < CP)
        tl.store(bias + to, tl.sum(value * beta, axis=0))
    else:
        at = (row - 5 * H) * H + tl.arange(0, H)
        tl.store(w_out + at, tl.load(to_out + at).to(tl.float16))


@triton.jit
def project(
    x_ptr, mask_ptr, bias_ptr, w_ptr, out_ptr, B, P, C, eps,
    H: tl.constexpr, CHUNKS: tl.constexpr, CHUNK: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr,
    STAGES: tl.constexpr, EVEN_C: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """One tile of BP positions of one batch entry; P = N*N positions each."""
    tiles = tl.cdiv(P, BP)
    b = tl.program_id(0) // tiles
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    inside = p < P
    base = x_ptr + (b.to(tl.int64) * P + p.to(tl.int64))[:, None] * C
    cols = tl.arange(0, CHUNK)
    raw = ()
    total = tl.zeros([BP], tl.float32)
    for i in tl.static_range(CHUNKS):
        c = i * CHUNK + cols
        keep = inside[:, None] if EVEN_C else inside[:, None] & (c < C)[None, :]
        tile = tl.load(base + c[None, :], mask=keep, other=0.0)
        total += tl.sum(tile, axis=1)
        raw = raw + (tile,)
    mean = total / C
    square = tl.zeros([BP], tl.float32)
    for i in tl.static_range(CHUNKS):
        off = raw[i] - mean[:, None]
        if not EVEN_C:
            off = tl.where((i * CHUNK + cols < C)[None, :], off, 0.0)
        square += tl.sum(off * off, axis=1)
    rstd = tl.rsqrt(square / C + eps)
    xs = ()
    for i in tl.static_range(CHUNKS):
        xs = xs + (tl.trans(((raw[i] - mean[:, None]) * rstd[:, None]).to(tl.float16)),)
    scale = tl.load(mask_ptr + b.to(tl.int64) * P + p, mask=inside, other=0).to(tl.float32) * 0.125
    CP: tl.constexpr = CHUNKS * CHUNK
    rows = tl.arange(0, BR)
    w_base = w_ptr + rows[:, None] * CP + cols[None, :]
    for r in tl.range(0, 4 * H // BR, num_stages=STAGES):
        acc = tl.zeros([BR, BP], tl.float32) + tl.load(bias_ptr + r * BR + rows)[:, None]
        for i in tl.static_range(CHUNKS):
            acc = tl.dot(tl.load(w_base + r * BR * CP + i * CHUNK), xs[i], acc)
        pair = acc.reshape(BR // 16, 2, 8, BP).permute(0, 2, 3, 1)
        value, gate = tl.split(pair)
        value = value.reshape(BR // 2, BP)
        gate = gate.reshape(BR // 2, BP)
        value = value * sigmoid(gate, FAST) * scale[None, :]
        h = r * (BR // 2) + tl.arange(0, BR // 2)
        side = h // H
        line = (side * B + b).to(tl.int64) * H + h % H
        tl.store(out_ptr + line[:, None] * P + p[None, :], value.to(tl.float16), mask=inside[None, :])
    for r in tl.range(0, H // BR, num_stages=STAGES):
        acc = tl.zeros([BR, BP], tl.float32) + tl.load(bias_ptr + 4 * H + r * BR + rows)[:, None]
        for i in tl.static_range(CHUNKS):
            acc = tl.dot(tl.load(w_base + (4 * H + r * BR) * CP + i * CHUNK), xs[i], acc)
        h = r * BR + rows
        h = h // 64 * 64 + h % 16 // 8 * 32 + h % 64 // 16 * 8 + h % 8
        line = (2 * B + b).to(tl.int64) * H + h
        value = sigmoid(acc, FAST)
        tl.store(out_ptr + line[:, None] * P + p[None, :], value.to(tl.float16), mask=inside[None, :])


@triton.jit
def finish(
    prod_ptr, gate_ptr, gamma_ptr, beta_ptr, w_ptr, out_ptr, P, eps, C: tl.constexpr,
    H: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr, EVEN_C: tl.constexpr,
):  # fmt: skip
    """LayerNorm over H of BP columns of the product [B, H, P], times the gate, projected to C."""
    tiles = tl.cdiv(P, BP)
    b = tl.program_id(0) // tiles
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    inside = p < P
    h = tl.arange(0, H)
    at = (b.to(tl.int64) * H + h)[:, None] * P + p[None, :]
    prod = tl.load(prod_ptr + at, mask=inside[None, :], other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + at, mask=inside[None, :], other=0.0).to(tl.float32)
    off = prod - (tl.sum(prod, axis=0) / H)[None, :]
    rstd = tl.rsqrt(tl.sum(off * off, axis=0) / H + eps)
    gamma = tl.load(gamma_ptr + h)
    beta = tl.load(beta_ptr + h)
    y = (off * rstd[None, :] * gamma[:, None] + beta[:, None]) * gate
    y = tl.trans(y.to(tl.float16))
    out_base = out_ptr + (b.to(tl.int64) * P + p)[:, None] * C
    for c0 in tl.range(0, C, BC, num_stages=STAGES):
        c = c0 + tl.arange(0, BC)
        if EVEN_C:
            w = tl.load(w_ptr + c[None, :] * H + h[:, None])
            tl.store(out_base + c[None, :], tl.dot(y, w), mask=inside[:, None])
        else:
            w = tl.load(w_ptr + c[None, :] * H + h[:, None], mask=(c < C)[None, :], other=0.0)
            tl.store(out_base + c[None, :], tl.dot(y, w), mask=inside[:, None] & (c < C)[None, :])


@gluon.jit
def fast_sigmoid(x):
    """One special-function operation in place of two; error under 2**-11."""
    half = gl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], gl.float32, True, 1)
    return half * 0.5 + 0.5


@gluon.jit
def normalise_part(
    x_ptr, mask_ptr, xn, scale, full, empty, B, P, eps, per,
    C: gl.constexpr, BP: gl.constexpr, PANELS: gl.constexpr, ROWS: gl.constexpr, BUFS: gl.constexpr,
    EVEN_C: gl.constexpr, EVEN_P: gl.constexpr, PREFETCH: gl.constexpr, WHO: gl.constexpr,
):  # fmt: skip
    """Four warps: LayerNorm of half the positions of each tile, ROWS at a time, into shared memory as half.

    The next rows are read before their place is free, so that only storing them waits for the products.
    """
    WARPS: gl.constexpr = 4
    SHARE: gl.constexpr = BP // 2
    LAY: gl.constexpr = gl.BlockedLayout([1, 4], [2, 16], [WARPS, 1], [1, 0])
    LINE: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    cols = gl.arange(0, 64, layout=gl.SliceLayout(0, LAY))
    rows = gl.arange(0, ROWS, layout=gl.SliceLayout(1, LAY))
    spots = WHO * SHARE + gl.arange(0, SHARE, layout=LINE)
    n = 0
    for t in range(gl.program_id(0), B * per, gl.num_programs(0)):
        b = (t // per).to(gl.int64)
        p0 = (t % per) * BP
        s = n % BUFS
        for r in gl.static_range(SHARE // ROWS):
            p = p0 + WHO * SHARE + r * ROWS + rows
            base = x_ptr + ((b * P + p0 + WHO * SHARE + r * ROWS) * C) + (rows * C)[:, None] + cols[None, :]
            raw = ()
            for i in gl.static_range(PANELS):
                if EVEN_C and EVEN_P:
                    tile = gl.load(base + i * 64)
                else:
                    inside = (p < P)[:, None] & (i * 64 + cols < C)[None, :]
                    tile = gl.load(base + i * 64, mask=inside, other=0.0)
                raw = raw + (tile,)
            if r == 0:
                keep = gl.load(mask_ptr + b * P + p0 + spots, mask=p0 + spots < P, other=0)
                keep = keep.to(gl.float32) * 0.125
            total = raw[0]
            for i in gl.static_range(1, PANELS):
                total += raw[i]
            mean = gl.sum(total, 1) / C
            total = gl.zeros([ROWS, 64], gl.float32, layout=LAY)
            for i in gl.static_range(PANELS):
                off = raw[i] - mean[:, None]
                if not EVEN_C:
                    off = gl.where((i * 64 + cols < C)[None, :], off, 0.0)
                total += off * off
            rstd = gl.rsqrt(gl.sum(total, 1) / C + eps)
            shift = -mean * rstd
            if r == 0:
                mbarrier.wait(empty.index(s), ((n // BUFS) & 1) ^ 1)
                scale.index(s).slice(WHO * SHARE, SHARE, 0).store(keep)
            for i in gl.static_range(PANELS):
                y = raw[i] * rstd[:, None] + shift[:, None]
                xn.index(s * PANELS + i).slice(WHO * SHARE + r * ROWS, ROWS, 0).store(y.to(gl.float16))
        fence_async_shared()
        mbarrier.arrive(full.index(s), count=1)
        if PREFETCH:
            # The next tile of x moves to the L2 cache while this one is multiplied.
            ahead = t + gl.num_programs(0)
            if ahead < B * per:
                far = (ahead // per).to(gl.int64) * P + (ahead % per) * BP
                if (ahead % per) * BP + BP <= P:
                    line = x_ptr + far * C + WHO * SHARE * C + (spots - WHO * SHARE) * 32
                    for i in gl.static_range(C // 32):
                        gl.inline_asm_elementwise(
                            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [line + i * 32 * SHARE],
                            gl.int32, False, 1)  # fmt: skip
        n += 1


@gluon.jit
def bring(
    w_desc, ring, wfull, m, total,
    WHICH: gl.constexpr, PANELS: gl.constexpr, BLOCKS: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Start the copy of this group's m-th tile of weights, 64 rows by 64 channels, into its ring."""
    slot = WHICH * STAGES + m % STAGES
    k = m % (BLOCKS * PANELS)
    more = m < total
    mbarrier.expect(wfull.index(slot), 64 * 64 * 2, pred=more)
    tma.async_copy_global_to_shared(
        w_desc, [(2 * (k // PANELS) + WHICH) * 64, (k % PANELS) * 64], wfull.index(slot), ring.index(slot),
        pred=more)  # fmt: skip


@gluon.jit
def send(out_desc, stage, value, line, p0, slot, OUTS: gl.constexpr):
    """Store a tile by a bulk copy, once the copy OUTS before it has left its place."""
    tma.store_wait(OUTS - 1)
    gl.thread_barrier()
    stage.index(slot).store(value)
    fence_async_shared()
    gl.thread_barrier()
    tma.async_copy_shared_to_global(out_desc, [line, p0], stage.index(slot))


@gluon.jit
def multiply(
    biases, w_desc, ring, xn, wfull, j, m, s, total,
    WHICH: gl.constexpr, BP: gl.constexpr, PANELS: gl.constexpr, BLOCKS: gl.constexpr, STAGES: gl.constexpr,
    RESIDENT: gl.constexpr, MMA: gl.constexpr,
):  # fmt: skip
    """acc [64, BP] of the group's j-th block of rows on the tile in buffer s; m counts tiles of weights."""
    bias = biases.index(2 * j + WHICH).load(gl.SliceLayout(1, MMA))
    acc = gl.zeros([64, BP], gl.float32, layout=MMA) + bias[:, None]
    for i in gl.static_range(PANELS):
        slot = WHICH * STAGES + m % STAGES
        mbarrier.wait(wfull.index(slot), 0 if RESIDENT else (m // STAGES) & 1)
        acc = warpgroup_mma(ring.index(slot), xn.index(s * PANELS + i).permute([1, 0]), acc, is_async=True)
        if i > 0 and not RESIDENT:
            acc = warpgroup_mma_wait(1, deps=[acc])
            gl.thread_barrier()
            bring(w_desc, ring, wfull, m - 1 + STAGES, total, WHICH, PANELS, BLOCKS, STAGES)
        m += 1
    acc = warpgroup_mma_wait(0, deps=[acc])
    if not RESIDENT:
        gl.thread_barrier()
        bring(w_desc, ring, wfull, m - 1 + STAGES, total, WHICH, PANELS, BLOCKS, STAGES)
    return acc, m


@gluon.jit
def multiply_part(
    out_desc, bias_ptr, biases, w_desc, stage, ring, xn, scale, full, empty, wfull, B, per,
    WHICH: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, PANELS: gl.constexpr, BUFS: gl.constexpr,
    STAGES: gl.constexpr, OUTS: gl.constexpr, MMA: gl.constexpr, VALUE: gl.constexpr,
):  # fmt: skip
    """Four warps: every other block of 64 weight rows on each tile, mask and gates, and the stores."""
    PAIRS: gl.constexpr = 2 * H // 64
    BLOCKS: gl.constexpr = 5 * H // 128
    # All of a group's weights fit its ring: they are brought once.
    RESIDENT: gl.constexpr = STAGES == BLOCKS * PANELS
    rows = gl.arange(0, 64, layout=gl.SliceLayout(1, MMA))
    for j in gl.static_range(BLOCKS):
        biases.index(2 * j + WHICH).store(gl.load(bias_ptr + (2 * j + WHICH) * 64 + rows))
    gl.thread_barrier()
    tiles = gl.cdiv(B * per - gl.program_id(0), gl.num_programs(0))
    total = tiles * BLOCKS * PANELS
    for m in gl.static_range(STAGES):
        bring(w_desc, ring, wfull, m, total, WHICH, PANELS, BLOCKS, STAGES)
    n = 0
    m = 0
    sent = 0
    for t in range(gl.program_id(0), B * per, gl.num_programs(0)):
        b = t // per
        p0 = (t % per) * BP
        s = n % BUFS
        mbarrier.wait(full.index(s), (n // BUFS) & 1)
        for j in range(PAIRS):
            acc, m = multiply(
                biases, w_desc, ring, xn, wfull, j, m, s, total,
                WHICH, BP, PANELS, BLOCKS, STAGES, RESIDENT, MMA)  # fmt: skip
            value, gate = gl.split(acc.reshape([4, 2, 8, BP]).permute([0, 2, 3, 1]))
            value = gl.convert_layout(value.reshape([32, BP]), VALUE, assert_trivial=True)
            gate = gl.convert_layout(gate.reshape([32, BP]), VALUE, assert_trivial=True)
            keep = scale.index(s).load(gl.SliceLayout(0, VALUE))
            value = (value * fast_sigmoid(gate) * keep[None, :]).to(gl.float16)
            h0 = (2 * j + WHICH) * 32
            send(out_desc, stage, value, ((h0 // H) * B + b) * H + h0 % H, p0, WHICH * OUTS + sent % OUTS, OUTS)
            sent += 1
        for j in gl.static_range(PAIRS, BLOCKS):
            acc, m = multiply(
                biases, w_desc, ring, xn, wfull, j, m, s, total,
                WHICH, BP, PANELS, BLOCKS, STAGES, RESIDENT, MMA)  # fmt: skip
            if j == BLOCKS - 1:
                mbarrier.arrive(empty.index(s), count=1)
            # Rows r and r + 8 of a fragment lie in one thread: two halves of 32 lines, as for the pairs.
            low, high = gl.split(fast_sigmoid(acc).to(gl.float16).reshape([4, 2, 8, BP]).permute([0, 2, 3, 1]))
            line = (2 * B + b) * H + (2 * (j - PAIRS) + WHICH) * 64
            for part in gl.static_range(2):
                value = (low if part == 0 else high).reshape([32, BP])
                value = gl.convert_layout(value, VALUE, assert_trivial=True)
                send(out_desc, stage, value, line + part * 32, p0, WHICH * OUTS + sent % OUTS, OUTS)
                sent += 1
        n += 1
    tma.store_wait(0)


@gluon.jit
def project_hopper(
    x_ptr, mask_ptr, bias_ptr, w_desc, out_desc, B, P, eps, per,
    C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, PANELS: gl.constexpr, ROWS: gl.constexpr,
    BUFS: gl.constexpr, STAGES: gl.constexpr, OUTS: gl.constexpr,
    EVEN_C: gl.constexpr, EVEN_P: gl.constexpr, PREFETCH: gl.constexpr,
    LN_REGS: gl.constexpr, MMA_REGS: gl.constexpr, MMA: gl.constexpr, VALUE: gl.constexpr,
):  # fmt: skip
    """`project` for Hopper: one program a multiprocessor takes tile after tile of BP positions.

    Two groups of warps normalise, two multiply; a group waits for the tile before it stores the next. Products
    have weight rows as rows and positions as columns, as the operands are stored.
    """
    LAY: gl.constexpr = w_desc.layout
    ring = gl.allocate_shared_memory(gl.float16, [2 * STAGES, 64, 64], LAY)
    xn = gl.allocate_shared_memory(gl.float16, [BUFS * PANELS, BP, 64], LAY)
    stage = gl.allocate_shared_memory(gl.float16, [2 * OUTS, 32, BP], LAY)
    scale = gl.allocate_shared_memory(gl.float32, [BUFS, BP], gl.SwizzledSharedLayout(1, 1, 1, order=[0]))
    biases = gl.allocate_shared_memory(gl.float32, [5 * H // 64, 64], gl.SwizzledSharedLayout(1, 1, 1, order=[0]))
    full = gl.allocate_shared_memory(gl.int64, [BUFS, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [BUFS, 1], mbarrier.MBarrierLayout())
    wfull = gl.allocate_shared_memory(gl.int64, [2 * STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(BUFS):
        mbarrier.init(full.index(i), count=2)
        mbarrier.init(empty.index(i), count=2)
    for i in gl.static_range(2 * STAGES):
        mbarrier.init(wfull.index(i), count=1)
    gl.warp_specialize([
        (multiply_part, (
            out_desc, bias_ptr, biases, w_desc, stage, ring, xn, scale, full, empty, wfull, B, per,
            0, H, BP, PANELS, BUFS, STAGES, OUTS, MMA, VALUE)),
        (multiply_part, (
            out_desc, bias_ptr, biases, w_desc, stage, ring, xn, scale, full, empty, wfull, B, per,
            1, H, BP, PANELS, BUFS, STAGES, OUTS, MMA, VALUE)),
        (normalise_part, (
            x_ptr, mask_ptr, xn, scale, full, empty, B, P, eps, per,
            C, BP, PANELS, ROWS, BUFS, EVEN_C, EVEN_P, PREFETCH, 0)),
        (normalise_part, (
            x_ptr, mask_ptr, xn, scale, full, empty, B, P, eps, per,
            C, BP, PANELS, ROWS, BUFS, EVEN_C, EVEN_P, PREFETCH, 1)),
    ], [4, 4, 4], [MMA_REGS, LN_REGS, LN_REGS])  # fmt: skip


@gluon.jit
def fetch_part(
    prod_desc, gate_desc, prods, gates, full, empty, B, per,
    H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
):  # fmt: skip
    """One warp: bring the columns of product and out gate for both groups in turn."""
    n = 0
    for t in range(gl.program_id(0), B * per, gl.num_programs(0)):
        b = t // per
        p0 = (t % per) * BP
        turn = n // 2
        slot = (n % 2) * DEPTH + turn % DEPTH
        mbarrier.wait(empty.index(slot), ((turn // DEPTH) & 1) ^ 1)
        mbarrier.expect(full.index(slot), 2 * H * BP * 2)
        tma.async_copy_global_to_shared(prod_desc, [b * H, p0], full.index(slot), prods.index(slot))
        tma.async_copy_global_to_shared(gate_desc, [(2 * B + b) * H, p0], full.index(slot), gates.index(slot))
        n += 1


@gluon.jit
def finish_part(
    out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, eps,
    WHICH: gl.constexpr, C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
    OUTS: gl.constexpr, MMA: gl.constexpr,
):  # fmt: skip
    """Four warps: every other tile, read transposed into registers as the left operand of the projection."""
    A_LAY: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    cols = gl.arange(0, H, layout=gl.SliceLayout(0, A_LAY))
    n = 0
    sent = 0
    for t in range(gl.program_id(0) + WHICH * gl.num_programs(0), B * per, 2 * gl.num_programs(0)):
        p0 = t * BP
        slot = WHICH * DEPTH + n % DEPTH
        mbarrier.wait(full.index(slot), (n // DEPTH) & 1)
        prod = prods.index(slot).permute([1, 0]).load(A_LAY).to(gl.float32)
        gate = gates.index(slot).permute([1, 0]).load(A_LAY)
        fence_async_shared()
        mbarrier.arrive(empty.index(slot), count=1)
        off = prod - (gl.sum(prod, 1) / H)[:, None]
        rstd = gl.rsqrt(gl.sum(off * off, 1) / H + eps)
        gamma = gl.load(gamma_ptr + cols)
        beta = gl.load(beta_ptr + cols)
        y = (off * rstd[:, None] * gamma[None, :] + beta[None, :]) * gate.to(gl.float32)
        y = y.to(gl.float16)
        for i in range(C // 32):
            acc = gl.zeros([BP, 32], gl.float32, layout=MMA)
            acc = warpgroup_mma(y, w.index(i).permute([1, 0]), acc, use_acc=False, is_async=True)
            acc = warpgroup_mma_wait(0, deps=[acc])
            send(out_desc, stage, acc, p0, i * 32, WHICH * OUTS + sent % OUTS, OUTS)
            sent += 1
        n += 1
    tma.store_wait(0)


@gluon.jit
def finish_hopper(
    prod_desc, gate_desc, w_desc, out_desc, gamma_ptr, beta_ptr, B, per, eps,
    C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr, OUTS: gl.constexpr,
    MMA: gl.constexpr,
):  # fmt: skip
    """`finish` for Hopper: the output projection's weights stay in shared memory."""
    w = gl.allocate_shared_memory(gl.float16, [C // 32, 32, H], w_desc.layout)
    prods = gl.allocate_shared_memory(gl.float16, [2 * DEPTH, H, BP], prod_desc.layout)
    gates = gl.allocate_shared_memory(gl.float16, [2 * DEPTH, H, BP], gate_desc.layout)
    stage = gl.allocate_shared_memory(gl.float32, [2 * OUTS, BP, 32], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2 * DEPTH):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    mbarrier.init(ready.index(0), count=1)
    mbarrier.expect(ready.index(0), C * H * 2)
    for i in gl.static_range(C // 32):
        tma.async_copy_global_to_shared(w_desc, [i * 32, 0], ready.index(0), w.index(i))
    mbarrier.wait(ready.index(0), 0)
    gl.warp_specialize([
        (finish_part, (
            out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, eps,
            0, C, H, BP, DEPTH, OUTS, MMA)),
        (finish_part, (
            out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, eps,
            1, C, H, BP, DEPTH, OUTS, MMA)),
        (fetch_part, (prod_desc, gate_desc, prods, gates, full, empty, B, per, H, BP, DEPTH)),
    ], [4, 1], [240, 24])  # fmt: skip


INTERPRETED = isinstance(project, InterpretedFunction)
SWIZZLED = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
SWIZZLED_FLOAT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=32, rank=2)

# Found by sweeps on an H200. Portable `project`, by chunks of 128 channels: positions, weight rows, stages, warps.
PROJECT = {1: (64, 64, 2, 4), 2: (64, 64, 2, 4), 3: (64, 64, 2, 4), "other": (32, 64, 1, 4)}
# `project_hopper`, by panels of 64 channels: positions, rows a step, buffers, stages of weights and stores in flight
# for each group. Ten stages hold all the weights of 128 channels.
PROJECT_HOPPER = {
    2: (128, 32, 1, 10, 1),
    4: (128, 32, 1, 4, 2),
    6: (128, 32, 1, 4, 2),
    "other": (64, 16, 1, 4, 2),
}

# `finish`: positions, output channels, stages, warps.
FINISH = (64, 128, 1, 4)

_KERNELS = {}
_SPACES = {}


def launch(key, stream, kernel, grid, *args, **options):
    """Run `kernel`; called again under the same `key`, skip Triton's dispatch, which takes longer than the launch.

    The key must settle all that the compiled code depends on: shapes, types and 16-byte alignment.
    """
    built = _KERNELS.get(key)
    if built is None:
        _KERNELS[key] = kernel[(grid,)](*args, **options)
    else:
        built.run(grid, 1, 1, stream, built.function, built.packed_metadata, None, None, None, *args)


def layouts(positions):
    """Register layouts of the products of `project_hopper`: the tensor cores' own, and one line of pairs."""
    mma = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, positions, 16])
    high = [[0, 1 << k] for k in range(5, positions.bit_length() - 1)]
    lanes = [[0, 2], [0, 4], [1, 0], [2, 0], [4, 0]]
    value = gl.DistributedLinearLayout([[0, 1], [0, 8], [0, 16], *high], lanes, [[8, 0], [16, 0]], [], [32, positions])
    return mma, value


class Space:
    """What lies between the passes for one shape: the weights in half, the gated operands and their product.

    The memory is kept from call to call; every call writes all of it that it reads.
    """

    def __init__(self, B, N, C, H, device):
        half = {"dtype": torch.float16, "device": device}
        self.panels = triton.cdiv(C, 128) * 2
        self.weights = torch.empty((5 * H, self.panels * 64), **half)
        self.bias = torch.empty(5 * H, dtype=torch.float32, device=device)
        self.to_out = torch.empty((C, H), **half)
        self.gated = torch.empty((3, B, H, N * N), **half)
        self.gate = self.gated[2]
        self.left = self.gated[0].view(B * H, N, N)
        self.right = self.gated[1].view(B * H, N, N).transpose(1, 2)
        self.product = torch.empty((B * H, N, N), **half)
        P = N * N
        hopper = not INTERPRETED and torch.cuda.get_device_capability(device)[0] == 9 and H == 128
        self.project_hopper = hopper and P % 8 == 0
        self.finish_hopper = hopper and P % 64 == 0 and C % 32 == 0 and C <= 384
        self.sms = torch.cuda.get_device_properties(device).multi_processor_count if hopper else 1
        if self.project_hopper:
            BP, rows, buffers, stages, sends = PROJECT_HOPPER.get(self.panels, PROJECT_HOPPER["other"])
            self.tiles = triton.cdiv(P, BP)
            full = C == self.panels * 64
            self.project_args = (
                self.bias, TensorDescriptor.from_tensor(self.weights, [64, 64], SWIZZLED),
                TensorDescriptor.from_tensor(self.gated.view(-1, P), [32, BP], SWIZZLED), B, P, EPS, self.tiles,
                C, H, BP, self.panels, rows, buffers, stages, sends, full, P % BP == 0, True, 128, 128, *layouts(BP),
            )  # fmt: skip
        if self.finish_hopper:
            self.columns = (
                TensorDescriptor.from_tensor(self.product.view(-1, P), [H, 64], SWIZZLED),
                TensorDescriptor.from_tensor(self.gated.view(-1, P), [H, 64], SWIZZLED),
                TensorDescriptor.from_tensor(self.to_out, [32, H], SWIZZLED),
            )
            self.finish_layout = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 16])


def custom_kernel(data):
    """Outgoing TriMul of `data`: x [B, N, N, C] float32, mask [B, N, N], weights and config; same shape as x."""
    x, mask, weights, config = data
    C, H = config["dim"], config["hidden_dim"]
    B, N = x.shape[0], x.shape[1]
    P = N * N
    x, mask = x.contiguous(), mask.contiguous()
    names = ("left_proj", "left_gate", "right_proj", "right_gate", "out_gate", "to_out", "norm")
    tensors = [weights[n + ".weight"] for n in names]
    beta, gamma_out, beta_out = weights["norm.bias"], weights["to_out_norm.weight"], weights["to_out_norm.bias"]
    aligned = not any(t.data_ptr() % 16 for t in (x, mask, *tensors, beta, gamma_out, beta_out))
    shape = (B, N, C, H, x.device)
    key = (shape, mask.dtype, aligned)
    stream = 0 if INTERPRETED else triton.runtime.driver.active.get_current_stream(x.device.index)
    space = _SPACES.get(shape)
    if space is None:
        _SPACES.clear()
        space = _SPACES[shape] = Space(*shape)
    launch(
        ("prepare", key), stream, prepare, 5 * H + C,
        *tensors, beta, space.weights, space.bias, space.to_out, C,
        H, space.panels * 64, triton.next_power_of_2(space.panels * 64), num_warps=1)  # fmt: skip
    if space.project_hopper:
        launch(
            ("project_hopper", key), stream, project_hopper, min(space.sms, B * space.tiles),
            x, mask, *space.project_args, num_warps=4, maxnreg=128)  # fmt: skip
    else:
        BP, BR, stages, warps = PROJECT.get(space.panels // 2, PROJECT["other"])
        launch(
            ("project", key), stream, project, B * triton.cdiv(P, BP),
            x, mask, space.bias, space.weights, space.gated, B, P, C, EPS,
            H, space.panels // 2, 128, BP, BR, stages, C % 128 == 0, not INTERPRETED, num_warps=warps)  # fmt: skip
    torch.bmm(space.left, space.right, out=space.product)
    out = torch.empty_like(x)
    eps = EPS * OPERAND_SCALE**4
    if space.finish_hopper:
        rows = TensorDescriptor(out, [B * P, C], [C, 1], [64, 32], SWIZZLED_FLOAT)
        launch(
            ("finish_hopper", key), stream, finish_hopper, min(space.sms, B * P // 64),
            *space.columns, rows, gamma_out, beta_out, B, P // 64, eps,
            C, H, 64, 1, 1, space.finish_layout, num_warps=4, maxnreg=168)  # fmt: skip
    else:
        BP, BC, stages, warps = FINISH
        launch(
            ("finish", key), stream, finish, B * triton.cdiv(P, BP),
            space.product, space.gate, gamma_out, beta_out, space.to_out, out, P, eps,
            C, H, BP, BC, stages, C % BC == 0, num_warps=warps)  # fmt: skip
    return out
