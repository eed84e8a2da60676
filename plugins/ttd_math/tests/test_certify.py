"""Exact certificates: the bound is the exact one, the rounding is safe, and a changed file is caught."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_core import certificate, certifying
from ttd_core.certificate import CertificateError
from ttd_core.types import State
from ttd_math import certify, exact
from ttd_math.autocorrelation import FirstInequality, SecondInequality, SequenceOptions
from ttd_math.circle_packing import CirclePacking26, CirclePacking32
from ttd_math.erdos import Erdos
from ttd_math.testing import erdos_heights, height_sequences, packings


def normalised(h: np.ndarray) -> list[Fraction]:
    """The specification's heights: h (n/2)/S if S >= n/2, else 1 - (1 - h)(n/2)/(n - S)."""
    values = [Fraction(float(x)) for x in h]
    half, total = Fraction(len(values), 2), sum(values)
    if total >= half:
        return [x * half / total for x in values]
    return [1 - (1 - x) * half / (len(values) - total) for x in values]


def largest_overlap(h: list[Fraction]) -> Fraction:
    n = len(h)
    return max(
        sum((h[i + k] * (1 - h[i]) for i in range(n) if 0 <= i + k < n), Fraction(0))
        for k in range(-n + 1, n)
    ) * Fraction(2, n)


@settings(max_examples=60)
@given(erdos_heights(max_size=20), st.floats(-9e-10, 9e-10))
def test_erdos_is_certified_for_heights_that_sum_exactly(h, off) -> None:
    h = h.copy()
    middle = int(np.abs(h - 0.5).argmin())
    if 0 <= h[middle] + off <= 1:
        h[middle] += off
    heights = normalised(h)
    assert sum(heights) == Fraction(h.size, 2)
    assert all(0 <= x <= 1 for x in heights)
    proof = certify.overlap(h)
    assert proof.bound == largest_overlap(heights)
    assert abs(proof.bound - exact.overlap_bound(h)) < Fraction(1, 10**7)


@pytest.mark.parametrize("sign", [1, -1])
def test_both_ways_to_normalise_are_taken(sign) -> None:
    h = np.full(6, 0.5)
    h[2] += sign * 5e-10
    proof = certify.overlap(h)
    assert proof.bound == largest_overlap(normalised(h))
    assert proof.facts["certified heights"] == ("h (n/2) / S" if sign > 0 else "1 - (1 - h) (n/2) / (n - S)")


@settings(max_examples=40)
@given(height_sequences(max_size=40))
def test_the_decimal_is_on_the_safe_side(f) -> None:
    up, down = certify.first_inequality(f), certify.second_inequality(f)
    assert 0 <= Fraction(up.decimal) - up.bound < Fraction(1, 10**20)
    assert 0 <= down.bound - Fraction(down.decimal) < Fraction(1, 10**20)
    assert up.bound == exact.first_bound(f)
    assert down.bound == exact.second_bound(f)


@given(packings(9), st.floats(0, 1e-12))
def test_packings_are_shrunk_by_the_least_amount(packing, excess) -> None:
    centers, radii = packing
    radii = radii + excess
    shrink = certify.least_shrink(centers, radii)
    sizes = [Fraction(float(r)) for r in radii]
    assert 0 <= shrink < Fraction(2, 10**12)
    shrunk = [max(Fraction(0), r - shrink) for r in sizes]
    assert certify.strictly_valid(centers, shrunk)
    if shrink:
        less = shrink - Fraction(1, 2**certify.SHRINK_BITS)
        assert not certify.strictly_valid(centers, [max(Fraction(0), r - less) for r in sizes])
    assert certify.packing("cp", centers, radii).bound == sum(shrunk)


@pytest.mark.parametrize("seed", range(10))
def test_touching_circles_at_irrational_distances_are_shrunk_enough(seed) -> None:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0.4, 0.6, (2, 2))
    radii = np.full(2, float(np.hypot(*(centers[0] - centers[1]))) / 2 + 4e-13)
    shrink = certify.least_shrink(centers, radii)
    assert 3e-13 < shrink < 5e-13
    assert certify.strictly_valid(centers, [Fraction(float(r)) - shrink for r in radii])
    assert certify.packing("cp", centers, radii).facts["circles"] == 2


