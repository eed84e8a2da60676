"""The bounds of `ac1` and `erdos` as problems of minimising a largest value, for many step functions at once.

Both have values that are quadratic in the heights, heights with bounds of their own, and a fixed sum. With
``values(f + d) = values(f) + linear(f, d) + bend(d)`` exactly, ``linear`` is the derivative along d.

Shapes: B functions of n heights are [B, n], their values [B, 2 n - 1].
"""

from __future__ import annotations

import abc
from typing import ClassVar

import scipy.fft
import torch
from torch import Tensor

#: Most values of matrices that are flipped at once: just below 2 GiB. On CUDA torch's ``flip`` reckons places
#: in its result in 32 bits where it finds that these suffice, and in finding so it counts the strides that it
#: has made negative as less than nothing (``TensorIteratorBase::can_use_32bit_indexing``). Larger results it
#: may write outside their memory, and some later call of a library tells of that as an error of its own.
FLIPPED = (1 << 28) - 1


def _size(n: int) -> int:
    """A fast length for transforms that hold all values of n heights."""
    size: int = scipy.fft.next_fast_len(2 * n - 1, real=True)
    return size


def _spectrum(x: Tensor, n: int) -> Tensor:
    waves: Tensor = torch.fft.rfft(x, _size(n))
    return waves


def _back(waves: Tensor, n: int) -> Tensor:
    values: Tensor = torch.fft.irfft(waves, _size(n))
    return values


def _toeplitz(spectrum: Tensor, n: int) -> Tensor:
    """Symmetric matrices [B, n, n], constant along diagonals; semidefinite where no spectrum is negative."""
    lags = _back(torch.complex(spectrum, torch.zeros_like(spectrum)), n)[..., :n]
    both = torch.cat([lags.flip(-1), lags[..., 1:]], -1)
    return _flipped(both.unfold(-1, n, 1))


