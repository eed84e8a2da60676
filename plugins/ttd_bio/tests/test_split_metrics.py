"""The split and the metrics against their definitions, on any counts."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable

import anndata
import numpy as np
import pytest
import scanpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.metrics import mean_squared_error

from ttd_bio.counts import Counts, make_counts
from ttd_bio.metrics import InvalidResult, control_losses, losses
from ttd_bio.split import split_molecules
from ttd_bio.testing import simulated_counts
from ttd_core.errors import UsageError

some_counts = arrays(np.int32, (14, 12), elements=st.integers(0, 40)).map(lambda a: make_counts(a + 3))


def defined_losses(prediction: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """OpenProblems' definitions, step by step with scanpy and scikit-learn, dense."""
    logs = []
    for matrix in (test, prediction):
        data = anndata.AnnData(matrix.astype(np.float64))
        with warnings.catch_warnings():
            # An empty cell is one of the cases.
            warnings.simplefilter("ignore")
            scanpy.pp.normalize_total(data, target_sum=10_000)
        scanpy.pp.log1p(data)
        logs.append(data.X)
    scaled = prediction * test.sum() / train.sum()
    return mean_squared_error(*logs), float((test - scaled * np.log(test + 1e-6)).mean())


@given(some_counts, st.floats(0.05, 0.9), st.integers(0, 2**40))
def test_train_and_test_add_up_to_the_counts(counts: Counts, fraction: float, seed: int) -> None:
    try:
        split = split_molecules(counts, fraction, seed)
    except UsageError:
        return
    places = [counts.genes.index(gene) for gene in split.genes]
    assert (split.train + split.test != counts.matrix[:, places]).nnz == 0
    assert split.train.data.min() > 0
    assert split.test.data.min() > 0
    assert (np.asarray(split.train.sum(axis=0)) > 0).all()
    assert split_molecules(counts, fraction, seed).digest == split.digest


def test_the_fraction_is_kept_and_each_molecule_goes_its_own_way() -> None:
    counts = make_counts(np.full((400, 100), 20))
    test = split_molecules(counts, 0.1).test.toarray()
    assert test.mean() == pytest.approx(2.0, abs=0.03)
    assert test.var() == pytest.approx(20 * 0.1 * 0.9, rel=0.04)


def test_the_split_depends_on_its_seed_and_on_the_counts() -> None:
    one, other = np.full((30, 30), 9), np.full((30, 30), 9)
    other[0, 0] = 10
    same = split_molecules(make_counts(one), 0.1, 1).train.toarray()
    assert (split_molecules(make_counts(one), 0.1, 2).train.toarray() != same).mean() > 0.2
    # A seed alone must not give away the random numbers: other counts, other numbers.
    assert (split_molecules(make_counts(other), 0.1, 1).train.toarray() != same).mean() > 0.2


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(some_counts, st.randoms(use_true_random=False), st.booleans())
def test_losses_are_those_of_openproblems(counts: Counts, random, as_sparse: bool) -> None:
    split = split_molecules(counts, 0.3, 1)
    rng = np.random.default_rng(random.randrange(2**32))
    train, test = split.train.toarray(), split.test.toarray()
    prediction = rng.gamma(0.5, 2.0, train.shape) * (rng.random(train.shape) < 0.8)
    prediction[0] = 0.0
    measured = losses(sparse.csr_matrix(prediction) if as_sparse else prediction, split.train, split.test)
    mse, poisson = defined_losses(prediction, train, test)
    assert measured.mse == pytest.approx(mse, rel=1e-9, abs=1e-12)
    assert measured.poisson == pytest.approx(poisson, rel=1e-9, abs=1e-12)
    p = prediction * test.sum() / train.sum()
    assert measured.poisson_textbook == pytest.approx((p - test * np.log(p + 1e-6)).mean(), rel=1e-9)


def test_the_controls_are_train_and_test() -> None:
    split = split_molecules(simulated_counts())
    controls = control_losses(split.train, split.test)
    assert controls.perfect_denoising.mse == pytest.approx(0.0, abs=1e-15)
    assert controls.normalised("mse", controls.no_denoising.mse) == 0.0
    assert controls.score(controls.perfect_denoising) == pytest.approx(1.0)
    dense = losses(split.train.toarray(), split.train, split.test)
    assert dense.mse == pytest.approx(controls.no_denoising.mse, rel=1e-12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.T, "it is transposed"),
        (lambda a: a[:, 1:], "has shape"),
        (lambda a: np.where(a == a.max(), -1e-9, a), "negative"),
        (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
        (lambda a: np.where(a == a.max(), np.inf, a), "not finite"),
        (lambda a: np.where(a == a.max(), 1e9, a), "above the sum of all train counts"),
    ],
)
def test_what_breaks_a_rule_is_named(spoil, message: str) -> None:
    split = split_molecules(simulated_counts())
    with pytest.raises(InvalidResult, match=message):
        losses(spoil(split.train.toarray().astype(float)), split.train, split.test)


@pytest.mark.slow
def test_scoring_is_quick_and_small(cpu_clock: Callable[[], float]) -> None:
    rng = np.random.default_rng(0)
    train = sparse.random(2000, 20_000, 0.1, "csr", np.float32, rng, lambda n: np.full(n, 3.0))
    test = sparse.random(2000, 20_000, 0.02, "csr", np.float32, rng, lambda n: np.ones(n))
    prediction = rng.random((2000, 20_000))
    tracemalloc.start()
    losses(prediction, train, test)
    assert tracemalloc.get_traced_memory()[1] < 2**30
    tracemalloc.stop()
    start = cpu_clock()
    losses(prediction, train, test)
    assert cpu_clock() - start < 1.0
