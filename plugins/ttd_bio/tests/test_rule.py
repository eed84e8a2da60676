"""Our best program keeps the rule of the Poisson loss on counts of many kinds, none of which it was made for.

Whether a result keeps it depends on test molecules, which no program sees; so counts are simulated here, and
split as the problem splits them.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_bio.catalogue import CATALOGUE
from ttd_bio.counts import make_counts
from ttd_bio.denoising import POISSON_RANGE
from ttd_bio.fetching import DataUnavailableError, load_counts
from ttd_bio.metrics import control_losses, losses
from ttd_bio.split import Split, split_molecules
from ttd_core.package_files import package_text

#: Kinds of counts: cells, genes, cell types, molecules a cell, and what else is odd about them.
KINDS: dict[str, dict[str, Any]] = {
    "shallow": {"cells": 600, "genes": 3000, "types": 4, "depth": 200},
    "shallow, one dominant gene": {"cells": 400, "genes": 1000, "types": 2, "depth": 300, "dominant": 0.3},
    "deep": {"cells": 300, "genes": 3000, "types": 4, "depth": 50_000},
    "deep, overdispersed": {"cells": 200, "genes": 2000, "types": 4, "depth": 100_000, "dispersion": 0.5},
    "fifty cells": {"cells": 50, "genes": 3000, "types": 3, "depth": 2000},
    "fifty shallow cells": {"cells": 50, "genes": 1000, "types": 2, "depth": 200},
    "few genes": {"cells": 500, "genes": 20, "types": 3, "depth": 300},
    "few genes, deep": {"cells": 500, "genes": 20, "types": 3, "depth": 5000},
    "one cell type": {"cells": 500, "genes": 3000, "types": 1, "depth": 1500, "spread": 0.1},
    "three batches": {"cells": 600, "genes": 3000, "types": 3, "depth": 1500, "batches": 3},
    "bulk": {"cells": 40, "genes": 3000, "types": 2, "depth": 5_000_000, "dispersion": 0.1},
    "ultra sparse": {"cells": 1000, "genes": 3000, "types": 3, "depth": 15},
    "depths a hundredfold apart": {"cells": 500, "genes": 3000, "types": 4, "depth": 800, "spread": 1.2},
}


def simulated(
    cells: int,
    genes: int,
    types: int,
    depth: float,
    seed: int,
    *,
    spread: float = 0.3,
    batches: int = 1,
    dispersion: float = 0.0,
    dominant: float = 0.0,
) -> Split:
    """Train and test of Poisson counts around rates of cell types, whose genes are log-normally expressed.

    :param depth: median molecules of a cell.
    :param spread: of the logarithm of cells' depths.
    :param batches: each with a shift of every gene and a depth of its own, ninefold from first to last.
    :param dispersion: of gamma-distributed rates, as the negative binomial has it.
    :param dominant: share of all molecules that the first gene has.
    """
    rng = np.random.default_rng(seed)
    shifts = np.where(rng.random((types, genes)) < 0.15, rng.lognormal(0, 0.8, (types, genes)), 1.0)
    rates = rng.lognormal(0, 2.5, genes) * shifts
    rates = rates[rng.integers(types, size=cells)]
    depths = depth * rng.lognormal(0, spread, cells)
    if batches > 1:
        batch = rng.integers(batches, size=cells)
        rates = rates * rng.lognormal(0, 0.5, (batches, genes))[batch]
        depths *= np.geomspace(1 / 3, 3, batches)[batch]
    if dispersion:
        rates = rates * rng.gamma(1 / dispersion, dispersion, rates.shape)
    if dominant:
        rates[:, 0] = rates[:, 1:].sum(axis=1) * dominant / (1 - dominant)
    shares = rates / rates.sum(axis=1, keepdims=True)
    return split_molecules(make_counts(rng.poisson(shares * depths[:, None])), seed=seed)


def program(**changed: Any) -> dict[str, Any]:
    """The names of our best program, with some of its constants changed."""
    space: dict[str, Any] = {}
    exec(compile(package_text("ttd_bio", "programs", "best.py"), "best", "exec"), space)
    assert set(changed) <= set(space)
    space.update(changed)
    return space


def normalised(split: Split, **changed: Any) -> dict[str, float]:
    """Normalised losses of what the program makes of the train counts, and their mean."""
    result = program(**changed)["magic_denoise"](split.train.toarray().astype(np.float64))
    controls = control_losses(split.train, split.test)
    measured = losses(result, split.train, split.test)
    shares = {name: controls.normalised(name, getattr(measured, name)) for name in ("mse", "poisson")}
    return {**shares, "score": controls.score(measured)}


def kept(poisson: float) -> bool:
    """Whether a normalised Poisson loss is in the rule's range."""
    low, high = POISSON_RANGE
    return low <= poisson <= high


