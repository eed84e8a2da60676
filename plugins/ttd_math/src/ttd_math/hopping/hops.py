"""Random starts, and changes of step functions before they are optimised again: hops, many at once.

Every row draws its own kind of change and its own numbers. All kinds are computed for all rows and one is
taken of each: that costs little beside one Newton step, and the host never waits for the device.

Shapes: B functions of n heights are [B, n]; what a row draws is [B, 1].
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from torch import Tensor


@attrs.frozen
class Draws:
    """Random numbers for B rows.

    :param count: B.
    :param noise: draws on the device that is meant.
    """

    count: int
    noise: torch.Generator

    def uniform(self, low: float = 0.0, high: float = 1.0, n: int = 1) -> Tensor:
        """Evenly spread numbers, [B, n]."""
        drawn = torch.rand(
            (self.count, n), generator=self.noise, dtype=torch.float64, device=self.noise.device
        )
        return low + (high - low) * drawn

    def normal(self, n: int = 1) -> Tensor:
        """Standard normal numbers, [B, n]."""
        shape = (self.count, n)
        return torch.randn(shape, generator=self.noise, dtype=torch.float64, device=self.noise.device)

    def whole(self, low: int | Tensor, high: int | Tensor) -> Tensor:
        """Whole numbers from low to high - 1, or low where there are none, [B, 1]."""
        drawn = (self.uniform() * (high - low)).floor()
        return (low + drawn.clamp_min(0.0)).long()

    def choice(self, values: tuple[float, ...]) -> Tensor:
        """One of some numbers, [B, 1]."""
        held = torch.tensor(values, dtype=torch.float64, device=self.noise.device)
        return held[self.whole(0, len(values))]

    def bumps(self, n: int) -> Tensor:
        """Noise averaged over neighbours, [B, n]: as many as a row draws, at most a fifteenth of all."""
        width = self.whole(2, max(3, n // 15))
        sums = torch.nn.functional.pad(self.normal(n).cumsum(-1), (1, 0))
        first = places(self.noise.device, n) - width // 2
        return (
            sums.gather(1, (first + width).clamp(0, n)) - sums.gather(1, first.clamp(0, n))
        ) / width.sqrt()


def places(device: torch.device, n: int) -> Tensor:
    """0 to n - 1, [1, n]."""
    return torch.arange(n, device=device)[None]


def read_at(f: Tensor, where: Tensor, beyond: float | None = None) -> Tensor:
    """Values of piecewise linear functions.

    :param f: [B, n], values at 0 to n - 1.
    :param where: [B, n], places.
    :param beyond: the value outside; ``None`` for that of the nearest end.
    """
    n = f.shape[-1]
    held = where.clamp(0, n - 1)
    left = held.floor().clamp_max(max(0, n - 2)).long()
    right = (left + 1).clamp_max(n - 1)
    share = held - left
    values = f.gather(1, left) * (1 - share) + f.gather(1, right) * share
    if beyond is None:
        return values
    outside = (where < -0.5) | (where > n - 0.5)
    return torch.where(outside, torch.full_like(values, beyond), values)


def resampled(f: Tensor, count: int) -> Tensor:
    """Means over ``count`` equal parts of step functions [B, n]: [B, count]."""
    n = f.shape[-1]
    if count % n == 0:
        return f.repeat_interleave(count // n, -1)
    sums = torch.nn.functional.pad(f.cumsum(-1), (1, 0))
    edges = torch.arange(count + 1, dtype=f.dtype, device=f.device) * (n / count)
    return read_at(sums, edges.expand(f.shape[0], -1)).diff(dim=-1) * (count / n)


def _noise(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Every height moved."""
    return f + size * draws.normal(f.shape[-1])


