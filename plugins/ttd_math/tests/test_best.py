"""What `best/` keeps: certified, better than the bars, and begun by a program that anyone can run again."""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core import certificate, certifying
from ttd_core.errors import UsageError
from ttd_core.plugin.registry import load
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import State
from ttd_math import keep, search
from ttd_math.base import MathProblem

#: What each construction must reach at least.
BARS = {"erdos": "0.3808585", "ac1": "1.50279", "ac2": "0.9617", "cp26": "2.635983", "cp32": "2.939572"}


@pytest.fixture(params=sorted(BARS))
def name(request) -> str:
    return request.param


def strong(name: str, **options) -> MathProblem:
    problem = load(name, {"program": "strong", "start": "program", **options})
    assert isinstance(problem, MathProblem)
    return problem


def test_its_certificate_holds_and_meets_the_bar(name) -> None:
    problem = strong(name)
    proof = certifying.check(problem, keep.BEST / f"{name}.json")
    bar = Fraction(BARS[name])
    assert proof.bound >= bar if problem.direction == "max" else proof.bound <= bar
    state = problem.read_construction(keep.BEST / f"{name}.json")
    assert state == State(data=proof.state.data)
    assert list(problem.check(state)) == []
    assert problem.reward(state).score == pytest.approx(float(proof.bound), rel=1e-9)


def origin_of(name: str) -> dict:
    return json.loads((keep.BEST / f"{name}.json").read_text())["origin"]


def test_it_says_where_it_came_from_back_to_a_start_without_any_construction(name) -> None:
    origin = origin_of(name)
    made = (f"ttd run {name} --config plugins/ttd_math/chain.toml --seed ", search.command(name))
    while True:
        for polished in [*origin.get("polished", []), *([origin] if "curve" in origin else [])]:
            assert re.match(rf"ttd math (polish|hops) {name} --from ", polished["command"])
            assert polished["curve"]
        if "curve" not in origin:
            assert origin["command"].startswith(made)
            assert len(origin["program"]) == hashlib.sha256().digest_size * 2
        if "earlier" not in origin:
            break
        assert origin["start"] == keep.FROM_BEST
        assert "best" in origin["command"]
        origin = origin["earlier"]["origin"]
    assert "no construction was given" in origin["start"]
    if "curve" not in origin:
        assert origin["options"]["start"] == "program"


@pytest.mark.slow
def test_a_short_prefix_of_the_run_can_be_repeated(name) -> None:
    origin = origin_of(name)
    if "curve" in origin:
        pytest.skip("made by ttd math polish, from random heights")
    prefix = origin["prefix"]
    seeds = {key: value for key, value in origin["options"].items() if key == "program_seed"}
    problem = strong(name, timeout_s=200.0, **seeds)
    with LocalExecutor(workers=1) as executor:
        score = keep.prefix_score(problem, prefix["hops"], executor)
    # Other linear algebra libraries round differently, and an optimiser magnifies that.
    assert score == pytest.approx(prefix["score"], rel=2e-3)


def test_what_was_polished_is_kept_with_all_that_went_before(tmp_path) -> None:
    problem, first = load("erdos", {}), State(data={"h": np.full(4, 0.5)})
    better = certifying.certify(problem, State(data={"h": np.array([0.25, 0.75, 0.75, 0.25])}))
    path, polished = tmp_path / "best" / "erdos.json", tmp_path / "polished.json"
    path.parent.mkdir()
    certificate.write(certifying.certify(problem, first), path)
    certificate.write(better, polished, origin={"command": "ttd run", "polished": [{"seconds": 1}]})
    arguments = [str(polished), "--folder", str(path.parent)]
    assert "C5 <= 0.40625" in CliRunner().invoke(keep.main, arguments).output
    assert json.loads(path.read_text())["origin"]["polished"] == [{"seconds": 1}]
    assert certifying.check(problem, path).bound == better.bound
    assert "does not beat" in CliRunner().invoke(keep.main, arguments).output
    certificate.write(better, polished)
    assert "not written by ttd math polish" in CliRunner().invoke(keep.main, arguments).output


def test_a_worse_construction_does_not_replace_a_better_one(tmp_path) -> None:
    problem = load("erdos", {})
    good = certifying.certify(problem, State(data={"h": np.array([0.25, 0.75, 0.75, 0.25])}))
    bad = certifying.certify(problem, State(data={"h": np.full(4, 0.5)}))
    path = tmp_path / "erdos.json"
    assert keep.is_better(problem, bad, path)
    certificate.write(bad, path)
    assert keep.is_better(problem, good, path)
    certificate.write(good, path)
    assert not keep.is_better(problem, bad, path)
    assert not keep.is_better(problem, good, path)


def test_keeping_from_a_folder_without_a_run_is_one_line(tmp_path) -> None:
    result = CliRunner().invoke(keep.main, [str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "not a run folder" in result.output
    assert len(result.output.splitlines()) == 1


def test_a_run_from_the_best_must_have_begun_with_what_is_kept(tmp_path) -> None:
    path = keep.BEST / "erdos.json"
    kept = json.loads(path.read_text())
    (tmp_path / "arrays").mkdir()
    with pytest.raises(UsageError, match="began with another construction"):
        keep.began_with(tmp_path, path)
    (tmp_path / "arrays" / f"{kept['data']['h']['$array']}.npy").touch()
    assert keep.began_with(tmp_path, path) == {name: kept[name] for name in ("claim", "data", "origin")}
