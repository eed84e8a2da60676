"""Whatever array or state comes, `denoising` measures it or says what is wrong, and never raises else."""

from __future__ import annotations

import math
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ttd_bio.counts import make_counts
from ttd_bio.denoising import Denoising, DenoisingOptions
from ttd_bio.metrics import InvalidResult, losses
from ttd_bio.split import split_molecules
from ttd_bio.testing import simulated_counts, write_h5ad
from ttd_core.errors import UsageError
from ttd_core.types import State

TINY, LEAST, LARGEST = 2.2250738585072014e-308, 5e-324, 1.7976931348623157e308
#: Floats at which arithmetic is likely to go wrong.
POINTS = [
    *(0.0, LEAST, 2 * LEAST, 1e-320, 1e-310, TINY, 2 * TINY, 1e-306, 6e-305, 5.5e-305, 1e-300, 1e-292),
    *(1e-289, 2.0**-961, 2.0**-960, 2.0**-959, 1e-200, 1e-160, 1e-155, 1e-100, 1e-45, 1e-40, 1e-38, 1e-16),
    *(1e-8, 1e-6, 0.1, 1 / 3, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 2.0, 10.0, 255.0, 65504.0, 1e4, 2.0**24),
    *(2.0**53, 2.0**63, 1e30, 3.4e38, 1e39, 1e150, 1e154, 1e200, 1e300, LARGEST / 2, LARGEST),
    *(math.inf, math.nan),
]
FLOATS = [*POINTS, *(-point for point in POINTS)]
DTYPES = ["<f8", "<f4", "<f2", ">f8", ">f4", "g", "<i8", "i1", "u1", "<u8", ">i2"]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Denoising:
    """The problem on a small data set."""
    path = write_h5ad(simulated_counts(12, 14, depth=200), tmp_path_factory.mktemp("small") / "a.h5ad")
    return Denoising(DenoisingOptions(dataset=str(path)))


def judged(problem: Denoising, value: Any) -> None:
    """Judge a value as a rollout's, and hold what was measured to what it must be."""
    with warnings.catch_warnings():
        # A warning would be an error here, and is none in a run; casts of what is out of range make them.
        warnings.simplefilter("ignore")
        try:
            state = State(data=problem.construct(value))
        except ValueError as error:
            refusal = str(error)
        else:
            refusal = ""
    if refusal:
        assert "\n" not in refusal
        assert len(refusal) < 500
        return
    assert np.isfinite(np.asarray(state.data["pair"])).all()
    measured = [state.data[name] for name in ("mse", "poisson", "poisson_textbook")]
    assert all(type(loss) is float and math.isfinite(loss) for loss in measured)
    assert measured[0] == pytest.approx(defined_mse(problem, value), rel=1e-6, abs=1e-9)
    violations = problem.check(state)
    if not violations:
        reward = problem.reward(state)
        assert math.isfinite(reward.value)
        assert math.isfinite(reward.score)
        assert reward.score <= 1 + 1e-9


def defined_mse(problem: Denoising, value: Any) -> float:
    """The MSE by its definition, in long double."""
    logs = []
    for matrix in (np.asarray(value, np.longdouble), problem.split.test.toarray().astype(np.longdouble)):
        sums = matrix.sum(axis=1, keepdims=True)
        logs.append(np.log1p(matrix / np.where(sums > 0, sums, 1) * 10_000))
    return float(((logs[0] - logs[1]) ** 2).mean())


