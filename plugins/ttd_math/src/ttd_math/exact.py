"""Scores as rational numbers: heights and coordinates are binary floats, so every bound is one.

The values of a convolution or correlation of step functions are the coefficients of a product of polynomials
whose coefficients are the heights. The floats are scaled by a common power of two to integers, multiplied
exactly (`python-flint`), and the scale cancels in every bound. For the bounds themselves see
:mod:`ttd_math.erdos` and :mod:`ttd_math.autocorrelation`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np

from ttd_math.plain import Floats


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

    :return: ``len(first) + len(second) - 1`` integers.
    """
    coefficients = [int(c) for c in (flint.fmpz_poly(first) * flint.fmpz_poly(second)).coeffs()]
    return coefficients + [0] * (len(first) + len(second) - 1 - len(coefficients))


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


def second_bound(f: Floats) -> Fraction:
    """C2 = norm2(f*f)^2 / (norm1 norminf) of the piecewise linear f*f, 0 at both ends (paper 4.1.2, B.2).

    Over a step of width w from y1 to y2 the integral of the square is w (y1^2 + y1 y2 + y2^2) / 3. With y the
    2n - 1 values of f*f that makes w (2 sum y^2 + sum y[j] y[j+1]) / 3 in all, and the integral of f*f is
    w sum y; the widths cancel.

    :param f: float64 [n], non-negative, not all zero.
    """
    heights, _ = integers(f)
    y = product(heights, heights)
    squares = product(y, y[::-1])
    numerator = 2 * squares[len(y) - 1] + (squares[len(y)] if len(y) > 1 else 0)
    return Fraction(numerator, 3 * sum(y) * max(y))


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
