"""`relu2_mlp`: a feed-forward layer with squared ReLU, two products fused."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from ttd_kernels.case import Case, Output, Shape, leaf, normal
from ttd_kernels.problem import KernelProblem
from ttd_kernels.timing import floor_us


def shape(tokens: int, width: int, hidden: int) -> Shape:
    """T tokens of D channels, F hidden ones."""
    return {"T": tokens, "D": width, "F": hidden}


class Relu2Mlp(KernelProblem):
    """``relu(x @ up.T) ** 2 @ down.T``."""

    name = "relu2_mlp"
    title = "A feed-forward layer with squared ReLU on one GPU"
    timed = (shape(4096, 2048, 8192), shape(16384, 1024, 4096), shape(2048, 4096, 16384))

    def draw(self, shape: Shape, source: torch.Generator) -> Case:
        """Tokens ~ N(0,1), weights ~ N(0,1)/sqrt(fan-in)."""
        leaves = {
            "x": normal(source, shape["T"], shape["D"]),
            "up": normal(source, shape["F"], shape["D"], scale=1 / math.sqrt(shape["D"])),
            "down": normal(source, shape["D"], shape["F"], scale=1 / math.sqrt(shape["F"])),
        }
        return Case(shape, leaves, {"$tuple": [leaf(name) for name in leaves]})

    def outputs(self, shape: Shape) -> Sequence[Output]:
        """One bfloat16 [T, D]."""
        return [Output((shape["T"], shape["D"]), torch.bfloat16, rtol=2e-2, atol=2e-2)]

    def answer(self, case: Case) -> Sequence[torch.Tensor]:
        """In float32, TF32 off."""
        hidden = case.leaves["x"].float() @ case.leaves["up"].float().T
        return [(hidden.relu().square() @ case.leaves["down"].float().T).bfloat16()]

    def floor_us(self, shape: Shape) -> float:
        """Two products; tokens read and written, weights read, once."""
        tokens, width, hidden = shape["T"], shape["D"], shape["F"]
        return floor_us(4.0 * (tokens * width + width * hidden), 4.0 * tokens * width * hidden)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Multiples of 64."""
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
        """One of each kind."""
        return [shape(32, 64, 128), shape(rng.randrange(17, 30), 40, 72)]

    def statement(self) -> str:
        """The task."""
        return (
            "Write a feed-forward layer with squared ReLU for the GPU in Triton.\n\n"
            "`custom_kernel(data)` gets `data = (x, up, down)`, bfloat16 [T, D], [F, D] and [D, F], and "
            "returns bfloat16 [T, D]:\n\n"
            "    relu(x @ up.T) ** 2 @ down.T\n\n"
            "Sums in float32; the hidden values may be rounded to bfloat16. Tolerance: 2 % and 0.02."
        )
