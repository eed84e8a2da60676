"""Frames: what is written is read back; what is not a frame is refused, byte by byte."""

from __future__ import annotations

import contextlib
import json
import math
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as npst

from ttd_core.sandbox.exchange import FrameReader
from ttd_core.sandbox.inside import frames
from ttd_core.types import ALLOWED_DTYPES

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**64) + 1, 2**64 - 1)
PLAIN = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ARRAYS = st.sampled_from(sorted(ALLOWED_DTYPES)).flatmap(
    lambda name: npst.arrays(
        name,
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if name.startswith("float") else None,
    )
)
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT.filter(lambda key: key != "$array"), inner, max_size=3)
    ),
    max_leaves=8,
)


def joined(buffers: list[Any]) -> bytes:
    return b"".join(bytes(memoryview(buffer)) for buffer in buffers)


def frame(body: bytes, arrays: list[Any] | None = None, data: bytes = b"", **changes: Any) -> bytes:
    length = changes.pop("length", len(body))
    fields = {"status": "ok", "message": "", "body": length, "arrays": arrays or [], **changes}
    text = json.dumps(fields).encode()
    return b"ttd1" + struct.pack("=I", len(text)) + text + body + data


def read(data: bytes, limit: int = 1 << 20) -> FrameReader:
    """What the trusted process makes of the bytes when they come."""
    reader = FrameReader(limit)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        while reader.read(file.fileno()):
            continue
    return reader


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and np.array_equal(first, second)
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second) and type(first) is type(second)


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_every_value_comes_through_both_readers_unchanged(value: Any) -> None:
    data = joined(frames.encode(value))
    reader = read(data)
    assert reader.complete, reader.error
    assert same(reader.value(), value)
    assert same(frames.decode_buffer(memoryview(data)), value)


@settings(deadline=None, max_examples=100)
@given(VALUES, st.data())
def test_a_damaged_frame_is_refused_or_is_another_value_never_an_error(
    value: Any, data: st.DataObject
) -> None:
    whole = bytearray(joined(frames.encode(value)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    reader = read(bytes(whole[:cut]) if data.draw(st.booleans()) else bytes(whole))
    if reader.complete:
        with contextlib.suppress(frames.FrameError):  # the one error that is allowed
            reader.value()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_noise_is_never_a_frame(noise: bytes) -> None:
    assert not read(noise).complete
    assert not read(b"ttd1" + noise).complete or len(noise) > 4


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04" + b"x" * 40, "does not start as a frame"),
        (b"\x80\x04\x95" + b"x" * 40, "does not start as a frame"),
        (b"ttd1" + struct.pack("=I", 1 << 20), "header takes"),
        (b"ttd1" + struct.pack("=I", 0), "header takes"),
        (frame(b"1", extra=1), "other fields"),
        (frame(b"1", status=3), "not text"),
        (frame(b""), "no JSON"),
        (frame(b"1", length=-1), "natural number"),
        (frame(b"1", length=True), "natural number"),
        (frame(b"1", length=1 << 30), "JSON takes"),
        (frame(b"1", arrays=[["object", [1]]]), "dtype"),
        (frame(b"1", arrays=[["float16", [1]]]), "dtype"),
        (frame(b"1", arrays=[[["float64"], [1]]]), "dtype"),
        (frame(b"1", arrays=[["float64", [-1]]]), "natural number"),
        (frame(b"1", arrays=[["float64", [1.5]]]), "natural number"),
        (frame(b"1", arrays=[["float64", [1] * 9]]), "dimensions"),
        (frame(b"1", arrays=[["float64", 3]]), "unknown form"),
        (frame(b"1", arrays=[["int8", [0]]] * 17), "more than 16 arrays"),
        (frame(b"1", arrays=[["float64", [1 << 20]]]), "at most 1048576"),
        (frame(b"1", arrays=[["int8", [1 << 47, 1 << 47, 0]]]), "shape"),
        (frame(b"1") + b"x", "follow the end"),
        (frame(b"1") * 2, "follow the end"),
    ],
)
def test_what_is_not_a_frame_is_refused_before_it_is_read(data: bytes, told: str) -> None:
    reader = read(data)
    assert not reader.complete
    assert told in reader.error


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (frame(b"[NaN]"), "NaN"),
        (frame(b"-Infinity"), "Infinity"),
        (frame(b"1e999"), "too large"),
        (frame(b'{"a": 1, "a": 2}'), "repeats a key"),
        (frame(b"[" * 40 + b"]" * 40), "nested deeper"),
        (frame(b"[" * 50_000 + b"]" * 50_000), "nested deeper"),
        (frame(b"\xff\xfe"), "not JSON"),
        (frame(b'"\\ud800"'), "valid Unicode"),
        (frame(b'{"\\udfff": 1}'), "valid Unicode"),
        (frame(b"1 2"), "not JSON"),
        (frame(b"9" * 5000), "not JSON"),
        (frame(b"9" * 4000), "more than 64 bits"),
        (frame(b"-18446744073709551616"), "more than 64 bits"),
        (frame(b'{"$array": 0}'), "absent or already used"),
        (frame(b'{"$array": true}', [["int8", [1]]], b"x"), "absent or already used"),
        (frame(b'{"$array": 0, "b": 1}', [["int8", [1]]], b"x"), "absent or already used"),
        (frame(b'[{"$array": 0}, {"$array": 0}]', [["int8", [1]]], b"x"), "absent or already used"),
        (frame(b"1", [["int8", [1]]], b"x"), "does not refer to"),
        (frame(b'{"$array": 0}', [["bool", [2]]], b"\x01\x02"), "neither true nor false"),
        (frame(b'{"$array": 0}', [["float64", [2]]], struct.pack("=dd", 1, math.inf)), "inf at [1]"),
        (frame(b'{"$array": 0}', [["float32", [1, 1]]], struct.pack("=f", math.nan)), "nan at [0, 0]"),
    ],
)
def test_content_that_no_verifier_should_meet_is_refused(data: bytes, told: str) -> None:
    reader = read(data)
    assert reader.complete, reader.error
    with pytest.raises(frames.FrameError, match=r".") as caught:
        reader.value()
    assert told in str(caught.value)


