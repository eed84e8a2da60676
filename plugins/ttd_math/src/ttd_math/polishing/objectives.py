"""The bounds of `ac1`, `ac2` and `erdos` for many step functions at once, with gradients.

All are the largest value of a convolution or correlation, divided by something smooth. The largest value is
replaced by a norm of high power p, which errs by a factor of at most (2 n - 1)^(1/p) and has a gradient that
does not jump; the powers rise while a function is optimised. Losses are logarithms, so that scale does not
matter, and lower is better for each problem.

Shapes: B functions of n heights are [B, n]; a loss is [B].
"""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar

import scipy.fft
import torch
from torch import Tensor

#: Values below this share of the largest have no part in its norm.
_LEAST = 1e-30


class _Autoconvolution(torch.autograd.Function):
    """f*f by FFT. Its gradient needs the spectrum of f again, which is kept: four real transforms in all."""

    @staticmethod
    def forward(ctx: Any, f: Tensor) -> Tensor:
        count = 2 * f.shape[-1] - 1
        size = scipy.fft.next_fast_len(count, real=True)
        spectrum = torch.fft.rfft(f, size)
        ctx.size, ctx.heights = size, f.shape[-1]
        ctx.save_for_backward(spectrum)
        values: Tensor = torch.fft.irfft(spectrum * spectrum, size)[..., :count]
        return values

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Tensor:
        (spectrum,) = ctx.saved_tensors
        pulled = torch.fft.rfft(above[0], ctx.size) * spectrum.conj()
        slope: Tensor = 2.0 * torch.fft.irfft(pulled, ctx.size)[..., : ctx.heights]
        return slope


def autoconvolution(f: Tensor) -> Tensor:
    """All values of f*f for each row.

    :param f: [B, n].
    :return: [B, 2 n - 1].
    """
    values: Tensor = _Autoconvolution.apply(f)  # type: ignore[no-untyped-call]
    return values


def log_norm(values: Tensor, power: Tensor) -> Tensor:
    """The logarithm of each row's norm of a power, never below that of its largest value.

    :param values: [B, m], of which the largest are positive.
    :param power: [B], the larger the closer to the maximum.
    """
    top = values.detach().amax(-1, keepdim=True)
    # Of what is left out of the logarithm the norm has nothing: its gradient there is 0 as well.
    logs = (values / top).clamp_min(_LEAST).log() * power[:, None]
    return top[:, 0].log() + torch.logsumexp(logs, -1) / power


