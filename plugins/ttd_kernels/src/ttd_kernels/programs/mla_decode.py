"""Decode step of multi-head latent attention in its absorbed form: attention runs on the latent cache itself.

q_nope is multiplied by each head's key part of KV_proj_up, so every head attends over one shared latent of
kv_lora_rank values and qk_rope_head_dim rotated ones; the value part of KV_proj_up is applied to the attended
latent. The cache is then read as it lies and keys and values of the heads never exist.

`attend` handles HEADS heads of one sequence over the whole cache, with an online softmax, rotating the cached
keys tile by tile. The reference rounds positions, frequencies and angles to bfloat16 (off by up to 13.6 rad near
position 4,100), so the rotation follows the same roundings; its cos and sin are a table of positions, constants
of the task, made once per device and length.
"""

import math

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from reference import Config, KVCache  # noqa: F401
from triton.runtime.interpreter import InterpretedFunction

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


INTERPRETED = isinstance(attend, InterpretedFunction)


def custom_kernel(data):
    """One decode step of `data` = (config, x [B, 1, dim], kv_cache): (output [B, 1, dim], the whole cache)."""
    config, x, kv_cache = data
    B, heads, rank = config.batch_size, config.n_heads, config.kv_lora_rank
    nope, rope, value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    q_low = F.linear(x, config.Q_proj_down_weight)
    _, length = kv_cache(F.linear(x, config.KV_proj_down_weight))
    cache = kv_cache.get_data()
    q = F.linear(q_low.view(B, -1), config.Q_proj_up_weight).view(B, heads, nope + rope)
    up = config.KV_proj_up_weight.view(heads, nope + value, rank)
    qc = torch.bmm(q[..., :nope].transpose(0, 1), up[:, :nope])
    turn = rotations(cache.shape[1], rope, x.device)
    out = torch.empty((heads, B, rank), dtype=torch.bfloat16, device=x.device)
    group = min(heads, 64)
    attend[(B * (heads // group),)](
        qc, q, cache, turn, out, length, math.log2(math.e) / math.sqrt(nope + rope),
        qc.stride(1), qc.stride(0), q.stride(0), q.stride(1), cache.stride(0), out.stride(1), out.stride(0),
        RANK=rank, NOPE=nope, HALF=rope // 2, GROUPS=heads // group, HEADS=group,
        TILE=64, STAGES=2, STATIC=length if INTERPRETED else 0,
        OPERAND=tl.float32 if INTERPRETED else tl.bfloat16, num_warps=8)  # fmt: skip
    y = torch.empty((B, heads, value), dtype=torch.bfloat16, device=x.device)
    torch.bmm(out, up[:, nope:].transpose(1, 2), out=y.transpose(0, 1))
    return F.linear(y.view(B, 1, heads * value), config.wo_weight), cache
