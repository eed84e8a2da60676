import math

import torch
import triton
import triton.language as tl
from torch.nn.functional import linear


@triton.jit
def attend(query, keys, values, out, length, stride, heads, scale,
           RANK: tl.constexpr, ROPE: tl.constexpr, H: tl.constexpr, T: tl.constexpr):
    # query [B, heads, RANK + ROPE]; keys [B, length, ROPE], rotated; values: the cache's latents; out [B, heads, RANK]
    b = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * H + tl.arange(0, H)
    r, p = tl.arange(0, RANK), tl.arange(0, ROPE)
    row = query + (b * heads + h[:, None]) * (RANK + ROPE)
    known = h[:, None] < heads
    q_latent = tl.load(row + r[None, :], mask=known, other=0.0)
    q_rope = tl.load(row + RANK + p[None, :], mask=known, other=0.0)
    highest = tl.full((H,), -1e30, tl.float32)
    weight = tl.zeros((H,), tl.float32)
    total = tl.zeros((H, RANK), tl.float32)
    for start in range(0, length, T):
        t = start + tl.arange(0, T)
        inside = t[:, None] < length
        latent = tl.load(values + b * stride + t[:, None] * (RANK + ROPE) + r[None, :], mask=inside, other=0.0)
        key = tl.load(keys + (b * length + t[:, None]) * ROPE + p[None, :], mask=inside, other=0.0)
        score = tl.dot(q_latent, tl.trans(latent)) + tl.dot(q_rope, tl.trans(key))
        score = tl.where(t[None, :] < length, score * scale, -1e30)
        new = tl.maximum(highest, tl.max(score, axis=1))
        share = tl.exp(score - new[:, None])
        shrink = tl.exp(highest - new)
        weight = weight * shrink + tl.sum(share, axis=1)
        total = total * shrink[:, None] + tl.dot(share.to(tl.bfloat16), latent)
        highest = new
    tl.store(out + (b * heads + h[:, None]) * RANK + r[None, :], (total / weight[:, None]).to(tl.bfloat16), mask=known)


def rotate(value, positions):
    width = value.shape[-1]
    half = torch.arange(width // 2, device=value.device, dtype=torch.float32) / (width // 2)
    theta = (10000.0 ** -half).to(torch.bfloat16)
    angle = positions.to(torch.bfloat16)[:, None] * theta[None, :]
    angle = torch.cat([angle, angle], dim=-1)
    low, high = value.chunk(2, dim=-1)
    return value * angle.cos() + torch.cat([-high, low], dim=-1) * angle.sin()


def custom_kernel(data):
    config, x, cache = data
    heads, nope, rope = config.n_heads, config.qk_nope_head_dim, config.qk_rope_head_dim
    rank, batch = config.kv_lora_rank, x.shape[0]
    filled, length = cache(linear(x, config.KV_proj_down_weight))
    q = linear(linear(x, config.Q_proj_down_weight), config.Q_proj_up_weight).view(batch, heads, nope + rope)
    positions = torch.arange(length, device=x.device)
    q_rope = rotate(q[..., None, nope:], positions[-1:])[..., 0, :]
    up = config.KV_proj_up_weight.view(heads, nope + config.v_head_dim, rank)
    q_latent = torch.einsum("bhd,hdr->bhr", q[..., :nope], up[:, :nope])
    query = torch.cat([q_latent, q_rope], dim=-1).contiguous()
    keys = rotate(filled[..., rank:], positions).contiguous()
    mixed = torch.empty((batch, heads, rank), device=x.device, dtype=torch.bfloat16)
    whole = cache.get_data()
    attend[(batch, triton.cdiv(heads, 16))](
        query, keys, whole, mixed, length, whole.stride(0), heads, 1.0 / math.sqrt(nope + rope),
        RANK=rank, ROPE=rope, H=16, T=32, num_warps=8, num_stages=1,
    )
    value = torch.einsum("bhr,hvr->bhv", mixed, up[:, nope:]).reshape(batch, 1, -1)
    return linear(value, config.wo_weight), whole
