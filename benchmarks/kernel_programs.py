"""The five kernel problems in PyTorch, as programs for the judge: eager, and under ``torch.compile``."""

from __future__ import annotations

import pathlib

#: Where the cheats of the plugin's tests are, and beside them the program that they start from.
CHEATS = pathlib.Path(__file__).parent.parent / "plugins" / "ttd_kernels" / "tests" / "cheats"

TRIMUL = (CHEATS / "right.py").read_text() + "\n\ncustom_kernel = right\n"

#: MLA decode by PyTorch, in the absorbed form: the plain one would take 50 GB of keys and values.
MLA = """
import math
import torch
from torch.nn.functional import linear


def rotate(value, positions):
    half = torch.arange(32, device=value.device, dtype=torch.float32) / 32
    angle = positions.to(torch.bfloat16)[:, None] * (10000.0 ** -half).to(torch.bfloat16)[None, :]
    angle = torch.cat([angle, angle], dim=-1)
    low, high = value.chunk(2, dim=-1)
    return value * angle.cos() + torch.cat([-high, low], dim=-1) * angle.sin()


def attend(x, filled, q_down, q_up, kv_up, wo):
    batch, length = filled.shape[0], filled.shape[1]
    positions = torch.arange(length, device=x.device)
    q = linear(linear(x, q_down), q_up).view(batch, 128, 192)
    up = kv_up.view(128, 256, 512)
    q_latent = torch.einsum("bhd,hdr->bhr", q[..., :128], up[:, :128])
    q_rope = rotate(q[..., None, 128:], positions[-1:])[..., 0, :]
    latent, keys = filled[..., :512], rotate(filled[..., 512:], positions)
    scores = q_latent @ latent.transpose(1, 2) + q_rope @ keys.transpose(1, 2)
    shares = torch.softmax(scores / math.sqrt(192), dim=-1).to(torch.bfloat16)
    value = torch.einsum("bhr,hvr->bhv", shares @ latent, up[:, 128:])
    return linear(value.reshape(batch, 1, -1), wo)


def custom_kernel(data):
    config, x, cache = data
    filled, _ = cache(linear(x, config.KV_proj_down_weight))
    weights = config.Q_proj_down_weight, config.Q_proj_up_weight, config.KV_proj_up_weight, config.wo_weight
    return attend(x, filled, *weights), cache.get_data()
"""

#: The weight of PyTorch's fused operation must have the type of its input, so it is made of plain ones here.
RMSNORM = """
import torch


def norm(x, weight, gradient):
    x, gradient = x.float(), gradient.float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    unit = x * scale
    inner = gradient * weight
    dx = scale * (inner - unit * (inner * unit).mean(-1, keepdim=True))
    return (unit * weight).bfloat16(), dx.bfloat16(), (gradient * unit).sum(0)


def custom_kernel(data):
    return norm(*data)
"""

RELU2_MLP = """
import torch


def layer(x, up, down):
    return (x @ up.T).relu().square() @ down.T


def custom_kernel(data):
    return layer(*data)
"""

DORA_NORM = """
import torch


def norms(w, a, b, scale):
    return torch.linalg.vector_norm(w.float() + scale * (b @ a).float(), dim=1)


def custom_kernel(data):
    return norms(*data)
"""

EAGER = {
    "trimul": TRIMUL,
    "mla_decode": MLA,
    "rmsnorm": RMSNORM,
    "relu2_mlp": RELU2_MLP,
    "dora_norm": DORA_NORM,
}
COMPILED = {
    "trimul": TRIMUL
    + "\ntorch.set_float32_matmul_precision('high')\ncustom_kernel = torch.compile(right, dynamic=False)\n",
    # fused operations skip roundings to bfloat16 that the reference makes between them: 0.02 % of the
    # elements are then off by more than the tolerance; inductor's emulate_precision_casts makes it 13 %
    "mla_decode": MLA + "\nattend = torch.compile(attend, dynamic=False)\n",
    "rmsnorm": RMSNORM + "\nnorm = torch.compile(norm, dynamic=False)\n",
    "relu2_mlp": RELU2_MLP + "\nlayer = torch.compile(layer, dynamic=False)\n",
    "dora_norm": DORA_NORM + "\nnorms = torch.compile(norms, dynamic=False)\n",
}
