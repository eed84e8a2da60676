"""Scores that rounding cannot change: an interval decides, and where it does not, exact arithmetic.

The rule for every reported score: the fast form gives an interval that surely holds the exact value; if all
of the interval reads the same in ten significant digits, its middle is the score; otherwise the exact
rational does, rounded once. So the digits people see are never those of a rounding error.

Where exact arithmetic is dear, a range of two rationals is asked first. Rounding to a float keeps order, so
when both ends of the range round to the same float, the exact value does too.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import attrs

#: Unit roundoff of float64.
ROUNDOFF = 2.0**-53
#: Significant digits in which a score is shown.
DIGITS = 10


@attrs.frozen
class Interval:
    """An interval that holds the exact value."""

    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether both ends read the same in ten significant digits."""
        return f"{self.low:.{DIGITS}g}" == f"{self.high:.{DIGITS}g}"


def score_from(
    interval: Interval,
    exact: Callable[[], Fraction],
    exact_range: Callable[[], tuple[Fraction, Fraction]] | None = None,
) -> float:
    """The middle of a decided interval, else the exact value rounded once.

    :param exact: the exact value.
    :param exact_range: two rationals with the exact value between them, where that costs less.
    """
    if interval.decided:
        return 0.5 * (interval.low + interval.high)
    if exact_range is not None:
        low, high = map(float, exact_range())
        if low == high:
            return low
    return float(exact())
