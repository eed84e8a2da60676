"""``python -m ttd_math.search``, and the parts of the two strong programs that it runs: `ac1` and `erdos`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from ttd_core import certifying
from ttd_core.plugin.registry import load
from ttd_core.types import State, array_digest
from ttd_math import keep, search
from ttd_math.base import BEST, MathProblem


def strong(name: str) -> MathProblem:
    problem = load(name, {"program": "strong", "start": "program"})
    assert isinstance(problem, MathProblem)
    return problem


@pytest.fixture(scope="module", params=search.PROBLEMS)
def module(request):
    """A strong program as a module, on the problem's own start."""
    problem = strong(request.param)
    return problem, search.as_module(problem, State())


def test_a_local_optimum_is_found_from_random_heights_and_scored_as_the_verifier_does(module) -> None:
    problem, program = module
    rng = np.random.default_rng(2)
    heights, score = program.optimise(rng.uniform(0, 1, 60), 1e-2, 1e-5, 80)
    (name,) = problem.read_construction(BEST / f"{problem.name}.json").data
    found = State(data={name: np.repeat(heights, 1000 // 60 + 1) if problem.name == "ac1" else heights})
    assert problem.reward(found).score == pytest.approx(score, rel=1e-9)
    assert score < {"ac1": 1.56, "erdos": 0.3835}[problem.name]


def test_a_gradient_is_that_of_the_weighted_values(module) -> None:
    _, program = module
    rng = np.random.default_rng(3)
    f, change, weights = rng.uniform(0.1, 0.9, 31), rng.normal(size=31), rng.uniform(size=61)
    values = getattr(program, "peaks", None) or program.overlaps
    slope = (weights @ values(f + 1e-6 * change) - weights @ values(f - 1e-6 * change)) / 2e-6
    assert program.pushed(f, weights) @ change == pytest.approx(slope, rel=1e-6)


def test_a_search_that_cannot_reach_its_bar_ends_early(module) -> None:
    _, program = module
    start = np.random.default_rng(4).uniform(0, 1, 60)
    assert program.optimise(start, 1e-2, 1e-5, 80, 0.1)[1] == np.inf


def test_hops_give_heights_and_keep_within_the_length(module) -> None:
    _, program = module
    rng = np.random.default_rng(5)
    f, other = rng.uniform(0, 1, 70), rng.uniform(0, 1, 90)
    for _ in range(60):
        new = program.hop(f, other, rng, 75)
        assert np.isfinite(new).all()
        assert 60 <= len(new) <= 75
    assert program.resampled(f, 35) == pytest.approx(f.reshape(35, 2).mean(1))


def test_a_function_found_before_begins_with_fewer_heights_and_ends_with_no_fewer(module) -> None:
    _, program = module
    for n in (60, 450, 720, 1000):
        shares, lengths = zip(*program.again(n), strict=True)
        assert shares[-1] == 1
        assert lengths[0] <= 290
        assert 0.7 * n < lengths[-1] <= program.MOST


def test_hops_get_no_more_heights_than_end_in_the_time_left(module) -> None:
    _, program = module
    assert program.fitting(720, 360, 0.0, 1.0) == 720
    # Twice the heights take eight times as long.
    assert program.fitting(720, 360, 0.1, 0.81) == 720
    assert 710 < program.fitting(720, 360, 0.1, 0.79) < 720
    assert program.fitting(720, 360, 0.1, 0.09) < 360


#: One call of a strong program from 960 heights: the processor seconds that it takes, and both scores.
CALL = """
import sys, time
from ttd_core.plugin.registry import load
from ttd_core.types import State
from ttd_math import search
from ttd_math.base import BEST
problem = load(sys.argv[1], {"program": "strong", "start": "program"})
((name, best),) = problem.read_construction(BEST / f"{problem.name}.json").data.items()
start = State(data={name: search.as_module(problem, State()).resampled(best, 960)})
began = time.process_time()
found = search.call(problem, start, 1, 3.0)
print(time.process_time() - began, problem.reward(start).score, problem.reward(found).score)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", search.PROBLEMS)
def test_a_call_from_many_heights_keeps_to_a_short_budget(name: str) -> None:
    # The last stage would have as many heights again or more, of which one hop takes longer than this. One
    # thread for linear algebra, as candidates have: threads that wait for each other count as processor time.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    called = subprocess.run([sys.executable, "-c", CALL, name], env=alone, capture_output=True, text=True)
    assert called.returncode == 0, called.stderr
    seconds, before, after = map(float, called.stdout.splitlines()[-1].split())
    assert seconds < 3.3
    assert after <= before + 1e-12


@pytest.mark.slow
def test_calls_go_on_from_the_best_and_the_certificate_says_how_it_was_made(tmp_path, monkeypatch) -> None:
    # Repeating a prefix in the sandbox is tested with what `best/` keeps.
    monkeypatch.setattr(keep, "prefix_score", lambda *_: 0.5)
    out = tmp_path / "erdos.json"
    words = ["erdos", "--seed", "1", "--seconds", "0.6", "--seconds", "0.3", "--out", str(out), "--keep"]
    result = CliRunner().invoke(search.main, words)
    assert result.exit_code == 0, result.output
    proof = certifying.check(strong("erdos"), out)
    assert float(proof.bound) < 0.3825
    origin = json.loads(out.read_text())["origin"]
    assert (
        origin["command"]
        == "python -m ttd_math.search erdos --begin program --seed 1 --seconds 0.6 --seconds 0.3"
    )
    assert "earlier" not in origin
    assert certifying.check(strong("erdos"), BEST / "erdos.json").bound < proof.bound
    assert "call 2, " in result.output


@pytest.mark.slow
def test_a_search_goes_on_from_a_file_and_says_of_it_what_is_known(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(keep, "prefix_score", lambda *_: 0.5)
    heights, out = tmp_path / "mine.npy", tmp_path / "again.json"
    np.save(heights, np.array([0.0, 0.3, 1.0, 1.0, 0.6, 0.1] * 10))
    between = tmp_path / "a.json"
    for begin, end in ((heights, between), (between, out)):
        words = ["erdos", "--seed", "1", "--seconds", "0.3", "--begin", str(begin), "--out", str(end)]
        assert CliRunner().invoke(search.main, words).exit_code == 0
    origin = json.loads(out.read_text())["origin"]
    assert origin["start"] == search.FROM_FILE
    assert origin["command"].startswith("python -m ttd_math.search erdos --begin a.json --seed 1 ")
    made = origin["earlier"]["origin"]
    assert made["command"].startswith("python -m ttd_math.search erdos --begin mine.npy --seed 1 ")
    assert made["earlier"] == {"data": {"h": {"$array": array_digest(np.load(heights))}}}


def test_a_start_that_breaks_a_rule_is_refused(tmp_path) -> None:
    bad = tmp_path / "bad.npy"
    np.save(bad, np.array([0.0, 2.0, 0.0, 0.0]))
    words = ["erdos", "--seconds", "1", "--begin", str(bad), "--out", str(tmp_path / "o.json")]
    result = CliRunner().invoke(search.main, words)
    assert result.exit_code == 1
    assert "bad.npy: " in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_certificate_that_leaves_its_claim_out_is_begun_with_and_quoted_as_far_as_it_goes(tmp_path) -> None:
    stated = json.loads((BEST / "erdos.json").read_text())
    del stated["claim"], stated["origin"]
    (name,) = stated["arrays"].values()
    (tmp_path / name).write_bytes((BEST / name).read_bytes())
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(stated))
    state, before = search.start_of(strong("erdos"), str(path))
    assert set(state.data) == {"h"}
    assert before == {"data": stated["data"]}
