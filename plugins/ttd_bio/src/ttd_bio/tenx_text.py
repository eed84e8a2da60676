"""MatrixMarket files of counts, and the lists of names beside them, as 10x Genomics and GEO have them.

The dimensions decide which way round a matrix is: the names' numbers must be those of its rows and columns.
"""

from __future__ import annotations

import gzip
import io
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

import attrs
import scipy.io
from scipy import sparse

from ttd_bio.sparse_parts import MAX_STORED, checked_shape
from ttd_core.errors import UsageError
from ttd_core.input_files import MAX_FILE_BYTES, read_bytes, read_text_file
from ttd_core.text import decode_text

#: What a list of names is called, the usual word first.
_WORDS = {
    "genes": ("features", "genes", "feature", "gene"),
    "cells": ("barcodes", "cells", "barcode", "cell"),
}
_LIST_ENDS = (".tsv", ".txt", ".csv")
#: Most that gzip packs, bytes to one.
_GZIP_RATIO = 1032
#: Length of the shortest entry, as in ``1 1 1`` and a line end.
_SHORTEST_ENTRY = 6
_KEPT_TYPE = "Gene Expression"
#: Types of features that Cell Ranger writes; a third column of other words is something else.
_TYPES = {
    *(_KEPT_TYPE, "Antibody Capture", "CRISPR Guide Capture", "Multiplexing Capture", "Antigen Capture"),
    *("Custom", "Peaks", "VDJ", "VDJ-T", "VDJ-B"),
}


@attrs.frozen(eq=False)
class NamedMatrix:
    """A matrix of a file, cells by genes, with the names it has.

    :param matrix: CSR, CSC, or dense [cells, genes].
    :param genes: names, one a column; or ``None``.
    :param cells: names, one a row; or ``None``.
    :param notes: what a reader of the result should know, one sentence each.
    """

    matrix: Any
    genes: Sequence[str] | None
    cells: Sequence[str] | None
    notes: tuple[str, ...] = ()


def read_mtx(path: pathlib.Path, genes_by_cells: bool | None = None) -> NamedMatrix:
    """Counts from MatrixMarket text, with the names beside it.

    :param genes_by_cells: whether a row is a gene; ``None`` lets the names beside it decide. Without any, a
        row is taken to be a cell, and the notes say so.
    :raises UsageError: when it is no such file, or no names beside it have its dimensions.
    """
    matrix = _matrix(path)
    features, barcodes = (
        _names_beside(path, "genes", matrix.shape),
        _names_beside(path, "cells", matrix.shape),
    )
    notes: tuple[str, ...] = ()
    if genes_by_cells is None:
        genes_by_cells = _orientation(path, matrix.shape, features, barcodes)
        if genes_by_cells is None:
            rows, columns = matrix.shape
            notes = (
                f"no names lie beside it, so its {rows} rows are taken for cells and its {columns} columns "
                "for genes; -o dataset_rows=genes if a row is a gene",
            )
    turned = matrix.T.tocsr() if genes_by_cells else matrix
    genes = None if features is None else features.names(turned.shape[1])
    kept, words = kept_features(turned, genes, None if features is None else features.types(turned.shape[1]))
    cells = None if barcodes is None else barcodes.names(turned.shape[0])
    return NamedMatrix(kept[0], kept[1], cells, notes + words)


def kept_features(
    matrix: Any, genes: Sequence[str] | None, types: Sequence[str] | None
) -> tuple[tuple[Any, Sequence[str] | None], tuple[str, ...]]:
    """The columns that count molecules of genes, where a file says what each counts; a note on the others.

    :param matrix: sparse [cells, features].
    :param types: one a column, as 10x Genomics calls them; ``None`` keeps all.
    :raises ValueError: when no column is of genes, or the types are not one a column.
    """
    if types is None:
        return (matrix, genes), ()
    for kind, given in (("types", types), ("names", genes)):
        if given is not None and len(given) != matrix.shape[1]:
            raise ValueError(f"{len(given)} {kind} of features for {matrix.shape[1]} features")
    if set(types) <= {_KEPT_TYPE}:
        return (matrix, genes), ()
    keep = [column for column, name in enumerate(types) if name == _KEPT_TYPE]
    others = ", ".join(sorted(set(types) - {_KEPT_TYPE})[:4])
    if not keep:
        raise ValueError(f"its features are {others}; none is of the type {_KEPT_TYPE}")
    note = f"{len(types) - len(keep)} features that are not of the type {_KEPT_TYPE} are left out ({others})"
    names = None if genes is None else [genes[column] for column in keep]
    return (matrix.tocsc()[:, keep].tocsr(), names), (note,)


@attrs.frozen
class _NameList:
    """A list of names from a file.

    :param path: of the file.
    :param rows: its lines, split into fields.
    :param kind: ``genes`` or ``cells``.
    """

    path: pathlib.Path
    rows: Sequence[Sequence[str]]
    kind: str

    def fits(self, size: int) -> bool:
        """Whether it names so many, a header aside."""
        return len(self.rows) in (size, size + 1)

    def names(self, size: int) -> list[str]:
        """The names, without a header.

        :raises ValueError: when they are not so many.
        """
        if not self.fits(size):
            raise ValueError(f"{self.path.name} beside it has {len(self.rows)} names for {size} {self.kind}")
        # Gene lists begin with an identifier, then the symbol; a list of one column has only one of them.
        place = 1 if self.kind == "genes" else 0
        return [row[place] if len(row) > place else row[0] for row in self._body(size)]

    def types(self, size: int) -> list[str] | None:
        """What each feature counts, where the list has it in its third column."""
        types = [row[2] if len(row) > 2 else "" for row in self._body(size)]
        return types if _KEPT_TYPE in types or set(types) <= _TYPES else None

    def _body(self, size: int) -> Sequence[Sequence[str]]:
        return self.rows[len(self.rows) - size :]


