"""Simulated counts for tests: cells of a few kinds whose molecules are drawn around shared rates."""

from __future__ import annotations

import pathlib
import warnings

import numpy as np

from ttd_bio.counts import Counts, make_counts


def simulated_counts(cells: int = 120, genes: int = 150, kinds: int = 3, depth: float = 600.0) -> Counts:
    """Poisson counts [cells, genes] of ``kinds`` cell types with log-normal depths; always the same."""
    rng = np.random.default_rng(0)
    rates = rng.dirichlet(np.full(genes, 0.3), kinds)
    sizes = depth * rng.lognormal(0.0, 0.3, cells)
    return make_counts(rng.poisson(rates[rng.integers(kinds, size=cells)] * sizes[:, None]))


def write_h5ad(counts: Counts, path: pathlib.Path) -> pathlib.Path:
    """The counts as a file that ``-o dataset=`` takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import anndata  # noqa: PLC0415 - heavy, and only this function needs it

        anndata.AnnData(counts.matrix.astype(np.float32)).write_h5ad(path)
    return path
