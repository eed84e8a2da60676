"""Certificates: safe rounding, and a problem without exact scores says so."""

from __future__ import annotations

import pathlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_core import certificate, certifying
from ttd_core.certificate import Certificate, CertificateError, decimal_text
from ttd_core.errors import StorageError, UsageError
from ttd_core.problem import Problem
from ttd_core.types import Reward, State


class Total(Problem):
    name = "total"
    title = "A total"
    metric = "total"
    direction = "max"

    def task(self) -> str:
        return "Sum."

    def construct(self, value: Any) -> dict[str, Any]:
        return {"x": np.array(value)}

    def check(self, state: State) -> list[str]:
        return ["x is missing"] if "x" not in state.data else []

    def reward(self, state: State) -> Reward:
        return Reward(1.0, 1.0)


class ExactTotal(Total):
    def certificate(self, state: State) -> Certificate:
        total = sum((Fraction(x) for x in state.data["x"].tolist()), Fraction(0))
        return Certificate("total", total, False, "total >= {decimal}", State(data=state.data))


@given(st.fractions(), st.integers(1, 30))
def test_decimals_are_rounded_to_the_safe_side(value, places) -> None:
    up, down = (Fraction(decimal_text(value, places, up=side)) for side in (True, False))
    assert down <= value <= up
    assert up - down == (0 if (value * 10**places).denominator == 1 else Fraction(1, 10**places))


@pytest.mark.parametrize(
    ("value", "up", "text"),
    [
        (Fraction(1, 3), False, "0.333"),
        (Fraction(1, 3), True, "0.334"),
        (Fraction(-1, 3), False, "-0.334"),
        (Fraction(-1, 3), True, "-0.333"),
        (Fraction(1, 2), True, "0.500"),
        (Fraction(12345), True, "12345.000"),
        (Fraction(-1, 10**9), True, "0.000"),
    ],
)
def test_decimal_text(value, up, text) -> None:
    assert decimal_text(value, 3, up=up) == text


def test_a_problem_without_exact_scores_says_so() -> None:
    with pytest.raises(UsageError, match="total has no exact certificates"):
        certifying.certify(Total(), State(data={"x": 1}))


def test_an_invalid_state_is_refused_before_it_is_scored() -> None:
    with pytest.raises(CertificateError, match="not a valid construction of total: x is missing"):
        certifying.certify(ExactTotal(), State())


def test_where_a_certificate_cannot_be_written_is_said_before_the_work(tmp_path) -> None:
    certificate.make_folder(tmp_path / "new" / "folder" / "a.json")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "new", tmp_path / "file" / "a.json", pathlib.Path("/proc/nowhere/a.json")):
        with pytest.raises(StorageError, match=r"cannot be written: .*[a-z]$"):
            certificate.make_folder(path)


def test_round_trip_and_refusals(tmp_path) -> None:
    problem = ExactTotal()
    proof = certifying.certify(problem, State(data={"x": np.array([0.1, 0.2])}))
    files = certificate.write(proof, tmp_path / "a.json")
    assert [path.name for path in files] == ["a.json", "a.x.npy"]
    assert certifying.check(problem, tmp_path / "a.json").bound == proof.bound
    with pytest.raises(StorageError, match=r"b\.json: cannot be written"):
        certificate.write(proof, tmp_path / "nowhere" / "b.json")
    nested = Certificate("total", Fraction(1), True, "", State(data={"list": [np.zeros(2)]}))
    with pytest.raises(UsageError, match="only arrays at the top level"):
        certificate.write(nested, tmp_path / "c.json")


@pytest.mark.parametrize("content", ["[]", "{}", "1", '{"format": "ttd certificate 1"}', "nonsense"])
def test_other_files_are_no_certificates(content, tmp_path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"x\.json"):
        certifying.check(ExactTotal(), path)
