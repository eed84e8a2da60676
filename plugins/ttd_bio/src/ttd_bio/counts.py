"""Raw counts: what is accepted as such, and the identity of a matrix whatever file it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from scipy import sparse

from ttd_bio.sparse_parts import native, widened
from ttd_core.errors import UsageError

#: Smallest matrix worth denoising.
MIN_CELLS, MIN_GENES = 10, 10
#: Largest count of a gene in a cell: fits the int32 that counts are kept in, with room for a library size.
MAX_COUNT = 2**24
#: Most entries that one data set may have as a dense float64 matrix: what a candidate must hold at least.
MAX_ENTRIES = 2**28
#: Relative spread of the cells' sums below which a matrix of fractions has been normalised.
_SAME_SUM = 1e-3
#: Largest entry that a log-transformed matrix may have: exp(25) counts are never met.
_LOG_MAX = 25.0


@attrs.frozen(eq=False)
class Counts:
    """Counts of molecules, cells by genes, without empty cells and genes.

    :param matrix: CSR int32 [cells, genes], sorted, no stored zeros.
    :param genes: gene names, one a column.
    :param cells: cell names, one a row.
    """

    matrix: Any
    genes: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of shape and entries; names do not count."""
        return matrix_digest(self.matrix)


def matrix_digest(matrix: Any) -> str:
    """SHA-256 of a canonical CSR int32 matrix: shape, row pointers and columns as int64, entries as int32.

    :param matrix: CSR int32 [cells, genes], sorted, no stored zeros.
    """
    digest = hashlib.sha256(np.asarray(matrix.shape, "<i8").tobytes())
    for part, dtype in ((matrix.indptr, "<i8"), (matrix.indices, "<i8"), (matrix.data, "<i4")):
        digest.update(np.ascontiguousarray(part, dtype).tobytes())
    return digest.hexdigest()


def make_counts(
    matrix: Any, genes: Sequence[str] | None = None, cells: Sequence[str] | None = None, source: str = "data"
) -> Counts:
    """Counts out of any matrix of them; cells and genes without a molecule are dropped.

    :param matrix: dense or sparse [cells, genes], any numeric type.
    :param genes: names; numbered when left out.
    :param cells: names; numbered when left out.
    :param source: where it came from, for messages.
    :raises UsageError: when it holds no raw counts; says why.
    """
    raw = canonical_csr(matrix, source)
    names = _names(genes, raw.shape[1], "gene", source)
    labels = _names(cells, raw.shape[0], "cell", source)
    kept_cells = np.flatnonzero(np.diff(raw.indptr))
    kept_genes = np.flatnonzero(np.bincount(raw.indices, minlength=raw.shape[1]))
    kept = raw[kept_cells][:, kept_genes].tocsr()
    kept.sort_indices()
    if kept.shape[0] < MIN_CELLS or kept.shape[1] < MIN_GENES:
        raise UsageError(
            f"{source}: {kept.shape[0]} cells and {kept.shape[1]} genes have molecules; at least {MIN_CELLS} "
            f"and {MIN_GENES} are needed"
        )
    if kept.shape[0] * kept.shape[1] > MAX_ENTRIES:
        raise UsageError(
            f"{source}: {kept.shape[0]} cells by {kept.shape[1]} genes are more than {MAX_ENTRIES} entries, "
            "which a program cannot return; take fewer cells or genes"
        )
    return Counts(kept, tuple(names[kept_genes].tolist()), tuple(labels[kept_cells].tolist()))


def canonical_csr(matrix: Any, source: str = "data") -> Any:
    """The matrix as CSR int32, sorted, without stored zeros.

    :param matrix: dense or sparse [cells, genes].
    :param source: where it came from, for messages.
    :raises UsageError: when an entry is no count; says which and what it looks like instead.
    """
    try:
        raw = sparse.csr_matrix(native(matrix) if isinstance(matrix, np.ndarray) else matrix, copy=True)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{source}: not a matrix of numbers: {error}") from error
    if raw.dtype.kind not in "biuf":
        raise UsageError(f"{source}: entries of type {raw.dtype}; counts are whole numbers")
    # Sums of what a narrow type holds would overflow, and hide what is no count.
    raw.data = widened(raw.data)
    raw.eliminate_zeros()
    if not raw.nnz:
        raise UsageError(f"{source}: empty: {raw.shape[0]} cells, {raw.shape[1]} genes and no molecule")
    _check_entries(raw, source)
    raw.sum_duplicates()
    _check_size(raw, source)
    whole = sparse.csr_matrix((raw.data.astype(np.int32), raw.indices, raw.indptr), shape=raw.shape)
    whole.sort_indices()
    return whole


def _check_entries(raw: Any, source: str) -> None:
    values = raw.data
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UsageError(f"{source}: {_entry(raw, ~np.isfinite(values))} is not finite")
    if values.dtype.kind != "u" and values.min() < 0:
        raise UsageError(
            f"{source}: {_entry(raw, values < 0)} is negative; give raw counts, not scaled or centred values"
        )
    broken = values != np.floor(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if broken.any():
        raise UsageError(
            f"{source}: {_entry(raw, broken)} is no whole number{_normalisation_hint(raw)}; give raw counts"
        )
    _check_size(raw, source)


def _check_size(raw: Any, source: str) -> None:
    values = raw.data
    if values.max() > MAX_COUNT:
        raise UsageError(f"{source}: {_entry(raw, values > MAX_COUNT)} is above {MAX_COUNT}, no count")


def _normalisation_hint(raw: Any) -> str:
    """What a matrix of fractions looks like: normalised, log-transformed or both; goes into the message."""
    sums = np.asarray(raw.sum(axis=1), np.float64).ravel()
    sums = sums[sums > 0]
    if sums.std() < _SAME_SUM * sums.mean():
        return f" and every cell sums to {sums.mean():.6g}: the data are normalised"
    unlogged = np.expm1(raw.data.astype(np.float64)) if raw.data.max() < _LOG_MAX else None
    if unlogged is None:
        return ""
    before_log = sparse.csr_matrix((unlogged, raw.indices, raw.indptr), shape=raw.shape)
    sums = np.asarray(before_log.sum(axis=1)).ravel()
    sums = sums[sums > 0]
    if sums.std() < _SAME_SUM * sums.mean():
        return f": the data are normalised to {sums.mean():.6g} a cell and log-transformed"
    return f"; the largest entry is {raw.data.max():.4g}, so they may be log-transformed"


def _entry(raw: Any, wrong: npt.NDArray[np.bool_]) -> str:
    first = int(np.argmax(wrong))
    row = int(np.searchsorted(raw.indptr, first, side="right")) - 1
    return f"the entry of cell {row}, gene {int(raw.indices[first])} ({raw.data[first]:g})"


def _names(given: Sequence[str] | None, size: int, kind: str, source: str) -> npt.NDArray[Any]:
    if given is None:
        return np.array([f"{kind}{number}" for number in range(size)], object)
    if len(given) != size:
        raise UsageError(f"{source}: {len(given)} {kind} names for {size} {kind}s")
    return np.array([str(name) for name in given], object)
