"""The autoconvolution of a height sequence by FFT, with a bound on its error, and both bounds from it."""

from __future__ import annotations

import math

import numpy as np

from ttd_math.plain import Floats
from ttd_math.rounding import ROUNDOFF, Interval

#: Up to this length direct sums are as fast as an FFT, and more exact.
DIRECT_UP_TO = 128
#: Relative error of a sum, its square and a quotient: numpy adds pairwise in blocks of 128, eight
#: accumulators each, so k values cost at most (16 + 3 + log2(k / 128)) u, below 31 u up to 2^18 values.
SUM_ERROR = 100 * ROUNDOFF


def autoconvolution(f: Floats) -> tuple[Floats, float]:
    """All values of f*f and a bound E on the absolute error of each.

    Direct sums of non-negative products err by at most n u per unit of value. For the FFT of length 2^k,
    C. Percival (Math. Comp. 72, 2003, Theorem 5.1) proves an error below
    ``norm2(f)^2 ((1 + u)^(3k) (1 + u sqrt 5)^(3k + 1) (1 + b)^(3k) - 1)`` with unit roundoff u and twiddle
    factors accurate to b, for radix 2 on complex data. The library's passes of higher radix on real data
    round less often; its twiddles are off by at most one unit, so b = 2 u is used, and the whole doubled.

    :param f: float64 [n], finite and non-negative.
    :return: float64 [2 n - 1], and E.
    """
    n = f.size
    if n <= DIRECT_UP_TO:
        values = np.convolve(f, f)
        return values, (n + 1) * ROUNDOFF * float(values.max())
    levels = (2 * n - 2).bit_length()
    spectrum = np.fft.rfft(f, 1 << levels)
    values = np.fft.irfft(spectrum * spectrum, 1 << levels)[: 2 * n - 1]
    growth = 3 * levels * (1 + 2) + (3 * levels + 1) * math.sqrt(5)
    # Not `np.dot`: handing so little to BLAS threads takes longer than the transform on a busy machine.
    return values, 2.02 * growth * ROUNDOFF * float((f * f).sum())


def first_interval(f: Floats) -> Interval:
    """An interval around C1 = 2 n max(f*f) / (sum f)^2.

    Its relative half-width is E / max(f*f) + SUM_ERROR: about 1e-13 for functions without high peaks.

    :param f: float64 [n], non-negative, not all zero.
    """
    values, error = autoconvolution(f)
    peak = float(values.max())
    scale = 2.0 * f.size / float(f.sum()) ** 2
    return Interval((peak - error) * scale * (1 - SUM_ERROR), (peak + error) * scale * (1 + SUM_ERROR))


def second_interval(f: Floats) -> Interval:
    """An interval around C2 = norm2(f*f)^2 / (norm1 norminf), see :func:`ttd_math.exact.second_bound`.

    With y = f*f in error by at most E in each of its M = 2 n - 1 values, 2 sum y^2 + sum y[j] y[j+1] is
    in error by at most 6 E sum y + 3 M E^2; sum y is taken as (sum f)^2.

    :param f: float64 [n], non-negative, not all zero.
    """
    values, error = autoconvolution(f)
    total = float(f.sum()) ** 2
    peak = float(values.max())
    # `sum` adds pairwise; a dot product's error bound would grow with the length.
    energy = (2.0 * float((values * values).sum()) + float((values[1:] * values[:-1]).sum())) / 3.0
    slack = 2.0 * error * total + values.size * error * error + SUM_ERROR * energy
    low = max(0.0, energy - slack) / ((peak + error) * total) * (1 - SUM_ERROR)
    high = (energy + slack) / ((peak - error) * total) * (1 + SUM_ERROR) if peak > error else math.inf
    return Interval(low, high)
