"""Results from files: in the data set's order by their names, or refused in one line."""

from __future__ import annotations

import gzip
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from ttd_bio.denoising import Denoising, DenoisingOptions
from ttd_bio.testing import simulated_counts
from ttd_core.cli.evaluate import evaluate_file
from ttd_core.errors import UsageError

COUNTS = simulated_counts()
CELLS = [f"AACCTTGGAACC-{i}" for i in range(COUNTS.matrix.shape[0])]
GENES = [f"tf{i}" for i in range(COUNTS.matrix.shape[1])]


def write(path: pathlib.Path, matrix: Any, cells: Sequence[str], genes: Sequence[str]) -> pathlib.Path:
    data = anndata.AnnData(matrix)
    data.obs_names, data.var_names = list(cells), list(genes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Denoising:
    """The problem on counts whose cells and genes have names."""
    path = write(tmp_path_factory.mktemp("named") / "a.h5ad", COUNTS.matrix, CELLS, GENES)
    return Denoising(DenoisingOptions(dataset=str(path)))


@pytest.fixture(scope="module")
def result(problem: Denoising) -> Any:
    """A result, another number in every place."""
    cells, genes = problem.split.shape
    return (1e-6 * (1 + np.arange(cells * genes).reshape(cells, genes) % 997)).astype(np.float32)


def reads_as(problem: Denoising, path: pathlib.Path, result: Any) -> bool:
    return dict(problem.read_construction(path).data)["result"] == problem.construct(result)["result"]


FORMS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda matrix: matrix,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "float64": lambda matrix: matrix.astype(np.float64),
}


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("turned", ["genes", "cells", "both", "neither"])
def test_names_bring_a_result_into_order(
    problem: Denoising, result: Any, tmp_path: pathlib.Path, form: str, turned: str
) -> None:
    split, rng = problem.split, np.random.default_rng(0)
    rows, columns = np.arange(split.shape[0]), np.arange(split.shape[1])
    rows = rng.permutation(rows) if turned in ("cells", "both") else rows
    columns = rng.permutation(columns) if turned in ("genes", "both") else columns
    path = write(
        tmp_path / "r.h5ad",
        FORMS[form](result[rows][:, columns]),
        [split.cells[row] for row in rows],
        [split.genes[column] for column in columns],
    )
    assert reads_as(problem, path, result)