def _flipped(rows: Tensor) -> Tensor:
    """Matrices [B, m, n] with the last row first, as a copy, however large they are."""
    if rows.numel() <= FLIPPED:
        return rows.flip(1)
    whole = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    count, each = rows.shape[1], max(1, FLIPPED // (rows.shape[0] * rows.shape[2]))
    for first in range(0, count, each):
        last = min(count, first + each)
        whole[:, first:last] = rows[:, count - last : count - first].flip(1)
    return whole


class Minimax(abc.ABC):
    """A bound that is the largest of quadratic values."""

    #: Derivatives of the distances to the edges: a height f is above 0 (+1), and 1 - f may be too (-1).
    signs: ClassVar[tuple[int, ...]]
    #: Scores closer than this are one optimum.
    apart: ClassVar[float]
    #: Whether slopes are a view whose elements share memory.
    shared_slopes: ClassVar[bool]

    def __init__(self) -> None:
        """Nothing is on any device yet."""
        self._constants: dict[tuple[tuple[float, ...], torch.device], Tensor] = {}

    @abc.abstractmethod
    def values(self, f: Tensor) -> Tensor:
        """The values [..., 2 n - 1] of which the largest counts, of heights [..., n]."""

    @abc.abstractmethod
    def linear(self, f: Tensor, d: Tensor) -> Tensor:
        """The derivative of the values along d: [B, 2 n - 1]."""

    @abc.abstractmethod
    def bend(self, d: Tensor) -> Tensor:
        """What the values have beyond the derivative after a step d: [B, 2 n - 1]."""

    @abc.abstractmethod
    def pulled(self, f: Tensor, weights: Tensor) -> Tensor:
        """The gradient [B, n] of the sum of the values, each times its weight [B, 2 n - 1]."""

    @abc.abstractmethod
    def slopes(self, f: Tensor, first: int, last: int) -> Tensor:
        """Gradients of the values, the last value's first: row r is that of value 2 n - 2 - r.

        :param first: row that is the first asked for.
        :param last: row before which they end; 2 n - 1 for all.
        :return: [B, last - first, n].
        """

    @abc.abstractmethod
    def curvature(self, weights: Tensor) -> Tensor:
        """The positive part of the second derivative of the weighted sum of the values: [B, n, n].

        :param weights: [B, 2 n - 1], not negative.
        """

    @abc.abstractmethod
    def inside(self, f: Tensor) -> Tensor:
        """Heights near f, away from all edges, with the sum that is kept."""

    @abc.abstractmethod
    def finished(self, f: Tensor) -> Tensor:
        """Heights with that sum up to rounding, as they are judged."""

    def constant(self, numbers: tuple[float, ...], like: Tensor) -> Tensor:
        """Numbers on the device of another tensor, copied there once."""
        key = (numbers, like.device)
        if key not in self._constants:
            self._constants[key] = torch.tensor(numbers, dtype=like.dtype, device=like.device)
        return self._constants[key]

    def distances(self, f: Tensor) -> Tensor:
        """How far heights are from each of their edges: [..., edges, n]."""
        return torch.stack([f if sign > 0 else 1 - f for sign in self.signs], -2)

    def distance_changes(self, d: Tensor) -> Tensor:
        """How distances change with heights: [B, edges, n] for changes [B, n]."""
        return torch.stack([d if sign > 0 else -d for sign in self.signs], -2)

    def away(self, pushes: Tensor) -> Tensor:
        """What pushes [B, edges, n] away from edges are together, as a gradient [B, n]."""
        whole = pushes[..., 0, :]
        return whole if len(self.signs) == 1 else whole - pushes[..., 1, :]

    def scores(self, f: Tensor) -> Tensor:
        """The bound [B] of finished heights; infinite where it is no number."""
        top = self.values(f).amax(-1)
        return torch.where(torch.isfinite(top), top, torch.full_like(top, torch.inf))


class Autoconvolution(Minimax):
    """C1: 2/n times the largest value of f*f, for mean height 1."""

    signs = (1,)
    apart = 2e-5
    shared_slopes = True

    def values(self, f: Tensor) -> Tensor:
        """f*f, scaled."""
        n = f.shape[-1]
        return _back(_spectrum(f, n).square(), n)[..., : 2 * n - 1] * (2 / n)

    def linear(self, f: Tensor, d: Tensor) -> Tensor:
        """2 f*d, scaled."""
        n = f.shape[-1]
        return _back(_spectrum(f, n) * _spectrum(d, n), n)[..., : 2 * n - 1] * (4 / n)

    def bend(self, d: Tensor) -> Tensor:
        """d*d, scaled."""
        return self.values(d)

    def pulled(self, f: Tensor, weights: Tensor) -> Tensor:
        """Twice the correlation of weights and f, scaled."""
        n = f.shape[-1]
        return _back(_spectrum(weights, n) * _spectrum(f, n).conj(), n)[..., :n] * (4 / n)

    def slopes(self, f: Tensor, first: int, last: int) -> Tensor:
        """Shifted copies of f turned around, scaled: a view."""
        n = f.shape[-1]
        shifted = torch.nn.functional.pad(f.flip(-1) * (4 / n), (n - 1, n - 1)).unfold(-1, n, 1)
        return shifted[:, first:last]

    def curvature(self, weights: Tensor) -> Tensor:
        """In the spectrum w conj(z)^2, which |w| |z|^2 bounds: half the sum of both is never negative."""
        n = (weights.shape[-1] + 1) // 2
        weights = weights * (2 / n)
        bound = _toeplitz(_spectrum(weights, n).abs(), n)
        bound += weights.unfold(-1, n, 1)
        return bound

    def inside(self, f: Tensor) -> Tensor:
        """Mean 1, and no height below 0.001 before the last scaling."""
        f = f.clamp_min(0.0)
        f = (f / f.mean(-1, keepdim=True)).clamp_min(1e-3)
        return f / f.mean(-1, keepdim=True)

    def finished(self, f: Tensor) -> Tensor:
        """Mean 1."""
        return f / f.mean(-1, keepdim=True)


class Overlap(Minimax):
    """C5: 2/n times the largest overlap of h with 1 - h, for heights in [0, 1] of mean 1/2."""

    signs = (1, -1)
    apart = 3e-7
    shared_slopes = False

    def values(self, f: Tensor) -> Tensor:
        """The full correlation of h with 1 - h, scaled."""
        return self._correlated(f, 1 - f) * (2 / f.shape[-1])

    def linear(self, f: Tensor, d: Tensor) -> Tensor:
        """Correlations of d with 1 - h and of h with d, scaled."""
        return (self._correlated(d, 1 - f) - self._correlated(f, d)) * (2 / f.shape[-1])

    def bend(self, d: Tensor) -> Tensor:
        """Less the correlation of d with itself, scaled."""
        return self._correlated(d, d) * (-2 / d.shape[-1])

    def pulled(self, f: Tensor, weights: Tensor) -> Tensor:
        """The convolution of weights with 1 - h less their correlation with h, scaled."""
        n, size = f.shape[-1], _size(f.shape[-1])
        waves = _spectrum(weights, n)
        forth = _back(waves * _spectrum(1 - f, n), n)[..., n - 1 : 2 * n - 1]
        back = _back(waves.conj() * _spectrum(f, n), n)
        return (forth - torch.cat([back[..., size - n + 1 :], back[..., :1]], -1)) * (2 / n)

    def slopes(self, f: Tensor, first: int, last: int) -> Tensor:
        """Shifted copies of 1 - h less shifted copies of h, scaled."""
        n = f.shape[-1]
        pad = torch.nn.functional.pad
        forth = pad((1 - f) * (2 / n), (n - 1, n - 1)).unfold(-1, n, 1)[:, first:last]
        back = pad(f * (2 / n), (n - 1, n - 1)).unfold(-1, n, 1)
        slopes = _flipped(back[:, 2 * n - 1 - last : 2 * n - 1 - first])
        return torch.sub(forth, slopes, out=slopes)

    def curvature(self, weights: Tensor) -> Tensor:
        """In the spectrum a real multiple of |z|^2: what of it is positive."""
        n = (weights.shape[-1] + 1) // 2
        # Lags that are k and -k count alike, so that the spectrum is real: lag 0 comes first.
        even = weights + weights.flip(-1)
        even = torch.cat([even[..., n - 1 : n] / 2, even[..., n:]], -1)
        return _toeplitz((_spectrum(even, n).real * (-4 / n)).clamp_min(0.0), n)

    def inside(self, f: Tensor) -> Tensor:
        """Heights in [0.0005, 0.9995] of mean 1/2, all moved by the same before they are cut off."""
        return self._balanced(f, 5e-4)

    def finished(self, f: Tensor) -> Tensor:
        """Mean 1/2, cut off at 0 and 1."""
        return self._balanced(f, 0.0)

    @staticmethod
    def _balanced(f: Tensor, edge: float) -> Tensor:
        low = torch.full_like(f[..., :1], -1.0)
        high = -low
        for _ in range(50):
            shift = 0.5 * (low + high)
            below = (f + shift).clamp(edge, 1 - edge).mean(-1, keepdim=True) < 0.5
            low, high = torch.where(below, shift, low), torch.where(below, high, shift)
        return (f + high).clamp(edge, 1 - edge)

    @staticmethod
    def _correlated(left: Tensor, right: Tensor) -> Tensor:
        n = left.shape[-1]
        lags = _back(_spectrum(left, n) * _spectrum(right, n).conj(), n)
        return torch.cat([lags[..., _size(n) - n + 1 :], lags[..., :n]], -1)


#: By the name of the problem.
MINIMAX: dict[str, type[Minimax]] = {"ac1": Autoconvolution, "erdos": Overlap}
