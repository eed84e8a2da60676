"""`mla_decode`: DeepSeek's multi-head latent attention, one new token (paper 4.2; GPU MODE's MLA decode)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch.nn.functional import linear

from ttd_core.package_files import package_text
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, tensor_ref
from ttd_kernels.harness.random_tensors import normal_bfloat16
from ttd_kernels.problem import KernelProblem
from ttd_kernels.roofline import floor_us

#: Sequences of a call, and tokens that the cache of each has room for.
BATCH, LONGEST = 128, 8192
#: Sizes of a layer: model, heads, ranks of the latents, per-head widths.
FULL = {"dim": 7168, "heads": 128, "q_rank": 1536, "kv_rank": 512, "nope": 128, "rope": 64, "v": 128}
#: The same widths with few heads and a narrow model, for the interpreter.
SMALL = {**FULL, "dim": 256, "heads": 16, "q_rank": 128}


def shape(prefill: int, batch: int = BATCH, longest: int = LONGEST, **sizes: int) -> Shape:
    """Tokens in the cache before the call, batch, tokens the cache holds; ``sizes`` override the layer's."""
    return {"prefill": prefill, "B": batch, "max": longest, **sizes}


class MlaDecode(KernelProblem):
    """One token for each of a batch of sequences."""

    name = "mla_decode"
    title = "MLA decode: multi-head latent attention for one new token on one GPU"
    timed_shapes = (shape(4096), shape(6144))
    reference_source: ClassVar[str] = package_text("ttd_kernels", "helpers", "mla_reference.py")

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Fresh token, cache and weights; bfloat16."""
        sizes = _sizes(shape)
        batch, filled, longest = shape["B"], shape["prefill"], shape["max"]
        width = sizes["kv_rank"] + sizes["rope"]

        def weight(out: int, inner: int) -> torch.Tensor:
            return normal_bfloat16(generator, out, inner, scale=1.0 / math.sqrt(inner))

        cache = torch.zeros((batch, longest, width), dtype=torch.bfloat16, device=generator.device)
        cache[:, :filled].normal_(0.0, 1.0, generator=generator)
        heads, per_head = sizes["heads"], sizes["nope"] + sizes["rope"]
        tensors = {
            "x": normal_bfloat16(generator, batch, 1, sizes["dim"]),
            "cache": cache,
            "Q_proj_down_weight": weight(sizes["q_rank"], sizes["dim"]),
            "Q_proj_up_weight": weight(heads * per_head, sizes["q_rank"]),
            "KV_proj_down_weight": weight(width, sizes["dim"]),
            "KV_proj_up_weight": weight(heads * (sizes["nope"] + sizes["v"]), sizes["kv_rank"]),
            "wo_weight": weight(sizes["dim"], heads * sizes["v"]),
        }
        return KernelInputs(shape, tensors, _argument(shape, sizes))

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """The layer's output [B, 1, dim] and the whole cache, bfloat16."""
        sizes = _sizes(shape)
        cache = (shape["B"], shape["max"], sizes["kv_rank"] + sizes["rope"])
        return [
            OutputSpec((shape["B"], 1, sizes["dim"]), torch.bfloat16, rtol=2e-2, atol=8e-3),
            OutputSpec(cache, torch.bfloat16, rtol=2e-2, atol=8e-3),
        ]

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """In bfloat16, operation by operation."""
        return decode(inputs.tensors, _sizes(inputs.shape), inputs.shape["prefill"])

    def known_mistakes(self, inputs: KernelInputs) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """The new token not appended to the cache."""
        output, _ = self.expected_outputs(inputs)
        yield "the new token is not in the cache", [output, inputs.tensors["cache"]]

    def floor_us(self, shape: Shape) -> float:
        """The filled cache and the weights read once; attention in the latent space."""
        sizes = _sizes(shape)
        batch, tokens, heads = shape["B"], shape["prefill"] + 1, sizes["heads"]
        width = sizes["kv_rank"] + sizes["rope"]
        weights = sizes["q_rank"] * sizes["dim"] + width * sizes["dim"]
        weights += heads * (sizes["nope"] + sizes["rope"]) * sizes["q_rank"]
        weights += heads * (sizes["nope"] + sizes["v"]) * sizes["kv_rank"] + heads * sizes["v"] * sizes["dim"]
        moved = 2.0 * (batch * tokens * width + weights + 2 * batch * sizes["dim"])
        products = batch * (weights + heads * tokens * (width + sizes["kv_rank"]))
        return floor_us(moved, 2.0 * products)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """The contest's prefills in turn; four are all there are, so more repeat them on other inputs."""
        return [shape((128, 512, 1024, 2048)[number % 4]) for number in range(min(count, 8))]

    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Prefills that are no power of two, other batches, a shorter cache."""
        shapes = [shape(rng.randrange(130, 500)), shape(1000, batch=3), shape(77, batch=16, longest=2048)]
        while len(shapes) < count:
            # below some tens of tokens the reference's own roundings come near the tolerance
            shapes.append(shape(rng.randrange(32, 4000), batch=rng.randrange(1, 33), longest=4096))
        return shapes[:count]

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Two sequences, few heads, tens of tokens; widths as in the full layer."""
        return [
            shape(32, batch=2, longest=64, **_small()),
            shape(rng.randrange(40, 63), batch=1, longest=128, **_small()),
        ]

    def statement(self) -> str:
        """From ``prompts/``."""
        return package_text("ttd_kernels", "prompts", "mla_decode.md")