@st.composite
def any_arrays(draw: st.DrawFn, shape: tuple[int, int]) -> Any:
    """Arrays of the right shape: one background and some entries, of the points above."""
    pool = st.sampled_from(POINTS) | st.floats(min_value=0, max_value=1e4)
    background, cells = draw(pool), draw(st.lists(pool, min_size=shape[0], max_size=shape[0]))
    array = np.full(shape, background)
    if draw(st.booleans()):
        array[:] = np.array(cells)[:, None]
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        array[place] = draw(st.sampled_from(FLOATS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(draw(st.sampled_from(DTYPES)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arrays_of_any_floats(problem: Denoising, data: st.DataObject) -> None:
    judged(problem, data.draw(any_arrays(problem.split.shape)))


@pytest.mark.parametrize("value", FLOATS)
def test_each_float_everywhere_in_a_row_and_once(problem: Denoising, value: float) -> None:
    shape = problem.split.shape
    judged(problem, np.full(shape, value))
    once, row, mixed = np.full(shape, 1e-6), np.full(shape, 1e-6), np.zeros(shape)
    once[3, 4], row[3], mixed[3, 4] = value, value, value
    for array in (once, row, mixed):
        judged(problem, array)


def test_a_row_that_sums_to_almost_nothing_is_no_perfect_loss(problem: Denoising) -> None:
    shape = problem.split.shape
    for tiny in (LEAST, 1e-310, 5e-307, 6e-305):
        array = np.zeros(shape)
        array[:, 0] = tiny
        ordinary = np.zeros(shape)
        ordinary[:, 0] = 1e-6
        measured = problem.construct(array)["mse"]
        assert measured == pytest.approx(problem.construct(ordinary)["mse"], rel=1e-9)
        assert measured > 1


@pytest.mark.parametrize(
    "value",
    [
        *(None, 0, 1.5, "x", b"x", [], [[1.0]], {}, {"a": 1}, True, np.float64(1), 10**400, [float("nan")]),
        *(
            np.zeros(()),
            np.zeros(0),
            np.zeros((0, 0)),
            np.zeros((12, 0)),
            np.zeros((1, 12, 14)),
            np.zeros(168),
        ),
        *(np.zeros((12, 14), bool), np.zeros((12, 14), complex), np.zeros((12, 14), "S3")),
        *(np.zeros((12, 14), "M8[s]"), np.zeros((12, 14), [("a", "f8")]), np.ma.zeros((12, 14))),
    ],
    ids=repr,
)
def test_what_is_no_array_of_the_shape(problem: Denoising, value: Any) -> None:
    with pytest.raises(ValueError, match=r"must return a plain array|has shape"):
        problem.construct(value)


def test_ten_million_entries_take_seconds(problem: Denoising, cpu_clock: Callable[[], float]) -> None:
    start = cpu_clock()
    with pytest.raises(ValueError, match="has shape"):
        problem.construct(np.zeros((1000, 10_000)))
    assert cpu_clock() - start < 1
    split = split_molecules(make_counts(np.random.default_rng(0).poisson(0.3, (1000, 10_000))))
    for value in (LEAST, 1e-6):
        start = cpu_clock()
        assert math.isfinite(losses(np.full(split.shape, value), split.train, split.test).mse)
        assert cpu_clock() - start < 15
    worst = np.full(split.shape, 1e-6)
    worst[-1, -1] = math.nan
    with pytest.raises(InvalidResult, match=r"is nan: not finite"):
        losses(worst, split.train, split.test)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(FLOATS) | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(["split", "mse", "poisson", "poisson_textbook", "result", "pair", "more"]),
        json_values,
    )
)
@example(changes={"mse": LARGEST})
@example(changes={"poisson": -LARGEST})
@example(changes={"poisson_textbook": LARGEST})
@example(changes={"mse": [0.0] * 10**5})
def test_states_of_any_data(problem: Denoising, changes: dict[str, Any]) -> None:
    good = dict(problem.construct(np.full(problem.split.shape, 1e-6)))
    for data in ({**good, **changes}, changes):
        state = State(data=data)
        violations = problem.check(state)
        assert all("\n" not in text and len(text) < 300 for text in violations)
        if not violations:
            reward = problem.reward(state)
            assert math.isfinite(reward.value)
            assert math.isfinite(reward.score)


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, -1.0, 11.0, 3e38])
def test_a_sample_of_genes_out_of_range(problem: Denoising, fill: float) -> None:
    good = dict(problem.construct(np.full(problem.split.shape, 1e-6)))
    good["pair"] = np.full((problem.split.shape[0], 2), fill, np.float32)
    assert problem.check(State(data=good)) == ["the state's sample of two genes is out of range"]


def test_a_data_set_between_whose_controls_nothing_lies(tmp_path: pathlib.Path) -> None:
    """Cells that count one gene each: normalised, train and test are the same."""
    path = write_h5ad(make_counts(np.diag(np.full(12, 1000))), tmp_path / "d.h5ad")
    with pytest.raises(UsageError, match="the same once cells are normalised"):
        Denoising(DenoisingOptions(dataset=str(path))).task()
