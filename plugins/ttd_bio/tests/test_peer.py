"""Our MAGIC-like program computes what the package ``magic-impute`` computes."""

from __future__ import annotations

import pathlib
import subprocess
import venv

import numpy as np
import pytest

from ttd_bio.testing import simulated_counts
from ttd_core.package_files import package_text

pytestmark = pytest.mark.peer

#: Its pandas was built against the older numpy.
PEER = ("magic-impute==3.0.0", "numpy<2", "setuptools<81")
CALL = """
import sys

import magic
import numpy as np

counts, solver, root_first = np.load(sys.argv[1]), sys.argv[3], sys.argv[4] == "True"
Y = np.sqrt(counts) if root_first else counts
size = Y.sum(axis=1, keepdims=True)
Y = Y / size
Y = Y if root_first else np.sqrt(Y)
operator = magic.MAGIC(knn=5, decay=1, t=3, n_pca=100, solver=solver, random_state=0, verbose=0)
result = np.maximum(operator.fit_transform(Y, genes="all_genes"), 0)
np.save(sys.argv[2], result**2 * size)
"""


@pytest.fixture(scope="module")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Python of an environment that holds the package."""
    folder = tmp_path_factory.mktemp("magic")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *PEER], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{PEER[0]} cannot be installed here: {done.stderr[-300:]}")
    return python


def _ours(counts: np.ndarray, solver: str, root_first: bool) -> np.ndarray:
    text = package_text("ttd_bio", "programs", "magic.py")
    text = text.replace("SQRT_FIRST = True", f"SQRT_FIRST = {root_first}")
    space: dict = {}
    exec(text.replace("APPROXIMATE = True", f"APPROXIMATE = {solver == 'approximate'}"), space)
    return space["magic_denoise"](counts)


@pytest.mark.parametrize("solver", ["approximate", "exact"])
@pytest.mark.parametrize("root_first", [True, False])
def test_it_agrees_with_the_package(peer_python, tmp_path, solver, root_first) -> None:
    counts = simulated_counts().matrix.toarray().astype(np.float64)
    np.save(tmp_path / "counts.npy", counts)
    (tmp_path / "call.py").write_text(CALL)
    arguments = [tmp_path / "call.py", tmp_path / "counts.npy", tmp_path / "out.npy", solver, str(root_first)]
    done = subprocess.run([peer_python, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs, ours = np.load(tmp_path / "out.npy"), _ours(counts, solver, root_first)
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.99
    assert np.abs(theirs - ours).max() < 1e-6 * theirs.max()


def test_other_neighbours_would_not_agree() -> None:
    counts = simulated_counts().matrix.toarray().astype(np.float64)
    space: dict = {}
    exec(package_text("ttd_bio", "programs", "magic.py").replace("KNN = 5\n", "KNN = 9\n"), space)
    ours = _ours(counts, "approximate", True)
    assert np.abs(space["magic_denoise"](counts) - ours).max() > 1e-4 * ours.max()
