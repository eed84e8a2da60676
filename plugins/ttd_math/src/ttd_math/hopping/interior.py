"""An interior point method for many minimax problems at once, each with its own barrier and step length.

Minimise t over heights f and t with every value of f at most t, heights within their edges and a fixed sum.
A Newton step on the logarithmic barrier has of the curvature of the values only what is positive, so that its
system is positive definite; the same factors give the second-order term that bends the step along them. This
is what ``programs/ac1.py`` and ``programs/erdos.py`` do for one function, but for the curvature, which they
leave out: with half of it, twice to thrice fewer steps are needed.

The members of a batch take their steps together. One that is done leaves the batch, so that ever fewer are
computed; one that fails keeps where it got to. What one does changes nothing in another. Where matrices are
large, a batch takes a step in :mod:`~ttd_math.hopping.parts`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from ttd_math.hopping.minimax import Minimax
from ttd_math.hopping.parts import CELLS, Parts

#: Step lengths that are tried, all at once: close to each other first, then down to what a bad start needs.
_LENGTHS = (*(0.8**k for k in range(12)), *(0.08 * 0.5**k for k in range(14)))
#: Share of the positive curvature that a step takes into account.
_CURVED = 0.5
#: Share of the promised decrease that a step must bring (Armijo).
_DECREASE = 1e-4
#: What a full step of the multipliers leaves of the way to 0.
_SHY = 0.995
#: How far multipliers may be from where the barrier has them.
_FAR = 1e4
#: By what the barrier falls, when a step promises less than the gap.
_FALL = 0.25
#: At gaps below so many times the last one it falls after so many steps in any case: what more would bring is
#: small beside the gap.
_LATE, _MOST = 30.0, 12


@attrs.frozen
class Aims:
    """How far each optimisation goes, [B] each; a gap is the number of values times the barrier's weight.

    :param soft: the barrier begins this far above the bound of the start.
    :param end: gap at which it ends.
    :param bar: it gives up when the bound less the gap stays above this.
    :param fine: gap at which it ends when the bound less the gap is below ``aim`` at ``end``.
    :param aim: see ``fine``.
    """

    soft: Tensor
    end: Tensor
    bar: Tensor
    fine: Tensor
    aim: Tensor

    @classmethod
    def of(
        cls,
        like: Tensor,
        soft: Tensor | float,
        end: Tensor | float,
        bar: Tensor | float = torch.inf,
        fine: Tensor | float = 0.0,
        aim: Tensor | float = -torch.inf,
    ) -> Aims:
        """Numbers stand for all members.

        :param like: [B], of the type and on the device that are meant.
        """
        given = (soft, end, bar, fine, aim)
        return cls(*(like.new_zeros(like.shape[0]) + value for value in given))

    def only(self, rows: slice) -> Aims:
        """Those of some members."""
        return Aims(*(getattr(self, field.name)[rows] for field in attrs.fields(Aims)))


@attrs.define
class _Members:
    """Optimisations under way: the first axis of every tensor counts them."""

    index: Tensor
    f: Tensor
    t: Tensor
    values: Tensor
    mu: Tensor
    weight: Tensor
    edges: Tensor
    end: Tensor
    bar: Tensor
    fine: Tensor
    aim: Tensor
    tried: Tensor

    def only(self, rows: Tensor | slice) -> _Members:
        """Some of them, [k] of indices."""
        return _Members(*(getattr(self, field.name)[rows] for field in attrs.fields(_Members)))

    @staticmethod
    def joined(parts: list[_Members]) -> _Members:
        """Those of all parts."""
        names = [field.name for field in attrs.fields(_Members)]
        return _Members(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@attrs.frozen
class _Step:
    """Where a Newton step goes: ``first`` is straight, ``second`` bends it; a pair is (heights, bound)."""

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    slope: Tensor
    bend: Tensor
    failed: Tensor


def optimise(
    problem: Minimax,
    f: Tensor,
    aims: Aims,
    steps: int,
    stop: Callable[[], bool] = lambda: False,
    left: int = 0,
    parts: Parts | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Local optima near functions.

    :param f: [B, n] in float64, from where.
    :param steps: of Newton, at most.
    :param stop: asked after every step; what is under way then is judged as it is.
    :param left: the same when no more than so many are under way.
    :param parts: in which steps are taken, and which learns of memory that runs out.
    :return: finished heights [B, n]; scores [B], infinite where an optimisation gave up or is no number;
        how many Newton steps all took together.
    """
    parts = parts or Parts()
    members = _begun(problem, f, aims)
    found, given_up = f.clone(), torch.zeros_like(members.index, dtype=torch.bool)
    taken = 0
    for _ in range(steps):
        taken += len(members.index)
        members, done, hopeless = _all_stepped(problem, members, parts)
        found[members.index] = members.f
        given_up[members.index] = hopeless
        # The one look at the device a step: which members go on.
        members = members.only((~(done | hopeless)).nonzero()[:, 0])
        if len(members.index) <= left or stop():
            break
    found = problem.finished(found)
    scores = problem.scores(found)
    return found, torch.where(given_up, torch.full_like(scores, torch.inf), scores), taken


