"""Outgoing triangle multiplicative update in three passes over the pair tensor, half precision between them.

1. `project`: LayerNorm over C, the five projections, mask and sigmoid gates of one tile of positions. Left,
   right and out gate are stored with positions last ([3, B, H, N*N]), so the product over k needs no transpose.
2. A batched matrix product left @ right^T for each (b, h), on the tensor cores through cuBLAS; from 640 rows on with
   the fastest of the algorithms that cublasLt proposes.
3. `finish`: LayerNorm over H down the columns, times the out gate, projection to C, float32 out.

The first and the last pass exist twice: in Triton, for any GPU, any shape and the interpreter, and for Hopper, where
groups of four warps share the work and tiles move by bulk tensor copies. There, for C a multiple of 32 up to 384, the
last is in Gluon (N*N a multiple of 64), and the first in CUDA C++, compiled by NVRTC: each of its roles has as
many registers as it needs (setmaxnreg), and weights that do not stay in shared memory come to two
multiprocessors by one copy (multicast). Gluon 3.6 holds all roles to one number and has no multicast.

With 128 channels, writing the out gate and reading it again moves as many bytes as reading x. So there the first pass
leaves the out gate to the last (`finish_late`), which reads x again.

Compiling takes longer than a thousand calls. So sizes are arguments of kernels where that costs no time, lines
of what lies between the passes begin at multiples of 16, whatever N is, and at the first call threads begin to
compile what the channel counts that the task names need (`ahead`).

Half precision starts after the first LayerNorm, which bounds every value by sqrt(C) times its weight, so heavy
tails cannot overflow. Left and right each carry a factor 1/8: the sum over k stays far below 65504, and the
second LayerNorm takes the factor out again (its eps carries the square of 1/64).
"""

import collections
import concurrent.futures
import ctypes
import functools
import os
import threading

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

# Gluon's names until Triton 3.6 and from 3.7 (barrier) or 3.8 (copies) on, which in 3.9 are the only ones.
thread_barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
load_tile = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
store_tile = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    if FAST:
        # One special-function operation in place of the two of exp and reciprocal; error under 2**-11.
        half = tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x * 0.5], tl.float32, True, 1)
        return half * 0.5 + 0.5
    else:
        return tl.sigmoid(x)


# Not to specialise an integer is not to compile again where it is 1, or divisible by 16, or no longer.
@triton.jit(do_not_specialize=["late"])
def prepare(
    lp, lg, rp, rg, og, to_out, gamma_ptr, beta_ptr, w_in, bias, w_out, C, CP, late,
    H: tl.constexpr, BLOCK: tl.constexpr,
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
        to = (which // 2) * 2 * H + (h // 8) * 16 + (which % 2) * 8 + h % 8
        if which == 4:
            to = 4 * H + (h // 64) * 64 + (h % 32 // 8) * 16 + (h % 64 // 32) * 8 + h % 8
            if late:
                to = 4 * H + h
        total = tl.zeros([BLOCK], tl.float32)
        for c0 in range(0, CP, BLOCK):
            c = c0 + tl.arange(0, BLOCK)
            value = tl.load(src + h * C + c, mask=c < C, other=0.0)
            gamma = tl.load(gamma_ptr + c, mask=c < C, other=0.0)
            beta = tl.load(beta_ptr + c, mask=c < C, other=0.0)
            tl.store(w_in + to * CP + c, (value * gamma).to(tl.float16), mask=c < CP)
            total += value * beta
        tl.store(bias + to, tl.sum(total, axis=0))
    else:
        at = (row - 5 * H) * H + tl.arange(0, H)
        tl.store(w_out + at, tl.load(to_out + at).to(tl.float16))


@triton.jit(do_not_specialize=["B", "P", "words", "integers"])
def project(
    x_ptr, mask_ptr, bias_ptr, w_ptr, out_ptr, B, P, pitch, C, words, integers, eps,
    H: tl.constexpr, CHUNKS: tl.constexpr, CHUNK: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr,
    STAGES: tl.constexpr, EVEN_C: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """One tile of BP positions of one batch entry of P = N*N; `pitch` is from line to line of what is stored."""
    tiles = tl.cdiv(P, BP)
    b = tl.program_id(0) // tiles
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    inside = p < P
    room = (p < pitch)[None, :]
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
    # The low 32 bits of each value of the mask: all that zeros and ones need, as integers or as floats.
    bits = tl.load(mask_ptr + (b.to(tl.int64) * P + p) * words, mask=inside, other=0)
    scale = tl.where(integers != 0, bits.to(tl.float32), bits.to(tl.float32, bitcast=True)) * 0.125
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
        tl.store(out_ptr + line[:, None] * pitch + p[None, :], value.to(tl.float16), mask=room)
    for r in tl.range(0, H // BR, num_stages=STAGES):
        acc = tl.zeros([BR, BP], tl.float32) + tl.load(bias_ptr + 4 * H + r * BR + rows)[:, None]
        for i in tl.static_range(CHUNKS):
            acc = tl.dot(tl.load(w_base + (4 * H + r * BR) * CP + i * CHUNK), xs[i], acc)
        h = r * BR + rows
        h = h // 64 * 64 + h % 16 // 8 * 32 + h % 64 // 16 * 8 + h % 8
        line = (2 * B + b).to(tl.int64) * H + h
        value = sigmoid(acc, FAST)
        tl.store(out_ptr + line[:, None] * pitch + p[None, :], value.to(tl.float16), mask=room)


@triton.jit(do_not_specialize=["P"])
def finish(
    prod_ptr, gate_ptr, gamma_ptr, beta_ptr, w_ptr, out_ptr, P, pitch, C, eps,
    H: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """LayerNorm over H of BP columns of the product [B, H, P], times the gate, projected to C."""
    tiles = tl.cdiv(P, BP)
    b = tl.program_id(0) // tiles
    p = (tl.program_id(0) % tiles) * BP + tl.arange(0, BP)
    inside = p < P
    room = (p < pitch)[None, :]
    h = tl.arange(0, H)
    at = (b.to(tl.int64) * H + h)[:, None] * pitch + p[None, :]
    prod = tl.load(prod_ptr + at, mask=room, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + at, mask=room, other=0.0).to(tl.float32)
    off = prod - (tl.sum(prod, axis=0) / H)[None, :]
    rstd = tl.rsqrt(tl.sum(off * off, axis=0) / H + eps)
    gamma = tl.load(gamma_ptr + h)
    beta = tl.load(beta_ptr + h)
    y = (off * rstd[None, :] * gamma[:, None] + beta[:, None]) * gate
    y = tl.trans(y.to(tl.float16))
    out_base = out_ptr + (b.to(tl.int64) * P + p)[:, None] * C
    for c0 in tl.range(0, C, BC, num_stages=STAGES):
        c = c0 + tl.arange(0, BC)
        w = tl.load(w_ptr + c[None, :] * H + h[:, None], mask=(c < C)[None, :], other=0.0)
        tl.store(out_base + c[None, :], tl.dot(y, w), mask=inside[:, None] & (c < C)[None, :])


#: `project` for Hopper; the macros are CHANNELS, SHARED and those of PROJECT_HOPPER.
PROJECT_SOURCE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(64) TensorMap { u64 opaque[16]; };
#define INLINE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

constexpr int C = CHANNELS, H = 128, PANELS = (C + 127) / 128 * 2, PANEL = 64 * 128, STAGE = 2 * PANEL;
constexpr int BLOCKS = 4 + GATES, PAIRS = 2 + GATES;  // of 128 weight rows, with the out gate or without; of parts staged
constexpr int CYCLE = STAGES / PANELS;  // blocks of weights that the ring holds
constexpr bool RESIDENT = CYCLE == BLOCKS;
constexpr int W_AT = 0, X_AT = STAGES * STAGE, X_SIZE = PANELS * PANEL, S_AT = X_AT + 2 * X_SIZE;
constexpr int BIAS_AT = S_AT + 4 * PANEL, W_FULL = BIAS_AT + 5 * 128 * 4, W_EMPTY = W_FULL + STAGES * 8;
constexpr int X_FULL = W_EMPTY + STAGES * 8, X_EMPTY = X_FULL + 16, S_FULL = X_EMPTY + 16, S_EMPTY = S_FULL + 32;
static_assert(C % 32 == 0 && C <= 384 && 4 % AHEAD == 0 && 2 * MMA_REGS + LN_REGS + REST_REGS <= 512);
static_assert(STAGES % PANELS == 0 && S_EMPTY + 32 <= SHARED && (!RESIDENT || CLUSTER == 1));

INLINE void init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count));
}
INLINE void wait(u32 bar, u32 parity) {
  asm volatile("{ .reg .pred p;\n W: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n @p bra D;\n bra W;\n D: }"
    :: "r"(bar), "r"(parity) : "memory");
}
INLINE void arrive(u32 bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory"); }
INLINE void arrive_at(u32 bar, u32 block) {
  asm volatile("{ .reg .b32 r; mapa.shared::cluster.u32 r, %0, %1;"
    " mbarrier.arrive.shared::cluster.b64 _, [r]; }" :: "r"(bar), "r"(block) : "memory");
}
INLINE void expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes) : "memory");
}
INLINE void copy(u32 to, const TensorMap* map, int column, int row, u32 bar) {
  if constexpr (CLUSTER == 1)
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" :: "r"(to), "l"(map), "r"(column), "r"(row), "r"(bar) : "memory");
  else
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" :: "r"(to), "l"(map), "r"(column), "r"(row), "r"(bar),
      "h"((unsigned short)((1 << CLUSTER) - 1)) : "memory");
}
INLINE void store(const TensorMap* map, u32 from, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
    :: "l"(map), "r"(from), "r"(column), "r"(row) : "memory");
}
INLINE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
INLINE void meet() {
  if constexpr (CLUSTER == 1) __syncthreads();
  else asm volatile("barrier.cluster.arrive.release;\n barrier.cluster.wait.acquire;" ::: "memory");
}
INLINE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> INLINE void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
}
INLINE void hold(float (&sums)[64]) {
  UNROLL for (int i = 0; i < 64; i++) asm volatile("" : "+f"(sums[i]) :: "memory");
}
// An operand in shared memory: rows of 64 channels, 128 bytes each, swizzled; eight rows are 1024 bytes.
INLINE u64 by_rows(u32 at) { return (u64)((at & 0x3FFFF) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62; }
INLINE float tanh_fast(float x) { asm("tanh.approx.f32 %0, %0;" : "+f"(x)); return x; }
INLINE float rsqrt_fast(float x) { asm("rsqrt.approx.ftz.f32 %0, %0;" : "+f"(x)); return x; }
INLINE u32 pack(float first, float second) {
  u32 pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
INLINE float2 get2(u32 at) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at));
  return v;
}
INLINE void put(u32 at, float v) { asm volatile("st.shared.f32 [%0], %1;" :: "r"(at), "f"(v) : "memory"); }
INLINE void put2(u32 at, u32 a, u32 b) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" :: "r"(at), "r"(a), "r"(b) : "memory");
}
INLINE void read_fragment(u32 (&a)[4], u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
    : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(at) : "memory");
}
INLINE void write_turned(u32 at, const u32* a) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
    :: "r"(at), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]) : "memory");
}
INLINE float4 read_x(const float* at) {
  float4 v;
  asm volatile("ld.global.L1::no_allocate.v4.f32 {%0, %1, %2, %3}, [%4];"
    : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(at) : "memory");
  return v;
}
// 64 x 128 += 64 x 16 in registers by 16 x 128 in shared memory.
INLINE void product(float (&d)[64], const u32 (&a)[4], u64 b, int keep) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0;"
    " wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {@REGISTERS@}, {%64, %65, %66, %67}, %68, p, 1, 1, 0; }"
    : @SUMS@ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}