def test_half_precision_foreign_byte_order_and_gzip(
    problem: Denoising, result: Any, tmp_path: pathlib.Path
) -> None:
    path = write(tmp_path / "r.h5ad", result, problem.split.cells, problem.split.genes)
    for dtype in ("<f2", ">f2", ">f8"):
        with h5py.File(path, "a") as file:
            del file["X"]
            file["X"] = result.astype(dtype)
        assert reads_as(problem, path, result.astype(dtype).astype(np.float64))
    for name in ("packed.h5ad", "packed.h5ad.gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
        assert reads_as(problem, tmp_path / name, result)
    assert evaluate_file("denoising", problem, tmp_path / "packed.h5ad.gz").ok


def test_numbered_names_say_nothing(problem: Denoising, result: Any, tmp_path: pathlib.Path) -> None:
    anndata.AnnData(result).write_h5ad(tmp_path / "r.h5ad")
    assert reads_as(problem, tmp_path / "r.h5ad", result)


def test_names_that_cannot_be_read_say_nothing_and_that_is_said(
    problem: Denoising, result: Any, tmp_path: pathlib.Path, capsys: Any
) -> None:
    path = write(tmp_path / "r.h5ad", result, problem.split.cells, problem.split.genes)
    with h5py.File(path, "a") as file:
        del file["var/_index"]
        file["var"].create_group("_index").attrs["encoding-type"] = "from-the-future"
    assert reads_as(problem, path, result)
    assert "the names of genes are stored in a way that is not read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["cells", "genes"])
def test_other_names_are_refused(problem: Denoising, result: Any, tmp_path: pathlib.Path, kind: str) -> None:
    names = {"cells": list(problem.split.cells), "genes": list(problem.split.genes)}
    names[kind][3] = "another"
    with pytest.raises(UsageError, match=rf"its {kind[:-1]} 'another' is none of the data set's, such as"):
        problem.read_construction(write(tmp_path / "r.h5ad", result, **names))
    names[kind][3] = names[kind][4]
    with pytest.raises(UsageError, match=rf"several of its {kind} have the same name"):
        problem.read_construction(write(tmp_path / "r.h5ad", result, **names))


def test_turned_results_are_refused(problem: Denoising, result: Any, tmp_path: pathlib.Path) -> None:
    split = problem.split
    path = write(tmp_path / "r.h5ad", result.T, split.genes, split.cells)
    with pytest.raises(UsageError, match="it is transposed; save a cell a row"):
        problem.read_construction(path)
    anndata.AnnData(result.T).write_h5ad(path)
    with pytest.raises(UsageError, match="it is transposed"):
        problem.read_construction(path)
    for name, save in (("r.npy", np.save), ("r.npz", np.savez)):
        save(tmp_path / name, result.T)
        with pytest.raises(UsageError, match="it is transposed"):
            problem.read_construction(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_a_data_set_in_which_names_occur_twice(tmp_path: pathlib.Path) -> None:
    genes = [f"tf{i // 2}" for i in range(len(GENES))]
    problem = Denoising(
        DenoisingOptions(dataset=str(write(tmp_path / "a.h5ad", COUNTS.matrix, CELLS, genes)))
    )
    split = problem.split
    result = np.full(split.shape, 1e-6) * (1 + np.arange(split.shape[1]))
    assert reads_as(problem, write(tmp_path / "r.h5ad", result, split.cells, split.genes), result)
    data = anndata.read_h5ad(tmp_path / "r.h5ad")
    data.var_names_make_unique()
    data[:, ::-1].copy().write_h5ad(tmp_path / "u.h5ad")
    assert reads_as(problem, tmp_path / "u.h5ad", result)
    with pytest.raises(UsageError, match="several of its genes have the same name"):
        problem.read_construction(write(tmp_path / "r.h5ad", result[:, ::-1], split.cells, split.genes[::-1]))


def test_arrays_in_npz(problem: Denoising, result: Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "r.npz"
    for arrays in ({"x": result}, {"denoised": result, "rates": result[:2]}):
        np.savez(path, **arrays)
        assert reads_as(problem, path, result)
    for matrix in (sparse.csr_matrix(result), sparse.csc_matrix(result)):
        sparse.save_npz(path, matrix)
        assert reads_as(problem, path, result)


def npz(path: pathlib.Path, result: Any, **changes: Any) -> pathlib.Path:
    matrix = sparse.csr_matrix(result)
    parts = {name: getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    np.savez(path, **{**parts, "format": b"csr", **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"indices": np.full(10, 10**6)}, "'data' has"),
        ({"format": b"coo"}, "'coo'; csr and csc are read"),
        ({"shape": np.array([10**12, 10**12])}, "beyond"),
        ({"shape": np.array([10**6, 10**6])}, "'indptr' has"),
        ({"shape": np.array([3])}, "none of a matrix"),
        ({"format": np.zeros(0)}, "csr and csc are read"),
        ({"extra": np.zeros(3)}, "call the denoised counts 'denoised'"),
    ],
)
def test_damaged_npz(
    problem: Denoising, result: Any, tmp_path: pathlib.Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        problem.read_construction(npz(tmp_path / "r.npz", result, **changes))
    assert "\n" not in str(caught.value)


def test_indices_out_of_range_in_npz(problem: Denoising, result: Any, tmp_path: pathlib.Path) -> None:
    indices = sparse.csr_matrix(result).indices.copy()
    indices[0] = 10**6
    with pytest.raises(UsageError, match="'indices' runs"):
        problem.read_construction(npz(tmp_path / "r.npz", result, indices=indices))


def test_a_large_sparse_result_is_refused_before_it_is_made_dense(
    problem: Denoising, tmp_path: pathlib.Path
) -> None:
    huge = sparse.csr_matrix((10**6, 10**6), dtype=np.float32)
    sparse.save_npz(tmp_path / "r.npz", huge)
    with pytest.raises(UsageError, match=r"has shape \(1000000, 1000000\)"):
        problem.read_construction(tmp_path / "r.npz")


@pytest.mark.parametrize("name", ["r.h5ad", "r.npz", "r.npy", "r.json"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00nonsense", b"\x89HDF\r\n\x1a\n" + b"\0" * 90, b"{}", b"PK\x03\x04"]
)
def test_files_that_hold_no_result(
    problem: Denoising, tmp_path: pathlib.Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=name) as caught:
        problem.read_construction(tmp_path / name)
    assert "\n" not in str(caught.value)