def _begun(problem: Minimax, f: Tensor, aims: Aims) -> _Members:
    f = problem.inside(f)
    values = problem.values(f)
    t = values.amax(-1) + aims.soft
    room, distance = t[:, None] - values, problem.distances(f)
    mu = 1 / (1 / room).sum(-1)
    weight, edges = mu[:, None] / room, mu[:, None, None] / distance
    index = torch.arange(f.shape[0], device=f.device)
    return _Members(
        index, f, t, values, mu, weight, edges, aims.end, aims.bar, aims.fine, aims.aim, 0 * index
    )


def _all_stepped(problem: Minimax, members: _Members, parts: Parts) -> tuple[_Members, Tensor, Tensor]:
    """Members after one Newton step of each, by parts; which are done, and which are hopeless: [B] each."""
    count, n = members.f.shape

    def stepped(rows: slice) -> tuple[_Members, Tensor, Tensor]:
        # Others in their place: members stay as they were until all parts have taken the step.
        part = members.only(rows)
        return part, *_stepped(problem, part)

    made = parts.each(count, n, members.f.device, stepped)
    if len(made) == 1:
        return made[0]
    moved, done, hopeless = zip(*made, strict=True)
    return _Members.joined(list(moved)), torch.cat(done), torch.cat(hopeless)


def _stepped(problem: Minimax, members: _Members) -> tuple[Tensor, Tensor]:
    """One Newton step of every member, in place; which are done, and which are hopeless: [B] each."""
    step = _newton(problem, members)
    length, f, t, values = _along(problem, members, step)
    moved = length > 0
    _move(problem, members, step, length, (f, t, values))
    gap = members.mu * values.shape[-1]
    members.tried = members.tried + 1
    settled = ~moved | (-step.slope < gap) | ((members.tried >= _MOST) & (gap < _LATE * members.end))
    members.tried = torch.where(settled, 0, members.tried)
    reached, least = settled & (gap < members.end), members.t - gap
    # A member that may be the best of its lineage goes on until that is certain.
    on = reached & (members.end > members.fine) & (least < members.aim)
    members.end = torch.where(on, members.fine, members.end)
    done = reached & ~on
    hopeless = settled & ~done & (least > members.bar)
    members.mu = torch.where(settled, members.mu * _FALL, members.mu)
    return done | step.failed, hopeless & ~step.failed


def _newton(problem: Minimax, members: _Members) -> _Step:
    """The step, and its bend along the values."""
    f, mu = members.f, members.mu[:, None]
    room, distance = members.t[:, None] - members.values, problem.distances(f)
    scale, pull = members.weight / room, mu / room
    column, total = problem.pulled(f, scale), scale.sum(-1)
    system = problem.curvature(_CURVED * members.weight)
    _add_products(system, problem, f, scale.flip(-1), column / total[:, None])
    diagonal = system.diagonal(dim1=-2, dim2=-1)
    diagonal += (members.edges / distance).sum(-2)
    size = diagonal.rsqrt()
    system *= size[:, :, None]
    system *= size[:, None, :]
    diagonal += 1e-13
    factor, info = torch.linalg.cholesky_ex(system)
    del system, diagonal

    def solve(right: Tensor) -> Tensor:
        half = torch.linalg.solve_triangular(factor, size[:, :, None] * right, upper=False)
        whole: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
        return size[:, :, None] * whole

    gradient = problem.away(mu[:, None] / distance) - problem.pulled(f, pull)
    excess = pull.sum(-1) - 1
    ones = torch.ones_like(f)
    both = solve(torch.stack([gradient + column * (excess / total)[:, None], ones], -1))
    level = both[..., 1] / both[..., 1].sum(-1, keepdim=True)

    def completed(change: Tensor, beyond: Tensor) -> tuple[Tensor, Tensor]:
        change = change - level * change.sum(-1, keepdim=True)
        return change, (beyond + (column * change).sum(-1)) / total

    first = completed(both[..., 0], excess)
    slope = -(gradient * first[0]).sum(-1) - excess * first[1]
    bend = problem.bend(first[0])
    beyond = excess + (scale * bend).sum(-1)
    bent_right = gradient - problem.pulled(f, scale * bend) + column * (beyond / total)[:, None]
    bent = completed(solve(bent_right[..., None])[..., 0], beyond)
    second = bent[0] - first[0], bent[1] - first[1]
    return _Step(first, second, slope, bend, info != 0)


