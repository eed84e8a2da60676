"""The fish of ahc039: two species of clustered normal points, drawn as the official generator draws them.

A point takes three 64-bit draws (cluster, x, y) unless the ziggurat does not take one of the normal draws at
once, which happens for one point in forty. So the points of a run of ordinary draws are computed at once, and
only those that need more draws one by one.
"""

from __future__ import annotations

import bisect
import itertools

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc.normal import fast_normals, normal
from ttd_ahc.stream import Stream, weight_scale

#: Points of each species.
POINTS = 5000
#: Coordinates reach from 0 to this.
SIDE = 100_000
#: 64-bit draws of an ordinary point.
_DRAWS = 3

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@attrs.frozen
class _Clusters:
    """Where the points of one species gather; arrays of one entry per cluster.

    :param cumulative: cumulative weights, the last one left out.
    :param scale: what a float in [0, 1) is multiplied by before it is looked up among them.
    :param centers: int64 [clusters, 2].
    :param sigmas: standard deviation of both coordinates.
    """

    cumulative: Floats
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

    def choose(self, units: Floats) -> Integers:
        """The clusters that floats in [0, 1) stand for."""
        return np.searchsorted(self.cumulative, units * self.scale, side="right")

    def coordinates(self, clusters: Integers, normals: Floats) -> Floats:
        """Unrounded points, float64 [n, 2], from their clusters [n] and standard normal numbers [n, 2]."""
        return self.centers[clusters] + self.sigmas[clusters][:, None] * normals


class _Candidates:
    """Points drawn in order, and where in the stream the draws of each end.

    The official generator stops at the point that completes a species; the caller finds that point among
    these, and sets the stream back to where it ended.

    :param ahead: 64-bit draws to use, in ordinary points.
    :ivar points: float64 [n, 2] each, unrounded.
    :ivar ends: int64 [n] each, positions in the stream.
    """

    def __init__(self, stream: Stream, clusters: _Clusters, ahead: int) -> None:
        self._stream = stream
        self._clusters = clusters
        self._begin = stream.position
        words = stream.long_words(_DRAWS * ahead)
        self._units = (words >> np.uint64(12)).astype(np.float64) * 2.0**-52
        self._normals, slow = fast_normals(words)
        slow_points = np.flatnonzero(slow[1:-1] | slow[2:])
        # For each of the three phases, the draws at which a point would begin that is not ordinary.
        self._slow = [slow_points[slow_points % _DRAWS == phase].tolist() for phase in range(_DRAWS)]
        self._last = len(words) - _DRAWS
        self.points: list[Floats] = []
        self.ends: list[Integers] = []

    def draw_all(self) -> None:
        """Draw points as long as the words last."""
        at = 0
        while at <= self._last:
            slow = self._slow[at % _DRAWS]
            index = bisect.bisect_left(slow, at)
            stop = slow[index] if index < len(slow) else self._last + 1
            starts = np.arange(at, stop, _DRAWS)
            if len(starts):
                self._ordinary(starts)
            at = int(starts[-1]) + _DRAWS if len(starts) else at
            if index < len(slow):
                at = self._one_by_one(at)

    def _ordinary(self, starts: Integers) -> None:
        clusters = self._clusters.choose(self._units[starts])
        normals = np.stack([self._normals[starts + 1], self._normals[starts + 2]], axis=1)
        self.points.append(self._clusters.coordinates(clusters, normals))
        self.ends.append(self._begin + 2 * (starts + _DRAWS))

    def _one_by_one(self, at: int) -> int:
        stream = self._stream
        stream.position = self._begin + 2 * at
        clusters = self._clusters.choose(np.array([stream.unit()]))
        normals = np.array([[normal(stream), normal(stream)]])
        self.points.append(self._clusters.coordinates(clusters, normals))
        self.ends.append(np.array([stream.position]))
        return (stream.position - self._begin) // 2


def _rounded(points: Floats) -> Integers:
    """Nearest integers, halves away from zero."""
    return np.copysign(np.floor(np.abs(points) + 0.5), points).astype(np.int64)


def _draw_species(stream: Stream, taken: Integers) -> Integers:
    """New distinct points, int64 [POINTS], each as ``x * (SIDE + 1) + y``, in the order drawn.

    :param taken: points that are not new, coded the same way.
    """
    clusters = _Clusters.draw(stream)
    begin = stream.position
    ahead = POINTS + POINTS // 8
    while True:
        stream.position = begin
        candidates = _Candidates(stream, clusters, ahead)
        candidates.draw_all()
        points, ends = _rounded(np.concatenate(candidates.points)), np.concatenate(candidates.ends)
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
    mackerels = _draw_species(stream, np.zeros(0, np.int64))
    sardines = _draw_species(stream, mackerels)
    codes = np.concatenate([mackerels, sardines])
    return np.stack([codes // (SIDE + 1), codes % (SIDE + 1)], axis=1)
