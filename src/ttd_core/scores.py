"""Which of two scores is better: every comparison of scores goes through here."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal

#: Whether a smaller or a larger score is better.
Direction = Literal["min", "max"]


def better(direction: Direction, first: float | Fraction, second: float | Fraction) -> bool:
    """Whether score ``first`` is strictly better than ``second``; rationals are compared exactly."""
    return first < second if direction == "min" else first > second


def best_of(direction: Direction, scores: Iterable[float]) -> float:
    """The best of some scores.

    :raises ValueError: when there are none.
    """
    return min(scores) if direction == "min" else max(scores)


def gain(direction: Direction, before: float, after: float) -> float:
    """How much better ``after`` is than ``before``; negative when it is worse."""
    return before - after if direction == "min" else after - before
