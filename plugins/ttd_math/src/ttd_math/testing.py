"""Hypothesis strategies for valid constructions of the five problems, and the symmetries of each.

They draw what the verifiers must accept; for what they must refuse see :mod:`ttd_core.testing.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from ttd_core.testing.strategies import point_sets, step_functions
from ttd_math.erdos import project
from ttd_math.plain import Floats


def erdos_heights(min_size: int = 2, max_size: int = 80) -> st.SearchStrategy[Floats]:
    """Valid heights for ``erdos``: in [0, 1], sum n/2 within rounding; float64 [n]."""
    return step_functions(min_size, max_size).map(project)


def height_sequences(min_size: int = 1, max_size: int = 300) -> st.SearchStrategy[Floats]:
    """Heights for ``ac1`` and ``ac2``, valid but for their number: in [0, 1000], sum at least 0.01.

    Some hold a single tall spike, some spread over many orders of magnitude; float64 [n].
    """

    def lift(values: Floats) -> Floats:
        return values if float(values.sum()) >= 0.02 else values + 0.02

    def spread(values: Floats) -> Floats:
        return lift(np.exp(np.log(1e-12) * values) * 1000.0)

    plain = step_functions(min_size, max_size, 0.0, 1000.0).map(lift)
    return st.one_of(plain, step_functions(min_size, max_size).map(spread))


@st.composite
def packings(draw: st.DrawFn, count: int) -> tuple[Floats, Floats]:
    """Valid packings: ``(centers, radii)``, float64 [count, 2] and [count]; some tight, some with zero
    radii."""
    centers = draw(point_sets(count))
    grow = draw(st.sampled_from([0.0, 0.5, 1.0 - 1e-12]))
    wall = np.minimum(centers, 1.0 - centers).min(axis=1)
    gaps = np.hypot(*(centers[:, None, :] - centers[None, :, :]).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    return centers, grow * np.minimum(wall, gaps.min(axis=1) / 2)


def square_symmetries(centers: Floats) -> Iterator[Floats]:
    """The images of points under the eight symmetries of the unit square.

    Mirroring is done as ``1 - x``, which rounds coordinates that are not multiples of 2^-53.

    :param centers: float64 [n, 2].
    """
    for points in (centers, centers[:, ::-1]):
        for mirror_x in (False, True):
            for mirror_y in (False, True):
                image = points.copy()
                if mirror_x:
                    image[:, 0] = 1.0 - image[:, 0]
                if mirror_y:
                    image[:, 1] = 1.0 - image[:, 1]
                yield image
