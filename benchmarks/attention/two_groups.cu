// Attention of MLA decode over the latent cache, 64 heads of one sequence a block: see ../attention.py, which puts the products in.
//
// Two groups of four warps each make the logits of every other tile of 64 keys and hold one half of the latent's
// columns of all tiles; four warps bring keys. Groups hand each other the largest logit so far and the weights. This
// schedule is described by the authors of FlashMLA; the code is ours.
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(64) TensorMap { u64 opaque[16]; };

#ifndef PRODUCER_REGS
#define PRODUCER_REGS 88
#endif
// A block starts with 168 a thread; what its groups take may not exceed that in all.
#define CONSUMER_REGS ((3 * 168 - PRODUCER_REGS) / 2)

// A tile of 64 keys is four granules of 128 columns; even and odd tiles have four places each.
constexpr int TILE = 64, CHUNK = 8192, GRANULE = 2 * CHUNK;
constexpr int Q_AT = 0, R_AT = 9 * CHUNK, W_AT = 11 * CHUNK, K_AT = 12 * CHUNK;
constexpr int PEAK_AT = 28 * CHUNK, MASS_AT = PEAK_AT + 512, BARRIERS_AT = MASS_AT + 512;
constexpr int K_FULL = BARRIERS_AT, K_EMPTY = K_FULL + 64, R_FULL = K_EMPTY + 64, R_EMPTY = R_FULL + 16;

// Barriers by name between the two groups: what each hands to the other.
constexpr int PEAK_EVEN = 2, PEAK_ODD = 3, WEIGHTS_EVEN = 4, WEIGHTS_ODD = 5, MASSES = 6;
__device__ __forceinline__ void tell(int name) { asm volatile("bar.arrive %0, 256;" :: "r"(name) : "memory"); }
__device__ __forceinline__ void hear(int name) { asm volatile("bar.sync %0, 256;" :: "r"(name) : "memory"); }

