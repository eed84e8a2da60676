"""Scores that rounding cannot change: an interval decides, and where it does not, exact arithmetic.

The rule for every reported score: the fast form gives an interval that surely holds the exact value; if all
of the interval reads the same in ten significant digits, its middle is the score; otherwise the exact
rational does, rounded once. So the digits people see are never those of a rounding error.
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


def score_from(interval: Interval, exact: Callable[[], Fraction]) -> float:
    """The middle of a decided interval, else the exact value rounded once."""
    if interval.decided:
        return 0.5 * (interval.low + interval.high)
    return float(exact())
