"""From values to pixels: linear scales, round tick marks and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs


@attrs.frozen
class Scale:
    """A linear map from values to pixels.

    :param low: the value at ``start``.
    :param high: the value at ``end``; above ``low``.
    :param start: pixels.
    :param end: pixels; below ``start`` for an axis that grows upwards.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value; one beyond the ends stays at the end."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a value is within the ends."""
        return self.low <= value <= self.high


def domain(values: Iterable[float], pad: float = 0.05) -> tuple[float, float]:
    """Ends of an axis for some values: their range and a little more; never empty.

    :param pad: share of the range added at either end.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    # Neighbouring floats have no round numbers between them.
    least = max(abs(low), abs(high)) * 1e-12
    if high - low <= least:
        room = max(abs(high) * 1e-3, 1e-9)
        return low - room, high + room
    return low - pad * (high - low), high + pad * (high - low)


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """At most ``count`` + 1 round values in [low, high].

    :param whole: only whole numbers, for steps.
    :return: ``low`` alone where there is nothing between them.
    """
    if high <= low:
        return [low]
    step = _round_step((high - low) / max(1, count))
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Texts of tick values, all with the decimals that their distance needs."""
    if len(values) < 2:
        return [f"{value:.6g}" for value in values]
    step = values[1] - values[0]
    if max(abs(value) for value in values) >= 1e6 or step < 1e-12:
        return [f"{value:.4g}" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    return [f"{value:.{decimals}f}" for value in values]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a line that can be seen: of each column of pixels the first, last, lowest and highest.

    :param points: pixels, from left to right.
    """
    columns: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        columns.setdefault(math.floor(point[0]), []).append(point)
    kept = []
    for column in columns.values():
        height = [y for _, y in column]
        seen = {0, height.index(min(height)), height.index(max(height)), len(column) - 1}
        kept += [column[place] for place in sorted(seen)]
    return kept


def columns_of(count: int, pixels: float, least: float) -> int:
    """How many steps share a column, so that it is wide enough.

    :param count: steps, side by side in ``pixels``.
    :param least: pixels of a column.
    """
    return max(1, math.ceil(least * count / max(1.0, pixels)))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