__device__ __forceinline__ void init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count));
}
__device__ __forceinline__ void wait(u32 bar, u32 parity) {
  asm volatile("{ .reg .pred p;\n W: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n @p bra D;\n bra W;\n D: }"
    :: "r"(bar), "r"(parity) : "memory");
}
__device__ __forceinline__ void arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
}
__device__ __forceinline__ void expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy(u32 to, const TensorMap* map, int column, int row, u32 bar) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
    :: "r"(to), "l"(map), "r"(column), "r"(row), "r"(bar) : "memory");
}
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
}
template <int N> __device__ __forceinline__ void hold(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}
// Operand with the inner dimension contiguous, rows of 128 bytes, swizzled.
__device__ __forceinline__ u64 by_rows(u32 at) {
  return (u64)((at & 0x3FFFF) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
// Operand with the outer dimension contiguous: chunks of 64 columns, CHUNK bytes apart.
__device__ __forceinline__ u64 by_columns(u32 at) {
  return (u64)((at & 0x3FFFF) >> 4) | (u64)(CHUNK >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(u32 pair) { return __uint_as_float(pair & 0xFFFF0000u); }
__device__ __forceinline__ u32 pack(float first, float second) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
// Two rotated pairs of values: first * cos - second * sin and second * cos + first * sin, each rounded once.
__device__ __forceinline__ void turn_pair(u32 a, u32 b, u32 c, u32 s, u32& first, u32& second) {
  first = pack(low(a) * low(c) - low(b) * low(s), high(a) * high(c) - high(b) * high(s));
  second = pack(low(b) * low(c) + low(a) * low(s), high(b) * high(c) + high(a) * high(s));
}
__device__ __forceinline__ void put(u32 at, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" :: "r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
__device__ __forceinline__ void put(u32 at, u32 v) { asm volatile("st.shared.b32 [%0], %1;" :: "r"(at), "r"(v) : "memory"); }
__device__ __forceinline__ void put(u32 at, float v) { asm volatile("st.shared.f32 [%0], %1;" :: "r"(at), "f"(v) : "memory"); }
__device__ __forceinline__ float get(u32 at) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory");
  return v;
}
// Where 16 bytes of a row of 128 lie.
__device__ __forceinline__ u32 swizzled(int row, int piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }
@PRODUCTS@
// Cycles at the steps of the first block's pairs of tiles, with -DPROFILE: [group][pair][step].
#ifdef PROFILE
__device__ long long stamps[2][64][9];
#define STAMP(step) \
  if (blockIdx.x == 0 && thread == 0 && j < 64) asm volatile("mov.u64 %0, %%clock64;" : "=l"(stamps[ODD][j][step]) :: "memory");
#else
#define STAMP(step)
#endif

struct Raw { uint4 a[2], b[2], c[2], s[2]; };

__device__ __forceinline__ void read_raw(Raw& raw, const uint4* keys, const uint4* turns, int token) {
  const uint4* line = keys + (u64)token * 72;
  const uint4* turn = turns + (u64)token * 8;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    raw.a[i] = line[i];
    raw.b[i] = line[4 + i];
    raw.c[i] = turn[i];
    raw.s[i] = turn[4 + i];
  }
}

__device__ __forceinline__ void rotate(const Raw& raw, u32 to, int row, int part) {
#pragma unroll
  for (int k = 0; k < 2; k++) {
    uint4 first, second;
    turn_pair(raw.a[k].x, raw.b[k].x, raw.c[k].x, raw.s[k].x, first.x, second.x);
    turn_pair(raw.a[k].y, raw.b[k].y, raw.c[k].y, raw.s[k].y, first.y, second.y);
    turn_pair(raw.a[k].z, raw.b[k].z, raw.c[k].z, raw.s[k].z, first.z, second.z);
    turn_pair(raw.a[k].w, raw.b[k].w, raw.c[k].w, raw.s[k].w, first.w, second.w);
    put(to + swizzled(row, 2 * part + k), first);
    put(to + swizzled(row, 4 + 2 * part + k), second);
  }
  fence_async();
}

// Four warps bring keys: each warp one half of the latent of even or odd tiles, all of them the rotated rest.
__device__ __forceinline__ void produce(
    u32 smem, const TensorMap* map, const unsigned short* cache, const unsigned short* turn, int length, int row0, int thread) {
  const int tiles = (length + TILE - 1) / TILE, last = length - TILE;
  const int row = thread >> 1, part = thread & 1, warp = thread >> 5;
  const int odd = warp == 1 || warp == 2, half = warp == 1 || warp == 3;
  const uint4* keys = (const uint4*)(cache + (u64)row0 * 576 + 512 + 16 * part);
  const uint4* turns = (const uint4*)(turn + 16 * part);
  Raw raw[2];
  read_raw(raw[0], keys, turns, row);
  read_raw(raw[1], keys, turns, min(TILE, last) + row);
  for (int j = 0; 2 * j < tiles; j++) {
    const u32 again = (j & 1) ^ 1;
    const int mine = 2 * j + odd;
    // In the order in which places come free: the odd tile's rest, the latent, the even tile's rest.
    if (2 * j + 1 < tiles) {
      wait(smem + R_EMPTY + 8, again);
      rotate(raw[1], smem + R_AT + CHUNK, row, part);
      arrive(smem + R_FULL + 8);
    }
    if ((thread & 31) == 0 && mine < tiles) {
      const int start = row0 + min(mine * TILE, last);
#pragma unroll
      for (int g = 0; g < 2; g++) {
        const int slot = 4 * odd + 2 * half + g;
        wait(smem + K_EMPTY + slot * 8, again);
#ifdef NO_LOAD
        arrive(smem + K_FULL + slot * 8);
#else
        expect(smem + K_FULL + slot * 8, GRANULE);
        copy(smem + K_AT + slot * GRANULE, map, (4 * half + 2 * g) * 64, start, smem + K_FULL + slot * 8);
        copy(smem + K_AT + slot * GRANULE + CHUNK, map, (4 * half + 2 * g + 1) * 64, start, smem + K_FULL + slot * 8);
#endif
      }
    }
    __syncwarp();
    wait(smem + R_EMPTY, again);
    rotate(raw[0], smem + R_AT, row, part);
    arrive(smem + R_FULL);
    // Not before the fences above, which wait for all that a thread has asked of memory.
#pragma unroll
    for (int t = 1; t >= 0; t--) read_raw(raw[t], keys, turns, max(0, min((2 * j + 2 + t) * TILE, last)) + row);
  }
}

// Logits of the group's tile: its latent granules in the order in which they come, then the rotated rest.
__device__ __forceinline__ void logits(float (&s)[32], u32 smem, int odd, u32 phase) {
  const u64 q = by_rows(smem + Q_AT), k = by_rows(smem + K_AT + odd * 4 * GRANULE), r = by_rows(smem + R_AT + odd * CHUNK);
  hold(s);
  products_begin();
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const int g = odd ? n ^ 2 : n;
    wait(smem + K_FULL + (4 * odd + g) * 8, phase);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const u64 at = (2 * g + i / 4) * CHUNK + (i % 4) * 32 >> 4;
      multiply64(s, q + at, k + at, n + i != 0);
    }
  }
  wait(smem + R_FULL + odd * 8, phase);
#pragma unroll
  for (int i = 0; i < 4; i++) multiply64(s, q + (8 * CHUNK + i * 32 >> 4), r + (i * 32 >> 4), 1);
  products_commit();
  products_wait<0>();
  hold(s);
}

__device__ __forceinline__ void mask(float (&s)[32], int from, int lane) {
#pragma unroll
  for (int j = 0; j < 32; j++)
    if ((j >> 2) * 8 + (lane & 3) * 2 + (j & 1) < from) s[j] = -1e30f;
}

// Largest logit of each of the thread's two rows, from `top` on.
__device__ __forceinline__ void peaks(const float (&s)[32], float (&top)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float most[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
      most[j] = fmaxf(fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]), fmaxf(s[16 + 4 * j + 2 * r], s[16 + 4 * j + 2 * r + 1]));
    top[r] = fmaxf(top[r], fmaxf(fmaxf(most[0], most[1]), fmaxf(most[2], most[3])));
    top[r] = fmaxf(top[r], __shfl_xor_sync(0xFFFFFFFFu, top[r], 1));
    top[r] = fmaxf(top[r], __shfl_xor_sync(0xFFFFFFFFu, top[r], 2));
  }
}

