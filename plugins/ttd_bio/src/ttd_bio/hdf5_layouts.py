"""The layouts of HDF5 files that counts come in: AnnData, old and new, and 10x Genomics' own.

AnnData's reader reads a file whole, and fails at any entry that it does not know. Here only the matrix and
the names are read; what else a file holds is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import h5py
import numpy as np
import numpy.typing as npt

from ttd_bio.hdf5_objects import column, listed, member, numbers, shown, strings, text_attribute
from ttd_bio.sparse_parts import checked_shape

#: What tells other kinds of HDF5 file, by a name at their top.
_OTHERS = {
    "row_attrs": "a loom file; read it with scanpy.read_loom and save it with write_h5ad",
    "assays": "a Seurat file; convert it to .h5ad",
    "mod": "a MuData file of several modalities; save the one with the counts with write_h5ad",
}
_PARTS = ("data", "indices", "indptr")
_TENX = (*_PARTS, "shape", "barcodes")


@attrs.frozen(eq=False)
class Stored:
    """A matrix as its file holds it.

    :param layout: ``dense``, ``csr`` or ``csc``.
    :param shape: rows and columns.
    :param arrays: ``dense``, or ``data``, ``indices`` and ``indptr``; not checked yet but for their sizes.
    :param rows: names, or ``None``.
    :param columns: names, or ``None``.
    :param types: of the columns, as 10x Genomics calls them; or ``None``.
    :param place: which of the file's matrices it is.
    :param others: the file's other matrices.
    :param notes: what could not be read beside it, one sentence each.
    """

    layout: str
    shape: tuple[int, int]
    arrays: Mapping[str, npt.NDArray[Any]]
    rows: list[str] | None
    columns: list[str] | None
    types: list[str] | None = None
    place: str = "X"
    others: Sequence[str] = ()
    notes: Sequence[str] = ()


class NoSuchMatrix(ValueError):
    """A file lacks the matrix asked for.

    :param holds: the matrices it has.
    """

    def __init__(self, message: str, holds: Sequence[str]) -> None:
        super().__init__(message)
        self.holds = tuple(holds)


def read_stored(file: h5py.File, wanted: Sequence[str]) -> Stored:
    """The first of the wanted matrices that an AnnData file has, or a 10x file's only one.

    :param wanted: each ``X``, ``raw.X`` or ``layers/NAME``.
    :raises ValueError: when there is none, or it is damaged; says why.
    """
    places = _places(file)
    if not places:
        return _tenx(file, wanted)
    place = next((place for place in wanted if place in places), None)
    if place is None:
        sought = " nor ".join(map(_named, wanted))
        neither = "neither " if len(wanted) > 1 else "no "
        raise NoSuchMatrix(f"it has {neither}{sought}; it has {', '.join(map(_named, places))}", list(places))
    found = places[place]
    raw = place == "raw.X"
    notes: list[str] = []
    rows = _names(member(file, "obs"), "names of cells", notes)
    variables = (_raw_member(file, "var") if raw else None) or member(file, "var")
    columns = _names(variables, "names of genes", notes)
    others = [other for other in places if other != place]
    try:
        layout, shape, arrays = _matrix(found, _named(place), (rows, columns))
    except ValueError as error:
        raise NoSuchMatrix(str(error), others) from error
    return Stored(layout, shape, arrays, rows, columns, None, place, others, notes)


def _places(file: h5py.File) -> dict[str, Any]:
    """The matrices of an AnnData file by where they are; empty when it is none."""
    layers = member(file, "layers")
    names = [f"layers/{name}" for name in listed(layers)] if isinstance(layers, h5py.Group) else []
    found = {"X": member(file, "X"), "raw.X": _raw_member(file, "X")}
    found |= {name: _layer(layers, name) for name in names}
    return {name: thing for name, thing in found.items() if thing is not None}


def _layer(layers: h5py.Group, place: str) -> Any:
    try:
        return member(layers, place.removeprefix("layers/"))
    except ValueError as error:
        # Refused if it is asked for; the others can be read.
        return error


def _raw_member(file: h5py.File, name: str) -> Any:
    # AnnData before 0.7.2 wrote 'raw.X' at the top.
    return member(file, "raw", name) or member(file, f"raw.{name}")


def _named(place: str) -> str:
    return f"layer '{shown(place.removeprefix('layers/'))}'" if place.startswith("layers/") else place


def _matrix(
    found: Any, what: str, names: tuple[list[str] | None, list[str] | None]
) -> tuple[str, tuple[int, int], dict[str, npt.NDArray[Any]]]:
    """Layout, shape and arrays of a stored matrix."""
    if isinstance(found, Exception):
        raise found
    kind = text_attribute(found, "encoding-type")
    if isinstance(found, h5py.Dataset):
        if kind not in ("", "array"):
            raise ValueError(f"{what} is stored as '{shown(kind)}', which is not read")
        dense = numbers(found, what, 2)
        return "dense", checked_shape(dense.shape), {"dense": dense}
    layout = text_attribute(found, "h5sparse_format") or kind.removesuffix("_matrix")
    if layout not in ("", "csr", "csc"):
        raise ValueError(
            f"{what} is stored as '{shown(kind or layout)}', which is not read; array, csr_matrix and "
            "csc_matrix are"
        )
    arrays = {
        name: numbers(member(found, name), f"{what}'s {name}") for name in ("data", "indices", "indptr")
    }
    attributes = found.attrs
    shape = attributes.get("shape", attributes.get("h5sparse_shape"))
    if shape is None:
        if names[0] is None or names[1] is None:
            raise ValueError(f"{what} does not say its shape")
        shape = [len(side) for side in names if side is not None]
    rows, columns = checked_shape(np.ravel(shape)[:3].tolist())
    if not layout:
        if rows == columns:
            raise ValueError(f"{what} does not say whether it is stored by rows or by columns")
        layout = "csr" if len(arrays["indptr"]) == rows + 1 else "csc"
    return layout, (rows, columns), arrays


def _names(frame: Any, what: str, notes: list[str]) -> list[str] | None:
    """The names of a table's rows; ``None`` where there are none, with a note where they cannot be read."""
    if frame is None:
        return None
    if isinstance(frame, h5py.Group):
        key = text_attribute(frame, "_index")
        candidates = [key] if key else ["_index", "index"]
        found = next((thing for name in candidates if (thing := member(frame, name)) is not None), None)
        names = strings(found, what)
    else:
        names = column(frame, what)
    if names is None:
        notes.append(f"the {what} are stored in a way that is not read, so they are numbered")
    return names


