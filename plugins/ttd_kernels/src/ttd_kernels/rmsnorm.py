"""`rmsnorm`: root-mean-square normalisation, forward and backward in one call."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import torch

from ttd_kernels.harness.kernel_io import KernelInputs, OutputSpec, Shape, tensor_ref
from ttd_kernels.problem import KernelProblem
from ttd_kernels.roofline import floor_us

#: Added to the mean square before the root is taken.
EPSILON = 1e-6


class RmsNorm(KernelProblem):
    """T rows of D channels each."""

    name = "rmsnorm"
    title = "RMSNorm, forward and backward, on one GPU"
    timed_shapes = ({"T": 4096, "D": 4096}, {"T": 8192, "D": 8192}, {"T": 32768, "D": 2048})

    def draw_inputs(self, shape: Shape, generator: torch.Generator) -> KernelInputs:
        """Rows of many scales: ``x`` and ``gradient`` bfloat16 [T, D], ``weight`` float32 [D]."""
        rows, width = shape["T"], shape["D"]

        def normal(*sizes: int) -> torch.Tensor:
            return torch.randn(sizes, generator=generator, device=generator.device)

        x = normal(rows, width) * torch.exp(normal(rows, 1))
        tensors = {"x": x.bfloat16(), "weight": normal(width), "gradient": normal(rows, width).bfloat16()}
        return KernelInputs(shape, tensors, {"$tuple": [tensor_ref(name) for name in tensors]})

    def output_specs(self, shape: Shape) -> Sequence[OutputSpec]:
        """Normalised rows [T, D], gradient of the rows [T, D], gradient of the weight [D]."""
        rows, width = shape["T"], shape["D"]
        whole = OutputSpec((rows, width), torch.bfloat16, rtol=2e-2, atol=1e-2)
        return [whole, whole, OutputSpec((width,), torch.float32, rtol=1e-2, atol=2e-3 * math.sqrt(rows))]

    def expected_outputs(self, inputs: KernelInputs) -> Sequence[torch.Tensor]:
        """In float32, rounded at the end."""
        return norm_and_gradients(inputs.tensors)

    def floor_us(self, shape: Shape) -> float:
        """Two bfloat16 arrays read and two written."""
        return floor_us(8.0 * shape["T"] * shape["D"] + 8.0 * shape["D"], 0.0)

    def test_shapes(self, rng: random.Random, count: int) -> Sequence[Shape]:
        """Rows and channels in powers of two."""
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


def norm_and_gradients(tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The reference: ``y`` and ``dx``, bfloat16 [T, D], and ``dweight``, float32 [D].

    :param tensors: ``x``, ``weight`` and ``gradient``.
    """
    x, weight, gradient = tensors["x"].float(), tensors["weight"], tensors["gradient"].float()
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
    unit = x * scale
    inner = gradient * weight
    dx = scale * (inner - unit * (inner * unit).mean(-1, keepdim=True))
    return [(unit * weight).bfloat16(), dx.bfloat16(), (gradient * unit).sum(0)]
