"""Counts out of files: ``.h5ad``, ``.mtx`` and ``.csv``, the last two also with ``.gz``."""

from __future__ import annotations

import csv
import gzip
import pathlib
import warnings
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import scipy.io
from scipy import sparse

from ttd_bio.counts import Counts, make_counts
from ttd_core.errors import UsageError

#: Files that lie beside a 10x matrix and name its genes and cells.
_NAME_FILES = {"genes": ("features.tsv", "genes.tsv"), "cells": ("barcodes.tsv",)}
_FORMATS = ".h5ad, .mtx, .csv, the last two also with .gz"


def read_counts(path: pathlib.Path, *, genes_by_cells: bool = False) -> Counts:
    """Raw counts from a file.

    - ``.h5ad``: the layer ``counts`` if there is one, else ``X``; cells by genes.
    - ``.mtx``: genes by cells where 10x' ``barcodes.tsv`` lies beside it, else cells by genes.
    - ``.csv``: a header with gene names; a row a cell, its name first. Further columns of text are skipped.

    :param genes_by_cells: whether a table has a gene a row instead.
    :raises UsageError: when the file cannot be read, or holds no raw counts; says why.
    """
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    readers = {"h5ad": _read_h5ad, "mtx": _read_mtx, "csv": _read_csv}
    if suffix not in readers:
        raise UsageError(f"{path}: unknown format; counts are read from {_FORMATS}")
    try:
        matrix, genes, cells = readers[suffix](path)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, IndexError, TypeError) as error:
        raise UsageError(f"{path}: not a {suffix} file of counts: {error}") from error
    if genes_by_cells:
        matrix, genes, cells = matrix.T, cells, genes
    return make_counts(matrix, genes, cells, str(path))


def read_denoised(path: pathlib.Path) -> Any:
    """Denoised counts from ``.h5ad``: the layer ``denoised`` if there is one, else ``X``; cells by genes.

    :raises UsageError: when the file cannot be read.
    """
    try:
        data = _anndata(path)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: cannot be read as AnnData: {error}") from error
    matrix = data.layers.get("denoised", data.X)
    if matrix is None:
        raise UsageError(f"{path}: has neither a layer 'denoised' nor X")
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def _anndata(path: pathlib.Path) -> Any:
    with warnings.catch_warnings():
        # What an old file lacks for today's conventions is no news about its counts.
        warnings.simplefilter("ignore")
        import anndata  # noqa: PLC0415 - heavy, and listing problems does not need it

        return anndata.read_h5ad(path)


def _read_h5ad(path: pathlib.Path) -> tuple[Any, Sequence[str], Sequence[str]]:
    data = _anndata(path)
    matrix = data.layers.get("counts", data.X)
    if matrix is None:
        raise UsageError(f"{path}: has neither a layer 'counts' nor X")
    return matrix, list(data.var_names), list(data.obs_names)


def _opened(path: pathlib.Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _lines(path: pathlib.Path) -> list[str]:
    with _opened(path) as file:
        return [line.rstrip("\r\n") for line in file]


def _names_beside(path: pathlib.Path, kind: str) -> list[str] | None:
    for name in _NAME_FILES[kind]:
        for file in (path.with_name(name), path.with_name(name + ".gz")):
            if file.is_file():
                parts = [line.split("\t") for line in _lines(file)]
                return [part[1] if kind == "genes" and len(part) > 1 else part[0] for part in parts]
    return None


def _read_mtx(path: pathlib.Path) -> tuple[Any, Sequence[str] | None, Sequence[str] | None]:
    matrix = sparse.csr_matrix(scipy.io.mmread(path))
    genes, cells = _names_beside(path, "genes"), _names_beside(path, "cells")
    return (matrix if cells is None else matrix.T.tocsr()), genes, cells


def _read_csv(path: pathlib.Path) -> tuple[Any, Sequence[str], Sequence[str]]:
    with _opened(path) as file:
        reader = csv.reader(file)
        header = next(reader, None)
        first = next(reader, None)
        if header is None or first is None:
            raise UsageError(f"{path}: empty: no header or no row")
        # Tables such as GEO's name a barcode and a cluster before the counts begin.
        start = next((i for i, text in enumerate(first) if i and _is_number(text)), len(first))
        names, rows = [first[0]], [_row(first[start:])]
        for line in reader:
            if len(line) != len(first):
                raise UsageError(f"{path}: line {reader.line_num} has {len(line)} fields, not {len(first)}")
            names.append(line[0])
            rows.append(_row(line[start:]))
    return sparse.vstack(rows, format="csr"), header[len(header) - len(first) + start :], names


def _row(texts: Sequence[str]) -> Any:
    return sparse.csr_matrix(np.array(texts, np.float64)[None])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