class Objective(abc.ABC):
    """A bound as a loss of unbounded parameters."""

    #: +1 where the bound is to be small, -1 where it is to be large: bound = exp(sign * loss).
    sign: ClassVar[int]
    #: What of a function may be changed, see :mod:`ttd_math.polishing.changes`.
    changes: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def parameters(self, heights: Tensor, floor: Tensor) -> Tensor:
        """Parameters [B, n] that give (nearly) these heights.

        :param floor: [B], what is added where heights at 0 could not change, as a share of the largest.
        """

    @abc.abstractmethod
    def heights(self, parameters: Tensor) -> Tensor:
        """Valid heights [B, n], up to rounding."""

    @abc.abstractmethod
    def values(self, heights: Tensor) -> Tensor:
        """The values [B, m] of which the largest counts."""

    @abc.abstractmethod
    def loss(self, heights: Tensor, values: Tensor, log_top: Tensor) -> Tensor:
        """The loss [B] for a given logarithm [B] of the largest value."""

    def both(self, parameters: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        """The smoothed loss, which has a gradient, and the exact one, which has none: [B] each.

        :param parameters: [B, n].
        :param power: [B], of the norm that stands for the maximum.
        """
        heights = self.heights(parameters)
        values = self.values(heights)
        smoothed = self.loss(heights, values, log_norm(values, power))
        with torch.no_grad():
            return smoothed, self.loss(heights, values, values.amax(-1).log())

    @torch.no_grad()
    def exact(self, heights: Tensor) -> Tensor:
        """The loss [B] of heights."""
        values = self.values(heights)
        return self.loss(heights, values, values.amax(-1).log())


class _Heights(Objective):
    """Non-negative heights, as squares: one that is small changes by little, one that is 0 never."""

    changes = (
        *("shake", "segment", "fill", "spikes", "pad", "move", "thin", "warp", "graft", "mirror"),
        "cross",
    )

    def parameters(self, heights: Tensor, floor: Tensor) -> Tensor:
        """Square roots, scaled to a mean height of 1."""
        heights = heights + floor[:, None] * heights.amax(-1, keepdim=True)
        return (heights / heights.mean(-1, keepdim=True)).sqrt()

    def heights(self, parameters: Tensor) -> Tensor:
        """Squares."""
        return parameters * parameters

    def values(self, heights: Tensor) -> Tensor:
        """f*f."""
        return autoconvolution(heights)


class First(_Heights):
    """log C1, C1 = 2 n max(f*f) / (sum f)^2."""

    sign = 1

    def loss(self, heights: Tensor, values: Tensor, log_top: Tensor) -> Tensor:
        """See the class."""
        return log_top - 2 * heights.mean(-1).log() - math.log(heights.shape[-1] / 2)


class Second(_Heights):
    """-log C2, C2 = (2 sum y^2 + sum y[j] y[j+1]) / (3 sum y max y) with y = f*f and sum y = (sum f)^2."""

    sign = -1

    def loss(self, heights: Tensor, values: Tensor, log_top: Tensor) -> Tensor:
        """See the class."""
        energy = 2 * (values * values).sum(-1) + (values[:, 1:] * values[:, :-1]).sum(-1)
        return log_top + 2 * heights.sum(-1).log() - (energy / 3).log()


class Overlap(Objective):
    """log C5 of heights in [0, 1] with mean 1/2, C5 = (2/n) max of the correlation of h with 1 - h.

    Heights are logistic functions of the parameters plus one number a row, which makes their mean 1/2.
    """

    sign = 1
    changes = ("shake", "segment", "warp", "mirror", "cross")

    def parameters(self, heights: Tensor, floor: Tensor) -> Tensor:
        """Logits; heights at 0 and 1 get some room, the same for all."""
        return heights.clamp(1e-5, 1 - 1e-5).logit()

    def heights(self, parameters: Tensor) -> Tensor:
        """Logistic values with mean 1/2: the shift is found without gradient, its last step has one."""
        with torch.no_grad():
            low = -parameters.amax(-1, keepdim=True) - 1
            high = -parameters.amin(-1, keepdim=True) + 1
            for _ in range(60):
                middle = (low + high) / 2
                below = torch.sigmoid(parameters + middle).mean(-1, keepdim=True) < 0.5
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            at = torch.sigmoid(parameters + high)
            steep = (at * (1 - at)).mean(-1, keepdim=True).clamp_min(1e-12)
        shift = high - (torch.sigmoid(parameters + high).mean(-1, keepdim=True) - 0.5) / steep
        return torch.sigmoid(parameters + shift)

    def values(self, heights: Tensor) -> Tensor:
        """The full correlation of h with 1 - h."""
        n = heights.shape[-1]
        size = scipy.fft.next_fast_len(2 * n - 1, real=True)
        one, other = torch.fft.rfft(heights, size), torch.fft.rfft((1 - heights).flip(-1), size)
        values: Tensor = torch.fft.irfft(one * other, size)[..., : 2 * n - 1]
        return values

    def loss(self, heights: Tensor, values: Tensor, log_top: Tensor) -> Tensor:
        """See the class."""
        return log_top - math.log(heights.shape[-1] / 2)


#: By the name of the problem.
OBJECTIVES: dict[str, type[Objective]] = {"ac1": First, "ac2": Second, "erdos": Overlap}
