"""Sparse matrices out of arrays that a file holds, checked in full: scipy would use them unchecked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: Most rows or columns of a stored matrix.
MAX_SIDE = 2**24
#: Most stored entries of a matrix.
MAX_STORED = 2**28
_WIDE = {"b": np.int64, "i": np.int64, "u": np.uint64, "f": np.float64}


def widened(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers in a type of this machine that scipy knows and whose sums do not overflow; others as they are.

    :param array: of any shape, kind and byte order.
    """
    wide = _WIDE.get(array.dtype.kind)
    return array if wide is None else array.astype(wide, copy=False)


def native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers in this machine's byte order, half precision as float32: the types that scipy and BLAS know."""
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    """A declared shape, once it is known to be one of a matrix of a size that can be handled.

    :raises ValueError: when it is not.
    """
    sizes = [int(size) for size in shape]
    if len(sizes) != 2 or min(sizes) < 0:
        raise ValueError(f"the shape {sizes} is none of a matrix")
    if max(sizes) > MAX_SIDE:
        raise ValueError(
            f"the shape {sizes[0]} x {sizes[1]} is beyond the {MAX_SIDE} rows or columns that are read"
        )
    return sizes[0], sizes[1]


def compressed(layout: str, data: Any, indices: Any, indptr: Any, shape: Sequence[int]) -> Any:
    """A CSR or CSC matrix out of its three arrays, whatever they hold.

    :param layout: ``csr`` or ``csc``.
    :param data: the stored entries, in any order within a row (column), the same place more than once.
    :raises ValueError: when the arrays are no such matrix; says which is wrong.
    """
    from scipy import sparse  # noqa: PLC0415 - the process that reads HDF5 files does without

    rows, columns = checked_shape(shape)
    major, minor = (rows, columns) if layout == "csr" else (columns, rows)
    for name, array in (("data", data), ("indices", indices), ("indptr", indptr)):
        if array.ndim != 1:
            raise ValueError(f"'{name}' has {array.ndim} dimensions, not 1")
        if name != "data" and array.dtype.kind not in "iu":
            raise ValueError(f"'{name}' holds {array.dtype}, not whole numbers")
    if len(indptr) != major + 1:
        raise ValueError(f"'indptr' has {len(indptr)} entries, not {major + 1}, for {rows} x {columns}")
    if len(data) != len(indices):
        raise ValueError(f"'data' has {len(data)} entries and 'indices' {len(indices)}")
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(data):
        raise ValueError(f"'indptr' runs from {indptr[0]} to {indptr[-1]}, not from 0 to {len(data)}")
    # Differences of unsigned numbers never are negative.
    if (indptr[1:] < indptr[:-1]).any():
        raise ValueError("'indptr' decreases")
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < minor):
        raise ValueError(
            f"'indices' runs from {indices.min()} to {indices.max()}, outside of 0 to {minor - 1}"
        )
    kind = sparse.csr_matrix if layout == "csr" else sparse.csc_matrix
    parts = (native(data), indices.astype(np.int64), indptr.astype(np.int64))
    return kind(parts, shape=(rows, columns))
