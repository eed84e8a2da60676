"""The proof that a packing is a strict local maximum, and packings of which it must not be proven."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core.certificate import decimal_text
from ttd_core.errors import UsageError
from ttd_math import local_maximum
from ttd_math.base import BEST
from ttd_math.commands import PACKINGS
from ttd_math.commands import math as command

#: Three circles in three corners: two of radius b that touch, and one of radius a that touches both.
B = 1 - math.sqrt(0.5)
A = (1 + B) - math.sqrt((1 + B) ** 2 - (1 - B) ** 2)
THREE = [(A, A, A), (1 - B, B, B), (B, 1 - B, B)]


def prove(circles):
    packed = np.array(circles, dtype=float)
    return local_maximum.prove(packed[:, :2], packed[:, 2])


@pytest.mark.parametrize("name", PACKINGS)
def test_the_packings_that_are_kept_are_proven(name) -> None:
    proof = local_maximum.prove(*local_maximum.packing_of(name, "best"))
    kept = json.loads((BEST / f"{name}.json").read_text())
    assert proof.contacts == 3 * proof.circles == 3 * int(name[2:])
    assert proof.within < 1e-13
    assert proof.least_multiplier > 0.01
    # What is kept is valid exactly, so it can't be above the maximum that it lies next to.
    assert 0 < float(proof.lowest) - float(kept["bound"]["decimal"]) < 1e-12
    assert decimal_text(proof.lowest, 50, up=False) == decimal_text(proof.highest, 50, up=False)


def test_the_sum_of_three_circles_is_that_of_their_closed_form() -> None:
    proof = prove(THREE)
    assert float(proof.lowest) == pytest.approx(A + 2 * B, abs=1e-15)
    assert proof.highest - proof.lowest < 1e-100


def test_nearby_packings_are_not_better() -> None:
    # Along random directions that violate no contact to first order, the sum of radii falls.
    centers, radii = (np.array(THREE)[:, :2], np.array(THREE)[:, 2])
    contacts, _ = local_maximum._contacts(centers, radii)
    z = [local_maximum.flint.arb(float(value)) for value in np.array(THREE).ravel()]
    rows = local_maximum._jacobian(contacts, z)
    jacobian = np.array([[float(rows[i, j].mid()) for j in range(9)] for i in range(9)])
    rng = np.random.default_rng(0)
    for room in rng.random((100, 9)):
        step = np.linalg.solve(jacobian, room)
        assert step[2::3].sum() < 0


def test_a_circle_in_a_pocket_that_pushes_others_apart_is_no_maximum() -> None:
    corner = B * (math.sqrt(2) - 1) / (math.sqrt(2) + 1)
    between = A * B / (math.sqrt(A) + math.sqrt(B)) ** 2
    for fourth in ((1 - corner, corner, corner), (A + 2 * math.sqrt(A * between), between, between)):
        with pytest.raises(UsageError, match="1 of 12 multipliers are not positive"):
            prove([*THREE, fourth])


@pytest.mark.parametrize(
    ("circles", "said"),
    [
        ([(0.5, 0.5, 0.5)], "4 contacts .* needs three for each of the 1 circles"),
        ([(x, y, 0.25) for x in (0.25, 0.75) for y in (0.25, 0.75)], "not independent"),
        ([*THREE[:2], (B, 1 - B, B - 1e-8)], "too far for a contact, too near for none"),
        ([(x, y, 0.9 * r) for x, y, r in THREE], "0 contacts"),
    ],
)
def test_what_is_no_isolated_maximum_is_refused_in_a_line(circles, said) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        prove(circles)
    assert "\n" not in str(refused.value)


def test_precision_is_as_it_was_after_a_proof_and_after_a_refusal() -> None:
    before = local_maximum.flint.ctx.prec
    prove(THREE)
    with pytest.raises(UsageError):
        prove(THREE[:2])
    assert local_maximum.flint.ctx.prec == before


def test_the_command_says_what_is_proven_or_why_not(tmp_path) -> None:
    def call(*words):
        return CliRunner().invoke(command, ["local-maximum", *words], standalone_mode=False)

    made = call("cp26", "--digits", "20")
    assert made.exception is None
    assert "78 contacts exactly" in made.output
    assert "2.63598308491760778318." in made.output
    centers, radii = local_maximum.packing_of("cp26", "best")
    for name, scale, said in (("small", 0.5, "0 contacts"), ("large", 2.0, "overlap|leaves the square")):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"centers": centers.tolist(), "radii": (scale * radii).tolist()}))
        with pytest.raises(UsageError, match=said):
            raise call("cp26", "--from", str(path)).exception