// Weights in place of logits.
__device__ __forceinline__ void weigh(float (&s)[32], const float (&top)[2], float scale) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float offset = top[r] * scale;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      s[4 * j + 2 * r] = exp2_fast(fmaf(s[4 * j + 2 * r], scale, -offset));
      s[4 * j + 2 * r + 1] = exp2_fast(fmaf(s[4 * j + 2 * r + 1], scale, -offset));
    }
  }
}

// Their sums added to the masses of the thread's rows, which shrink first.
__device__ __forceinline__ void add_up(const float (&s)[32], const float (&shrink)[2], float (&mass)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sum[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
      sum[j] = (s[4 * j + 2 * r] + s[4 * j + 2 * r + 1]) + (s[16 + 4 * j + 2 * r] + s[16 + 4 * j + 2 * r + 1]);
    mass[r] = mass[r] * shrink[r] + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
  }
}

__device__ __forceinline__ void shrink_all(float (&o)[128], const float (&by)[2]) {
  if (__any_sync(0xFFFFFFFFu, by[0] != 1.f || by[1] != 1.f)) {
#pragma unroll
    for (int j = 0; j < 128; j += 4) {
      o[j] *= by[0];
      o[j + 1] *= by[0];
      o[j + 2] *= by[1];
      o[j + 3] *= by[1];
    }
  }
}

// Weights as bfloat16 where the other group reads them.
__device__ __forceinline__ void hand_over(const float (&s)[32], const float (&by)[2], u32 to, int row, int lane) {
  u32 line = to + row * 128 + (lane & 3) * 4, turn = (row & 7) << 4;
  // Eight addresses made anew each time cost less than eight registers.
  asm volatile("" : "+r"(turn));
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const u32 at = line + (turn ^ (j << 4));
    put(at, pack(s[4 * j] * by[0], s[4 * j + 1] * by[0]));
    asm volatile("st.shared.b32 [%0 + 1024], %1;" :: "r"(at), "r"(pack(s[4 * j + 2] * by[1], s[4 * j + 3] * by[1])) : "memory");
  }
  fence_async();
}