def _small() -> Mapping[str, int]:
    return {name: value for name, value in SMALL.items() if FULL[name] != value}


def _sizes(shape: Shape) -> dict[str, int]:
    return {name: shape.get(name, value) for name, value in FULL.items()}


def _argument(shape: Shape, sizes: Mapping[str, int]) -> Any:
    """``data = (config, x, kv_cache)``."""
    names = ("Q_proj_down", "Q_proj_up", "KV_proj_down", "KV_proj_up", "wo")
    config = {
        "batch_size": shape["B"],
        "dim": sizes["dim"],
        "n_heads": sizes["heads"],
        "q_lora_rank": sizes["q_rank"],
        "kv_lora_rank": sizes["kv_rank"],
        "qk_nope_head_dim": sizes["nope"],
        "qk_rope_head_dim": sizes["rope"],
        "v_head_dim": sizes["v"],
        "seq_len": 1,
        "max_seq_len": shape["max"],
        "kv_cache_shape": {"$tuple": [shape["B"], shape["max"], sizes["kv_rank"] + sizes["rope"]]},
        **{f"{name}_weight": tensor_ref(f"{name}_weight") for name in names},
    }
    cache = {"data": tensor_ref("cache"), "seq_len": shape["prefill"]}
    return {
        "$tuple": [
            {"$make": "Config", "with": config},
            tensor_ref("x"),
            {"$make": "KVCache", "with": cache},
        ]
    }


@attrs.frozen
class _Rotation:
    """Rotary embedding with angles, cosines and sines in bfloat16; ``theta_i = 10000 ** (-i/32)``.

    :param cosine: of each position's angles, bfloat16 [n, width].
    :param sine: likewise.
    """

    cosine: torch.Tensor
    sine: torch.Tensor

    @classmethod
    def at(cls, positions: torch.Tensor, width: int) -> _Rotation:
        """The rotation at some positions.

        :param positions: int64 [n]; rounded to bfloat16 like the angles.
        :param width: of the vectors to rotate, even.
        """
        half = torch.arange(width // 2, device=positions.device, dtype=torch.float32) / (width // 2)
        theta = (10000.0**-half).to(torch.bfloat16)
        angle = positions.to(torch.bfloat16)[:, None] * theta[None, :]
        angle = torch.cat([angle, angle], dim=-1)
        return cls(angle.cos(), angle.sin())

    def rotate(self, value: torch.Tensor) -> torch.Tensor:
        """Rotate vectors, halves against each other.

        :param value: bfloat16 [..., n, width].
        """
        low, high = value.chunk(2, dim=-1)
        return value * self.cosine + torch.cat([-high, low], dim=-1) * self.sine


def decode(
    tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int], filled: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference, sequence by sequence: keys and values of a whole batch would take 50 GB.

    :param tensors: by name, as :meth:`MlaDecode.draw_inputs` draws them.
    :param sizes: of the layer, as in :data:`FULL`.
    :param filled: tokens in the cache before the call.
    :return: the output [B, 1, dim] and the whole cache, both bfloat16.
    """
    x, cache = tensors["x"], tensors["cache"].clone()
    heads, nope, rope, rank = sizes["heads"], sizes["nope"], sizes["rope"], sizes["kv_rank"]
    query = linear(linear(x, tensors["Q_proj_down_weight"]), tensors["Q_proj_up_weight"])
    query = query.view(len(x), heads, nope + rope)
    cache[:, filled] = linear(x, tensors["KV_proj_down_weight"])[:, 0]
    tokens = torch.arange(filled + 1, device=x.device)
    rotated = _Rotation.at(tokens[-1:], rope).rotate(query[..., None, nope:])[..., 0, :]
    query = torch.cat([query[..., :nope], rotated], dim=-1)
    rotation = _Rotation.at(tokens, rope)
    heads_out = []
    for head_queries, cached in zip(query, cache[:, : filled + 1], strict=True):
        latent = linear(cached[:, :rank], tensors["KV_proj_up_weight"])
        latent = latent.view(filled + 1, heads, nope + sizes["v"]).transpose(0, 1)
        keys = rotation.rotate(cached[:, rank:]).expand(heads, -1, -1)
        keys = torch.cat([latent[..., :nope], keys], dim=-1)
        scores = head_queries[:, None, :] @ keys.transpose(1, 2) / math.sqrt(nope + rope)
        shares = torch.softmax(scores, dim=-1).to(torch.bfloat16)
        heads_out.append((shares @ latent[..., nope:]).reshape(1, 1, -1))
    return linear(torch.cat(heads_out), tensors["wo_weight"]), cache
