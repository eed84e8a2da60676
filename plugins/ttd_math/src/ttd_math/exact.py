"""Scores as rational numbers: heights and coordinates are binary floats, so every bound is one.

The values of a convolution or correlation of step functions are the coefficients of a product of polynomials
whose coefficients are the heights. The floats are scaled by a common power of two to integers, multiplied
exactly (`python-flint`), and the scale cancels in every bound. For the bounds themselves see
:mod:`ttd_math.erdos` and :mod:`ttd_math.autocorrelation`.

A float's last bit lies at 2^-1074 at the lowest, so one tiny height among 100,000 makes all integers 1,084
bits long and a score 20 times as dear. Scores therefore ask :func:`first_range` and :func:`second_range`
before: heights cut at 2^-192, and how much the rest can add.
"""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import flint
import numpy as np

from ttd_math.plain import Floats

#: Binary places that are kept of heights for a range of a score; see :func:`first_range`.
PLACES = 192
#: Bits of integers that are multiplied in one call, which no other thread can interrupt: up to 0.3 s.
_AT_ONCE = 1 << 25


def integers(values: Floats) -> tuple[list[int], int]:
    """The floats as integers times one power of two: m and e with ``values[i] == m[i] * 2**e`` exactly.

    :param values: float64 [n], finite.
    :return: n integers m, and the exponent e.
    """
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64).tolist()
    powers = (exponents - 53).tolist()
    used = [power for number, power in zip(whole, powers, strict=True) if number]
    lowest = min(used, default=0)
    return [m << (p - lowest) if m else 0 for m, p in zip(whole, powers, strict=True)], lowest