def test_a_huge_announced_array_takes_no_memory_until_it_comes() -> None:
    reader = read(frame(b'{"$array": 0}', [["float64", [1 << 24]]]), limit=1 << 30)
    assert not reader.complete
    assert not reader.error


def test_a_short_frame_is_incomplete_at_every_length() -> None:
    whole = joined(frames.encode([np.arange(3.0), "x"]))
    for length in range(len(whole)):
        assert not read(whole[:length]).complete


def test_arrays_are_read_only_and_native() -> None:
    data = joined(frames.encode(np.arange(4, dtype=">f8")[::2]))
    value = read(data).value()
    assert value.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(value, [0.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1


def test_more_arrays_than_a_candidate_may_return_can_be_given() -> None:
    value = [np.array([float(number)]) for number in range(300)]
    data = joined(frames.encode(value, trusted=True))
    assert same(frames.decode_buffer(memoryview(data)), value)
    assert read(data).error
    with pytest.raises(frames.FrameError, match="at most 512"):
        frames.encode([np.zeros(1)] * 600, trusted=True)


def test_extended_precision_comes_as_float64() -> None:
    value = read(joined(frames.encode([np.longdouble(0.5), np.ones(2, np.float16)]))).value()
    assert value[0] == 0.5
    assert value[1].dtype == np.float64


@pytest.mark.parametrize("unit", [b"[],", b'{"":0},', b'{"a":[]},', b"1,", b"0.5,", b'"",', b"[1,"])
def test_many_small_values_are_refused_before_any_becomes_an_object(
    unit: bytes, cpu_clock: Callable[[], float]
) -> None:
    body = b"[" + unit * (frames.MAX_BODY // len(unit) - 2) + b"1]"
    reader = read(frame(body), limit=32 << 20)
    assert reader.complete, reader.error
    started = cpu_clock()
    with pytest.raises(frames.FrameError, match="more than 2097152 values: return large data as numpy"):
        reader.value()
    assert cpu_clock() - started < 2.0


@pytest.mark.parametrize(
    "unit",
    # tracing memory makes a reading ten times slower
    [
        b"1,",
        *(
            pytest.param(unit, marks=pytest.mark.slow)
            for unit in (b"[],", b'{"":0},', b"0.5,", b'"",', b"[1],")
        ),
    ],
)
def test_as_many_values_as_are_read_cost_bounded_memory(unit: bytes) -> None:
    structural = sum(unit.count(character) for character in (b"[", b"{", b",", b":"))
    body = b"[" + unit * (frames.MAX_VALUES // structural - 1) + b"1]"
    tracemalloc.start()
    try:
        assert frames.decode(body, [])[-1] == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 320 << 20


def test_a_long_text_of_commas_and_brackets_is_a_text() -> None:
    text = ',:[{"\\' * (1 << 20)
    data = joined(frames.encode({"program": text, "of": [1, "[,]"]}))
    assert read(data, limit=32 << 20).value() == {"program": text, "of": [1, "[,]"]}


def test_the_writer_says_that_a_value_is_too_crowded_to_be_read() -> None:
    with pytest.raises(frames.FrameError, match="return large data as numpy arrays"):
        frames.encode([[0]] * ((1 << 20) + 9))
    given_to_a_job = joined(frames.encode([0] * (3 << 20), trusted=True))
    assert len(frames.decode_buffer(memoryview(given_to_a_job))) == 3 << 20


@pytest.mark.parametrize("spoiled", [b"1e999", b"-1e999", b"18446744073709551616", b"-18446744073709551616"])
@pytest.mark.parametrize("place", [0, 20, 39])
def test_one_bad_number_in_a_long_list_is_found(spoiled: bytes, place: int) -> None:
    numbers = [b"1", b"0.5", b"true", b"-2.5"] * 10
    numbers[place] = spoiled
    with pytest.raises(frames.FrameError, match=r"too large for a float|more than 64 bits"):
        frames.decode(b"[" + b",".join(numbers) + b"]", [])


def test_large_and_small_numbers_pass_in_a_long_list() -> None:
    value = [1e308, -1e308, 5e-324, -0.0, 2**64 - 1, -(2**63), True, None] * 5
    assert read(joined(frames.encode(value))).value() == value
    deep: Any = [1] * 40
    for _ in range(frames.MAX_DEPTH - 1):
        deep = [deep]
    assert frames.decode(json.dumps(deep).encode(), []) == deep
    with pytest.raises(frames.FrameError, match="nested deeper"):
        frames.decode(json.dumps([deep]).encode(), [])