// Tile i of this block is `first + i * step`; it lies in one batch entry, `per` tiles each.
struct Work {
  int B, P, total, per, first, step, passes;
  INLINE bool live(int i) const { return first + i * step < total; }
  // A tile behind the last, of which only a cluster's later blocks have one, repeats the last and is not stored.
  INLINE void place(int i, int& b, int& p0) const {
    const int t = min(first + i * step, total - 1);
    b = t / per;
    p0 = (t - b * per) * 128;
  }
};

// One thread. Each block of a cluster fetches its share of the rows of every stage, for all of them.
INLINE void bring(u32 smem, const TensorMap* map, const Work& work, u32 rank) {
  if (RESIDENT) {
    ROLLED for (int s = 0; s < STAGES; s++) {
      expect(smem + W_FULL + s * 8, STAGE);
      copy(smem + W_AT + s * STAGE, map, s % PANELS * 64, s / PANELS * 128, smem + W_FULL + s * 8);
    }
    return;
  }
  int slot = 0;
  u32 parity = 1;
  ROLLED for (int i = 0; i < work.passes; i++) {
    ROLLED for (int n = 0; n < BLOCKS * PANELS; n++) {
      const u32 full = smem + W_FULL + slot * 8;
      wait(smem + W_EMPTY + slot * 8, parity);
      expect(full, STAGE);
      copy(smem + W_AT + slot * STAGE + rank * (STAGE / CLUSTER), map, n % PANELS * 64,
           n / PANELS * 128 + rank * (128 / CLUSTER), full);
      if (++slot == STAGES) slot = 0, parity ^= 1;
    }
  }
}

