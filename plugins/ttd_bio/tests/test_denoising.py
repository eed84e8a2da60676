"""`denoising` from program to verdict, in the real sandbox, on simulated counts."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

from ttd_bio.denoising import Denoising, DenoisingOptions
from ttd_bio.metrics import losses
from ttd_core.package_files import package_text
from ttd_core.plugin.hooks import Hooks
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.sandbox.local import LocalExecutor
from ttd_core.types import Action, State, Status, Verdict

HEAD = "import numpy as np\ndef magic_denoise(X, **kwargs):\n    "


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(workers=1) as executor:
        yield executor


@pytest.fixture
def problem(simulated: pathlib.Path) -> Denoising:
    return Denoising(DenoisingOptions(dataset=str(simulated), timeout_s=20.0, memory_mb=2048))


def judge(problem: Denoising, executor: LocalExecutor, source: str) -> Verdict:
    return evaluate_action(Hooks(problem, plugins=()), State(), Action(source), executor.run)


@pytest.mark.parametrize(
    ("options", "measured_on", "best"),
    [
        ({}, "pancreas, our split", 0.7256),
        ({"dataset": "pbmc3k"}, "pbmc3k, our split", 0.766),
        ({"split_seed": 1}, "pancreas in this split", None),
        ({"test_fraction": 0.2, "dataset": "pbmc3k"}, "pbmc3k in this split", None),
        ({"dataset": "some/counts.h5ad"}, "counts.h5ad, which is not in the catalogue", None),
    ],
)
def test_a_score_is_compared_with_those_on_its_own_data(options, measured_on, best) -> None:
    problem = Denoising(DenoisingOptions(**options))
    published = problem.best_comparable()
    assert (problem.measured_on(), published and published.score) == (measured_on, best)
    assert {each.on for each in problem.baselines if each.score == 0.73} == {
        "OpenProblems' Tabula Muris Senis Lung"
    }
    assert Denoising(DenoisingOptions(dataset="some/counts.h5ad")).target == 0.73


@pytest.mark.parametrize("name", ["magic", "best"])
def test_our_programs_are_valid_and_scored_by_the_definition(problem, executor, name) -> None:
    verdict = judge(problem, executor, package_text("ttd_bio", "programs", f"{name}.py"))
    assert verdict.ok, verdict.message
    space: dict = {}
    exec(compile(package_text("ttd_bio", "programs", f"{name}.py"), name, "exec"), space)
    split = problem.split
    measured = losses(space["magic_denoise"](split.train.toarray().astype(float)), split.train, split.test)
    assert verdict.reward.score == pytest.approx(problem.controls.score(measured), abs=1e-6)
    assert verdict.reward.value == pytest.approx(1 / measured.mse, rel=1e-6)
    assert "<svg" in problem.plot(verdict.state)


def test_no_denoising_is_refused_by_the_poisson_rule(problem, executor) -> None:
    verdict = judge(problem, executor, package_text("ttd_bio", "programs", "no_denoising.py"))
    assert verdict.status is Status.INVALID
    assert verdict.message == "normalised Poisson 0.0000 is outside [0.97, 1]"


@pytest.mark.parametrize("name", ["knn", "alra"])
def test_other_baselines_return_counts_of_the_right_kind(problem, name) -> None:
    space: dict = {}
    exec(compile(package_text("ttd_bio", "programs", f"{name}.py"), name, "exec"), space)
    train = problem.split.train
    result = space["magic_denoise"](train.toarray().astype(float))
    measured = losses(result, train, problem.split.test)
    if name == "knn":
        assert measured.poisson_textbook < problem.controls.no_denoising.poisson_textbook
        assert np.allclose(result.sum(axis=1), np.asarray(train.sum(axis=1)).ravel())


BAD = {
    "negative": ("return X - 1", Status.INVALID, "negative"),
    "nan": ("return X * np.nan", None, "finite"),
    "shape": ("return X[:, :-1]", Status.INVALID, "has shape"),
    "transposed": ("return X.T", Status.INVALID, "transposed"),
    "objects": ("return X.astype(object)", None, "object"),
    "masked": ("return np.ma.masked_array(X, X > 0)", None, "MaskedArray"),
    "too large": ("return X + 1e12", Status.INVALID, "above the sum"),
    "nothing": ("return None", Status.INVALID, "plain array"),
    "memory": ("return np.ones(2**29)", Status.MEMORY, ""),
    "time": ("\n    while True: pass", Status.TIMEOUT, ""),
    "file": ("return np.load('/data/test.npy')", None, ""),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_candidates_get_a_verdict_each(simulated, executor, name) -> None:
    body, status, message = BAD[name]
    wall = 2.0 if name == "time" else 20.0
    problem = Denoising(DenoisingOptions(dataset=str(simulated), timeout_s=wall, memory_mb=1024))
    verdict = judge(problem, executor, HEAD + body)
    assert not verdict.ok
    assert status is None or verdict.status is status, verdict.message
    assert message in verdict.message


def test_the_test_counts_are_nowhere_in_the_sandbox(problem, executor) -> None:
    """No array that the process holds by any name has test's molecules, and no seed is told."""
    spy = (
        "import gc, sys, numpy as np\nfrom scipy import sparse\ndef magic_denoise(X, **kwargs):\n"
        "    assert not kwargs\n    totals = []\n    seen = [X]\n    frame = sys._getframe(1)\n"
        "    while frame:\n        seen += list(frame.f_locals.values()) + list(frame.f_globals.values())\n"
        "        frame = frame.f_back\n"
        "    seen += [o for o in gc.get_objects() if isinstance(o, (np.ndarray, sparse.spmatrix))]\n"
        "    for o in seen:\n        if isinstance(o, np.ndarray) and o.dtype.kind in 'iuf':\n"
        "            totals.append(float(o.sum()))\n"
        "        if isinstance(o, (dict,)) and 'split_seed' in o: raise SystemExit('seed')\n"
        "    print(sorted(set(totals)))\n    return X * 1e-6\n"
    )
    verdict = judge(problem, executor, spy)
    assert verdict.ok, verdict.message
    assert f"{float(problem.split.train.sum())}" in verdict.output
    assert f"{float(problem.split.test.sum())}" not in verdict.output


