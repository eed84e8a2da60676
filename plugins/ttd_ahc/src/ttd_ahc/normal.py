"""Standard normal numbers by the ziggurat of the contests' generators, one or many at once.

The method is Marsaglia and Tsang's (2000); the 256 layers, their constants and the use of the random bits are
those of Rust's ``rand_distr`` 0.4.3.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ttd_ahc.stream import LongWords, Stream

Floats = npt.NDArray[np.float64]

#: Where the tail begins (R), and the area of a layer (V).
_TAIL = 3.6541528853610088
_AREA = 0.00492867323399
_LAYERS = 256


def _density(x: float) -> float:
    return math.exp(-x * x / 2.0)


def _edges() -> list[float]:
    edges = [_AREA / _density(_TAIL), _TAIL]
    for _ in range(2, _LAYERS):
        last = edges[-1]
        edges.append(math.sqrt(-2.0 * math.log(_AREA / last + _density(last))))
    return [*edges, 0.0]


_EDGES = _edges()
_HEIGHTS = [_density(edge) for edge in _EDGES]
_EDGE_ARRAY = np.array(_EDGES)


def fast_normals(words: LongWords) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The normal number that each 64-bit draw gives by itself, and where a draw does not suffice.

    :param words: uint64 [n].
    :return: float64 [n], and bool [n]: where the number falls outside of what its layer takes at once, so
        that more draws are needed and the number given does not count.
    """
    layer = (words & np.uint64(255)).astype(np.int64)
    # A float in [2, 4) with these mantissa bits is exactly 2 + bits / 2^51.
    x = ((words >> np.uint64(12)).astype(np.float64) * 2.0**-51 - 1.0) * _EDGE_ARRAY[layer]
    return x, np.abs(x) >= _EDGE_ARRAY[layer + 1]


def normal(stream: Stream) -> float:
    """One standard normal number, by as many draws as it takes."""
    while True:
        bits = stream.u64()
        layer = bits & 255
        u = (bits >> 12) * 2.0**-51 - 1.0
        x = u * _EDGES[layer]
        if abs(x) < _EDGES[layer + 1]:
            return x
        if layer == 0:
            return _tail(stream, u < 0.0)
        height = _HEIGHTS[layer + 1] + (_HEIGHTS[layer] - _HEIGHTS[layer + 1]) * stream.uniform()
        if height < _density(x):
            return x


def _tail(stream: Stream, negative: bool) -> float:
    while True:
        # Floats in the open interval (0, 1), whose logarithm exists.
        a = math.log(stream.unit() + 2.0**-53) / _TAIL
        y = math.log(stream.unit() + 2.0**-53)
        if -2.0 * y >= a * a:
            return a - _TAIL if negative else _TAIL - a