// One thread. What a multiplying group staged, 64 lines by 64 positions at a time, goes to memory.
INLINE void send(u32 smem, const TensorMap* map, const Work& work, int group) {
  const u32 from = smem + S_AT + group * 2 * PANEL;
  const u32 full = smem + S_FULL + group * 16, empty = smem + S_EMPTY + group * 16;
  ROLLED for (int i = 0; i < work.passes; i++) {
    int b, p0;
    work.place(i, b, p0);
    const int p = p0 + 64 * group;
    const bool live = work.live(i) && p < work.P;
    ROLLED for (int part = 0; part < 2 * PAIRS; part++) {
      const int slot = part & 1;
      wait(full + slot * 8, (PAIRS * i + (part >> 1)) & 1);
      if (live) store(map, from + slot * PANEL, p, ((part >> 1) * work.B + b) * H + slot * 64);
      asm volatile("cp.async.bulk.commit_group;\n cp.async.bulk.wait_group.read 0;" ::: "memory");
      arrive(empty + slot * 8);
    }
  }
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// A thread's rows of one half of a tile, 64 positions.
struct Rows {
  const float* x;
  int P, row, column;
  const float* base;
  int p0;
  INLINE void go(const Work& work, int half) {
    int b;
    work.place(half >> 1, b, p0);
    p0 += (half & 1) * 64;
    base = x + (u64)((u32)b * (u32)P) * C + column;
  }
  // Behind the last position the last is read again; what comes of it is not stored.
  INLINE const float* line(int k) const {
    return base + (u64)(u32)min(p0 + row + 8 * (k >> 1) + 2 * (k & 1), P - 1) * C;
  }
};

INLINE float sum_of_eight(float v) {
  v += __shfl_xor_sync(0xFFFFFFFFu, v, 1);
  v += __shfl_xor_sync(0xFFFFFFFFu, v, 2);
  return v + __shfl_xor_sync(0xFFFFFFFFu, v, 4);
}

// Four warps. Half after half of a tile, 16 positions a warp in groups of four, AHEAD of these groups in flight.
INLINE void normalise(
    u32 smem, const float* x, const Work& work, float eps, int thread) {
  constexpr int CHUNKS = C / 32;
  const int warp = thread >> 5, lane = thread & 31, eighth = lane & 7, sub = lane >> 3, halves = 2 * work.passes;
  // Eight threads a row; the four rows of a group are such that writing them meets no bank twice.
  const int row = 16 * warp + (sub & 1) * 4 + (sub >> 1);
  Rows rows = {x, work.P, row, 4 * eighth};
  float4 raw[AHEAD][CHUNKS];
  rows.go(work, 0);
  UNROLL for (int k = 0; k < AHEAD; k++) {
    const float* line = rows.line(k);
    UNROLL for (int c = 0; c < CHUNKS; c++) raw[k][c] = read_x(line + 32 * c);
  }
  ROLLED for (int half = 0; half < halves; half++) {
    const int side = half & 1;
    const u32 to = smem + X_AT + side * X_SIZE + row * 128 + (eighth & 1) * 8;
    // The next half is asked into the L2 cache: registers have room for it only as this one leaves them.
    if (lane == 0 && half + 1 < halves) {
      int b, p;
      work.place((half + 1) >> 1, b, p);
      p += ((half + 1) & 1) * 64 + 16 * warp;
      if (p + 16 <= work.P)
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;"
          :: "l"(x + (u64)((u32)b * (u32)work.P + (u32)p) * C), "r"(16 * C * 4) : "memory");
    }
    ROLLED for (int group = 0; group < 4; group += AHEAD) {
      UNROLL for (int ahead = 0; ahead < AHEAD; ahead++) {
        const int k = group + ahead;
        float4 (&v)[CHUNKS] = raw[ahead];
        float sum = 0.f;
        float2 square = {0.f, 0.f};
        UNROLL for (int c = 0; c < CHUNKS; c++) sum += (v[c].x + v[c].y) + (v[c].z + v[c].w);
        const float mean = sum_of_eight(sum) * (1.f / C);
        UNROLL for (int c = 0; c < CHUNKS; c++) {
          v[c].x -= mean; v[c].y -= mean; v[c].z -= mean; v[c].w -= mean;
          square.x = fmaf(v[c].x, v[c].x, fmaf(v[c].y, v[c].y, square.x));
          square.y = fmaf(v[c].z, v[c].z, fmaf(v[c].w, v[c].w, square.y));
        }
        const float rstd = rsqrt_fast(fmaf(sum_of_eight(square.x + square.y), 1.f / C, eps));
        if (k == 0) wait(smem + X_EMPTY + side * 8, ((half >> 1) & 1) ^ 1);
        const u32 line = to + (8 * (k >> 1) + 2 * (k & 1)) * 128;
        const u32 turn = ((eighth >> 1) ^ ((row + 2 * (k & 1)) & 7)) << 4;
        UNROLL for (int c = 0; c < 2 * PANELS; c++) {
          const u32 at = line + (c >> 1) * PANEL + (turn ^ ((c & 1) << 6));
          if (c < CHUNKS) put2(at, pack(v[c].x * rstd, v[c].y * rstd), pack(v[c].z * rstd, v[c].w * rstd));
          else put2(at, 0, 0);
        }
        const int next = k + AHEAD;
        // Behind the last half it is read again; nothing comes of that.
        if (next == 4) rows.go(work, min(half + 1, halves - 1));
        const float* from = rows.line(next & 3);
        UNROLL for (int c = 0; c < CHUNKS; c++) v[c] = read_x(from + 32 * c);
        // Without this the compiler puts all loads behind the last group.
        asm volatile("bar.sync %0, 32;" :: "r"(warp + 1) : "memory");
      }
    }
    __syncwarp();
    if (lane == 0) arrive(smem + X_FULL + side * 8);
  }
}

// Entry `at` of the mask, of one, four or eight bytes, as the words that it lies in. Each has a register of its own,
// and nothing is done with it here: either would wait for what was asked before.
struct Entry { u32 low, high; int shift; };
INLINE void ask(Entry& entry, const char* mask, u64 at, int bytes) {
  at *= bytes;
  entry.shift = (int)(at & 3) * 8;
  const char* word = mask + (at & ~3ull);
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(entry.low) : "l"(word));
  asm volatile("{ .reg .pred p;\n setp.eq.s32 p, %2, 8;\n @p ld.global.nc.u32 %0, [%1 + 4]; }"
    : "+r"(entry.high) : "l"(word), "r"(bytes));
}
// Times the 1/8 of left and right, and the 1/2 of the gate.
INLINE float scale_of(const Entry& entry, int bytes, int integers) {
  long long whole = (int)entry.low;
  if (bytes == 1) whole = entry.low >> entry.shift & 255;
  if (bytes == 8) whole = (long long)((u64)entry.high << 32 | entry.low);
  return (integers ? (float)whole : __uint_as_float(entry.low)) * 0.0625f;
}

// What a warp has written at the last call of `stage` is for the copies to see; `full` is its barrier, or 0.
INLINE void hand_over(u32& full, int lane) {
  if (full == 0) return;
  fence_async();
  __syncwarp();
  if (lane == 0) arrive(full);
  full = 0;
}

// 64 positions by one block of 128 weight rows.
INLINE void multiply(
    float (&sums)[64], u32 (&xn)[PANELS * 4][4], u32 smem, int place, u32 phase, u32& staged, int lane,
    bool come) {
  const u64 w = by_rows(smem + W_AT) + (u32)(place * PANELS * STAGE >> 4);
  const u32 full = smem + W_FULL + place * PANELS * 8, empty = smem + W_EMPTY + place * PANELS * 8;
  hold(sums);
  UNROLL for (int p = 0; p < PANELS; p++) {
    if (!come) wait(full + p * 8, phase);
    products_begin();
    UNROLL for (int k = 0; k < 4; k++) product(sums, xn[4 * p + k], w + (p * STAGE + k * 32 >> 4), p + k != 0);
    products_commit();
    // What was staged before is handed over now: the fence's wait is hidden behind these products.
    if (p == 0) hand_over(staged, lane);
    if (!RESIDENT && p > 0) {
      products_wait<1>();
      if (lane < CLUSTER) arrive_at(empty + (p - 1) * 8, lane);
    }
  }
  products_wait<0>();
  if (!RESIDENT && lane < CLUSTER) arrive_at(empty + (PANELS - 1) * 8, lane);
  hold(sums);
}

// 64 lines by a warp's 16 positions, to where they are staged, positions contiguous.
INLINE void stage(u32 (&lines)[16], u32 at, int apart, u32 empty, u32 parity) {
  wait(empty, parity);
  UNROLL for (int i = 0; i < 4; i++) write_turned(at + i * apart, lines + 4 * i);
}

// sigmoid(x) = (1 + tanh(x / 2)) / 2. The second half is in the value's scale, and biases of gates come halved.
INLINE float gated(float v, float gate, float bias) { return fmaf(tanh_fast(fmaf(gate, 0.5f, bias)), v, v); }

// Eights of columns are projections and their gates in turn.
INLINE void pairs(float (&sums)[64], u32 bias, u32 (&lines)[16], float low, float high) {
  UNROLL for (int i = 0; i < 8; i++) {
    const float2 own = get2(bias + i * 64), gate = get2(bias + i * 64 + 32);
    const float* v = sums + 8 * i;
    lines[2 * i] = pack(gated((v[0] + own.x) * low, v[4], gate.x), gated((v[1] + own.y) * low, v[5], gate.y));
    lines[2 * i + 1] = pack(gated((v[2] + own.x) * high, v[6], gate.x), gated((v[3] + own.y) * high, v[7], gate.y));
  }
}