def test_a_state_of_another_split_or_with_forged_losses_is_refused(problem, simulated, executor) -> None:
    state = judge(problem, executor, package_text("ttd_bio", "programs", "magic.py")).state
    other = Denoising(DenoisingOptions(dataset=str(simulated), split_seed=7))
    assert other.check(state) == ["the state's losses belong to another split"]
    for change in (
        {"mse": float("inf")},
        {"mse": -0.1},
        {"mse": "0"},
        {"mse": 0},
        {"poisson": 9.0},
        {"x": 1},
        {"split": np.zeros(0)},
    ):
        data = dict(state.data)
        data.update(change)
        assert problem.check(State(data=data))
    assert problem.check(State())


def test_results_are_read_from_files(problem, tmp_path) -> None:
    import anndata

    result = problem.split.train.toarray() * 1e-6
    np.save(tmp_path / "r.npy", result)
    anndata.AnnData(np.ones_like(result), layers={"denoised": result}).write_h5ad(tmp_path / "r.h5ad")
    hooks = Hooks(problem, plugins=())
    scores = {
        evaluate_state(hooks, problem.read_construction(tmp_path / f)).reward.score
        for f in ("r.npy", "r.h5ad")
    }
    assert len(scores) == 1


def test_the_prompt_tells_the_data_and_the_rules(problem) -> None:
    text = Hooks(problem, plugins=()).render_prompt(State(), [])[0]["content"]
    cells, genes = problem.split.shape
    for part in (
        f"{cells} cells by {genes} genes",
        "2048 MiB",
        "[0.97, 1]",
        "magic_denoise(X",
        "probability 0.1",
    ):
        assert part in text
    assert "42" not in text
