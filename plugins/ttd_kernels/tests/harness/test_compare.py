"""Tolerance, and what a wrong output looks like."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttd_kernels.harness import compare
from ttd_kernels.harness.kernel_io import OutputSpec

SPEC = OutputSpec((4, 3), torch.float32, rtol=2e-2, atol=2e-2)
EXPECTED = torch.arange(12, dtype=torch.float32).view(4, 3) - 5


@given(st.integers(0, 11), st.floats(-2.0, 2.0))
def test_one_element_decides(index: int, share: float) -> None:
    output = EXPECTED.clone()
    allowed = 2e-2 + 2e-2 * abs(float(EXPECTED.view(-1)[index]))
    output.view(-1)[index] += share * allowed
    message = compare.describe_mismatch([output], [EXPECTED], [SPEC])
    if abs(share) < 0.99:
        assert message == ""
    if abs(share) > 1.01:
        assert "1 of 12 elements" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nothing_that_is_no_number_passes(value: float) -> None:
    output = EXPECTED.clone()
    output[2, 1] = value
    assert "1 of 12 elements are NaN or infinite" in compare.describe_mismatch([output], [EXPECTED], [SPEC])


def test_an_output_that_was_never_written_is_told() -> None:
    output = torch.full((12 * 4,), compare.POISON, dtype=torch.uint8).view(torch.float32).view(4, 3)
    assert "never written" in compare.describe_mismatch([output], [EXPECTED], [SPEC])
    narrow = torch.full((24,), compare.POISON, dtype=torch.uint8).view(torch.bfloat16)
    assert narrow.isnan().all()


def test_the_wrong_one_of_several_is_named() -> None:
    good, bad = EXPECTED, EXPECTED + 1
    message = compare.describe_mismatch([good, bad], [good, good], [SPEC, SPEC])
    assert message.startswith("output 2 is wrong: 12 of 12 elements (1e+02 %) are off, one by 1")


def test_large_outputs_are_compared_piece_by_piece(monkeypatch) -> None:
    monkeypatch.setattr(compare, "_CHUNK", 5)
    output = EXPECTED.clone()
    output.view(-1)[[0, 4, 5, 11]] += 1
    assert compare.count_mismatches(output, EXPECTED, 2e-2, 2e-2) == 4
    assert compare.count_mismatches(EXPECTED, EXPECTED, 0.0, 0.0) == 0


def test_nothing_is_the_same_as_nothing() -> None:
    empty = torch.zeros(0)
    assert compare.all_close([empty], [empty], [OutputSpec((0,), torch.float32, 0.0, 0.0)])
