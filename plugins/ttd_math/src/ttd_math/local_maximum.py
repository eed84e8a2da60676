"""Proof that a packing is a strict local maximum of the sum of radii, in ball arithmetic.

A packing of n circles has 3 n numbers: two coordinates and a radius each. Where exactly 3 n *contacts* hold
(two circles touch, or a circle touches a wall), they are 3 n equations, and three things are shown of them,
with every rounding error enclosed (`python-flint`):

1. The equations have exactly one solution in a small box around the given packing: Krawczyk's operator maps
   the box into its own interior (Krawczyk, Computing 4, 1969; Moore, Kearfott, Cloud, Introduction to
   Interval Analysis, 2009, section 8.2).
2. At every point of the box all radii and all other distances are positive, so that the solution is a
   packing.
3. For every Jacobian J that occurs in the box, the multipliers m with J^T m = -(gradient of the sum of
   radii) are positive.

Then the solution is a strict local maximum. The gradients of the contacts span all directions, since J is
invertible. Along any direction d in which no contact is violated to first order, the sum of radii changes by
-m . (J d) < 0, unless J d = 0, which is d = 0 alone; and contacts are smooth, so the first order decides
(Nocedal, Wright, Numerical Optimization, 2006, theorem 12.6 with a critical cone of {0}).
"""

from __future__ import annotations

from fractions import Fraction

import attrs
import flint
import numpy as np

from ttd_core.errors import UsageError
from ttd_core.plugin import registry
from ttd_math.base import start_file
from ttd_math.circle_packing import CirclePacking
from ttd_math.plain import Floats

#: Distances below this are contacts, those above the next are none; between them nothing is claimed.
_CONTACT, _APART = 1e-9, 1e-6
#: Binary places computed with, and half the width of the box.
_PRECISION, _BOX_BITS = 400, 200
#: Newton steps to the solution: each doubles the digits that are right, from 10 on.
_NEWTON_STEPS = 8
_WALLS = ("left", "right", "bottom", "top")


@attrs.frozen
class Contact:
    """Two circles that touch, or a circle and a wall.

    :param circle: the first.
    :param other: the second circle, or ``None``.
    :param wall: of :data:`_WALLS`, or empty.
    """

    circle: int
    other: int | None = None
    wall: str = ""


@attrs.frozen
class LocalMaximum:
    """What was proven.

    :param circles: how many.
    :param contacts: how many hold exactly.
    :param lowest: at most the sum of radii of the local maximum.
    :param highest: at least that.
    :param within: how far, at most, each of its numbers lies from the given packing.
    :param least_multiplier: a lower bound of the least of the multipliers.
    :param least_gap: a lower bound of all radii and of what else must be positive: the distances to walls,
        and for pairs the squared distance of the centers less the squared sum of the radii.
    """

    circles: int
    contacts: int
    lowest: Fraction
    highest: Fraction
    within: float
    least_multiplier: float
    least_gap: float


def packing_of(name: str, start: str) -> tuple[Floats, Floats]:
    """Centers [n, 2] and radii [n] of the packing that is kept (``best``), or of a file.

    :param name: of a problem of packings.
    :raises UsageError: when the file holds no valid packing.
    """
    problem = registry.load(name, {})
    assert isinstance(problem, CirclePacking)
    state = problem.read_valid(start_file(name, start))
    return np.asarray(state.data["centers"]), np.asarray(state.data["radii"])


def prove(centers: Floats, radii: Floats) -> LocalMaximum:
    """Prove that a strict local maximum of the sum of radii lies next to a packing.

    :param centers: float64 [n, 2].
    :param radii: float64 [n], valid within the tolerance of the problem.
    :raises UsageError: when it cannot be proven; says why.
    """
    before = flint.ctx.prec
    flint.ctx.prec = _PRECISION
    try:
        return _prove(centers, radii)
    finally:
        flint.ctx.prec = before


def _prove(centers: Floats, radii: Floats) -> LocalMaximum:
    n = radii.size
    contacts, others = _contacts(centers, radii)
    if len(contacts) != 3 * n:
        raise UsageError(
            f"{len(contacts)} contacts (distances below {_CONTACT:g}), and a proof needs three for each of "
            f"the {n} circles: {3 * n}. Optimise the packing to the last digit, or it is no isolated maximum"
        )
    given = [*map(float, np.concatenate([centers, radii[:, None]], axis=1).ravel())]
    middle = [flint.arb(value) for value in given]
    for _ in range(_NEWTON_STEPS):
        slacks = _column([_slack(contact, middle) for contact in contacts])
        step = _solved(_jacobian(contacts, middle).mid(), slacks.mid())
        middle = [(value - step[row, 0]).mid() for row, value in enumerate(middle)]
    half = flint.arb(0, flint.arb(2) ** -_BOX_BITS)
    box = [value + half for value in middle]
    jacobian = _jacobian(contacts, box)
    solution = _krawczyk(contacts, middle, box, jacobian)
    gaps = [_slack(contact, box) for contact in others] + [box[3 * i + 2] for i in range(n)]
    if not all(gap > 0 for gap in gaps):
        raise UsageError("a circle without radius, or two that overlap, next to the packing")
    multipliers = _multipliers(jacobian, n)
    negative = sum(not multiplier > 0 for multiplier in multipliers)
    if negative:
        raise UsageError(
            f"{negative} of {len(contacts)} multipliers are not positive: some direction makes the sum of "
            "radii larger, or no smaller, so the packing is no strict local maximum to first order"
        )
    radii_sum = sum((solution[3 * i + 2] for i in range(n)), flint.arb(0))
    farthest = max(
        float(abs(value - flint.arb(one)).upper()) for value, one in zip(solution, given, strict=True)
    )
    return LocalMaximum(
        circles=n,
        contacts=len(contacts),
        lowest=_fraction(radii_sum.lower()),
        highest=_fraction(radii_sum.upper()),
        within=farthest,
        least_multiplier=min(float(multiplier.lower()) for multiplier in multipliers),
        least_gap=min(float(gap.lower()) for gap in gaps),
    )


