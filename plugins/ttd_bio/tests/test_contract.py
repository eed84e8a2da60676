"""`denoising` under the contract of every problem, on simulated counts."""

from __future__ import annotations

import pathlib
import tempfile
from typing import ClassVar

import pytest

from ttd_bio.denoising import Denoising
from ttd_bio.testing import simulated_counts, write_h5ad
from ttd_core.testing.contract import ProblemContract


@pytest.mark.slow
class TestDenoising(ProblemContract):
    """The contract."""

    problem = Denoising
    _folder: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def setup_class(cls) -> None:
        """Simulated counts as the data set."""
        cls._folder = tempfile.TemporaryDirectory()
        path = write_h5ad(simulated_counts(), pathlib.Path(cls._folder.name) / "simulated.h5ad")
        cls.options = {"dataset": str(path), "memory_mb": 2048}
        super().setup_class()

    @classmethod
    def teardown_class(cls) -> None:
        """Remove them."""
        super().teardown_class()
        cls._folder.cleanup()