def _smooth(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Neighbours moved alike."""
    return f + size * draws.bumps(f.shape[-1])


def _stretch_of(n: int, draws: Draws, longest: int) -> Tensor:
    """Where a random stretch is, [B, n] of booleans."""
    first, length = draws.whole(0, n), draws.whole(2, max(3, longest))
    at = places(draws.noise.device, n)
    return (at >= first) & (at < first + length)


def _local(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """The heights of a stretch moved by much."""
    n = f.shape[-1]
    return torch.where(_stretch_of(n, draws, n // 4), f + 3 * size * draws.normal(n), f)


def _louder(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """The heights of a stretch times one factor."""
    n = f.shape[-1]
    return torch.where(_stretch_of(n, draws, n // 4), f * (10 * size * draws.normal()).exp(), f)


def _factors(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Every height times a factor of its own."""
    return f * (5 * size * draws.normal(f.shape[-1])).exp()


def _power(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """A power of all heights: sharper or flatter."""
    return f.clamp_min(1e-12) ** (1 + size * draws.normal())


def _thin(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Some heights set to 0."""
    return f * (draws.uniform(n=f.shape[-1]) > size / 3)


def _warp(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """The axis bent."""
    n = f.shape[-1]
    where = places(f.device, n) + n * size / 20 * draws.bumps(n)
    return read_at(f, where.sort(-1).values)


def _swap(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Two stretches of one length, some heights apart, exchanged."""
    n = f.shape[-1]
    at, length = places(f.device, n), draws.whole(1, max(2, n // 6))
    first = draws.whole(0, n - length)
    second = torch.maximum(torch.minimum(first + draws.whole(-8, 9), n - length), torch.zeros_like(first))
    source = torch.where((at >= first) & (at < first + length), at + second - first, at)
    source = torch.where((at >= second) & (at < second + length), at + first - second, source)
    return f.gather(1, source)


def _resample(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Shorter or longer by up to a fifth about some place, what is outside cut off, and some noise."""
    n = f.shape[-1]
    factor, centre = draws.uniform(0.85, 1.2), draws.uniform(0, n - 1.0)
    where = centre + (places(f.device, n) - centre) * factor
    return read_at(f, where, beyond=0.0) + size / 5 * draws.normal(n)


def _stretch(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """As :func:`_resample`, with the heights of the ends going on outside."""
    n = f.shape[-1]
    factor, centre = draws.uniform(0.85, 1.2), draws.uniform(0, n - 1.0)
    return read_at(f, centre + (places(f.device, n) - centre) * factor) + size / 5 * draws.normal(n)


def _shift(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """Moved by part of a height or a few, and some noise: other steps of the same function."""
    n = f.shape[-1]
    return read_at(f, places(f.device, n) + draws.uniform(-2.0, 2.0)) + size / 5 * draws.normal(n)


def _splice(f: Tensor, other: Tensor, size: Tensor, draws: Draws) -> Tensor:
    """A stretch of another function, which may be turned around: its bound is the same either way."""
    n = f.shape[-1]
    cuts = torch.cat([draws.whole(0, n + 1), draws.whole(0, n + 1)], -1).sort(-1).values
    other = torch.where(draws.uniform() < 0.2, other.flip(-1), other)
    at = places(f.device, n)
    return torch.where((at >= cuts[:, :1]) & (at < cuts[:, 1:]), other, f)


#: Heights, other functions, strengths, random numbers -> heights that need keep no rule.
Change = Callable[[Tensor, Tensor, Tensor, Draws], Tensor]


class Moves(abc.ABC):
    """How the functions of one problem begin and change."""

    #: What is drawn from, with how often.
    changes: ClassVar[tuple[tuple[Change, int], ...]]
    #: Strengths.
    sizes: ClassVar[tuple[float, ...]]
    #: Powers of ten between which the barrier of a random start begins above its bound, and its last gap.
    start_soft: ClassVar[tuple[float, float]]
    start_end: ClassVar[float]
    #: The same of a hop, and the gap to which the best go on.
    hop_soft: ClassVar[tuple[float, float]]
    hop_end: ClassVar[float]
    fine: ClassVar[float]
    #: Where the barrier of a function resampled to more heights begins.
    raised_soft: ClassVar[float]
    #: While a lineage has room, how much worse than its best a function may be.
    slack: ClassVar[float]

    @abc.abstractmethod
    def start(self, n: int, draws: Draws) -> Tensor:
        """Random heights, [B, n]."""

    def change(self, f: Tensor, other: Tensor, draws: Draws) -> Tensor:
        """One change of each row.

        :param f: [B, n].
        :param other: [B, n], functions to take pieces of.
        :return: [B, n]: heights; rows that are no numbers are as before.
        """
        size = draws.choice(self.sizes)
        made = torch.stack([change(f, other, size, draws) for change, _ in self.changes])
        often = torch.tensor([weight for _, weight in self.changes], device=f.device).cumsum(0)
        kind = torch.searchsorted(often, draws.whole(0, int(sum(w for _, w in self.changes))), right=True)
        rows = torch.arange(f.shape[0], device=f.device)
        new = self.kept(f, made[kind[:, 0], rows], draws)
        sound = torch.isfinite(new).all(-1, keepdim=True) & (new.amax(-1, keepdim=True) > 0)
        return torch.where(sound, new, f)

    def kept(self, f: Tensor, new: Tensor, draws: Draws) -> Tensor:
        """What a change keeps of f beyond its own rule: nothing."""
        return new


class AutoconvolutionMoves(Moves):
    """For `ac1`: heights of mean 1."""

    changes = (
        *((_noise, 1), (_smooth, 1), (_local, 1), (_factors, 1), (_louder, 1), (_power, 1), (_warp, 1)),
        *((_thin, 1), (_resample, 1), (_shift, 1), (_swap, 1), (_splice, 2)),
    )
    sizes = (0.01, 0.03, 0.1, 0.3)
    start_soft, start_end = (-2.0, -0.3), 3e-4
    hop_soft, hop_end, fine = (-3.5, -1.3), 3e-5, 1e-6
    raised_soft, slack = 3e-3, 2e-3

    def start(self, n: int, draws: Draws) -> Tensor:
        """Uniform heights, or smoothed noise, exponentiated."""
        even = draws.uniform(n=n)
        bumps = (draws.uniform(0.3, 3.0) * draws.bumps(n)).exp()
        return torch.where(draws.uniform() < 0.6, even, bumps)


class OverlapMoves(Moves):
    """For `erdos`: heights in [0, 1] of mean 1/2."""

    changes = ((_noise, 1), (_smooth, 1), (_local, 1), (_warp, 1), (_stretch, 1), (_shift, 1), (_splice, 2))
    sizes = (0.003, 0.01, 0.03, 0.06, 0.1)
    start_soft, start_end = (-3.0, -1.0), 3e-6
    hop_soft, hop_end, fine = (-5.5, -3.0), 3e-7, 1e-8
    raised_soft, slack = 1e-4, 5e-5

    def start(self, n: int, draws: Draws) -> Tensor:
        """Uniform heights, or symmetric ones."""
        even = draws.uniform(n=n)
        symmetric = (0.5 + 0.7 * (even + even.flip(-1) - 1)).clamp(0, 1)
        return torch.where(draws.uniform() < 0.4, even, symmetric)

    def kept(self, f: Tensor, new: Tensor, draws: Draws) -> Tensor:
        """Symmetric functions mostly stay so."""
        symmetric = (f - f.flip(-1)).abs().amax(-1, keepdim=True) < 1e-3
        return torch.where(symmetric & (draws.uniform() < 0.8), (new + new.flip(-1)) / 2, new)


#: By the name of the problem.
MOVES: dict[str, type[Moves]] = {"ac1": AutoconvolutionMoves, "erdos": OverlapMoves}
