"""Starts for `ac2`: a block at the left, a gap, then a comb of many narrow teeth.

Good functions of `ac2` are made so: the block with itself, the block with the comb and the comb with itself
fill stretches of one height side by side. From such a start annealing finds what it does not find from even
noise. How wide the block is, where the comb begins and how dense its teeth are is drawn at random; later
combs are drawn between those that came furthest, and a little beyond.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from ttd_math.plain import Floats

#: Share of the mean height, at most, that every place has between the teeth, so that heights can grow there.
_GROUND = 1e-3
#: Combs that are remembered, and how many there must be before others are drawn between them.
REMEMBERED, _ENOUGH = 64, 8


@attrs.frozen
class Comb:
    """How a start is drawn.

    :param block: width of the block at the left, as a share of the whole.
    :param mass: share of the integral that the block has.
    :param begins: where the comb begins, from 0 to 1; it ends at 1.
    :param apart: heights from one tooth to the next, on average.
    :param width: mean share of the distance between teeth that one is wide.
    :param jitter: most that a tooth stands aside, as a share of that distance.
    :param falls: power of the distance to the right end with which teeth become lower.
    :param power: of the norm that stands for the maximum when annealing begins.
    """

    block: float
    mass: float
    begins: float
    apart: float
    width: float
    jitter: float
    falls: float
    power: float


#: Least and most of each parameter, and whether it is drawn evenly in the logarithm.
RANGES = {
    "block": (0.03, 0.11, False),
    "mass": (0.2, 0.5, False),
    "begins": (0.22, 0.42, False),
    "apart": (20.0, 160.0, True),
    "width": (0.15, 0.55, False),
    "jitter": (0.05, 0.5, False),
    "falls": (0.0, 1.0, False),
    "power": (20.0, 120.0, True),
}


def _to_unit(comb: Comb) -> Floats:
    """The parameters on scales from 0 to 1."""
    values = attrs.asdict(comb)
    unit = []
    for name, (low, high, logarithmic) in RANGES.items():
        value = values[name]
        unit.append(np.log(value / low) / np.log(high / low) if logarithmic else (value - low) / (high - low))
    return np.asarray(unit, np.float64)


def _from_unit(unit: Floats) -> Comb:
    """The comb of parameters on scales from 0 to 1; what lies outside is moved to the border."""
    values = {}
    for (name, (low, high, logarithmic)), u in zip(RANGES.items(), unit.clip(0, 1), strict=True):
        value = low * (high / low) ** u if logarithmic else low + (high - low) * u
        values[name] = float(np.clip(value, low, high))
    return Comb(**values)


def drawn(count: int, known: Sequence[Comb], rng: np.random.Generator) -> list[Comb]:
    """Combs to begin with: at first all at random, later half of them near good ones.

    :param known: combs that were tried, the best first.
    """
    best = [_to_unit(comb) for comb in known[: max(2, len(known) // 2)]]
    combs = []
    for _ in range(count):
        unit = rng.random(len(RANGES))
        if len(known) >= _ENOUGH and rng.random() < 0.5:
            one, other = (best[int(rng.integers(len(best)))] for _ in range(2))
            unit = one + rng.uniform(-0.3, 1.0) * (other - one) + 0.03 * rng.normal(size=unit.size)
        combs.append(_from_unit(unit))
    return combs


def heights(comb: Comb, count: int, rng: np.random.Generator) -> Floats:
    """A function of that kind, float64 [count], positive everywhere; teeth and noise are drawn anew.

    :param count: of heights, 2 or more.
    """
    f = np.zeros(count)
    for middle in np.arange(comb.begins * count, count, comb.apart) + comb.apart / 2:
        wide = max(1, round(comb.apart * comb.width * rng.uniform(0.5, 1.5)))
        middle += comb.jitter * comb.apart * rng.uniform(-1, 1)
        first = min(max(0, round(middle - wide / 2)), count - 1)
        f[first : first + wide] = rng.uniform(0.5, 1.5)
    f *= (1 - (np.arange(count) + 0.5) / count) ** comb.falls
    block = rng.random(max(1, round(comb.block * count))) + 0.1
    f[: block.size] += comb.mass / (1 - comb.mass) * f.sum() * block / block.sum()
    return np.asarray(f + _GROUND * f.mean() * (rng.random(count) + 0.01))
