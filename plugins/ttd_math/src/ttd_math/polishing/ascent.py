"""Two optimisers for many step functions at once: one that explores with noise, one that converges.

Every row of a batch is a problem of its own: it has its own step length, curvature and power of smoothing,
and what one row does changes nothing in another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ttd_math.polishing.objectives import Objective

#: Pairs of steps and changes of gradient that L-BFGS keeps.
_PAIRS = 16
#: Halvings of a step before a row gives up its curvature.
_HALVINGS = 8
#: How much longer steps become where the loss bends down along one.
_LONGER = 4.0
#: Share of the promised decrease that a step must bring (Armijo).
_DECREASE = 1e-4


@attrs.define
class Best:
    """The best parameters of every row so far, by the exact loss."""

    loss: Tensor
    parameters: Tensor

    def take(self, loss: Tensor, parameters: Tensor) -> None:
        """Keep the rows that are better.

        :param loss: [B].
        :param parameters: [B, n].
        """
        better = loss < self.loss
        self.loss = torch.where(better, loss, self.loss)
        self.parameters = torch.where(better[:, None], parameters, self.parameters)


def _gradient(objective: Objective, x: Tensor, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Smoothed loss [B], exact loss [B], gradient [B, n] of the first; what is not finite is infinite."""
    x = x.detach().requires_grad_(True)
    smoothed, exact = objective.both(x, power)
    (slope,) = torch.autograd.grad(smoothed.sum(), x)
    smoothed = smoothed.detach()
    sound = torch.isfinite(smoothed) & torch.isfinite(slope).all(-1)
    never = torch.full_like(smoothed, math.inf)
    exact = torch.where(sound & torch.isfinite(exact), exact, never)
    return (
        torch.where(sound, smoothed, never),
        exact,
        torch.where(sound[:, None], slope, torch.zeros_like(slope)),
    )


def explore(
    objective: Objective,
    x: Tensor,
    iterations: int,
    noise: torch.Generator,
    stop: Callable[[], bool],
    rate: float = 0.1,
    power: float = 1000.0,
) -> Best:
    """Adam with a rate that falls a hundredfold and Gaussian noise that falls to none.

    :param x: [B, n], from where.
    :param noise: draws the noise, on the device of ``x``.
    :param stop: asked after every step.
    :param rate: at first.
    :param power: of the smoothed maximum.
    """
    powers = torch.full((x.shape[0],), power, dtype=x.dtype, device=x.device)
    best = Best(torch.full_like(powers, math.inf), x)
    mean, square = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(1, iterations + 1):
        _, exact, slope = _gradient(objective, x, powers)
        best.take(exact, x)
        left = 1 - step / iterations
        drawn = torch.randn(x.shape, generator=noise, dtype=x.dtype, device=x.device)
        slope = slope + left * drawn * slope.abs().mean(-1, keepdim=True)
        mean = mean + 0.1 * (slope - mean)
        square = square + 0.001 * (slope * slope - square)
        scaled = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-20)
        x = x - rate * 0.01 ** (1 - left) * scaled
        if stop():
            break
    return best


@attrs.define
class _Curvature:
    """L-BFGS: the last steps and changes of gradient of every row, newest last."""

    steps: list[Tensor] = attrs.field(factory=list)
    changes: list[Tensor] = attrs.field(factory=list)
    weights: list[Tensor] = attrs.field(factory=list)
    scale: Tensor | None = None

    def direction(self, slope: Tensor) -> Tensor:
        """Where to go, [B, n]: the two-loop recursion."""
        way, shares = -slope, []
        pairs = list(zip(self.steps, self.changes, self.weights, strict=True))
        for step, change, weight in reversed(pairs):
            share = weight * (step * way).sum(-1)
            way = torch.addcmul(way, share[:, None], change, value=-1)
            shares.append(share)
        if self.scale is None:
            self.scale = 1 / slope.norm(dim=-1).clamp_min(1e-30)
        way = way * self.scale[:, None]
        for step, change, weight in pairs:
            lacking = shares.pop() - weight * (change * way).sum(-1)
            way = torch.addcmul(way, lacking[:, None], step)
        return way

    def add(self, step: Tensor, change: Tensor) -> None:
        """A new pair; rows where the curvature is not positive leave it out, and take longer steps."""
        product, square = (step * change).sum(-1), (change * change).sum(-1)
        sound = product > 1e-12 * square.sqrt() * step.norm(dim=-1)
        weight = torch.where(sound, 1 / product, torch.zeros_like(product))
        before = self.scale if self.scale is not None else torch.ones_like(product)
        self.scale = torch.where(sound, product / square, _LONGER * before)
        for kept, new in ((self.steps, step), (self.changes, change), (self.weights, weight)):
            kept.append(new)
            del kept[:-_PAIRS]

    def forget(self, rows: Tensor) -> None:
        """Drop what is known of some rows, [B] of booleans, and begin with short steps again."""
        if self.scale is not None:
            self.scale = torch.where(rows, self.scale / _LONGER**2, self.scale)
        self.weights = [torch.where(rows, torch.zeros_like(weight), weight) for weight in self.weights]


