"""Where the official inputs are, if they are here."""

from __future__ import annotations

import pathlib

import pytest


@pytest.fixture(scope="session")
def official() -> pathlib.Path:
    for parent in pathlib.Path(__file__).resolve().parents:
        folder = parent / "shared" / "data" / "ahc"
        if folder.is_dir():
            return folder
    pytest.skip("the official inputs (../shared/data/ahc) are not here")
