"""`relu2_mlp`: a feed-forward layer with squared ReLU, two products fused."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, tensor_ref
from ttd_kernels.harness.random_tensors import normal_bfloat16
from ttd_kernels.problem import KernelProblem
from ttd_kernels.roofline import floor_us


def shape(tokens: int, width: int, hidden: int) -> Shape:
    """T tokens of D channels; F hidden channels."""
    return {"T": tokens, "D": width, "F": hidden}


class Relu2Mlp(KernelProblem):
    """``relu(x @ up.T) ** 2 @ down.T`` for ``x`` [T, D], ``up`` [F, D] and ``down`` [D, F]."""

    name = "relu2_mlp"
    title = "A feed-forward layer with squared ReLU on one GPU"
    timed_shapes = (shape(4096, 2048, 8192), shape(16384, 1024, 4096), shape(2048, 4096, 16384))

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Tokens ~ N(0, 1), weights ~ N(0, 1) / sqrt(fan-in), bfloat16."""
        tokens, width, hidden = shape["T"], shape["D"], shape["F"]
        tensors = {
            "x": normal_bfloat16(generator, tokens, width),
            "up": normal_bfloat16(generator, hidden, width, scale=1 / math.sqrt(width)),
            "down": normal_bfloat16(generator, width, hidden, scale=1 / math.sqrt(hidden)),
        }
        return KernelInputs(shape, tensors, {"$tuple": [tensor_ref(name) for name in tensors]})

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """One bfloat16 [T, D]."""
        return [OutputSpec((shape["T"], shape["D"]), torch.bfloat16, rtol=2e-2, atol=2e-2)]

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """In float32, TF32 off."""
        x, up, down = (inputs.tensors[name].float() for name in ("x", "up", "down"))
        return [((x @ up.T).relu().square() @ down.T).bfloat16()]

    def floor_us(self, shape: Shape) -> float:
        """Two matrix products; tokens read and written once, weights read once."""
        tokens, width, hidden = shape["T"], shape["D"], shape["F"]
        return floor_us(4.0 * (tokens * width + width * hidden), 4.0 * tokens * width * hidden)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Tokens, channels and hidden channels in multiples of 64, 128 and 256."""
        return [
            shape(64 * rng.randrange(1, 64), 128 * rng.randrange(1, 16), 256 * rng.randrange(1, 16))
            for _ in range(count)
        ]

    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Any tokens, channels in steps of 8."""
        return [
            shape(rng.randrange(1, 3000), 8 * rng.randrange(5, 200), 8 * rng.randrange(5, 400))
            for _ in range(count)
        ]

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Multiples of 32, and sizes that are no multiple of a block."""
        return [shape(32, 64, 128), shape(rng.randrange(17, 30), 40, 72)]

    def statement(self) -> str:
        """The task."""
        return (
            "Write a feed-forward layer with squared ReLU for the GPU in Triton.\n\n"
            "`custom_kernel(data)` gets `data = (x, up, down)`, bfloat16 [T, D], [F, D] and [D, F], and "
            "returns bfloat16 [T, D]:\n\n"
            "    relu(x @ up.T) ** 2 @ down.T\n\n"
            "Sums and squares in float32; the squares may be rounded to bfloat16, the sums that are squared "
            "may not. Tolerance: 2 % and 0.02."
        )
