"""What is tried of a step function before it is optimised again: changes that leave its number of heights.

Each takes heights, how strong the change is, the random numbers, and the other good functions; each gives new
heights, finite and not negative, that need keep no other rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ttd_math.plain import Floats

#: Heights, strength, random numbers, other functions -> heights.
Change = Callable[[Floats, float, np.random.Generator, Sequence[Floats]], Floats]


def changed(
    f: Floats, names: Sequence[str], rng: np.random.Generator, others: Sequence[Floats]
) -> tuple[str, Floats]:
    """One change, drawn at random, and its name; a function that would become 0 everywhere stays as it is.

    :param f: float64 [n].
    :param names: of the changes that may be drawn.
    :param others: functions of the same length to take pieces of; f may be among them.
    """
    name = str(rng.choice(list(names)))
    new = CHANGES[name](f.copy(), float(10 ** rng.uniform(-1.5, 0.5)), rng, others)
    return (name, new) if np.isfinite(new).all() and new.max() > 0 else (name, f.copy())


def resampled(f: Floats, count: int) -> Floats:
    """The function with another number of heights: means over the new steps, the integral kept.

    :param f: float64 [n].
    """
    sums = np.concatenate([[0.0], np.cumsum(f)])
    edges = np.interp(np.linspace(0, f.size, count + 1), np.arange(f.size + 1), sums)
    return np.asarray(np.maximum(np.diff(edges), 0) * (count / f.size))


def _piece(n: int, rng: np.random.Generator, longest: float = -0.3) -> slice:
    """A random stretch; short ones are as likely as long ones."""
    length = max(2, int(n * 10 ** rng.uniform(-2, longest)))
    first = int(rng.integers(0, max(1, n - length + 1)))
    return slice(first, first + length)


def _noise(count: int, size: float, rng: np.random.Generator) -> Floats:
    return np.exp(size * rng.normal(size=count))


def shake(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """Every height times a random factor."""
    return f * _noise(f.size, size, rng)


def segment(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """The heights of a stretch times random factors."""
    where = _piece(f.size, rng)
    f[where] *= _noise(f[where].size, size, rng)
    return f


def fill(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """Small heights in some or all places."""
    there = rng.random(f.size) < rng.choice([0.05, 0.3, 1.0])
    return np.asarray(f + 0.3 * size * f.mean() * rng.random(f.size) * there)


def spikes(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """A few narrow blocks."""
    for first in rng.integers(0, f.size, int(rng.integers(1, 20))):
        f[first : first + int(10 ** rng.uniform(0, 2))] += 3 * size * f.mean() * rng.random()
    return f


def pad(f: Floats, size: float, rng: np.random.Generator, others: Sequence[Floats]) -> Floats:
    """The function squeezed to make room at one end or both, and a few narrow blocks anywhere."""
    n = f.size
    left, right = (int(n * rng.uniform(0, 0.2) * rng.integers(2)) for _ in range(2))
    squeezed = resampled(f, max(1, n - left - right))
    return spikes(np.pad(squeezed, (left, n - left - squeezed.size)), size, rng, others)


def move(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """Cut where the function is (nearly) 0, and what is on one side moved; what leaves the ends is lost."""
    holes = np.flatnonzero(f <= 1e-5 * f.max())
    cut = int(rng.choice(holes)) if len(holes) else int(rng.integers(f.size))
    by = max(1, int(f.size * 10 ** rng.uniform(-3.5, -1)))
    if rng.random() < 0.5:
        return np.insert(f, cut, np.zeros(by))[: f.size]
    return np.append(np.delete(f, slice(cut, cut + by)), np.zeros(by))[: f.size]


def thin(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """Some heights set to 0."""
    return f * (rng.random(f.size) > min(size, 0.5))


def warp(f: Floats, size: float, rng: np.random.Generator, _: Sequence[Floats]) -> Floats:
    """The axis bent smoothly."""
    n = f.size
    width = int(rng.integers(max(1, n // 50), max(2, n // 3)))
    bend = np.convolve(rng.normal(size=n + width - 1), np.full(width, width**-0.5), "valid")
    where = np.sort(np.arange(n) + 0.003 * size * n * bend)
    return np.asarray(np.interp(where, np.arange(n), f))


def graft(f: Floats, _: float, rng: np.random.Generator, others: Sequence[Floats]) -> Floats:
    """A stretch replaced, wholly or in part, by a small copy of a whole function of no smaller sum."""
    where = _piece(f.size, rng, longest=-0.5)
    count = f[where].size
    if rng.random() < 0.5:
        where = slice(0, count) if rng.random() < 0.5 else slice(f.size - count, f.size)
    source = others[int(rng.integers(len(others)))]
    copy = resampled(source[::-1] if rng.random() < 0.5 else source, count)
    share = float(rng.choice([0.3, 0.7, 1.0]))
    total = max(float(f[where].sum()), 0.02 * float(f.sum()))
    f[where] = (1 - share) * f[where] + share * copy * (total / max(float(copy.sum()), 1e-300))
    return f


def mirror(f: Floats, _: float, rng: np.random.Generator, others: Sequence[Floats]) -> Floats:
    """A stretch turned around."""
    where = _piece(f.size, rng)
    f[where] = f[where][::-1].copy()
    return f


def cross(f: Floats, _: float, rng: np.random.Generator, others: Sequence[Floats]) -> Floats:
    """One side of this function, the other of another, scaled alike."""
    other = others[int(rng.integers(len(others)))]
    other = other[::-1] if rng.random() < 0.2 else other
    cut = int(rng.integers(f.size))
    return np.concatenate([f[:cut], other[cut:] * (f.mean() / other.mean())])


#: By name.
CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (shake, segment, fill, spikes, pad, move, thin, warp, graft, mirror, cross)
}
