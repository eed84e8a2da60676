"""The score's mean, and the floors that times are compared with."""

from __future__ import annotations

from statistics import geometric_mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_kernels.mla_decode import MlaDecode
from ttd_kernels.roofline import floor_us
from ttd_kernels.trimul import TriMul

TIMES = st.floats(1.0, 1e5)


@given(st.lists(TIMES, min_size=1, max_size=9), st.floats(0.5, 4.0))
def test_geometric_mean_scales_and_lies_between(times, factor) -> None:
    mean = geometric_mean(times)
    assert min(times) * (1 - 1e-9) <= mean <= max(times) * (1 + 1e-9)
    assert geometric_mean([factor * time for time in times]) == pytest.approx(factor * mean)


def test_floors_are_bytes_or_operations_whichever_takes_longer() -> None:
    assert floor_us(4.3e12, 0.0) == pytest.approx(1e6)
    assert floor_us(0.0, 790e12) == pytest.approx(1e6)
    assert floor_us(4.3e12, 2 * 790e12) == pytest.approx(2e6)


def test_floors_of_the_contests_are_the_known_ones() -> None:
    problem = TriMul()
    floors = [problem.floor_us(shape) for shape in problem.timed_shapes]
    assert [round(floor) for floor in floors] == [43, 294, 109, 109, 609, 587, 1131]
    assert geometric_mean(floors) == pytest.approx(250, abs=0.5)
    decode = MlaDecode()
    assert [round(decode.floor_us(shape)) for shape in decode.timed_shapes] == [246, 338]
