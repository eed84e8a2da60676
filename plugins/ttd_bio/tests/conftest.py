"""A small simulated data set as a file, one for the whole session."""

from __future__ import annotations

import pathlib

import pytest

from ttd_bio.testing import simulated_counts, write_h5ad


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Simulated counts as ``.h5ad``."""
    return write_h5ad(simulated_counts(), tmp_path_factory.mktemp("counts") / "simulated.h5ad")
