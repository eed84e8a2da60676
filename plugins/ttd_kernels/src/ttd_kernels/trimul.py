"""`trimul`: the outgoing triangle multiplicative update, forward only (paper 4.2; GPU MODE's TriMul)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import attrs
import torch

from ttd_core.package_files import package_text
from ttd_core.problem import Baseline
from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, tensor_ref
from ttd_kernels.problem import KernelProblem
from ttd_kernels.roofline import floor_us

#: Hidden channels H.
HIDDEN = 128
_GATED = ("left", "right", "out")
#: Shapes of the contest's kinds.
_SIZES, _BATCHES, _CHANNELS = (32, 64, 128, 256, 768, 1024), (1, 2), (128, 256, 384, 768)
_MASKS, _KINDS = ("ones", "random"), ("normal", "cauchy")
#: Elements of the largest input that a test draws: 1024 x 1024 x 384.
_LARGEST = 1024 * 1024 * 384


def shape(n: int, b: int, c: int, mask: str, kind: str) -> Shape:
    """N tokens, B batches, C channels; mask ``ones`` or ``random``; inputs ``normal`` or ``cauchy``."""
    return {"N": n, "B": b, "C": c, "mask": mask, "x": kind}


class TriMul(KernelProblem):
    """The input is [B, N, N, C]; 128 hidden channels."""

    name = "trimul"
    title = "TriMul: the outgoing triangle multiplicative update on one GPU"
    timed_shapes: ClassVar[tuple[Shape, ...]] = (
        shape(256, 2, 128, "ones", "normal"),
        shape(768, 1, 128, "ones", "cauchy"),
        shape(256, 2, 384, "random", "normal"),
        shape(512, 1, 128, "ones", "normal"),
        shape(1024, 1, 128, "ones", "cauchy"),
        shape(768, 1, 384, "random", "normal"),
        shape(1024, 1, 384, "ones", "normal"),
    )
    baselines = (
        Baseline(
            "TTT-Discover's published kernel", 1108.0, "measured on one H200, cache warm; it ignores the mask"
        ),
        Baseline("PyTorch eager, float32", 10269.0, "measured on the same H200"),
        Baseline("torch.compile, TF32", 3733.0, "measured on the same H200"),
    )

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Input [B, N, N, C], mask [B, N, N] and weights: projections ~ N(0, 1) / sqrt(H), the last one
        ~ N(0, 1) / sqrt(C)."""
        n, b, c, device = shape["N"], shape["B"], shape["C"], generator.device

        def normal(*sizes: int) -> torch.Tensor:
            return torch.randn(sizes, generator=generator, device=device)

        if shape["x"] == "cauchy":
            x = torch.empty((b, n, n, c), device=device).cauchy_(0.0, 2.0, generator=generator)
        else:
            x = normal(b, n, n, c)
        if shape["mask"] == "ones":
            mask = torch.ones((b, n, n), device=device)
        else:
            mask = torch.randint(0, 2, (b, n, n), generator=generator, device=device)
        weights = {"norm.weight": normal(c), "norm.bias": normal(c)}
        for name in ("left_proj", "right_proj", *(f"{gate}_gate" for gate in _GATED)):
            weights[f"{name}.weight"] = normal(HIDDEN, c) / math.sqrt(HIDDEN)
        weights |= {"to_out_norm.weight": normal(HIDDEN), "to_out_norm.bias": normal(HIDDEN)}
        weights["to_out.weight"] = normal(c, HIDDEN) / math.sqrt(c)
        argument = {
            "$tuple": [
                tensor_ref("input"),
                tensor_ref("mask"),
                {name: tensor_ref(name) for name in weights},
                {"dim": c, "hidden_dim": HIDDEN},
            ]
        }
        return KernelInputs(shape, {"input": x, "mask": mask, **weights}, argument)

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """One float32 [B, N, N, C]."""
        n, b, c = shape["N"], shape["B"], shape["C"]
        return [OutputSpec((b, n, n, c), torch.float32, rtol=2e-2, atol=2e-2)]

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """In float32, TF32 off."""
        return [triangle_update(inputs.tensors)]

    def known_mistakes(self, inputs: KernelInputs) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """The mask ignored."""
        if inputs.shape["mask"] == "random":
            ones = torch.ones_like(inputs.tensors["mask"])
            unmasked = attrs.evolve(inputs, tensors={**inputs.tensors, "mask": ones})
            yield "the mask is ignored", self.expected_outputs(unmasked)

    def floor_us(self, shape: Shape) -> float:
        """The input and the mask read once, the output written once; the products in half precision."""
        n, b, c = shape["N"], shape["B"], shape["C"]
        pixels = b * n * n
        mask = 4 if shape["mask"] == "ones" else 8
        moved = pixels * (4 * c + 4 * c + mask)
        products = pixels * (5 * c * HIDDEN + n * HIDDEN + HIDDEN * c)
        return floor_us(moved, 2.0 * products)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Sizes of the contest's lists; every mask with every distribution first."""
        shapes: list[Shape] = []
        while len(shapes) < count:
            mask, kind = _MASKS[len(shapes) % 2], _KINDS[len(shapes) // 2 % 2]
            n, b, c = rng.choice(_SIZES), rng.choice(_BATCHES), rng.choice(_CHANNELS)
            if b * n * n * c <= _LARGEST:
                shapes.append(shape(n, b, c, mask, kind))
        return shapes

    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Sizes that are in no list and no multiple of 64, batches of 3, channels such as 96."""
        shapes = [
            shape(200, 1, 128, "random", "normal"),
            shape(128, 1, 96, "ones", "normal"),
            shape(rng.randrange(33, 63), 3, 128, "random", "cauchy"),
        ]
        while len(shapes) < count:
            n, c = rng.randrange(17, 300), 16 * rng.randrange(2, 20)
            shapes.append(shape(n, rng.choice((1, 2, 3)), c, rng.choice(_MASKS), rng.choice(_KINDS)))
        return shapes[:count]

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Both masks and both distributions, at some 16 tokens: the interpreter takes its time."""
        return [
            shape(16, 2, 128, "random", "cauchy"),
            shape(rng.randrange(17, 24), 1, 128, "ones", "normal"),
        ]

    def statement(self) -> str:
        """From ``prompts/``."""
        return package_text("ttd_kernels", "prompts", "trimul.md")


def triangle_update(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference: float32 [B, N, N, C].

    LayerNorm, gated and masked projections, ``out[i, j] = sum_k left[i, k] right[j, k]`` for each channel,
    LayerNorm, out gate, projection.

    :param tensors: ``input`` [B, N, N, C], ``mask`` [B, N, N] and the weights by name.
    """
    normed = torch.nn.functional.layer_norm(
        tensors["input"], tensors["input"].shape[-1:], tensors["norm.weight"], tensors["norm.bias"], 1e-5
    )
    keep = tensors["mask"].unsqueeze(-1).to(torch.float32)

    def project(name: str) -> torch.Tensor:
        return torch.nn.functional.linear(normed, tensors[f"{name}.weight"])

    left = project("left_proj") * keep * project("left_gate").sigmoid()
    right = project("right_proj") * keep * project("right_gate").sigmoid()
    pairs = torch.einsum("bikh,bjkh->bijh", left, right)
    del left, right
    pairs = torch.nn.functional.layer_norm(
        pairs, (HIDDEN,), tensors["to_out_norm.weight"], tensors["to_out_norm.bias"], 1e-5
    )
    return torch.nn.functional.linear(pairs * project("out_gate").sigmoid(), tensors["to_out.weight"])