// Eights of columns are lines 0, 32, 8, 40, ... of the block.
INLINE void gates(const float* sums, u32 bias, u32 (&lines)[16]) {
  UNROLL for (int i = 0; i < 8; i++) {
    const float2 gate = get2(bias + i * 32);
    const float* v = sums + 4 * i;
    lines[2 * i] = pack(gated(0.5f, v[0], gate.x), gated(0.5f, v[1], gate.y));
    lines[2 * i + 1] = pack(gated(0.5f, v[2], gate.x), gated(0.5f, v[3], gate.y));
  }
}

// Four warps. 64 positions of each tile by all weights.
INLINE void project(
    u32 smem, const char* mask, const Work& work, int mask_bytes, int integers, int group, int thread) {
  const int warp = thread >> 5, lane = thread & 31;
  // Fragments of x: the eights of lanes point at rows 0-7 and 8-15 of channels 0-7, then of channels 8-15.
  const u32 x = smem + X_AT + group * X_SIZE + (16 * warp + (lane & 15)) * 128, x_turn = lane & 7, x_piece = lane >> 4;
  // Staged blocks: eights of lanes point at lines 0-7 of the warp's first and second eight positions, then at the
  // same of the next column eight, which is eight (pairs) or 32 lines (out gates) further.
  const u32 place = (lane & 7) * 128 + (((2 * warp + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);
  const u32 staged = smem + S_AT + group * 2 * PANEL + place, far = lane >> 4;
  const u32 full = smem + S_FULL + group * 16, empty = smem + S_EMPTY + group * 16;
  const u32 bias = smem + BIAS_AT + (lane & 3) * 8;
  u32 xn[PANELS * 4][4], lines[16], ring_phase = 0, sent = 1, waiting = 0;
  int ring_at = 0;
  float sums[64];
  bool come = false;  // whether all weights are here, to stay
  auto next_block = [&](int j) {
    multiply(sums, xn, smem, RESIDENT ? j : ring_at, ring_phase, waiting, lane, come);
    if (!RESIDENT && ++ring_at == CYCLE) ring_at = 0, ring_phase ^= 1;
  };
  Entry low_entry = {}, high_entry = {};
  auto ask_for = [&](int i) {
    int b, p;
    work.place(i, b, p);
    p += 64 * group + 16 * warp + (lane >> 2);
    const u64 first = (u64)((u32)b * (u32)work.P);
    ask(low_entry, mask, first + (u32)min(p, work.P - 1), mask_bytes);
    ask(high_entry, mask, first + (u32)min(p + 8, work.P - 1), mask_bytes);
  };
  ask_for(0);
  ROLLED for (int i = 0; i < work.passes; i++) {
    const float low = scale_of(low_entry, mask_bytes, integers), high = scale_of(high_entry, mask_bytes, integers);
    if (i + 1 < work.passes) ask_for(i + 1);
    wait(smem + X_FULL + group * 8, i & 1);
    UNROLL for (int k = 0; k < PANELS * 4; k++)
      read_fragment(xn[k], x + (k >> 2) * PANEL + (((2 * (k & 3) + x_piece) ^ x_turn) << 4));
    __syncwarp();
    if (lane == 0) arrive(smem + X_EMPTY + group * 8);
    ROLLED for (int j = 0; j < 4; j++) {
      next_block(j);
      const u32 slot = j & 1;
      pairs(sums, bias + j * 512, lines, low, high);
      stage(lines, staged + slot * PANEL + far * 1024, 2048, empty + slot * 8, sent);
      waiting = full + slot * 8;
      sent ^= slot;
    }
    if constexpr (GATES == 0) {
      come = RESIDENT;
      continue;
    }
    next_block(4);
    come = RESIDENT;
    gates(sums, bias + 2048, lines);
    stage(lines, staged + far * 4096, 1024, empty, sent);
    waiting = full;
    gates(sums + 32, bias + 2304, lines);
    hand_over(waiting, lane);
    stage(lines, staged + PANEL + far * 4096, 1024, empty + 8, sent);
    waiting = full + 8;
    sent ^= 1;
  }
  hand_over(waiting, lane);
}

extern "C" __global__ void
#if CLUSTER > 1
__cluster_dims__(CLUSTER, 1, 1)
#endif
__launch_bounds__(512, 1) project_tiles(
    const __grid_constant__ TensorMap weights, const __grid_constant__ TensorMap out, const float* x, const char* mask,
    const float* biases, int B, int P, int total, int per, float eps, int mask_bytes, int integers) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const u32 smem = (u32)__cvta_generic_to_shared(memory);
  const int thread = threadIdx.x & 127, role = threadIdx.x >> 7;
  const u32 rank = blockIdx.x % CLUSTER;
  const int first = blockIdx.x, step = gridDim.x, lead = first - (int)rank;
  // All blocks of a cluster make as many passes as its first: the weights come to all at once.
  const Work work = {B, P, total, per, first, step, lead < total ? (total - lead + step - 1) / step : 0};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      init(smem + W_FULL + s * 8, 1);
      init(smem + W_EMPTY + s * 8, 8 * CLUSTER);
    }
    for (int g = 0; g < 2; g++) {
      init(smem + X_FULL + g * 8, 4);
      init(smem + X_EMPTY + g * 8, 4);
      for (int s = 0; s < 2; s++) {
        init(smem + S_FULL + (2 * g + s) * 8, 4);
        init(smem + S_EMPTY + (2 * g + s) * 8, 1);
      }
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  for (int n = threadIdx.x; n < 5 * 128; n += 512)
    put(smem + BIAS_AT + n * 4, biases[n] * (n >= 512 || n & 8 ? 0.5f : 1.f));
  meet();
  if (role == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(REST_REGS));
    if (thread == 0) bring(smem, &weights, work, rank);
    else if (thread == 32) send(smem, &out, work, 0);
    else if (thread == 64) send(smem, &out, work, 1);
    __syncwarp();
  } else if (role == 1) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(LN_REGS));
    normalise(smem, x, work, eps, thread);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(MMA_REGS));
    project(smem, mask, work, mask_bytes, integers, role - 2, thread);
  }
  // The others may still write to this block's shared memory.
  if (CLUSTER > 1) meet();
}
""".replace("@REGISTERS@", ", ".join(f"%{i}" for i in range(64))).replace(
    "@SUMS@", ", ".join(f'"+f"(d[{i}])' for i in range(64)))  # fmt: skip

#: By panels of 64 channels: stages of weights; blocks that fetch them together, where not all stay; groups of rows
#: that a warp has in flight; registers of a thread that multiplies (in two groups of warps), that normalises, and of
#: the rest, 512 in all.
PROJECT_HOPPER = {
    2: {"STAGES": 10, "CLUSTER": 1, "AHEAD": 4, "MMA_REGS": 168, "LN_REGS": 120, "REST_REGS": 56},
    4: {"STAGES": 8, "CLUSTER": 2, "AHEAD": 2, "MMA_REGS": 176, "LN_REGS": 112, "REST_REGS": 48},
    6: {"STAGES": 6, "CLUSTER": 2, "AHEAD": 1, "MMA_REGS": 192, "LN_REGS": 96, "REST_REGS": 32},
}
#: Bytes of shared memory, all that a block can have.
PROJECT_SHARED = 232448
PROJECT_MASKS = (torch.float32, torch.int32, torch.int64, torch.uint8, torch.bool)


def done(result):
    """What a call of the driver or of NVRTC returns behind its code."""
    code, *found = result
    if int(code):
        raise RuntimeError(repr(code))
    return found[0] if found else None


def compiled(nvrtc, C, late=False):
    """`project_tiles` for C channels as machine code."""
    macros = {"CHANNELS": C, "SHARED": PROJECT_SHARED, "GATES": int(not late)}
    macros |= PROJECT_HOPPER[triton.cdiv(C, 128) * 2]
    if late:
        macros["STAGES"] = 8
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    options += [f"-D{name}={value}".encode() for name, value in macros.items()]
    program = done(nvrtc.nvrtcCreateProgram(PROJECT_SOURCE.encode(), b"project.cu", 0, [], []))
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    # NVRTC writes in place, so never into `bytes`, of which Python shares the short ones.
    if int(code):
        log = bytearray(done(nvrtc.nvrtcGetProgramLogSize(program)))
        done(nvrtc.nvrtcGetProgramLog(program, log))
        raise RuntimeError(log.decode(errors="replace").strip("\0 \n") or repr(code))
    binary = bytearray(done(nvrtc.nvrtcGetCUBINSize(program)))
    done(nvrtc.nvrtcGetCUBIN(program, binary))
    return bytes(binary)


@functools.cache
def bindings():
    """Python's ways to the driver and to NVRTC; None where they are not there."""
    try:
        from cuda.bindings import driver, nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError):  # the bindings, or the library they open, are not installed
        return None
    return driver, nvrtc