def test_a_packing_that_no_shrink_mends_is_not_certified() -> None:
    centers = np.array([[1e-13, 0.5], [0.5, 0.5]])
    with pytest.raises(CertificateError, match="no common shrink"):
        certify.packing("cp", centers - 2e-13, np.array([0.0, 0.1]))


def constructions() -> list:
    rng = np.random.default_rng(0)
    side = (np.arange(6) + 0.5) / 6
    points = np.array([(x, y) for x in side for y in side])
    return [
        (Erdos(), {"h": np.full(10, 0.5)}, "C5 <= 0.50000000000000000000"),
        (FirstInequality(), {"f": np.full(1000, 0.3)}, "C1 <= 2.00000000000000000000"),
        (SecondInequality(), {"f": rng.uniform(0, 1, 1000)}, "C2 >= 0.6"),
        (CirclePacking26(), {"centers": points[:26], "radii": np.full(26, 1 / 12)}, "26 disjoint circles"),
        (CirclePacking32(), {"centers": points[:32], "radii": np.full(32, 1 / 12)}, "32 disjoint circles"),
    ]


@pytest.mark.parametrize(
    ("problem", "data", "claim"), constructions(), ids=lambda value: getattr(value, "name", "")
)
def test_a_written_certificate_is_verified_from_scratch(problem, data, claim, tmp_path) -> None:
    path = tmp_path / "best.cert.json"
    proof = certifying.certify(problem, State(data=data))
    written = certificate.write(proof, path)
    assert proof.statement()["claim"].startswith(claim)
    assert certifying.check(problem, path).bound == proof.bound
    assert path.stat().st_size < 10_000
    assert len(written) == 1 + len(data)
    assert certificate.read(path)[1] == proof.state


@pytest.mark.parametrize(
    "change", ["claim", "bound", "facts", "array", "other array", "missing", "outside", "format"]
)
def test_any_change_of_a_certificate_is_found(change, tmp_path) -> None:
    problem = Erdos()
    path = tmp_path / "c.json"
    certificate.write(certifying.certify(problem, State(data={"h": np.array([0.2, 0.8, 0.9, 0.1])})), path)
    stated = json.loads(path.read_text())
    digest, name = next(iter(stated["arrays"].items()))
    message = change
    if change == "claim":
        stated["claim"] = "C5 <= 0.3"
    elif change == "bound":
        stated["bound"]["numerator"] = "1"
    elif change == "facts":
        stated["facts"]["values"] = 5
    elif change == "array":
        np.save(tmp_path / name, np.array([0.5, 0.5, 0.5, 0.5]))
        message = "not the array that was certified"
    elif change == "other array":
        np.save(tmp_path / name, np.array([0.5, 0.5, 0.5, 0.5]))
        new = certificate.array_digest(np.load(tmp_path / name))
        stated["arrays"] = {new: name}
        stated["data"] = {"h": {"$array": new}}
        message = "does not hold"
    elif change == "missing":
        (tmp_path / name).unlink()
        message = "No such file"
    elif change == "outside":
        stated["arrays"] = {digest: "../c.h.npy"}
        message = "not the name of an array file"
    else:
        stated["format"] = "something else"
        message = "not a certificate"
    path.write_text(json.dumps(stated))
    with pytest.raises((CertificateError, certificate.UsageError), match=message):
        certifying.check(problem, path)


def test_an_invalid_construction_is_not_certified() -> None:
    with pytest.raises(
        CertificateError, match=r"not a valid construction of erdos: h\[0\] = -1.0 is below 0"
    ):
        certifying.certify(Erdos(), State(data={"h": np.array([-1.0, 1.0, 1.0, 1.0])}))


def test_thirty_thousand_values_are_certified_quickly(cpu_clock) -> None:
    f = 10.0 ** np.random.default_rng(1).uniform(-9, 3, 30_000)
    for problem in (FirstInequality(SequenceOptions()), SecondInequality()):
        start = cpu_clock()
        proof = certifying.certify(problem, State(data={"f": f}))
        assert cpu_clock() - start < 10
        assert float(proof.bound) == pytest.approx(problem.reward(State(data={"f": f})).score, rel=1e-9)


def test_integers_are_exact() -> None:
    values = np.array([0.0, 5e-324, 1000.0, 0.1, 2.0**-1022, -3.5])
    whole, exponent = exact.integers(values)
    assert [Fraction(m) * Fraction(2) ** exponent for m in whole] == [Fraction(float(x)) for x in values]
