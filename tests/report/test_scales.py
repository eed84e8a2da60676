"""Axes: round marks within the ends, labels that tell neighbours apart, places that keep their distance."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ttd_core.report.scales import Scale, domain, tick_labels, ticks

values = st.floats(-1e9, 1e9, allow_nan=False)


@given(values, values, st.integers(1, 12))
def test_ticks_lie_within_and_are_few_and_their_labels_differ(
    first: float, second: float, count: int
) -> None:
    low, high = domain([first, second])
    found = ticks(low, high, count)
    room = 1e-6 * (high - low)
    assert all(low - room <= value <= high + room for value in found)
    assert len(found) <= count + 1
    if high - low > 1e-6 and max(abs(low), abs(high)) < 1e5:
        labels = tick_labels(found)
        assert len(set(labels)) == len(labels)
        assert all(math.isclose(float(text), v, abs_tol=1e-9) for text, v in zip(labels, found, strict=True))


def test_ticks_are_round() -> None:
    assert tick_labels(ticks(0.38085, 0.38165, 5)) == ["0.3810", "0.3812", "0.3814", "0.3816"]
    assert tick_labels(ticks(0, 10, 4)) == ["0.0", "2.5", "5.0", "7.5", "10.0"]
    assert tick_labels(ticks(0, 10, 4, whole=True)) == ["0", "3", "6", "9"]
    assert tick_labels(ticks(0, 3, 8, whole=True)) == ["0", "1", "2", "3"]
    assert tick_labels(ticks(0, 3e-20, 3)) == ["0", "1e-20", "2e-20", "3e-20"]
    assert tick_labels(ticks(0, 4e6, 4)) == ["0", "1e+06", "2e+06", "3e+06", "4e+06"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=5))
def test_a_domain_holds_its_values_and_is_never_empty(numbers: list[float]) -> None:
    low, high = domain(numbers)
    assert low < high
    assert all(low <= number <= high for number in numbers if math.isfinite(number))


def test_a_scale_keeps_to_its_ends() -> None:
    scale = Scale(0.0, 2.0, 100.0, 0.0)
    assert [scale(value) for value in (-1, 0, 1, 2, 9)] == [100, 100, 50, 0, 0]
    assert [scale.holds(value) for value in (-1, 0, 2, 2.1)] == [False, True, True, False]