def converge(
    objective: Objective, x: Tensor, powers: list[Tensor], iterations: int, stop: Callable[[], bool]
) -> Best:
    """L-BFGS with backtracking, for one power of smoothing after the other.

    :param x: [B, n], from where.
    :param powers: of the smoothed maximum, rising, [B] each: every row has its own.
    :param iterations: for each power.
    :param stop: asked after every step.
    """
    best = Best(torch.full_like(powers[0], math.inf), x)
    for power in powers:
        x = _descend(objective, x, power, iterations, stop, best)
    return best


def anneal(
    objective: Objective,
    x: Tensor,
    powers: list[Tensor],
    iterations: int,
    fewest: int,
    stop: Callable[[], bool],
) -> tuple[Tensor, Best]:
    """L-BFGS from low powers of smoothing on, each beginning where the one before ended.

    After every power but the first and the last the worse half of the rows falls out, by the exact loss.

    :param x: [B, n], from where.
    :param powers: of the smoothed maximum, rising, [B] each.
    :param iterations: for each power.
    :param fewest: rows that never fall out.
    :param stop: asked after every step.
    :return: the rows that are left, [b] of integers, and the best of each under the last power.
    """
    rows = torch.arange(x.shape[0], device=x.device)
    for rung, power in enumerate(powers):
        # Where a low power leads is no better at once by the exact loss: only the last best is kept.
        best = Best(torch.full_like(power[rows], math.inf), x)
        x = _descend(objective, x, power[rows], iterations, stop, best)
        if stop():
            break
        if 0 < rung < len(powers) - 1:
            kept = best.loss.argsort()[: max(fewest, (rows.numel() + 1) // 2)]
            rows, x = rows[kept], x[kept]
    return rows, best


def _descend(
    objective: Objective, x: Tensor, power: Tensor, iterations: int, stop: Callable[[], bool], best: Best
) -> Tensor:
    """Where L-BFGS ends for one power of smoothing, [B, n].

    :param power: [B].
    :param best: takes what is better on the way.
    """
    known = _Curvature()
    loss, exact, slope = _gradient(objective, x, power)
    best.take(exact, x)
    for _ in range(iterations):
        if stop():
            break
        way = known.direction(slope)
        descent = (way * slope).sum(-1)
        # Rounding can turn a direction around; the gradient never does.
        uphill = ~(descent < 0)
        way = torch.where(uphill[:, None], -slope * 1e-3, way)
        descent = torch.where(uphill, (way * slope).sum(-1), descent)
        moved, taken = _search(objective, x, power, (loss, slope), (way, descent), best)
        after, after_loss, after_slope = moved
        known.add(after - x, after_slope - slope)
        known.forget(~taken)
        if not bool(taken.any()):
            break
        x, loss, slope = after, after_loss, after_slope
    return x


def _search(
    objective: Objective,
    x: Tensor,
    power: Tensor,
    here: tuple[Tensor, Tensor],
    line: tuple[Tensor, Tensor],
    best: Best,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Points along lines where the loss has fallen enough, with their losses and gradients, and which are.

    :param here: loss [B] and gradient [B, n] at ``x``.
    :param line: direction [B, n], and the slope [B] along it.
    """
    (loss, slope), (way, descent) = here, line
    length = torch.ones_like(loss)
    taken = torch.zeros_like(loss, dtype=torch.bool)
    after, after_loss, after_slope = x, loss, slope
    for _ in range(_HALVINGS):
        trial = torch.where(taken[:, None], after, x + length[:, None] * way)
        trial_loss, exact, trial_slope = _gradient(objective, trial, power)
        fits = ~taken & (trial_loss <= loss + _DECREASE * length * descent)
        after = torch.where(fits[:, None], trial, after)
        after_loss = torch.where(fits, trial_loss, after_loss)
        after_slope = torch.where(fits[:, None], trial_slope, after_slope)
        best.take(torch.where(fits, exact, torch.full_like(exact, math.inf)), trial)
        taken = taken | fits
        if bool(taken.all()):
            break
        length = torch.where(taken, length, length * 0.4)
    return (after, after_loss, after_slope), taken