@functools.cache
def project_tiles(C, device, late=False):
    """Driver, module, kernel, blocks of a cluster and blocks at once; None where Python has no way to NVRTC."""
    if not bindings():
        return None
    driver, nvrtc = bindings()
    code = finished(("project_tiles", C, late)) or compiled(nvrtc, C, late)
    module = done(driver.cuModuleLoadData(code))
    kernel = done(driver.cuModuleGetFunction(module, b"project_tiles"))
    most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    done(driver.cuFuncSetAttribute(kernel, most, PROJECT_SHARED))
    cluster = PROJECT_HOPPER[triton.cdiv(C, 128) * 2]["CLUSTER"]
    blocks = torch.cuda.get_device_properties(device).multi_processor_count // cluster * cluster
    if cluster > 1:
        # Multiprocessors come in groups that a cluster cannot leave; a group may have an odd number of them.
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = blocks, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = 512, 1, 1
        config.sharedMemBytes = PROJECT_SHARED
        shape = driver.CUlaunchAttribute()
        shape.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        shape.value.clusterDim.x, shape.value.clusterDim.y, shape.value.clusterDim.z = cluster, 1, 1
        config.attrs, config.numAttrs = [shape], 1
        blocks = min(blocks, cluster * done(driver.cuOccupancyMaxActiveClusters(kernel, config)))
    return driver, module, kernel, cluster, blocks


def half_map(driver, tensor, rows):
    """Tensor map of [lines, columns] of halves, columns contiguous, for boxes of `rows` lines by 64 columns."""
    wide, short = driver.cuuint64_t, driver.cuuint32_t
    lines, columns = tensor.shape
    return done(driver.cuTensorMapEncodeTiled(
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, tensor.data_ptr(),
        [wide(columns), wide(lines)], [wide(tensor.stride(0) * 2)], [short(64), short(rows)], [short(1), short(1)],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))  # fmt: skip


