"""The pages of records and results state what the certificates and programs of this repository state."""

from __future__ import annotations

import fractions
import json
import pathlib

import pytest

from ttd_core import certifying
from ttd_core.plugin.registry import load

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/records.md").read_text()
BEST = ROOT / "plugins/ttd_math/src/ttd_math/best"


@pytest.mark.parametrize("name", ["erdos", "ac1", "ac2", "cp26", "cp32"])
def test_a_certified_figure_is_that_of_its_certificate(name: str) -> None:
    claim = json.loads((BEST / f"{name}.json").read_text())["claim"]
    figure = claim.split()[-1]
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    assert figure in row.split("|")[2]
    assert claim in PAGE or name.startswith("cp")
    assert f"images/records/{name}.svg" in PAGE


@pytest.mark.parametrize("name", ["ahc039", "ahc058"])
def test_a_contest_s_sum_is_the_same_in_both_places(name: str) -> None:
    readme = (ROOT / "plugins/ttd_ahc/README.md").read_text()
    (ours,) = (line for line in readme.splitlines() if "`programs/NAME.cpp`, seeds 0-149" in line)
    figure = ours.split("|")[2 if name == "ahc039" else 3].strip()
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}`, seeds 0-149"))
    assert figure in row.split("|")[2]


def test_every_picture_is_shown() -> None:
    for picture in (ROOT / "docs/images/records").iterdir():
        assert f"images/records/{picture.name}" in PAGE


def test_the_discovery_of_the_results_page_is_certified() -> None:
    path = ROOT / "experiments/found/erdos-one-gpu.json"
    proof = certifying.check(load("erdos", {}), path)
    assert proof.bound < fractions.Fraction("0.380876")
    assert proof.statement()["claim"] in (ROOT / "docs/results.md").read_text()
    assert "docs/examples/erdos-one-gpu.toml" in (ROOT / "docs/results.md").read_text()


@pytest.mark.parametrize(("problem", "heights", "found"), [("ac2", 800_000, "ac2-combs")])
def test_what_was_found_beyond_the_usual_length_is_certified(problem: str, heights: int, found: str) -> None:
    path = ROOT / f"experiments/found/{found}.json"
    claim = certifying.check(load(problem, {"max_values": heights}), path).statement()["claim"]
    assert claim in PAGE
    (row,) = (
        line for line in PAGE.splitlines() if f"experiments/found/{found}.json" in line and line[0] == "|"
    )
    assert claim.split()[-1] in row
    assert f"{heights:,} heights" in row
