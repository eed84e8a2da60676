"""`dora_norm`: norms of the rows of ``W + s B A``, which weight-decomposed low-rank adapters need."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, tensor_ref
from ttd_kernels.harness.random_tensors import normal_bfloat16
from ttd_kernels.problem import KernelProblem
from ttd_kernels.roofline import floor_us


def shape(rows: int, columns: int, rank: int) -> Shape:
    """W is [M, N], B [M, r], A [r, N]."""
    return {"M": rows, "N": columns, "r": rank}


class DoraNorm(KernelProblem):
    """The product is never formed by a good program: it is as large as the weight."""

    name = "dora_norm"
    title = "Row norms of W + s B A on one GPU"
    timed_shapes = (shape(8192, 8192, 16), shape(16384, 4096, 64), shape(4096, 14336, 128))

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """``w`` [M, N], ``b`` [M, r] and ``a`` [r, N] in bfloat16, ``scale`` float32 [1]; ``w`` and ``b a``
        of like size, so that the cross terms of the squared sum matter."""
        rows, columns, rank = shape["M"], shape["N"], shape["r"]
        tensors = {
            "w": normal_bfloat16(generator, rows, columns, scale=1 / math.sqrt(columns)),
            "b": normal_bfloat16(generator, rows, rank, scale=1 / math.sqrt(rank)),
            "a": normal_bfloat16(generator, rank, columns, scale=1 / math.sqrt(columns)),
        }
        # a part of A along W's first rows: without it the cross term would hardly show
        tensors["a"] += tensors["w"][:rank] if rows >= rank else 0
        tensors["scale"] = torch.rand(1, generator=generator, device=generator.device) + 0.5
        return KernelInputs(
            shape, tensors, {"$tuple": [tensor_ref(name) for name in ("w", "a", "b", "scale")]}
        )

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """One float32 [M]."""
        return [OutputSpec((shape["M"],), torch.float32, rtol=5e-3, atol=1e-3)]

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """In float32, the product formed."""
        w, a, b = (inputs.tensors[name].float() for name in ("w", "a", "b"))
        return [torch.linalg.vector_norm(w + inputs.tensors["scale"] * (b @ a), dim=1)]

    def floor_us(self, shape: Shape) -> float:
        """All read once, the norms written once; the products of W with A."""
        rows, columns, rank = shape["M"], shape["N"], shape["r"]
        moved = 2.0 * (rows * columns + rank * (rows + columns)) + 4.0 * rows
        return floor_us(moved, 2.0 * rows * columns * rank)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Multiples of 128, ranks 8 to 256."""
        return [
            shape(128 * rng.randrange(1, 64), 128 * rng.randrange(1, 64), 2 ** rng.randrange(3, 9))
            for _ in range(count)
        ]

    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Any sizes and ranks."""
        return [
            shape(rng.randrange(130, 5000), rng.randrange(130, 5000), rng.randrange(1, 130))
            for _ in range(count)
        ]

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Powers of two, and sizes that are no multiple of a block."""
        return [shape(32, 64, 16), shape(rng.randrange(20, 45), 90, 5)]

    def statement(self) -> str:
        """The task."""
        return (
            "Compute the norms of the rows of W + s B A on the GPU in Triton, without forming B A.\n\n"
            "`custom_kernel(data)` gets `data = (w, a, b, scale)`, bfloat16 [M, N], [r, N], [M, r] and "
            "float32 [1], and returns float32 [M]:\n\n"
            "    sqrt(sum over columns of (w + scale * b @ a) ** 2)\n\n"
            "Sums in float32. Tolerance: 0.5 % and 0.001."
        )