@pytest.mark.parametrize(
    ("shape", "odd"),
    [
        ((40, 150, 2, 200.0), {}),
        ((60, 15, 3, 3000.0), {}),
        ((30, 200, 1, 2e6), {"dispersion": 0.1}),
        ((80, 150, 2, 20.0), {}),
        ((40, 150, 2, 300.0), {"dominant": 0.4}),
    ],
    ids=["shallow", "few genes", "bulk", "sparse", "dominant"],
)
def test_the_rule_is_kept_on_few_cells(shape: tuple[int, int, int, float], odd: dict[str, float]) -> None:
    assert kept(normalised(simulated(*shape, seed=0, **odd), FITTED=0, CHOOSING=5)["poisson"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_is_kept_on_counts_of_many_kinds(
    kind: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of twenty genes the controls may lie so near each other that chance decides; that must be said."""
    poisson = normalised(simulated(**KINDS[kind], seed=seed))["poisson"]
    doubted = "may leave its range" in capsys.readouterr().out
    assert kept(poisson) or (KINDS[kind]["genes"] == 20 and doubted)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.integers(30, 200),
    st.integers(15, 300),
    st.integers(1, 4),
    st.floats(2.5, 6.0),
    st.floats(0.1, 1.0),
    st.sampled_from([{}, {"batches": 2}, {"dispersion": 0.3}, {"dominant": 0.3}]),
    st.integers(0, 1000),
)
def test_the_rule_is_kept_or_doubted_on_any_counts(cells, genes, types, magnitude, spread, odd, seed) -> None:
    """Where chance moves the loss of so few molecules by more than the range is wide, the program says so."""
    split = simulated(cells, genes, types, 10**magnitude, seed, spread=spread, **odd)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        poisson = normalised(split)["poisson"]
    assert kept(poisson) or "may leave its range" in output.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_rule_is_kept_on_real_counts_and_the_published_program_beaten(name: str) -> None:
    try:
        split = split_molecules(load_counts(name))
    except DataUnavailableError as error:
        pytest.skip(str(error))
    reached = normalised(split)
    assert kept(reached["poisson"])
    assert reached["score"] > (CATALOGUE[name].target or 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3), (3, 2), (20, 40)])
@pytest.mark.parametrize("mean", [0.05, 3.0, 1e6])
def test_any_shape_gives_counts_that_may_be_returned(shape: tuple[int, int], mean: float) -> None:
    counts = np.random.default_rng(0).poisson(mean, shape).astype(np.float64)
    counts[0, 0] += 1
    counts[-1] *= shape[0] < 3
    counts[0, 0] = max(counts[0, 0], 1)
    result = program(FITTED=0, CHOOSING=5)["magic_denoise"](counts)
    assert result.shape == shape
    assert np.isfinite(result).all()
    assert (result >= 0).all()
    assert (result <= counts.sum()).all()


#: Without errors of the estimate.
EXACT = program(ERRORS=0.0)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(-0.5, 0.5), st.floats(0, 0.2), st.floats(0.5, 2)), min_size=2, max_size=30)
)
def test_a_depth_that_keeps_the_rule_is_taken_where_there_is_one(cells) -> None:
    """By the estimate itself, and with its margin where any depth has it."""
    space = EXACT
    losses_of_cells = np.array(cells)
    depth, room = space["depth_within_rule"](losses_of_cells[None], len(cells))
    predicted, perfect, none = losses_of_cells.sum(axis=0)
    poisson = 1 - (space["DEPTHS"] * predicted + perfect) / (none + perfect)
    margin = space["MARGIN"]
    allowed = (poisson >= 0.97 + margin) & (poisson <= 1 - margin)
    taken = poisson[space["DEPTHS"] == depth]
    assert (room >= -1e-12) == allowed.any()
    if allowed.any():
        assert taken == pytest.approx(poisson[allowed].max())
    elif ((poisson >= 0.97) & (poisson <= 1)).any():
        assert 0.97 <= taken <= 1


def test_there_are_counts_on_which_even_the_true_rates_break_the_rule() -> None:
    """Two test molecules of every gene in every cell: each denoised count makes the loss larger."""
    split = split_molecules(make_counts(np.random.default_rng(0).poisson(20.0, (200, 50))))
    controls = control_losses(split.train, split.test)
    for depth in (1e-6, 0.5, 2.0, 20.0):
        result = np.full(split.shape, depth)
        assert controls.normalised("poisson", losses(result, split.train, split.test).poisson) < 0.93
    assert not kept(normalised(split, FITTED=0, CHOOSING=5)["poisson"])


def test_the_share_of_own_counts_follows_the_data() -> None:
    """Cells of one kind share all they have; deep cells that differ keep their own."""
    alike = simulated(60, 200, 1, 500, 0).train
    apart = simulated(60, 200, 1, 1e6, 0, dispersion=0.5).train
    own = [program(FITTED=0)["chosen"](counts.astype(np.float64).tocsr())[0] for counts in (alike, apart)]
    assert own[0] <= 0.3
    assert own[1] >= 0.9
