"""MatrixMarket files and the names beside them: the dimensions decide, or the file is refused in one line."""

from __future__ import annotations

import gzip
import io
import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from ttd_bio.fetching import load_counts
from ttd_bio.reading import read_counts
from ttd_bio.testing import simulated_counts
from ttd_core.errors import UsageError

COUNTS = simulated_counts(20, 15)
CELLS = tuple(f"AACCTTGGAACC-{i}" for i in range(20))
GENES = tuple(f"tf{i}" for i in range(COUNTS.matrix.shape[1]))


def text(matrix: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.mmwrite(file, matrix)
    return file.getvalue()


def put(path: pathlib.Path, data: str | bytes) -> pathlib.Path:
    """A file, packed where its name says so."""
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def names(kind: str, columns: int = 3) -> str:
    if kind == "cells":
        return "".join(f"{cell}\n" for cell in CELLS)
    rows = ((f"ENSG{i:011d}", gene, "Gene Expression")[:columns] for i, gene in enumerate(GENES))
    return "".join("\t".join(row) + "\n" for row in rows)


def same(counts: Any) -> bool:
    return (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, GENES, CELLS)


FORMS = [
    ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"),
    ("matrix.mtx", "genes.tsv", "barcodes.tsv"),
    ("GSM1_sampleA_matrix.mtx.gz", "GSM1_sampleA_features.tsv.gz", "GSM1_sampleA_barcodes.tsv.gz"),
    ("GSM1_sampleA_matrix.mtx.gz", "GSM1_sampleA_genes.tsv.gz", "GSM1_sampleA_barcodes.tsv.gz"),
    ("GSM1_matrix.mtx", "GSM1_features.tsv", "GSM1_barcodes.tsv.gz"),
    ("sampleA.matrix.mtx", "sampleA.features.tsv", "sampleA.barcodes.tsv"),
    ("GSM1_matrix_sampleA.mtx.gz", "GSM1_features_sampleA.tsv.gz", "GSM1_barcodes_sampleA.tsv.gz"),
    ("sampleA.mtx", "sampleA.genes.txt", "sampleA.barcodes.txt"),
    ("sampleA_counts.mtx.gz", "sampleA_genes.tsv.gz", "sampleA_barcodes.tsv.gz"),
    ("Matrix.mtx", "Features.tsv", "Barcodes.tsv"),
    ("counts.mtx", "all_genes.csv", "cell_names.csv"),
]


@pytest.mark.parametrize(("matrix", "features", "barcodes"), FORMS)
@pytest.mark.parametrize("genes_by_cells", [True, False])
def test_names_under_any_prefix_decide_which_way_round(
    tmp_path: pathlib.Path, matrix: str, features: str, barcodes: str, genes_by_cells: bool
) -> None:
    mark = "," if features.endswith("csv") else "\t"
    put(tmp_path / features, names("genes").replace("\t", mark))
    put(tmp_path / barcodes, names("cells"))
    put(tmp_path / matrix, text(COUNTS.matrix.T if genes_by_cells else COUNTS.matrix))
    assert same(read_counts(tmp_path / matrix))
    assert same(load_counts(str(tmp_path)))


def test_each_of_two_samples_in_a_folder_has_its_own_names(tmp_path: pathlib.Path) -> None:
    for sample in "AB":
        put(tmp_path / f"GSM_{sample}_matrix.mtx", text(COUNTS.matrix.T))
        put(tmp_path / f"GSM_{sample}_features.tsv", names("genes").replace("tf", f"{sample}tf"))
        put(tmp_path / f"GSM_{sample}_barcodes.tsv", names("cells"))
    assert read_counts(tmp_path / "GSM_B_matrix.mtx").genes[0] == "Btf0"
    with pytest.raises(UsageError, match=r"a folder with 2 \.mtx files"):
        read_counts(tmp_path)


@pytest.mark.parametrize("kind", ["cells", "genes"])
def test_names_of_one_side_are_enough(tmp_path: pathlib.Path, kind: str) -> None:
    put(tmp_path / ("barcodes.tsv" if kind == "cells" else "features.tsv"), names(kind))
    put(tmp_path / "matrix.mtx", text(COUNTS.matrix.T))
    assert read_counts(tmp_path / "matrix.mtx").digest == COUNTS.digest


def test_a_header_above_the_names_is_left_out(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "features.tsv", "id\tname\ttype\n" + names("genes"))
    put(tmp_path / "barcodes.tsv", "barcode\n" + names("cells"))
    put(tmp_path / "matrix.mtx", text(COUNTS.matrix.T))
    assert same(read_counts(tmp_path / "matrix.mtx"))


def test_a_square_matrix_is_genes_by_cells_as_10x_writes_it(tmp_path: pathlib.Path) -> None:
    square = np.random.default_rng(0).poisson(3.0, (15, 15))
    put(tmp_path / "matrix.mtx", text(square.T))
    put(tmp_path / "barcodes.tsv", "".join(f"{cell}\n" for cell in CELLS[:15]))
    assert (read_counts(tmp_path / "matrix.mtx").matrix.toarray() == square).all()
    turned = read_counts(tmp_path / "matrix.mtx", genes_by_cells=False)
    assert (turned.matrix.toarray() == square.T).all()


def test_without_names_what_was_assumed_is_said(tmp_path: pathlib.Path, capsys: Any) -> None:
    path = put(tmp_path / "a.mtx", text(COUNTS.matrix))
    assert read_counts(path).digest == COUNTS.digest
    told = capsys.readouterr().err
    assert "its 20 rows are taken for cells" in told
    assert "-o dataset_rows=genes if a row is a gene" in told
    put(tmp_path / "a.mtx", text(COUNTS.matrix.T))
    assert read_counts(path, genes_by_cells=True).digest == COUNTS.digest
    assert capsys.readouterr().err == ""


def test_names_of_another_matrix_are_refused(tmp_path: pathlib.Path) -> None:
    path = put(tmp_path / "matrix.mtx", text(COUNTS.matrix.T))
    put(tmp_path / "barcodes.tsv", "".join(f"{cell}\n" for cell in CELLS[:-3]))
    put(tmp_path / "features.tsv", names("genes"))
    with pytest.raises(UsageError, match=r"15 rows and 20 columns.*features\.tsv 15 and barcodes\.tsv 17"):
        read_counts(path)
    with pytest.raises(UsageError, match=r"barcodes\.tsv beside it has 17 names for 20 cells"):
        read_counts(path, genes_by_cells=True)


def test_only_gene_expression_is_kept(tmp_path: pathlib.Path, capsys: Any) -> None:
    path = put(tmp_path / "matrix.mtx", text(COUNTS.matrix.T))
    put(tmp_path / "barcodes.tsv", names("cells"))
    lines = names("genes").splitlines()
    lines[3] = "CD3\tCD3_TotalSeqB\tAntibody Capture"
    put(tmp_path / "features.tsv", "\n".join(lines) + "\n")
    counts = read_counts(path)
    assert counts.genes == GENES[:3] + GENES[4:]
    assert "1 features that are not of the type Gene Expression" in capsys.readouterr().err
    put(tmp_path / "features.tsv", names("genes").replace("Gene Expression", "Peaks"))
    with pytest.raises(UsageError, match="its features are Peaks"):
        read_counts(path)
    put(tmp_path / "features.tsv", names("genes").replace("Gene Expression", "protein_coding"))
    assert same(read_counts(path))


GOOD = text(COUNTS.matrix).decode()
HEAD = "%%MatrixMarket matrix coordinate integer general\n"


@pytest.mark.parametrize(
    "data",
    [
        GOOD.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        (GOOD + "\n\n").encode(),
        GOOD.replace("%\n", "%\n% made by a tool\n\n", 1).encode(),
        gzip.compress(GOOD.encode()),
        text(COUNTS.matrix.astype(float)),
        text(COUNTS.matrix.toarray()),
        GOOD.replace("integer", "unsigned-integer").encode(),
    ],
    ids=["crlf", "bom", "utf16", "blank end", "comments", "gzip", "real", "array", "unsigned"],
)
def test_right_but_unusual(tmp_path: pathlib.Path, data: bytes) -> None:
    (tmp_path / "a.mtx").write_bytes(data)
    assert read_counts(tmp_path / "a.mtx").digest == COUNTS.digest


def with_entry(entry: str) -> str:
    """The good file with one entry in place of its first."""
    lines = GOOD.splitlines()
    return "\n".join([*lines[:3], entry, *lines[4:]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GOOD.replace("coordinate integer", "coordinate pattern"), "'pattern'"),
        (GOOD.replace("coordinate integer", "coordinate complex"), "'complex'"),
        (GOOD.replace("general", "symmetric"), "it is symmetric"),
        (GOOD.replace("general", "skew-symmetric"), "it is skew-symmetric"),
        (GOOD.partition("\n")[2], "does not begin with the line"),
        ("", "empty"),
        (HEAD, "dimensions"),
        (HEAD + "20 15\n", "dimensions"),
        (HEAD + "20 x 3\n", "dimensions"),
        (HEAD + "-20 15 3\n", "dimensions"),
        (HEAD + "1000000000 1000000000 1\n1 1 1\n", "beyond"),
        (HEAD + f"20 15 {10**30}\n1 1 1\n", "more than"),
        (HEAD + "20 15 200000000\n1 1 1\n", "cut short"),
        ("%%MatrixMarket matrix array integer general\n10000 10000\n1\n", "cut short"),
        ("\n".join(GOOD.splitlines()[:-5]), "not a file of counts"),
        (GOOD + "1 1 4\n", "not a file of counts"),
        (with_entry("1 99 3"), "not a file of counts"),
        (with_entry("0 1 3"), "not a file of counts"),
        (with_entry("1 1 abc"), "not a file of counts"),
        (with_entry("1 1"), "not a file of counts"),
        (with_entry("1 1 -3"), "is negative"),
        (with_entry("1 1 2.5").replace("integer", "real"), "is no whole number"),
        (with_entry("1 1 nan").replace("integer", "real"), "is not finite"),
    ],
)
def test_what_is_no_matrix_of_counts(tmp_path: pathlib.Path, data: str, reason: str) -> None:
    (tmp_path / "a.mtx").write_text(data)
    with pytest.raises(UsageError, match=reason) as caught:
        read_counts(tmp_path / "a.mtx")
    assert "\n" not in str(caught.value)


pieces = st.sampled_from(["1", "2", "20", "15", "-1", "0", "9" * 20, "1e9", "nan", "%", "\n", "\n", " ", "x"])


@settings(max_examples=300)
@given(
    start=st.sampled_from(
        [HEAD, HEAD + "20 15 3\n", HEAD + "2 2 4\n", HEAD.replace("coordinate", "array"), ""]
    ),
    rest=st.lists(pieces, max_size=30).map("".join).map(str.encode) | st.binary(max_size=80),
    lists=st.binary(max_size=60) | st.text('ab\t\n,"', max_size=60).map(str.encode),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: str, rest: bytes, lists: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    for name in ("barcodes.tsv", "features.tsv"):
        (folder / name).write_bytes(lists)
    (folder / "matrix.mtx").write_bytes(start.encode() + rest)
    with pytest.raises(UsageError) as caught:
        read_counts(folder / "matrix.mtx")
    assert "\n" not in str(caught.value)


def test_a_cut_gzip_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress(GOOD.encode())[:-40])
    with pytest.raises(UsageError, match=r"a\.mtx\.gz"):
        read_counts(tmp_path / "a.mtx.gz")
