"""`rmsnorm`: root-mean-square normalisation, forward and backward in one call."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import torch

from ttd_kernels.case import Case, Output, Shape, leaf
from ttd_kernels.problem import KernelProblem
from ttd_kernels.timing import floor_us

EPSILON = 1e-6


class RmsNorm(KernelProblem):
    """Rows of D channels; T rows."""

    name = "rmsnorm"
    title = "RMSNorm, forward and backward, on one GPU"
    timed = ({"T": 4096, "D": 4096}, {"T": 8192, "D": 8192}, {"T": 32768, "D": 2048})

    def draw(self, shape: Shape, source: torch.Generator) -> Case:
        """Rows of many scales."""
        rows, width = shape["T"], shape["D"]

        def normal(*sizes: int) -> torch.Tensor:
            return torch.randn(sizes, generator=source, device=source.device)

        x = normal(rows, width) * torch.exp(normal(rows, 1))
        leaves = {"x": x.bfloat16(), "weight": normal(width), "gradient": normal(rows, width).bfloat16()}
        return Case(shape, leaves, {"$tuple": [leaf(name) for name in leaves]})

    def outputs(self, shape: Shape) -> Sequence[Output]:
        """Normalised rows, gradient of the rows, gradient of the weight."""
        rows, width = shape["T"], shape["D"]
        whole = Output((rows, width), torch.bfloat16, rtol=2e-2, atol=1e-2)
        return [whole, whole, Output((width,), torch.float32, rtol=1e-2, atol=2e-3 * math.sqrt(rows))]

    def answer(self, case: Case) -> Sequence[torch.Tensor]:
        """In float32, rounded at the end."""
        return norm_and_gradients(case.leaves)

    def floor_us(self, shape: Shape) -> float:
        """Two bfloat16 arrays read and two written."""
        return floor_us(8.0 * shape["T"] * shape["D"] + 8.0 * shape["D"], 0.0)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Powers of two."""
        return [{"T": 2 ** rng.randrange(6, 14), "D": 2 ** rng.randrange(7, 14)} for _ in range(count)]

    def hidden_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Any sizes."""
        return [{"T": rng.randrange(1, 5000), "D": rng.randrange(33, 9000)} for _ in range(count)]

    def small_shapes(self, rng: random.Random) -> Sequence[Shape]:
        """Some rows, one width that is no power of two."""
        return [{"T": 16, "D": 128}, {"T": rng.randrange(3, 12), "D": 96}]

    def statement(self) -> str:
        """The task."""
        return (
            "Write RMSNorm, forward and backward in one call, for the GPU in Triton.\n\n"
            "`custom_kernel(data)` gets `data = (x, weight, gradient)`: bfloat16 [T, D], float32 [D], and "
            "the gradient of the output, bfloat16 [T, D]. It returns `(y, dx, dweight)`: bfloat16 [T, D] "
            "twice and float32 [D]. With `r = 1 / sqrt(mean(x ** 2) + 1e-6)` for each row, in float32:\n\n"
            "    y       = x * r * weight\n"
            "    dx      = r * (g - x * r * mean(g * x * r)), where g = gradient * weight\n"
            "    dweight = sum over rows of gradient * x * r\n\n"
            "Tolerance: 2 % and 0.01; 1 % and 0.002 sqrt(T) for dweight."
        )


def norm_and_gradients(leaves: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The reference: ``y``, ``dx``, ``dweight``."""
    x, weight, gradient = leaves["x"].float(), leaves["weight"], leaves["gradient"].float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
    unit = x * scale
    inner = gradient * weight
    dx = scale * (inner - unit * (inner * unit).mean(-1, keepdim=True))
    return [(unit * weight).bfloat16(), dx.bfloat16(), (gradient * unit).sum(0)]