__device__ __forceinline__ void pack_all(const float (&s)[32], u32 (&p)[4][4]) {
#pragma unroll
  for (int k = 0; k < 4; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) p[k][i] = pack(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// Half of the latent times weights in registers, and in shared memory.
__device__ __forceinline__ void mix_own(float (&o)[128], const u32 (&p)[4][4], u64 v) {
#pragma unroll
  for (int k = 0; k < 4; k++) multiply256(o, p[k], v + (k * 2048 >> 4), 1);
  products_commit();
}
__device__ __forceinline__ void mix_other(float (&o)[128], u64 p, u64 v) {
#pragma unroll
  for (int k = 0; k < 4; k++) multiply256(o, p + (k * 32 >> 4), v + (k * 2048 >> 4), 1);
  products_commit();
}
__device__ __forceinline__ void free_half(u32 smem, int odd, int half, int lane) {
  if (lane == 0) {
    arrive(smem + K_EMPTY + (4 * odd + 2 * half) * 8);
    arrive(smem + K_EMPTY + (4 * odd + 2 * half + 1) * 8);
  }
}
__device__ __forceinline__ void publish(u32 at, const float (&v)[2], int row, int lane) {
  if ((lane & 3) == 0) {
    put(at + row * 4, v[0]);
    put(at + row * 4 + 32, v[1]);
  }
}

// Four warps: logits of even (ODD = 0) or odd tiles, and one half of the latent of all tiles.
template <int ODD>
__device__ __forceinline__ void attend_half(u32 smem, unsigned short* out, int length, float scale, int out_head, int thread) {
  const int tiles = (length + TILE - 1) / TILE, from = tiles * TILE - length;
  const int warp = thread >> 5, lane = thread & 31, row = warp * 16 + (lane >> 2);
  float o[128], s[32];
  u32 p[4][4];
#pragma unroll
  for (int j = 0; j < 128; j++) o[j] = 0.f;
  float peak[2] = {-1e30f, -1e30f}, mass[2] = {0.f, 0.f};
  const u64 own = by_columns(smem + K_AT + (4 * ODD + 2 * ODD) * GRANULE);
  const u64 other = by_columns(smem + K_AT + (4 * (1 - ODD) + 2 * ODD) * GRANULE);
  const u64 given = by_rows(smem + (ODD ? R_AT : W_AT));
  for (int j = 0; 2 * j < tiles; j++) {
    const u32 phase = j & 1;
    const bool both = 2 * j + 1 < tiles;
    STAMP(0)
    if (ODD == 0) {
      logits(s, smem, 0, phase);
      STAMP(1)
      if (2 * j == tiles - 1) mask(s, from, lane);
      float top[2] = {peak[0], peak[1]}, shrink[2], later[2], last[2];
      peaks(s, top);
      publish(smem + PEAK_AT, top, row, lane);
      tell(PEAK_EVEN);
      STAMP(2)
#pragma unroll
      for (int r = 0; r < 2; r++) shrink[r] = exp2_fast((peak[r] - top[r]) * scale);
      weigh(s, top, scale);
      pack_all(s, p);
      shrink_all(o, shrink);
      hold(o);
      products_begin();
      mix_own(o, p, own);
      add_up(s, shrink, mass);
      STAMP(3)
      hear(PEAK_ODD);
      STAMP(4)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        last[r] = get(smem + PEAK_AT + 256 + row * 4 + 32 * r);
        later[r] = exp2_fast((top[r] - last[r]) * scale);
        mass[r] *= later[r];
        peak[r] = last[r];
      }
      hand_over(s, later, smem + R_AT, row, lane);
      tell(WEIGHTS_EVEN);
      STAMP(5)
      products_wait<0>();
      hold(o);
      free_half(smem, 0, 0, lane);
      STAMP(6)
      if (both) {
        shrink_all(o, later);
        hear(WEIGHTS_ODD);
        STAMP(7)
        hold(o);
        products_begin();
        mix_other(o, given, other);
        products_wait<0>();
        hold(o);
        free_half(smem, 1, 0, lane);
        STAMP(8)
      }
    } else {
      float top[2], shrink[2];
      if (both) {
        logits(s, smem, 1, phase);
        if (lane == 0) arrive(smem + R_EMPTY + 8);
        STAMP(1)
        if (2 * j + 1 == tiles - 1) mask(s, from, lane);
        top[0] = top[1] = -1e30f;
        peaks(s, top);
      }
      STAMP(2)
      hear(PEAK_EVEN);
      STAMP(3)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const float before = get(smem + PEAK_AT + row * 4 + 32 * r);
        top[r] = both ? fmaxf(before, top[r]) : before;
        shrink[r] = exp2_fast((peak[r] - top[r]) * scale);
        peak[r] = top[r];
      }
      publish(smem + PEAK_AT + 256, top, row, lane);
      tell(PEAK_ODD);
      if (both) {
        weigh(s, top, scale);
        const float one[2] = {1.f, 1.f};
        hand_over(s, one, smem + W_AT, row, lane);
        tell(WEIGHTS_ODD);
        STAMP(4)
        pack_all(s, p);
        shrink_all(o, shrink);
        hold(o);
        products_begin();
        mix_own(o, p, own);
        add_up(s, shrink, mass);
        STAMP(5)
        hear(WEIGHTS_EVEN);
        STAMP(6)
        mix_other(o, given, other);
        products_wait<1>();
        free_half(smem, 1, 1, lane);
        STAMP(7)
      } else {
#pragma unroll
        for (int r = 0; r < 2; r++) mass[r] *= shrink[r];
        shrink_all(o, shrink);
        hear(WEIGHTS_EVEN);
        hold(o);
        products_begin();
        mix_other(o, given, other);
      }
      products_wait<0>();
      hold(o);
      free_half(smem, 0, 1, lane);
      if (lane == 0) arrive(smem + R_EMPTY);
      STAMP(8)
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    mass[r] += __shfl_xor_sync(0xFFFFFFFFu, mass[r], 1);
    mass[r] += __shfl_xor_sync(0xFFFFFFFFu, mass[r], 2);
  }
  publish(smem + MASS_AT + 256 * ODD, mass, row, lane);
  hear(MASSES);
  const float first = 1.f / (get(smem + MASS_AT + row * 4) + get(smem + MASS_AT + 256 + row * 4));
  const float second = 1.f / (get(smem + MASS_AT + row * 4 + 32) + get(smem + MASS_AT + 256 + row * 4 + 32));
  unsigned short* line = out + (u64)row * out_head + ODD * 256 + (lane & 3) * 2;
#pragma unroll
  for (int j = 0; j < 32; j++) {
    *(u32*)(line + 8 * j) = pack(o[4 * j] * first, o[4 * j + 1] * first);
    *(u32*)(line + (u64)8 * out_head + 8 * j) = pack(o[4 * j + 2] * second, o[4 * j + 3] * second);
  }
}
// The query, by the 256 threads that multiply: 64 heads of the latent, and the rotated rest.
__device__ __forceinline__ void load_query(
    u32 smem, const unsigned short* latent, const unsigned short* rest, const unsigned short* here, int qc_head, int q_head) {
  const int mine = threadIdx.x - 128;
  for (int at = mine; at < 64 * 64; at += 256) {
    const int row = at >> 6, piece = at & 63;
    put(smem + Q_AT + (piece >> 3) * CHUNK + swizzled(row, piece & 7), *(const uint4*)(latent + (u64)row * qc_head + piece * 8));
  }
  for (int at = mine; at < 64 * 16; at += 256) {
    const int row = at >> 4, pair = at & 15;
    const unsigned short* line = rest + (u64)row * q_head + 2 * pair;
    u32 first, second;
    turn_pair(*(const u32*)line, *(const u32*)(line + 32), *(const u32*)(here + 2 * pair),
              *(const u32*)(here + 32 + 2 * pair), first, second);
    put(smem + Q_AT + 8 * CHUNK + swizzled(row, pair >> 2) + (pair & 3) * 4, first);
    put(smem + Q_AT + 8 * CHUNK + swizzled(row, 4 + (pair >> 2)) + (pair & 3) * 4, second);
  }
  fence_async();
  asm volatile("bar.sync 1, 256;" ::: "memory");
}

extern "C" __global__ void __launch_bounds__(384, 1) attend(
    const __grid_constant__ TensorMap map, const unsigned short* qc, const unsigned short* q,
    const unsigned short* cache, const unsigned short* turn, unsigned short* out, int length, float scale,
    int qc_batch, int qc_head, int q_batch, int q_head, int nope, int cache_rows, int out_batch, int out_head, int groups) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const u32 smem = (u32)__cvta_generic_to_shared(memory);
  const int thread = threadIdx.x & 127, role = threadIdx.x >> 7;
  const int b = blockIdx.x / groups, head = blockIdx.x % groups * 64, row0 = b * cache_rows;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 8; i++) {
      init(smem + K_FULL + i * 8, 1);
      init(smem + K_EMPTY + i * 8, 4);
    }
    for (int i = 0; i < 2; i++) {
      init(smem + R_FULL + i * 8, 128);
      init(smem + R_EMPTY + i * 8, 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (role == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(PRODUCER_REGS));
    produce(smem, &map, cache, turn, length, row0, thread);
  } else if (role == 1) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(CONSUMER_REGS));
    load_query(smem, qc + (u64)b * qc_batch + (u64)head * qc_head, q + (u64)b * q_batch + (u64)head * q_head + nope,
               turn + (u64)(length - 1) * 64, qc_head, q_head);
    attend_half<0>(smem, out + (u64)b * out_batch + (u64)head * out_head, length, scale, out_head, thread);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(CONSUMER_REGS));
    load_query(smem, qc + (u64)b * qc_batch + (u64)head * qc_head, q + (u64)b * q_batch + (u64)head * q_head + nope,
               turn + (u64)(length - 1) * 64, qc_head, q_head);
    attend_half<1>(smem, out + (u64)b * out_batch + (u64)head * out_head, length, scale, out_head, thread);
  }
}