def _tenx(file: h5py.File, wanted: Sequence[str]) -> Stored:
    """The matrix of a 10x Genomics file, cells by features; it stands for ``X``.

    :raises ValueError: when the file is none; says what it may be.
    """
    tops = listed(file)
    groups = [name for name in tops if all(member(file, name, part) is not None for part in _TENX)]
    if len(groups) != 1:
        if len(groups) > 1:
            named = ", ".join(map(shown, groups[:5]))
            raise ValueError(f"a 10x file of several genomes ({named}); save the one to use with write_h5ad")
        if "obs" in tops and "var" in tops:
            raise ValueError("it holds no matrix: neither X, nor a layer, nor raw")
        known = next((text for name, text in _OTHERS.items() if name in tops), "")
        holds = ", ".join(f"'{shown(name)}'" for name in tops[:8]) or "nothing"
        raise ValueError(f"it is {known}" if known else f"an HDF5 file, but no AnnData: it holds {holds}")
    if "X" not in wanted:
        raise ValueError(f"a 10x file, which has one matrix and no {_named(wanted[0])}")
    group = member(file, groups[0])
    arrays = {name: numbers(member(group, name), name) for name in _PARTS}
    features, cells = checked_shape(numbers(member(group, "shape"), "shape").tolist())
    genes = member(group, "features", "name") or member(group, "gene_names") or member(group, "genes")
    types = member(group, "features", "feature_type")
    return Stored(
        "csr",
        (cells, features),
        arrays,
        strings(member(group, "barcodes"), "barcodes"),
        strings(genes, "names of genes"),
        strings(types, "types of features") if types is not None else None,
    )