class ProjectHopper:
    """`project` for Hopper at one shape: all but the places of x and mask is settled once."""

    def __init__(self, tiles, weights, bias, gated, P, mask_dtype):
        driver, _, kernel, cluster, blocks = tiles
        B, per = gated.shape[0] // 384, triton.cdiv(P, 128)
        self.x, self.mask = ctypes.c_void_p(), ctypes.c_void_p()
        maps = half_map(driver, weights, 128 // cluster), half_map(driver, gated, 64)
        plain = (
            self.x, self.mask, ctypes.c_void_p(bias.data_ptr()), *map(ctypes.c_int, (B, P, B * per, per)),
            ctypes.c_float(EPS), ctypes.c_int(mask_dtype.itemsize), ctypes.c_int(not mask_dtype.is_floating_point),
        )  # fmt: skip
        at = (*(each.getPtr() for each in maps), *map(ctypes.addressof, plain))
        self.arguments = (ctypes.c_void_p * len(at))(*at)
        self.kept = maps, plain
        grid = min(blocks, triton.cdiv(B * per, cluster) * cluster)
        self.launch = functools.partial(driver.cuLaunchKernel, kernel, grid, 1, 1, 512, 1, 1, PROJECT_SHARED)

    def __call__(self, x, mask, stream):
        self.x.value, self.mask.value = x.data_ptr(), mask.data_ptr()
        done(self.launch(stream, ctypes.addressof(self.arguments), 0))


@functools.cache
def blas():
    """cublasLt, which PyTorch has loaded, and a handle of it; None where there is none."""
    for name in ("libcublasLt.so.13", "libcublasLt.so.12"):
        try:
            library, handle = ctypes.CDLL(name), ctypes.c_void_p()
            check(library.cublasLtCreate(ctypes.byref(handle)))
            return library, handle
        except (OSError, RuntimeError):
            continue
    return None


def check(code):
    """Refuse what a function of cublasLt returns unless it is 0."""
    if code:
        raise RuntimeError(f"cublasLt: {code}")


class Proposal(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm for one product, and what is known of it."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8), ("workspace", ctypes.c_size_t), ("state", ctypes.c_int),
        ("waves", ctypes.c_float), ("reserved", ctypes.c_int * 4),
    )  # fmt: skip


#: Numbers of cublasLt's enumerations: half, float32, sums in float32; attributes of a product, a matrix and a search.
HALF, SINGLE, SUMS, TRANSPOSED, PRODUCTS, APART, WORKSPACE = 2, 0, 68, 3, 5, 6, 1


class Product:
    """A batch of `count` products left @ right^T, each of N by N, in half precision, by cublasLt's fastest proposal.

    PyTorch takes the first. At N = 768 and 1024 another is 4 to 5 % faster on an H200, with the same bits.
    """

    def __init__(self, N, count, apart, device):
        self.library, self.handle = blas()
        # A matrix of cublasLt's has its columns contiguous, so this is the product's transpose, of right and left.
        self.product = self.made("MatmulDesc", SUMS, SINGLE)
        self.set("MatmulDesc", self.product, TRANSPOSED, ctypes.c_int32(1))
        self.matrix = self.made("MatrixLayout", HALF, ctypes.c_uint64(N), ctypes.c_uint64(N), ctypes.c_int64(N))
        self.set("MatrixLayout", self.matrix, PRODUCTS, ctypes.c_int32(count))
        self.set("MatrixLayout", self.matrix, APART, ctypes.c_int64(apart))
        self.workspace = torch.empty(4 << 20, dtype=torch.uint8, device=device)
        self.one, self.zero = ctypes.c_float(1), ctypes.c_float(0)
        self.fastest = None

    def made(self, what, *arguments):
        """A new object of cublasLt's."""
        made = ctypes.c_void_p()
        check(getattr(self.library, f"cublasLt{what}Create")(ctypes.byref(made), *arguments))
        return made

    def set(self, what, made, attribute, value):
        """Set an attribute of an object of cublasLt's."""
        size = ctypes.c_size_t(ctypes.sizeof(value))
        check(getattr(self.library, f"cublasLt{what}SetAttribute")(made, attribute, ctypes.byref(value), size))

    def proposals(self):
        """What cublasLt proposes, the fastest by its own estimate first."""
        search = self.made("MatmulPreference")
        self.set("MatmulPreference", search, WORKSPACE, ctypes.c_size_t(self.workspace.numel()))
        found, count, matrix = (Proposal * 8)(), ctypes.c_int(), self.matrix
        check(self.library.cublasLtMatmulAlgoGetHeuristic(
            self.handle, self.product, matrix, matrix, matrix, matrix, search, len(found), found,
            ctypes.byref(count)))  # fmt: skip
        return found[: count.value]

    def run(self, proposal, left, right, out, stream):
        """Launch the products with one proposal."""
        at, matrix = [ctypes.c_void_p(each.data_ptr()) for each in (right, left, out)], self.matrix
        check(self.library.cublasLtMatmul(
            self.handle, self.product, ctypes.byref(self.one), at[0], matrix, at[1], matrix, ctypes.byref(self.zero),
            at[2], matrix, at[2], matrix, ctypes.byref(proposal.algorithm),
            ctypes.c_void_p(self.workspace.data_ptr()), ctypes.c_size_t(self.workspace.numel()),
            ctypes.c_void_p(stream)))  # fmt: skip

    def __call__(self, left, right, out, stream):
        """The same with the proposal that took the least time of three launches each, at the first call."""

        def took(proposal):
            times = []
            for _ in range(3):
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                began.record()
                self.run(proposal, left, right, out, stream)
                ended.record()
                ended.synchronize()
                times.append(began.elapsed_time(ended))
            return min(times)

        if self.fastest is None:
            self.fastest = min(self.proposals(), key=took)
        self.run(self.fastest, left, right, out, stream)


@functools.cache
def product_of(N, count, apart, device):
    """The products of one size, whose fastest algorithm is searched for once."""
    return Product(N, count, apart, device)


@gluon.jit
def send(out_desc, stage, value, line, p0, slot, OUTS: gl.constexpr):
    """Store a tile by a bulk copy, once the copy OUTS before it has left its place."""
    tma.store_wait(OUTS - 1)
    thread_barrier()
    stage.index(slot).store(value)
    fence_async_shared()
    thread_barrier()
    store_tile(out_desc, [line, p0], stage.index(slot))


@gluon.jit
def finish_tile(
    prod, gate, out_desc, gamma_ptr, beta_ptr, w, stage, p0, slot, sent, C, eps,
    H: gl.constexpr, BP: gl.constexpr, OUTS: gl.constexpr, MMA: gl.constexpr,
):  # fmt: skip
    """LayerNorm over H of a tile of the product [BP, H], times the gate, projected to C and stored; `sent` counts on.

    `slot` is the first of the OUTS places that this group's tiles leave from.
    """
    A_LAY: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    cols = gl.arange(0, H, layout=gl.SliceLayout(0, A_LAY))
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
        send(out_desc, stage, acc, p0, i * 32, slot + sent % OUTS, OUTS)
        sent += 1
    return sent


@gluon.jit
def fetch_part(
    prod_desc, gate_desc, prods, gates, full, empty, B, per,
    H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
):  # fmt: skip
    """One warp: bring the columns of product and out gate for both groups in turn."""
    n = 0
    for t in range(gl.program_id(0), B * per, gl.num_programs(0)):
        line = t // per * H
        column = t % per * BP
        turn = n // 2
        slot = (n % 2) * DEPTH + turn % DEPTH
        mbarrier.wait(empty.index(slot), ((turn // DEPTH) & 1) ^ 1)
        mbarrier.expect(full.index(slot), 2 * H * BP * 2)
        load_tile(prod_desc, [line, column], full.index(slot), prods.index(slot))
        load_tile(gate_desc, [2 * B * H + line, column], full.index(slot), gates.index(slot))
        n += 1


@gluon.jit
def finish_part(
    out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, C, eps,
    WHICH: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
    OUTS: gl.constexpr, MMA: gl.constexpr,
):  # fmt: skip
    """Four warps: every other tile, read transposed into registers as the left operand of the projection."""
    A_LAY: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    n = 0
    sent = 0
    for t in range(gl.program_id(0) + WHICH * gl.num_programs(0), B * per, 2 * gl.num_programs(0)):
        slot = WHICH * DEPTH + n % DEPTH
        mbarrier.wait(full.index(slot), (n // DEPTH) & 1)
        prod = prods.index(slot).permute([1, 0]).load(A_LAY).to(gl.float32)
        gate = gates.index(slot).permute([1, 0]).load(A_LAY)
        fence_async_shared()
        mbarrier.arrive(empty.index(slot), count=1)
        sent = finish_tile(
            prod, gate, out_desc, gamma_ptr, beta_ptr, w, stage, t * BP, WHICH * OUTS, sent, C, eps,
            H, BP, OUTS, MMA)  # fmt: skip
        n += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["B", "per", "C"])
def finish_hopper(
    prod_desc, gate_desc, w_desc, out_desc, gamma_ptr, beta_ptr, B, per, C, eps,
    PIECES: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr, OUTS: gl.constexpr,
    MMA: gl.constexpr,
):  # fmt: skip
    """`finish` for Hopper: the output projection's weights stay in shared memory, up to PIECES of 32 rows."""
    w = gl.allocate_shared_memory(gl.float16, [PIECES, 32, H], w_desc.layout)
    prods = gl.allocate_shared_memory(gl.float16, [2 * DEPTH, H, BP], prod_desc.layout)
    gates = gl.allocate_shared_memory(gl.float16, [2 * DEPTH, H, BP], gate_desc.layout)
    stage = gl.allocate_shared_memory(gl.float32, [2 * OUTS, BP, 32], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [PIECES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2 * DEPTH):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    for i in gl.static_range(PIECES):
        mbarrier.init(ready.index(i), count=1)
    for i in range(C // 32):
        mbarrier.expect(ready.index(i), 32 * H * 2)
        load_tile(w_desc, [i * 32, 0], ready.index(i), w.index(i))
    for i in range(C // 32):
        mbarrier.wait(ready.index(i), 0)
    gl.warp_specialize([
        (finish_part, (
            out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, C, eps,
            0, H, BP, DEPTH, OUTS, MMA)),
        (finish_part, (
            out_desc, gamma_ptr, beta_ptr, w, prods, gates, stage, full, empty, B, per, C, eps,
            1, H, BP, DEPTH, OUTS, MMA)),
        (fetch_part, (prod_desc, gate_desc, prods, gates, full, empty, B, per, H, BP, DEPTH)),
    ], [4, 1], [240, 24])  # fmt: skip


@gluon.jit
def fetch_late_part(
    prod_desc, x_desc, prods, xs, full, empty, B, per,
    C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
):  # fmt: skip
    """One warp: bring the columns of the product and the rows of x for both groups in turn."""
    n = 0
    for t in range(gl.program_id(0), B * per, gl.num_programs(0)):
        turn = n // 2
        slot = (n % 2) * DEPTH + turn % DEPTH
        mbarrier.wait(empty.index(slot), ((turn // DEPTH) & 1) ^ 1)
        mbarrier.expect(full.index(slot), H * BP * 2 + BP * C * 4)
        for i in gl.static_range(C // 32):
            load_tile(x_desc, [t * BP, i * 32], full.index(slot), xs.index(slot * (C // 32) + i))
        load_tile(prod_desc, [t // per * H, t % per * BP], full.index(slot), prods.index(slot))
        n += 1


@gluon.jit
def gate_value(x):
    """sigmoid(2 x), for sums whose bias comes halved: the other half is one instruction with it."""
    return gl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], gl.float32, True, 1) * 0.5 + 0.5


@gluon.jit
def finish_late_part(
    out_desc, gamma_ptr, beta_ptr, bias_ptr, w, gate_w, prods, xs, stage, full, empty, B, per, eps, eps_in,
    WHICH: gl.constexpr, C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr,
    OUTS: gl.constexpr, MMA: gl.constexpr, WIDE: gl.constexpr,
):  # fmt: skip
    """Four warps: every other tile. The out gate is computed from x again, which is read in place of it."""
    A_LAY: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    gate_bias = gl.load(bias_ptr + 4 * H + gl.arange(0, H, layout=gl.SliceLayout(0, WIDE))) * 0.5
    n = 0
    sent = 0
    for t in range(gl.program_id(0) + WHICH * gl.num_programs(0), B * per, 2 * gl.num_programs(0)):
        slot = WHICH * DEPTH + n % DEPTH
        mbarrier.wait(full.index(slot), (n // DEPTH) & 1)
        parts = ()
        total = gl.zeros([BP], gl.float32, layout=gl.SliceLayout(1, A_LAY))
        for i in gl.static_range(C // 32):
            part = xs.index(slot * (C // 32) + i).load(A_LAY)
            total += gl.sum(part, 1)
            parts = parts + (part,)
        mean = total / C
        square = gl.zeros([BP], gl.float32, layout=gl.SliceLayout(1, A_LAY))
        for i in gl.static_range(C // 32):
            off = parts[i] - mean[:, None]
            square += gl.sum(off * off, 1)
        scale = gl.rsqrt(square / C + eps_in)
        acc = gl.zeros([BP, H], gl.float32, layout=WIDE)
        for i in gl.static_range(C // 32):
            normal = ((parts[i] - mean[:, None]) * scale[:, None]).to(gl.float16)
            acc = warpgroup_mma(normal, gate_w.index(i).permute([1, 0]), acc, use_acc=i > 0, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        gate = gl.convert_layout(gate_value(acc * 0.5 + gate_bias[None, :]), A_LAY)
        prod = prods.index(slot).permute([1, 0]).load(A_LAY).to(gl.float32)
        fence_async_shared()
        mbarrier.arrive(empty.index(slot), count=1)
        sent = finish_tile(
            prod, gate, out_desc, gamma_ptr, beta_ptr, w, stage, t * BP, WHICH * OUTS, sent, C, eps,
            H, BP, OUTS, MMA)  # fmt: skip
        n += 1
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["B", "per"])
def finish_late(
    prod_desc, x_desc, w_desc, gate_w_desc, out_desc, gamma_ptr, beta_ptr, bias_ptr, B, per, eps, eps_in,
    C: gl.constexpr, H: gl.constexpr, BP: gl.constexpr, DEPTH: gl.constexpr, OUTS: gl.constexpr,
    MMA: gl.constexpr, WIDE: gl.constexpr,
):  # fmt: skip
    """`finish` for Hopper and 128 channels: x is read again where the out gate would be written and read."""
    w = gl.allocate_shared_memory(gl.float16, [C // 32, 32, H], w_desc.layout)
    gate_w = gl.allocate_shared_memory(gl.float16, [C // 32, H, 32], gate_w_desc.layout)
    prods = gl.allocate_shared_memory(gl.float16, [2 * DEPTH, H, BP], prod_desc.layout)
    xs = gl.allocate_shared_memory(gl.float32, [2 * DEPTH * (C // 32), BP, 32], x_desc.layout)
    stage = gl.allocate_shared_memory(gl.float32, [2 * OUTS, BP, 32], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [2 * DEPTH, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2 * DEPTH):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    mbarrier.init(ready.index(0), count=1)
    mbarrier.expect(ready.index(0), 2 * C * H * 2)
    for i in gl.static_range(C // 32):
        load_tile(w_desc, [i * 32, 0], ready.index(0), w.index(i))
        load_tile(gate_w_desc, [0, i * 32], ready.index(0), gate_w.index(i))
    mbarrier.wait(ready.index(0), 0)
    gl.warp_specialize([
        (finish_late_part, (
            out_desc, gamma_ptr, beta_ptr, bias_ptr, w, gate_w, prods, xs, stage, full, empty, B, per, eps, eps_in,
            0, C, H, BP, DEPTH, OUTS, MMA, WIDE)),
        (finish_late_part, (
            out_desc, gamma_ptr, beta_ptr, bias_ptr, w, gate_w, prods, xs, stage, full, empty, B, per, eps, eps_in,
            1, C, H, BP, DEPTH, OUTS, MMA, WIDE)),
        (fetch_late_part, (prod_desc, x_desc, prods, xs, full, empty, B, per, C, H, BP, DEPTH)),
    ], [4, 1], [240, 24])  # fmt: skip


INTERPRETED = isinstance(project, InterpretedFunction)
SWIZZLED = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
SWIZZLED_NARROW = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
SWIZZLED_FLOAT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=32, rank=2)

# Found by sweeps on an H200. Portable `project`, by chunks of 128 channels: positions, weight rows, stages, warps.
PROJECT = {1: (64, 64, 2, 4), 2: (64, 64, 2, 4), 3: (64, 64, 2, 4), "other": (32, 64, 1, 4)}
# `finish`: positions, output channels, stages, warps.
FINISH = (64, 128, 1, 4)

#: Weights that `prepare` takes, in its order.
PREPARED = (
    "left_proj.weight", "left_gate.weight", "right_proj.weight", "right_gate.weight", "out_gate.weight",
    "to_out.weight", "norm.weight", "norm.bias",
)  # fmt: skip

#: `finish_hopper` has room for so many times 32 rows of the output projection.
PIECES = 12

#: From how many rows on the product is one of cublasLt's proposals; below, all are as fast.
WIDE = 640

#: Channel counts that the task names: what they need is compiled from the first call on, in threads.
CHANNELS = (128, 256, 384, 768)

#: What Triton's own launches ask for the current stream; absent where PyTorch has no GPU.
_STREAM = getattr(torch._C, "_cuda_getCurrentRawStream", None)
_KERNELS = {}
_SPACES = {}
#: What threads compile or have compiled, by name; what none of them has begun; the threads.
_FUTURES = {}
_QUEUE = collections.deque()
_THREADS = []


def compile_queue():
    """A thread: compile what waits, then end.

    A process that ends waits for what is being compiled, and nothing else is begun: a daemon thread would be
    stopped wherever it is, inside the compilers too.
    """
    while threading.main_thread().is_alive():
        try:
            name, work = _QUEUE.popleft()
        except IndexError:
            return
        future = _FUTURES[name]
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)


def begin(tasks):
    """Have threads compile what `tasks` say, by name, in their order; what was asked before is left out."""
    for name, work in tasks.items():
        if name not in _FUTURES:
            _FUTURES[name] = concurrent.futures.Future()
            _QUEUE.append((name, work))
    _THREADS[:] = [each for each in _THREADS if each.is_alive()]
    try:
        for _ in range(min(len(_QUEUE), len(os.sched_getaffinity(0)) - len(_THREADS))):
            _THREADS.append(threading.Thread(target=compile_queue))
            _THREADS[-1].start()
    except RuntimeError:  # no more threads may be started: what waits is compiled by who asks for it
        _THREADS.pop()
        _QUEUE.clear()


def finished(name):
    """Wait for what a thread is compiling under this name, and return it.

    None if no thread has begun it, in which case none will any more, or if it failed. The caller then compiles it
    itself, and meets the same error.
    """
    future = _FUTURES.get(name)
    return None if future is None or future.cancel() or future.exception() else future.result()


def build(device, kernel, args, options):
    """Compile a Triton kernel for these arguments, as its first launch would, and load it."""
    torch.cuda.set_device(device)
    built = kernel.warmup(*args, grid=(1,), **options)
    built.run  # noqa: B018 - Triton loads it when asked for this, and 3.6 has gcc make its launcher


def ahead(space, x, mask, tensors, norm):
    """Begin to compile what a space needs and, at the first call, what the task's channel counts need."""
    first, device = not _FUTURES, space.device
    spaces = [space]
    if first and space.aligned:
        spaces += [Space(1, 8, C, space.H, device, torch.float32, True) for C in CHANNELS]
    tasks = {}
    for each in spaces:
        if each.tiles:
            plan = each.C, each.late
            tasks["project_tiles", *plan] = functools.partial(compiled, bindings()[1], *plan)
    if first:
        begin(tasks)
        # Made once, which takes its time, and by several threads at once several times.
        triton.runtime.driver.active.get_current_device()
        getattr(triton.runtime.cache, "triton_key", int)()

    def note(name, _shape, _stream, kernel, _grid, *args, **options):
        tasks.setdefault(name, functools.partial(build, device, kernel, args, options))

    for each in spaces:
        # What is compiled depends on the tensors' types and alignment only, so this call's serve for all.
        each.before(note, 0, x, mask, tensors)
        each.after(note, 0, x, x, norm)
    begin(tasks)


def launch(name, shape, stream, kernel, grid, *args, **options):
    """Run `kernel`; called again for a shape, skip Triton's dispatch, which takes longer than the launch.

    The shape must settle all that the compiled code depends on: sizes, types and 16-byte alignment.
    """
    built = _KERNELS.get((name, shape))
    if built is None:
        finished(name)
        _KERNELS[name, shape] = kernel[(grid,)](*args, **options)
    else:
        built.run(grid, 1, 1, stream, built.function, built.packed_metadata, None, None, None, *args)


class Space:
    """What lies between the passes for inputs of one kind: weights in half, gated operands, their product.

    The memory is kept from call to call; every call writes all of it that it reads.
    """

    def __init__(self, B, N, C, H, device, mask_dtype, aligned):
        self.shape = (B, N, C, H, device, mask_dtype, aligned)
        self.B, self.C, self.H, self.device, self.aligned = B, C, H, device, aligned
        self.P = P = N * N
        half = {"dtype": torch.float16, "device": device}
        self.panels = triton.cdiv(C, 128) * 2
        self.weights = torch.empty((5 * H, self.panels * 64), **half)
        self.bias = torch.empty(5 * H, dtype=torch.float32, device=device)
        self.to_out = torch.empty((C, H), **half)
        hopper = not INTERPRETED and torch.cuda.get_device_capability(device)[0] == 9 and H == 128
        small = hopper and C % 32 == 0 and C <= 32 * PIECES
        self.finish_hopper = small and P % 64 == 0
        # Whether the first pass is `project_tiles`, and whether it leaves the out gate to the last.
        self.tiles = bool(small and aligned and mask_dtype in PROJECT_MASKS and bindings())
        self.late = C == 128 and self.finish_hopper and self.tiles
        # Lines begin at multiples of 16, whatever N: copies and vector loads ask for that.
        self.pitch = triton.cdiv(P, 16) * 16
        self.gated = torch.empty((3, B * H, self.pitch), **half)
        # What lies behind a line's end is read as well, and no product is written there.
        self.product = (torch.empty if self.pitch == P else torch.zeros)((B * H, self.pitch), **half)
        left, right, self.multiplied = (
            each[:, :P].view(B * H, N, N) for each in (self.gated[0], self.gated[1], self.product)
        )
        self.left, self.right = left, right.transpose(1, 2)
        self.product_hopper = None
        if self.tiles and N >= WIDE and N % 8 == 0 and blas():
            self.product_hopper = product_of(N, B * H, self.pitch, device)
        self.gate = self.gated[2]
        self.sms = torch.cuda.get_device_properties(device).multi_processor_count if hopper else 1
        if self.finish_hopper:
            self.columns = (
                TensorDescriptor.from_tensor(self.product, [H, 64], SWIZZLED),
                TensorDescriptor.from_tensor(self.gated.view(-1, P), [H, 64], SWIZZLED),
                TensorDescriptor.from_tensor(self.to_out, [32, H], SWIZZLED),
            )
            self.finish_layout = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 32, 16])
            self.late_layout = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16])
            if self.late:
                gates = self.weights[4 * H :]
                self.gate_weights = TensorDescriptor.from_tensor(gates, [H, 32], SWIZZLED_NARROW)

    @functools.cached_property
    def project_hopper(self):
        """The first pass for Hopper; compiled at the latest here."""
        lines = self.gated.view(-1, self.pitch)[:, : self.P]
        tiles = project_tiles(self.C, self.device, self.late)
        return ProjectHopper(tiles, self.weights, self.bias, lines, self.P, self.shape[5])

    def before(self, launch, stream, x, mask, tensors):
        """What Triton does before the product: the weights, and the first pass where it is the portable."""
        B, P, C, H, panels = self.B, self.P, self.C, self.H, self.panels
        launch(
            "prepare", self.shape, stream, prepare, 5 * H + C,
            *tensors, self.weights, self.bias, self.to_out, C, panels * 64, int(self.late),
            H, 512, num_warps=1)  # fmt: skip
        if self.tiles:
            return
        BP, BR, stages, warps = PROJECT.get(panels // 2, PROJECT["other"])
        even, integers = C % 128 == 0, mask.dtype in (torch.int32, torch.int64)
        if not integers and mask.dtype != torch.float32:
            mask = mask.to(torch.float32)
        launch(
            ("project", panels, even), self.shape, stream, project, B * triton.cdiv(P, BP),
            x, mask.view(torch.int32), self.bias, self.weights, self.gated, B, P, self.pitch, C,
            mask.itemsize // 4, int(integers), EPS,
            H, panels // 2, 128, BP, BR, stages, even, not INTERPRETED, num_warps=warps)  # fmt: skip

    def after(self, launch, stream, x, out, norm):
        """The last pass."""
        B, P, C, H = self.B, self.P, self.C, self.H
        eps = EPS * OPERAND_SCALE**4
        if self.finish_hopper:
            rows = TensorDescriptor(out, [B * P, C], [C, 1], [64, 32], SWIZZLED_FLOAT)
            grid, per = min(self.sms, B * P // 64), P // 64
        if self.late:
            x_rows = TensorDescriptor(x, [B * P, C], [C, 1], [64, 32], SWIZZLED_FLOAT)
            launch(
                "finish_late", self.shape, stream, finish_late, grid,
                self.columns[0], x_rows, self.columns[2], self.gate_weights, rows, *norm, self.bias,
                B, per, eps, EPS,
                C, H, 64, 1, 1, self.finish_layout, self.late_layout, num_warps=4, maxnreg=168)  # fmt: skip
        elif self.finish_hopper:
            launch(
                "finish_hopper", self.shape, stream, finish_hopper, grid,
                *self.columns, rows, *norm, B, per, C, eps,
                PIECES, H, 64, 1, 1, self.finish_layout, num_warps=4, maxnreg=168)  # fmt: skip
        else:
            BP, BC, stages, warps = FINISH
            launch(
                "finish", self.shape, stream, finish, B * triton.cdiv(P, BP),
                self.product, self.gate, *norm, self.to_out, out, P, self.pitch, C, eps,
                H, BP, BC, stages, num_warps=warps)  # fmt: skip


def custom_kernel(data):
    """Outgoing TriMul of `data`: x [B, N, N, C] float32, mask [B, N, N], weights and config; same shape as x."""
    x, mask, weights, config = data
    C, H = config["dim"], config["hidden_dim"]
    x, mask = x.contiguous(), mask.contiguous()
    tensors = [weights[name] for name in PREPARED]
    norm = weights["to_out_norm.weight"], weights["to_out_norm.bias"]
    aligned = not any(t.data_ptr() % 16 for t in (x, mask, *tensors, *norm))
    key = (x.shape[0], x.shape[1], C, H, x.device, mask.dtype, aligned)
    stream = 0 if INTERPRETED else _STREAM(x.get_device())
    space = _SPACES.get(key)
    if space is None:
        _SPACES.clear()
        space = _SPACES[key] = Space(*key)
        if x.is_cuda and not INTERPRETED:
            ahead(space, x, mask, tensors, norm)
    space.before(launch, stream, x, mask, tensors)
    if space.tiles:
        space.project_hopper(x, mask, stream)
    if space.product_hopper:
        space.product_hopper(space.left, space.right, space.multiplied, stream)
    else:
        torch.bmm(space.left, space.right, out=space.multiplied)
    out = torch.empty_like(x)
    space.after(launch, stream, x, out, norm)
    return out
