"""The points of ahc039: two passes of clustered normal points, drawn as the official generator draws them.

A point takes three 64-bit draws (cluster, x, y) unless the ziggurat rejects one, which happens for one point
in forty. So the draws of a run of ordinary points are computed at once, and only the odd point one by one.
"""

from __future__ import annotations

import bisect
import itertools

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc.normal import fast_normals, normal
from ttd_ahc.stream import Stream, weight_scale

#: Points of each kind.
POINTS = 5000
#: Coordinates reach from 0 to this.
SIDE = 100_000
_DRAWS = 3

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@attrs.frozen
class _Clusters:
    """Where the points of one kind gather; arrays of one entry per cluster."""

    sums: Floats
    scale: float
    centers: Integers
    sigmas: Integers

    @classmethod
    def draw(cls, stream: Stream) -> _Clusters:
        count = stream.integer(10, 25)
        weights = [stream.uniform() for _ in range(count)]
        centers = [(stream.integer(20_000, 80_000), stream.integer(20_000, 80_000)) for _ in range(count)]
        sigmas = [stream.integer(1000, 5000) for _ in range(count)]
        sums = list(itertools.accumulate(weights))
        return cls(np.array(sums[:-1]), weight_scale(sums[-1]), np.array(centers), np.array(sigmas))

    def pick(self, units: Floats) -> Integers:
        """The clusters that floats in [0, 1) stand for."""
        return np.searchsorted(self.sums, units * self.scale, side="right")

    def place(self, chosen: Integers, normals: Floats) -> Floats:
        """Unrounded coordinates, float64 [n, 2], of points given by cluster [n] and normals [n, 2]."""
        return self.centers[chosen] + self.sigmas[chosen][:, None] * normals


class _Drawer:
    """Draws candidate points of one pass and remembers where in the stream each began."""

    def __init__(self, stream: Stream, clusters: _Clusters, ahead: int) -> None:
        self._stream = stream
        self._clusters = clusters
        self._begin = stream.position
        words = stream.long_words(_DRAWS * ahead)
        self._units = (words >> np.uint64(12)).astype(np.float64) * 2.0**-52
        self._normals, slow = fast_normals(words)
        odd = np.flatnonzero(slow[1:-1] | slow[2:])
        # For each of the three phases, the draws at which a point would not be ordinary.
        self._odd = [odd[odd % _DRAWS == phase].tolist() for phase in range(_DRAWS)]
        self._last = len(words) - _DRAWS
        self.points: list[Floats] = []
        self.ends: list[Integers] = []

    def draw_all(self) -> None:
        """Draw points as long as the words last."""
        at = 0
        while at <= self._last:
            odd = self._odd[at % _DRAWS]
            place = bisect.bisect_left(odd, at)
            stop = odd[place] if place < len(odd) else self._last + 1
            starts = np.arange(at, stop, _DRAWS)
            if len(starts):
                self._ordinary(starts)
            at = int(starts[-1]) + _DRAWS if len(starts) else at
            if place < len(odd):
                at = self._one_by_one(at)

    def _ordinary(self, starts: Integers) -> None:
        chosen = self._clusters.pick(self._units[starts])
        normals = np.stack([self._normals[starts + 1], self._normals[starts + 2]], axis=1)
        self.points.append(self._clusters.place(chosen, normals))
        self.ends.append(self._begin + 2 * (starts + _DRAWS))

    def _one_by_one(self, at: int) -> int:
        stream = self._stream
        stream.position = self._begin + 2 * at
        chosen = self._clusters.pick(np.array([stream.unit()]))
        normals = np.array([[normal(stream), normal(stream)]])
        self.points.append(self._clusters.place(chosen, normals))
        self.ends.append(np.array([stream.position]))
        return (stream.position - self._begin) // 2


def _rounded(places: Floats) -> Integers:
    """Nearest integers, halves away from zero."""
    return np.copysign(np.floor(np.abs(places) + 0.5), places).astype(np.int64)


def _pass(stream: Stream, taken: Integers) -> Integers:
    """New distinct points, int64 [POINTS], each as ``x * (SIDE + 1) + y``, in the order drawn."""
    clusters = _Clusters.draw(stream)
    begin = stream.position
    ahead = POINTS + POINTS // 8
    while True:
        stream.position = begin
        drawer = _Drawer(stream, clusters, ahead)
        drawer.draw_all()
        points, ends = _rounded(np.concatenate(drawer.points)), np.concatenate(drawer.ends)
        inside = np.flatnonzero(((points >= 0) & (points <= SIDE)).all(axis=1))
        codes = points[inside, 0] * (SIDE + 1) + points[inside, 1]
        _, firsts = np.unique(codes, return_index=True)
        new = np.sort(firsts[~np.isin(codes[firsts], taken)])[:POINTS]
        if len(new) == POINTS:
            stream.position = int(ends[inside[new[-1]]])
            kept: Integers = codes[new]
            return kept
        ahead *= 2


def draw_points(seed: int) -> Integers:
    """The 10,000 distinct points of a seed, mackerels first: int64 [10000, 2].

    :param seed: unsigned 64-bit.
    :raises ValueError: when it is not.
    """
    stream = Stream(seed, block_count=2560)
    mackerels = _pass(stream, np.zeros(0, np.int64))
    sardines = _pass(stream, mackerels)
    codes = np.concatenate([mackerels, sardines])
    return np.stack([codes // (SIDE + 1), codes % (SIDE + 1)], axis=1)