def _contacts(centers: Floats, radii: Floats) -> tuple[list[Contact], list[Contact]]:
    """Those that hold, and all others.

    :raises UsageError: when a distance is neither.
    """
    pairs = [Contact(i, other=j) for i in range(radii.size) for j in range(i)]
    walls = [Contact(i, wall=wall) for i in range(radii.size) for wall in _WALLS]
    held: list[Contact] = []
    apart: list[Contact] = []
    for contact in (*pairs, *walls):
        distance = _distance(contact, centers, radii)
        if _CONTACT < distance < _APART:
            raise UsageError(
                f"{_said(contact)} are {distance:.2g} apart: too far for a contact, too near for none; "
                "optimise the packing to the last digit first"
            )
        (held if distance <= _CONTACT else apart).append(contact)
    return held, apart


def _said(contact: Contact) -> str:
    other = f"circle {contact.other}" if contact.other is not None else f"the {contact.wall} wall"
    return f"circle {contact.circle} and {other}"


def _distance(contact: Contact, centers: Floats, radii: Floats) -> float:
    i, j = contact.circle, contact.other
    if j is not None:
        return float(np.hypot(*(centers[i] - centers[j])) - radii[i] - radii[j])
    place = float(centers[i, 0 if contact.wall in ("left", "right") else 1])
    return (place if contact.wall in ("left", "bottom") else 1.0 - place) - float(radii[i])


def _slack(contact: Contact, z: list[flint.arb]) -> flint.arb:
    """0 where a contact holds, positive where there is room; of a pair with squares, which are smooth."""
    i, j = 3 * contact.circle, contact.other
    if j is not None:
        j *= 3
        reach = z[i + 2] + z[j + 2]
        return (z[i] - z[j]) ** 2 + (z[i + 1] - z[j + 1]) ** 2 - reach**2
    place = z[i if contact.wall in ("left", "right") else i + 1]
    return (place if contact.wall in ("left", "bottom") else 1 - place) - z[i + 2]


def _jacobian(contacts: list[Contact], z: list[flint.arb]) -> flint.arb_mat:
    """The gradients of the contacts' slacks, a row each."""
    matrix = flint.arb_mat(len(contacts), len(z))
    for row, contact in enumerate(contacts):
        i, j = 3 * contact.circle, contact.other
        if j is not None:
            j *= 3
            for axis in range(2):
                matrix[row, i + axis] = 2 * (z[i + axis] - z[j + axis])
                matrix[row, j + axis] = -matrix[row, i + axis]
            matrix[row, i + 2] = matrix[row, j + 2] = -2 * (z[i + 2] + z[j + 2])
        else:
            axis = 0 if contact.wall in ("left", "right") else 1
            matrix[row, i + axis] = flint.arb(1 if contact.wall in ("left", "bottom") else -1)
            matrix[row, i + 2] = flint.arb(-1)
    return matrix


def _krawczyk(
    contacts: list[Contact], middle: list[flint.arb], box: list[flint.arb], jacobian: flint.arb_mat
) -> list[flint.arb]:
    """A box that holds the one solution: K = m - C f(m) + (1 - C J)(box - m), within the box's interior.

    :raises UsageError: when it does not lie there, so that nothing follows.
    """
    size = len(box)
    one = flint.arb_mat(size, size, [int(row == column) for row in range(size) for column in range(size)])
    inverse = _solved(_jacobian(contacts, middle).mid(), one).mid()
    residual = inverse * _column([_slack(contact, middle) for contact in contacts])
    spread = (one - inverse * jacobian) * _column([a - b for a, b in zip(box, middle, strict=True)])
    mapped = [middle[row] - residual[row, 0] + spread[row, 0] for row in range(size)]
    if not all(whole.contains_interior(part) for whole, part in zip(box, mapped, strict=True)):
        raise UsageError("no solution of the contacts could be enclosed next to the packing")
    return mapped


def _multipliers(jacobian: flint.arb_mat, n: int) -> list[flint.arb]:
    """The m with J^T m = -c, c the gradient of the sum of radii, for every J of the box at once."""
    gradient = [flint.arb(-1 if row % 3 == 2 else 0) for row in range(3 * n)]
    found = _solved(jacobian.transpose(), _column(gradient))
    return [found[row, 0] for row in range(3 * n)]


def _solved(matrix: flint.arb_mat, right: flint.arb_mat) -> flint.arb_mat:
    """X with matrix X = right, for every matrix that is enclosed.

    :raises UsageError: when one of them may be singular.
    """
    try:
        return matrix.solve(right)
    except ZeroDivisionError as error:
        raise UsageError("the contacts are not independent: no isolated maximum can be proven") from error


def _column(values: list[flint.arb]) -> flint.arb_mat:
    return flint.arb_mat(len(values), 1, values)


def _fraction(value: flint.arb) -> Fraction:
    """An exact binary number."""
    mantissa, exponent = value.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
