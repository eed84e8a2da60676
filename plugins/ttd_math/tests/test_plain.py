"""Untrusted values become plain arrays or a one-line refusal; never anything in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.testing.strategies import LyingFloat, Unwilling, arrays, hostile_values
from ttd_math.plain import not_finite, plain_points, plain_vector


@given(hostile_values())
def test_anything_gives_an_array_or_a_value_error(value) -> None:
    for read in (plain_vector, plain_points):
        try:
            array = read(value, "h", 1000)
        except ValueError:
            continue
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        assert array.ndim == (1 if read is plain_vector else 2)
        assert not array.flags.writeable


@given(arrays(st.integers(0, 30)))
def test_keeps_every_value_in_memory_of_its_own(values) -> None:
    for given_as in (values, values.tolist(), tuple(values.tolist()), list(values)):
        read = plain_vector(given_as, "h", 30)
        assert read.tobytes() == values.tobytes()
        assert not np.shares_memory(read, values)


@given(arrays((5, 2)))
def test_reads_points_from_lists_and_arrays(values) -> None:
    for given_as in (values, values.tolist(), [tuple(row) for row in values.tolist()], list(values)):
        assert plain_points(given_as, "p", 5).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.ma.masked_array([0.5, 0.5], mask=[True, False]),
            "h must be a list or an array of numbers, not a MaskedArray",
        ),
        (np.array([0.5, 0.5], dtype=object), "h has dtype object"),
        (np.array([0.5 + 1j]), "h has dtype complex128"),
        (np.array([True, False]), "h has dtype bool"),
        (np.array(["1"]), "h has dtype <U1"),
        (np.zeros(1, np.longdouble), "h has dtype float128"),
        (np.rec.array([(0.5,)]), "not a recarray"),
        (np.zeros((2, 2)), r"h must have 1 dimension\(s\), not shape \(2, 2\)"),
        (np.zeros(11), "h has 11 values; at most 10 are read"),
        ([0.0] * 11, "h has 11 values; at most 10 are read"),
        ([0.5, LyingFloat(0.5)], r"h\[1\] is a LyingFloat instead of a number"),
        ([0.5, Unwilling()], r"h\[1\] is an Unwilling instead of a number"),
        ([0.5, True], r"h\[1\] is a bool instead of a number"),
        ([0.5, "0.5"], r"h\[1\] is a str instead of a number"),
        ([[0.5]], r"h\[0\] is a list instead of a number"),
        ([10**400], "h holds an integer too large for a float"),
        ({"h": 1}, "not a dict"),
        (None, "not a NoneType"),
        ("0.5", "not a str"),
    ],
    ids=range(19),
)
def test_refusals_say_what_was_wrong(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        plain_vector(value, "h", 10)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0.1, 0.2], [0.3]], r"p\[1\] has 1 coordinates instead of 2"),
        ([[0.1, 0.2, 0.3]], r"p\[0\] has 3 values; at most 2 are read"),
        (np.zeros((3, 3)), r"p must have shape \(n, 2\), not \(3, 3\)"),
        ([[0.0, 0.0]] * 11, "p has 11 rows; at most 10 are read"),
        (np.zeros(4), r"p must have 2 dimension\(s\)"),
        (3.0, "p must be a list of pairs or an array, not a float"),
    ],
    ids=range(6),
)
def test_points_that_are_none(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        plain_points(value, "p", 10)


def test_a_later_change_of_the_source_changes_nothing() -> None:
    source = np.full(4, 0.5)
    read = plain_vector(source, "h", 10)
    source[0] = 99.0
    assert read[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1.0


def test_the_first_value_that_is_not_finite_is_named() -> None:
    assert (
        not_finite(np.array([[0.0, np.nan], [np.inf, 1.0]]), "p")
        == "p[0, 1] is nan: 2 of 4 values are not finite"
    )
    assert not_finite(np.zeros(3), "p") == ""
