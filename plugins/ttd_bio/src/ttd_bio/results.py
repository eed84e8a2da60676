"""Denoised counts out of files, brought into the order of the data set's cells and genes by their names."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ttd_bio.hdf5 import read_hdf5
from ttd_bio.metrics import InvalidResult, check_shape
from ttd_bio.sparse_parts import compressed
from ttd_bio.split import Split
from ttd_core.text import showable_line

_SPARSE = {"data", "indices", "indptr", "shape", "format"}


def read_h5ad_result(path: pathlib.Path, split: Split) -> npt.NDArray[Any]:
    """Denoised counts from AnnData, dense [cells, genes]: the layer ``denoised`` if there is one, else ``X``.

    Rows and columns are brought into the split's order by their names. Names that are only numbers counting
    up, as AnnData gives where there are none, say nothing, and the order in the file stands.

    :raises UsageError: when the file cannot be read.
    :raises InvalidResult: when its shape or its names are not the split's.
    """
    stored = read_hdf5(path, ["layers/denoised", "X"])
    for note in stored.notes:
        print(f"note: {path}: {showable_line(note)}", file=sys.stderr)
    if stored.rows is not None and stored.rows != list(split.cells) and set(stored.rows) == set(split.genes):
        raise InvalidResult("its rows are named as the data set's genes: it is transposed; save a cell a row")
    check_shape(stored.matrix, split.train)
    rows = _order(stored.rows, split.cells, "cell")
    columns = _order(stored.columns, split.genes, "gene")
    dense = stored.matrix.toarray() if sparse.issparse(stored.matrix) else stored.matrix
    dense = dense if rows is None else dense[rows]
    ordered: npt.NDArray[Any] = np.asarray(dense if columns is None else dense[:, columns])
    return ordered


def array_of(arrays: Mapping[str, Any], split: Split) -> npt.NDArray[Any]:
    """Denoised counts out of the arrays of an ``.npz`` file, dense [cells, genes].

    :param arrays: the one called ``denoised``, or the only one, or those of ``scipy.sparse.save_npz``.
    :raises ValueError: when they are none of these, or no such matrix.
    """
    if set(arrays) == _SPARSE:
        layout = arrays["format"].tobytes().decode("ascii", "replace").replace("\0", "")
        if layout not in ("csr", "csc"):
            raise ValueError(
                f"a sparse matrix of the kind '{showable_line(layout)[:20]}'; csr and csc are read"
            )
        shape = np.asarray(arrays["shape"]).ravel()[:3].tolist()
        matrix = compressed(layout, arrays["data"], arrays["indices"], arrays["indptr"], shape)
        check_shape(matrix, split.train)
        return np.asarray(matrix.toarray())
    if "denoised" in arrays or len(arrays) == 1:
        found = arrays["denoised"] if "denoised" in arrays else next(iter(arrays.values()))
        return np.asarray(found)
    names = ", ".join(showable_line(name)[:30] for name in sorted(arrays)[:6]) or "nothing"
    raise ValueError(f"it holds {names}; call the denoised counts 'denoised'")


def _order(names: Sequence[str] | None, wanted: Sequence[str], kind: str) -> npt.NDArray[np.intp] | None:
    """Where each of the split's cells or genes stands in the file; ``None`` when in the same order.

    :raises InvalidResult: when the names are others, or some are the same, so that the order is unknown.
    """
    if names is None or list(names) == list(wanted) or list(names) == [str(i) for i in range(len(wanted))]:
        return None
    for targets in (list(wanted), _unique(wanted)):
        if list(names) == targets:
            return None
        places = {name: place for place, name in enumerate(names)}
        if len(places) == len(names) and set(places) == set(targets):
            return np.array([places[name] for name in targets])
    other = next((name for name in names if name not in set(wanted)), None)
    if other is not None:
        shown = showable_line(wanted[0])[:60]
        reason = f"its {kind} '{showable_line(other)[:60]}' is none of the data set's, such as '{shown}'"
    else:
        reason = f"several of its {kind}s have the same name, so their order is unknown"
    raise InvalidResult(f"{reason}; name them as the data set does, or save an .npy in its order")


def _unique(names: Sequence[str]) -> list[str]:
    """Names with a number after each that was there before, as ``AnnData.var_names_make_unique`` has them."""
    if len(set(names)) == len(names):
        return list(names)
    import anndata  # noqa: PLC0415 - heavy, and few files need it

    table = anndata.AnnData(shape=(0, len(names)))
    table.var_names = list(names)
    table.var_names_make_unique()
    return [str(name) for name in table.var_names]