def product(first: list[int], second: list[int]) -> list[int]:
    """Coefficients of the product of two integer polynomials: the full convolution of two lists of integers.

    Long lists of long integers are multiplied block by block, so that other threads go on meanwhile.

    :return: ``len(first) + len(second) - 1`` integers.
    """
    longest = max(max(map(abs, first)).bit_length(), max(map(abs, second)).bit_length(), 1)
    size = max(_AT_ONCE // longest, 1)
    left = [flint.fmpz_poly(first[start : start + size]) for start in range(0, len(first), size)]
    right = (
        left
        if second is first
        else [flint.fmpz_poly(second[start : start + size]) for start in range(0, len(second), size)]
    )
    coefficients = [0] * (len(first) + len(second) - 1)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            if right is left and j < i:
                continue  # the same as (j, i), which is counted twice
            times = 2 if right is left and j > i else 1
            for place, value in enumerate((one * other).coeffs(), start=(i + j) * size):
                coefficients[place] += times * int(value)
    return coefficients


def overlap_bound(h: Floats) -> Fraction:
    """C5 of heights exactly as they are: (2/n) max of the full correlation of h with 1 - h (paper B.3).

    :param h: float64 [n], heights in [0, 1].
    """
    heights, exponent = integers(h)
    if exponent > 0:
        heights, exponent = [m << exponent for m in heights], 0
    one = 1 << -exponent
    peak = max(product(heights, [one - m for m in reversed(heights)]))
    return Fraction(2 * peak, h.size * one * one)


def normalised_overlap_bound(h: Floats) -> Fraction:
    """C5 of the rational heights next to h that sum to n/2 exactly.

    The bound holds for heights that sum to n/2, which floats do only up to rounding. With S the exact sum:
    ``h' = h (n/2) / S`` if S >= n/2, else ``1 - (1 - h)(n/2) / (n - S)``. Both stay in [0, 1]. The second is
    the first applied to 1 - h, whose overlaps are those of h mirrored.

    :param h: float64 [n], heights in [0, 1].
    """
    heights, exponent = integers(h)
    if exponent > 0:
        heights, exponent = [m << exponent for m in heights], 0
    one = 1 << -exponent
    n = h.size
    if 2 * sum(heights) < n * one:
        heights = [one - m for m in heights]
    total = sum(heights)
    # h' = n m / (2 total), and 1 - h' = (2 total - n m) / (2 total)
    peak = max(product([n * m for m in heights], [2 * total - n * m for m in reversed(heights)]))
    return Fraction(2 * peak, n * (2 * total) ** 2)


def first_bound(f: Floats) -> Fraction:
    """C1 = 2 n max(f*f) / (sum f)^2 (paper 4.1.2).

    On [-1/4, 1/4] a step is 1/(2n) wide, so the largest value of f*f is max(np.convolve(f, f)) / (2n), and
    the integral of f is sum f / (2n).

    :param f: float64 [n], non-negative, not all zero.
    """
    heights, _ = integers(f)
    return Fraction(2 * f.size * max(product(heights, heights)), sum(heights) ** 2)


def first_range(f: Floats) -> tuple[Fraction, Fraction]:
    """Two rationals with C1 between them, 2^-160 of it apart at most for 100,000 valid heights.

    With integers m = floor(2^192 f) the heights times 2^192 are m + e, where 0 <= e < 1. So their sum lies
    between sum m and sum m + n, and every value of their convolution between that of m and the same plus
    2 sum m + n.

    :param f: float64 [n], non-negative, with a sum of at least 0.01.
    """
    heights, spare = _cut(f)
    total, peak = sum(heights), max(product(heights, heights))
    more = spare * (2 * total + f.size)
    return (
        Fraction(2 * f.size * peak, (total + spare * f.size) ** 2),
        Fraction(2 * f.size * (peak + more), total**2),
    )


def second_bound(f: Floats) -> Fraction:
    """C2 = norm2(f*f)^2 / (norm1 norminf) of the piecewise linear f*f, 0 at both ends (paper 4.1.2, B.2).

    Over a step of width w from y1 to y2 the integral of the square is w (y1^2 + y1 y2 + y2^2) / 3. With y the
    2n - 1 values of f*f that makes w (2 sum y^2 + sum y[j] y[j+1]) / 3 in all, and the integral of f*f is
    w sum y; the widths cancel.

    :param f: float64 [n], non-negative, not all zero.
    """
    heights, _ = integers(f)
    y = product(heights, heights)
    return Fraction(_energy(y), 3 * sum(y) * max(y))


def second_range(f: Floats) -> tuple[Fraction, Fraction]:
    """Two rationals with C2 between them, 2^-160 of it apart at most for 100,000 valid heights.

    As in :func:`first_range` every value of f*f lies between y, that of the integers m, and y + d with
    d = 2 sum m + n. So 2 sum y^2 + sum y[j] y[j+1] grows by 6 d sum y + 3 (2n - 1) d^2 at most.

    :param f: float64 [n], non-negative, with a sum of at least 0.01.
    """
    heights, spare = _cut(f)
    y = product(heights, heights)
    total, peak, energy = sum(heights), max(y), _energy(y)
    more = spare * (2 * total + f.size)
    return (
        Fraction(energy, 3 * (total + spare * f.size) ** 2 * (peak + more)),
        Fraction(energy + 6 * more * total**2 + 3 * len(y) * more**2, 3 * total**2 * peak),
    )


def _energy(y: list[int]) -> int:
    """2 sum y^2 + sum y[j] y[j+1]."""
    energy: int = 2 * sum(map(operator.mul, y, y)) + sum(map(operator.mul, y, y[1:]))
    return energy


def _cut(f: Floats) -> tuple[list[int], int]:
    """The integers floor(2^PLACES f), and 1 where any of them lost something, else 0."""
    heights, exponent = integers(f)
    shift = exponent + PLACES
    if shift >= 0:
        return [m << shift for m in heights], 0
    return [m >> -shift for m in heights], 1


def square_root_below(value: Fraction, bits: int = 120) -> Fraction:
    """A square root rounded down: the largest multiple of 2^-bits whose square is at most ``value``.

    :param value: non-negative.
    """
    return Fraction(math.isqrt((value.numerator << (2 * bits)) // value.denominator), 1 << bits)


def squared_distance(first: Floats, second: Floats) -> Fraction:
    """The squared distance of two points, exactly.

    :param first: float64 [2].
    :param second: float64 [2].
    """
    return sum(
        ((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(first, second, strict=True)),
        Fraction(0),
    )