def _orientation(
    path: pathlib.Path, shape: tuple[int, int], features: _NameList | None, barcodes: _NameList | None
) -> bool | None:
    """Whether a row is a gene, by the numbers of the names; ``None`` when there are no names.

    :raises UsageError: when neither way round has them.
    """
    if features is None and barcodes is None:
        return None
    for exact in (True, False):
        # Of a square matrix 10x' own way round is the likelier.
        for turned in (True, False):
            genes, cells = shape if turned else shape[::-1]
            sides = [(side, size) for side, size in ((features, genes), (barcodes, cells)) if side]
            if all(len(side.rows) == size if exact else side.fits(size) for side, size in sides):
                return turned
    found = " and ".join(f"{side.path.name} {len(side.rows)}" for side in (features, barcodes) if side)
    raise UsageError(
        f"{path}: it has {shape[0]} rows and {shape[1]} columns, and the names beside it are others in "
        f"number ({found}): one of the files is cut, or belongs to another matrix"
    )


def _names_beside(path: pathlib.Path, kind: str, shape: tuple[int, int]) -> _NameList | None:
    """The list of names that belongs to a matrix by its name, the closest name first."""
    files = sorted(path.parent.iterdir())
    by_name = {file.name.lower(): file for file in files if file.is_file()}
    for name in _list_names(path.name.lower(), kind):
        if name in by_name:
            return _read_list(by_name[name], kind)
    # A folder of one matrix and one list of a kind leaves no doubt either.
    if sum(_stem(name).endswith(".mtx") for name in by_name) != 1:
        return None
    pattern = re.compile(rf"(^|[^a-z])({'|'.join(_WORDS[kind])})([^a-z]|$)")
    alike = [file for name, file in by_name.items() if _is_list(name) and pattern.search(name)]
    lists = [_read_list(file, kind) for file in alike[:8]]
    fitting = [found for found in lists if any(found.fits(size) for size in shape)]
    return fitting[0] if len(fitting) == 1 else lists[0] if len(lists) == 1 else None


def _list_names(matrix: str, kind: str) -> Iterator[str]:
    """Lower-case names that a list may have beside a matrix of that name."""
    stem = _stem(matrix).removesuffix(".mtx")
    stems = [f"{word}".join(stem.rsplit("matrix", 1)) for word in _WORDS[kind] if "matrix" in stem]
    stems += [f"{stem}{mark}{word}" for word in _WORDS[kind] for mark in "._-"]
    stems += _WORDS[kind]
    return (f"{name}{end}{packed}" for name in stems for end in _LIST_ENDS for packed in ("", ".gz"))


def _stem(name: str) -> str:
    return name.lower().removesuffix(".gz")


def _is_list(name: str) -> bool:
    return _stem(name).endswith(_LIST_ENDS)


def _read_list(path: pathlib.Path, kind: str) -> _NameList:
    text = read_text_file(path, MAX_FILE_BYTES)
    mark = "," if _stem(path.name).endswith(".csv") else "\t"
    lines = [line.rstrip() for line in text.split("\n")]
    return _NameList(path, [[part.strip('"') for part in line.split(mark)] for line in lines if line], kind)


def _matrix(path: pathlib.Path) -> Any:
    size = path.stat().st_size
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        stream: Any = gzip.GzipFile(fileobj=plain) if packed else plain
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            text = decode_text(read_bytes(path, MAX_FILE_BYTES)).encode()
            stream, size, packed = io.BytesIO(text), len(text), False
        stream.seek(0)
        if stream.read(3) != b"\xef\xbb\xbf":
            stream.seek(0)
        start = stream.tell()
        _check_header(stream, size * (_GZIP_RATIO if packed else 1))
        stream.seek(start)
        return sparse.csr_matrix(scipy.io.mmread(stream))


def _check_header(stream: IO[bytes], size: int) -> None:
    """Refuse what is no matrix of counts before memory is taken for what the header says.

    :param size: most bytes that the file may have, unpacked.
    """
    banner = stream.readline(1000).decode("ascii", "replace").lower().split()
    if banner[:2] != ["%%matrixmarket", "matrix"] or len(banner) != 5:
        raise ValueError("it does not begin with the line '%%MatrixMarket matrix coordinate integer general'")
    layout, field, symmetry = banner[2:]
    if field not in ("integer", "unsigned-integer", "real", "double"):
        raise ValueError(f"its entries are of the kind '{field}'; counts are 'integer' or 'real'")
    if symmetry != "general":
        raise ValueError(f"it is {symmetry}, so its rows and columns are the same; counts are 'general'")
    line = b"%"
    while line and (line.startswith(b"%") or not line.strip()):
        line = stream.readline(2**16)
    numbers = line.split()
    if len(numbers) != (3 if layout == "coordinate" else 2) or not all(text.isdigit() for text in numbers):
        raise ValueError("the line with its dimensions is missing")
    sizes = [int(text) if len(text) < 16 else 10**16 for text in numbers]
    rows, columns = checked_shape(sizes[:2])
    entries = sizes[2] if layout == "coordinate" else rows * columns
    if entries > MAX_STORED:
        raise ValueError(f"it says to have {entries} entries, more than the {MAX_STORED} that are read")
    if entries * (_SHORTEST_ENTRY if layout == "coordinate" else 2) > size + _SHORTEST_ENTRY:
        raise ValueError(
            f"it is cut short: it says to have {entries} entries, and has not the length for them"
        )
