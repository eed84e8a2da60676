"""Counts out of files: AnnData, 10x Genomics' HDF5 and MatrixMarket, and tables of text.

What a file is, its first bytes say, where they can; its name says the rest. Each may be packed by gzip.
"""

from __future__ import annotations

import gzip
import pathlib
import shlex
import sys
import zlib
from collections.abc import Sequence

from ttd_bio.counts import Counts, canonical_csr, make_counts
from ttd_bio.hdf5 import NoMatrixError, read_hdf5
from ttd_bio.orientation import look_turned
from ttd_bio.tables import read_table
from ttd_bio.tenx_text import NamedMatrix, kept_features, read_mtx
from ttd_core.errors import UsageError
from ttd_core.text import showable_line

_HDF5 = b"\x89HDF\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_KINDS = {
    **dict.fromkeys(("h5ad", "h5", "hdf5", "loom"), "hdf5"),
    **dict.fromkeys(("csv", "tsv", "txt", "tab"), "table"),
    "mtx": "mtx",
}
_FORMATS = ".h5ad, 10x' .h5 and .mtx, and tables such as .csv and .tsv, each also packed by gzip"
#: Most matrices of a file that are looked at for whole counts, where the one sought has none.
_LOOKED_AT = 8


def read_counts(path: pathlib.Path, *, layer: str = "", genes_by_cells: bool | None = None) -> Counts:
    """Raw counts from a file, or from the folder of a 10x matrix.

    - AnnData: the layer ``counts`` if there is one, else ``X``; cells by genes.
    - 10x' HDF5: its matrix.
    - MatrixMarket: which way round, the names beside it say (:mod:`ttd_bio.tenx_text`).
    - A table of text: a header with the names of genes, and a cell a line (:mod:`ttd_bio.tables`).

    What should be known of how a file was read goes to standard error, a line each.

    :param layer: of an AnnData file: ``X``, ``raw.X`` or a layer's name, in place of the above.
    :param genes_by_cells: whether a row of the file is a gene. ``None``: as above, and a file whose names
        look turned is refused.
    :raises UsageError: when the file cannot be read, or holds no raw counts; says why in one line.
    """
    if path.is_dir():
        path = _matrix_in(path)
    try:
        kind = _kind(path)
        if layer and kind != "hdf5":
            raise UsageError(f"{path}: it has no layers, so dataset_layer='{layer}' means nothing")
        if kind == "hdf5":
            return _hdf5_counts(path, layer, genes_by_cells)
        found = read_mtx(path, genes_by_cells) if kind == "mtx" else _table(path, genes_by_cells)
    except UsageError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"{path}: not a file of counts: {showable_line(str(error))}") from error
    if genes_by_cells is None:
        _refuse_turned(path, found)
    return _counts(path, found)


def _matrix_in(folder: pathlib.Path) -> pathlib.Path:
    """The only matrix in a folder, as 10x' pipeline writes them."""
    names = sorted(folder.iterdir())
    if any(name.name in (".zgroup", ".zattrs", ".zmetadata", "zarr.json") for name in names):
        raise UsageError(f"{folder}: a zarr store, which is not read; save it with write_h5ad")
    found = [name for name in names if name.name.lower().removesuffix(".gz").endswith(".mtx")]
    if len(found) != 1:
        raise UsageError(f"{folder}: a folder with {len(found)} .mtx files; give the file with the counts")
    return found[0]


def _kind(path: pathlib.Path) -> str:
    """``hdf5``, ``mtx`` or ``table``.

    :raises UsageError: when it is none of them.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(_GZIP):
            file.seek(0)
            with gzip.open(file) as unpacked:
                start = unpacked.read(64)
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if start.startswith(_HDF5):
        return "hdf5"
    if start.lower().startswith((b"%%matrixmarket", b"\xef\xbb\xbf%%matrixmarket")):
        return "mtx"
    if start.startswith(b"PK\x03\x04"):
        raise UsageError(f"{path}: a zip archive; counts are read from {_FORMATS}")
    if suffix not in _KINDS:
        raise UsageError(f"{path}: unknown format; counts are read from {_FORMATS}")
    if not start:
        raise UsageError(f"{path}: the file is empty")
    return _KINDS[suffix]


def _table(path: pathlib.Path, genes_by_cells: bool | None) -> NamedMatrix:
    table = read_table(path)
    if genes_by_cells:
        return NamedMatrix(table.matrix.T, table.rows, table.columns)
    return NamedMatrix(table.matrix, table.columns, table.rows)


def _hdf5_counts(path: pathlib.Path, layer: str, genes_by_cells: bool | None) -> Counts:
    try:
        stored = read_hdf5(path, _places(layer))
    except NoMatrixError as error:
        raise UsageError(f"{error}{_hint(path, error.holds)}") from error
    matrix, cells, notes = stored.matrix, stored.rows, stored.notes
    genes: Sequence[str] | None = stored.columns
    if stored.types is not None:
        (matrix, genes), more = kept_features(matrix, genes, stored.types)
        notes += more
    found = NamedMatrix(matrix, genes, cells, notes)
    if genes_by_cells:
        found = NamedMatrix(matrix.T, cells, genes, notes)
    elif genes_by_cells is None:
        _refuse_turned(path, found)
    try:
        return _counts(path, found)
    except UsageError as error:
        raise UsageError(f"{error}{_hint(path, stored.others)}") from error


def _places(layer: str) -> list[str]:
    """The matrices of an AnnData file that a layer option means, the first that is there."""
    if not layer:
        return ["layers/counts", "X"]
    if layer == "X":
        return ["X"]
    own = f"layers/{layer.removeprefix('layers/')}"
    return ["raw.X", own] if layer in ("raw", "raw.X", "raw/X") else [own]


def _hint(path: pathlib.Path, places: Sequence[str]) -> str:
    """Which other matrices of the file hold whole counts, and how to have them read."""
    found = []
    for place in places[:_LOOKED_AT]:
        try:
            canonical_csr(read_hdf5(path, [place]).matrix)
        except UsageError:
            continue
        found.append(place.removeprefix("layers/"))
    if not found:
        return ""
    named = ", ".join(showable_line(name) for name in found)
    verb = "holds" if len(found) == 1 else "hold"
    return f"; {named} {verb} whole counts: -o dataset_layer={shlex.quote(found[0])}"


def _counts(path: pathlib.Path, found: NamedMatrix) -> Counts:
    for note in found.notes:
        print(f"note: {path}: {showable_line(note)}", file=sys.stderr)
    return make_counts(found.matrix, found.genes, found.cells, str(path))


def _refuse_turned(path: pathlib.Path, found: NamedMatrix) -> None:
    if look_turned(found.genes, found.cells):
        assert found.genes is not None
        assert found.cells is not None
        raise UsageError(
            f"{path}: its cells are named as genes are ({_sample(found.cells)}), or its genes as cells are "
            f"({_sample(found.genes)}): -o dataset_rows=genes if a row of the file is a gene, else "
            "-o dataset_rows=cells"
        )


def _sample(names: Sequence[str]) -> str:
    return ", ".join(showable_line(name)[:30] for name in names[:2]) + ", ..."
