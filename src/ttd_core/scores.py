"""Which of two scores is better: every comparison of scores goes through here.

A *score* is a value of the problem's own metric; a problem's ``direction`` says whether smaller or larger
ones are better. A *reward* is what the learner maximises, and is compared as a plain number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Literal, TypeVar

#: ``min`` where a smaller score is better, ``max`` where a larger one is.
Direction = Literal["min", "max"]

Item = TypeVar("Item")


def better(direction: Direction, first: float | Fraction, second: float | Fraction) -> bool:
    """Whether score ``first`` is strictly better than ``second``; rationals are compared exactly."""
    return first < second if direction == "min" else first > second


def best_of(direction: Direction, scores: Iterable[float]) -> float:
    """The best of some scores, none of which is NaN.

    :raises ValueError: when there are none.
    """
    return min(scores) if direction == "min" else max(scores)


def best_first(direction: Direction, items: Iterable[Item], score: Callable[[Item], float]) -> list[Item]:
    """Items sorted by their scores, the best first; items of equal scores keep their order.

    :param score: gives an item's score.
    """
    return sorted(items, key=score, reverse=direction == "max")


def gain(direction: Direction, before: float, after: float) -> float:
    """How much better score ``after`` is than score ``before``, in the metric's unit; negative when worse."""
    return before - after if direction == "min" else after - before


def which_is_better(direction: Direction) -> str:
    """``smaller is better`` or ``larger is better``, for people."""
    return "smaller is better" if direction == "min" else "larger is better"
