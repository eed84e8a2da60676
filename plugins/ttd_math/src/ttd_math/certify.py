"""Certificates of the five problems: the exact score of a construction and the facts that prove it.

Everything is computed from the stored floats in rational arithmetic; see :mod:`ttd_math.exact`. Constructions
must be valid: :func:`ttd_core.certifying.certify` checks them before it asks for a certificate.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ttd_core.certificate import PLACES, Certificate, CertificateError, decimal_text
from ttd_core.types import State
from ttd_math import exact
from ttd_math.plain import Floats

#: Radii are shrunk by a multiple of 2^-SHRINK_BITS: the least that suffices, to 36 decimal places.
SHRINK_BITS = 120


def overlap(h: Floats) -> Certificate:
    """`erdos`: C5 <= bound, for the rational heights next to h that sum to n/2 exactly.

    :param h: float64 [n], valid heights.
    """
    heights, exponent = exact.integers(h)
    total = Fraction(sum(heights)) * Fraction(2) ** exponent
    half = Fraction(h.size, 2)
    form = "h (n/2) / S" if total >= half else "1 - (1 - h) (n/2) / (n - S)"
    return Certificate(
        problem="erdos",
        bound=exact.normalised_overlap_bound(h),
        up=True,
        claim="C5 <= {decimal}",
        state=State(data={"h": h}),
        facts={"values": int(h.size), "S - n/2": _text(total - half), "certified heights": form},
    )


def first_inequality(f: Floats) -> Certificate:
    """`ac1`: C1 <= bound.

    :param f: float64 [n], valid heights.
    """
    return Certificate(
        problem="ac1",
        bound=exact.first_bound(f),
        up=True,
        claim="C1 <= {decimal}",
        state=State(data={"f": f}),
        facts={"values": int(f.size)},
    )


def second_inequality(f: Floats) -> Certificate:
    """`ac2`: C2 >= bound.

    :param f: float64 [n], valid heights.
    """
    return Certificate(
        problem="ac2",
        bound=exact.second_bound(f),
        up=False,
        claim="C2 >= {decimal}",
        state=State(data={"f": f}),
        facts={"values": int(f.size)},
    )


def packing(name: str, centers: Floats, radii: Floats) -> Certificate:
    """`cp26`, `cp32`: the sum of radii of a packing that is valid without any tolerance.

    It is the one given with every radius made smaller by the same least amount.

    :param name: of the problem.
    :param centers: float64 [n, 2].
    :param radii: float64 [n], valid within the tolerance.
    :raises CertificateError: when no shrink helps: a center lies outside the square.
    """
    shrink = least_shrink(centers, radii)
    shrunk = [max(Fraction(0), Fraction(radius) - shrink) for radius in radii.tolist()]
    if not strictly_valid(centers, shrunk):
        raise CertificateError(f"no common shrink makes this packing of {name} strictly valid")
    return Certificate(
        problem=name,
        bound=sum(shrunk, Fraction(0)),
        up=False,
        claim=f"{len(shrunk)} disjoint circles in the unit square, sum of radii >= {{decimal}}",
        state=State(data={"centers": centers, "radii": radii}),
        facts={"circles": len(shrunk), "each radius shrunk by": _text(shrink)},
    )


def least_shrink(centers: Floats, radii: Floats) -> Fraction:
    """By how much all radii must shrink for strict validity: the least multiple of 2^-120, at least 0.

    A radius smaller than the shrink becomes 0, so of two circles at distance d with radii a <= b the shrink
    is at least (a + b - d) / 2 where that is at most a, and b - d otherwise.

    :param centers: float64 [n, 2].
    :param radii: float64 [n].
    """
    sizes = [Fraction(radius) for radius in radii.tolist()]
    worst = Fraction(0)
    for index, point in enumerate(centers):
        wall = min(min(Fraction(float(x)), 1 - Fraction(float(x))) for x in point)
        worst = max(worst, sizes[index] - wall)
        for other in range(index):
            apart = exact.square_root_below(exact.squared_distance(point, centers[other]), SHRINK_BITS + 2)
            small, large = sorted((sizes[index], sizes[other]))
            both = (small + large - apart) / 2
            worst = max(worst, both if both <= small else large - apart)
    unit = Fraction(1, 1 << SHRINK_BITS)
    shrink = -(-worst // unit) * unit
    # Distances are rounded down, which can make the shrink one unit larger than need be.
    while shrink and strictly_valid(centers, [max(Fraction(0), size - shrink + unit) for size in sizes]):
        shrink -= unit
    return shrink


def strictly_valid(centers: Floats, radii: list[Fraction]) -> bool:
    """Whether circles lie in the closed unit square with disjoint interiors, exactly, without tolerance.

    :param centers: float64 [n, 2].
    :param radii: n rationals.
    """
    for index, point in enumerate(centers):
        if any(not radii[index] <= Fraction(float(x)) <= 1 - radii[index] for x in point):
            return False
        for other in range(index):
            if exact.squared_distance(point, centers[other]) < (radii[index] + radii[other]) ** 2:
                return False
    return bool(np.isfinite(centers).all())


def _text(value: Fraction) -> str:
    """A small rational, exactly and, for people, as a decimal rounded up."""
    return f"{value} (about {decimal_text(value, 2 * PLACES, up=True)})" if value else "0"