def _add_products(system: Tensor, problem: Minimax, f: Tensor, weights: Tensor, mean: Tensor) -> None:
    """Add weighted products of slopes, less their weighted mean [B, n], to systems [B, n, n].

    All slopes at once, or, where those of one function are more than a part may have, so many at a time.

    :param weights: [B, 2 n - 1], the last value's first.
    """
    values = weights.shape[-1]
    each = max(1, CELLS // f.numel())
    for first in range(0, values, each):
        last = min(values, first + each)
        slopes, middle = problem.slopes(f, first, last), mean[:, None, :]
        centred = slopes - middle if problem.shared_slopes else slopes.sub_(middle)
        centred *= weights[:, first:last].sqrt()[:, :, None]
        system.baddbmm_(centred.mT, centred)
        del slopes, centred  # before the next are made


def _along(problem: Minimax, members: _Members, step: _Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The farthest point tried that is inside and better: its length [B] (0: none), f, t and values."""
    f, mu = members.f, members.mu
    lengths = problem.constant(_LENGTHS, f)
    at = lengths[:, None, None]
    fs = f + at * (step.first[0] + at * step.second[0])
    ts = members.t + lengths[:, None] * (step.first[1] + lengths[:, None] * step.second[1])
    values = problem.values(fs)
    now = _merit(problem, f, members.t, members.values, mu)
    # Outside, logarithms are no numbers, and comparisons with those are false.
    merit = _merit(problem, fs, ts, values, mu)
    fits = merit <= now + _DECREASE * lengths[:, None] * step.slope + 1e-14
    fits &= (step.slope < 0) & ~step.failed
    length, which = (fits * lengths[:, None]).max(0)
    rows = torch.arange(len(mu), device=f.device)
    moved = length > 0
    return (
        length,
        torch.where(moved[:, None], fs[which, rows], f),
        torch.where(moved, ts[which, rows], members.t),
        torch.where(moved[:, None], values[which, rows], members.values),
    )


def _merit(problem: Minimax, f: Tensor, t: Tensor, values: Tensor, mu: Tensor) -> Tensor:
    logs = (t[..., None] - values).log().sum(-1) + problem.distances(f).log().sum((-2, -1))
    return t - mu * logs


def _move(
    problem: Minimax, members: _Members, step: _Step, length: Tensor, to: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Move members, and their multipliers by a length of their own; those of length 0 stay."""
    f, mu, long = members.f, members.mu[:, None], length[:, None]
    mean = step.first[0] + long * step.second[0]
    rise = step.first[1] + length * step.second[1]
    room, distance = members.t[:, None] - members.values, problem.distances(f)
    climb = rise[:, None] - problem.linear(f, mean) - long * step.bend
    weight_change = (mu - members.weight * climb) / room - members.weight
    edge_change = (mu[:, None] - members.edges * problem.distance_changes(mean)) / distance - members.edges
    share = torch.minimum(
        _reach(members.weight, weight_change),
        _reach(members.edges.flatten(1), edge_change.flatten(1)),
    )
    members.f, members.t, members.values = to
    room, distance = members.t[:, None] - members.values, problem.distances(members.f)
    moved = length > 0
    weight = _near(members.weight + share[:, None] * weight_change, mu / room)
    edges = _near(members.edges + share[:, None, None] * edge_change, mu[:, None] / distance)
    members.weight = torch.where(moved[:, None], weight, members.weight)
    members.edges = torch.where(moved[:, None, None], edges, members.edges)


def _reach(multipliers: Tensor, change: Tensor) -> Tensor:
    """The longest step [B], at most 1, that keeps multipliers [B, k] positive."""
    longest = torch.where(change < 0, -multipliers / change, torch.full_like(change, torch.inf)).amin(-1)
    return (_SHY * longest).clamp_max(1.0)


def _near(multipliers: Tensor, central: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(multipliers, central / _FAR), central * _FAR)
