"""Tables of text from every tool: read to the same counts where that is sure, else refused."""

from __future__ import annotations

import gzip
import pathlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttd_bio.reading import read_counts
from ttd_bio.tables import MAX_FIELDS, read_table
from ttd_bio.testing import simulated_counts
from ttd_core.errors import UsageError

COUNTS = simulated_counts(20, 15)
ROWS = [[str(value) for value in row] for row in COUNTS.matrix.toarray().tolist()]
CELLS = [f"AACCTTGGAACC-{i}" for i in range(20)]
GENES = [f"tf{i}" for i in range(len(ROWS[0]))]


def table(
    separator: str = ",",
    first: Sequence[str] = ("",),
    genes: Sequence[str] = GENES,
    cells: Sequence[str] = CELLS,
    rows: Sequence[Sequence[str]] = ROWS,
    beside: Sequence[str] = (),
) -> str:
    """A table; ``beside`` stands between a cell's name and its counts."""
    lines = [[*first, *genes], *([name, *beside, *row] for name, row in zip(cells, rows, strict=True))]
    return "\n".join(separator.join(line) for line in lines) + "\n"


def quoted(separator: str, header: bool) -> str:
    lines = [[f'"{name}"' for name in ([""] if header else []) + GENES]]
    lines += [[f'"{name}"', *row] for name, row in zip(CELLS, ROWS, strict=True)]
    return "\n".join(separator.join(line) for line in lines) + "\n"


GOOD: dict[str, str | bytes] = {
    "csv": table(),
    "tabs": table("\t"),
    "semicolons": table(";"),
    "bars": table("|"),
    "blanks of write.table": quoted(" ", False),
    "write.table with tabs": quoted("\t", False),
    "write.csv": quoted(",", True),
    "header one fewer": table(first=()),
    "header of all": table(first=("cell",)),
    "header Unnamed": table(first=("Unnamed: 0",)),
    "header of its own": table(first=("sample barcode of the cell",)),
    "blank end": table() + "\n\n \n",
    "blank lines": table().replace("\n", "\n\n"),
    "end of separators": table() + "," * len(GENES) + "\n",
    "no end": table().rstrip("\n"),
    "comments": "# made by a tool\n#,a,b\n\n" + table(),
    "each line ends with a separator": table().replace("\n", ",\n"),
    "crlf": table().replace("\n", "\r\n"),
    "bom": b"\xef\xbb\xbf" + table().encode(),
    "utf-16": table().encode("utf-16"),
    "gzip": gzip.compress(table().encode()),
    "floats": table(rows=[[value + ".0" for value in row] for row in ROWS]),
    "exponents": table(rows=[[value + "e0" for value in row] for row in ROWS]),
    "blanks around": table(", "),
    "text beside": table(first=("", "barcode", "cluster"), beside=("ACGT", "beta")),
    "text beside, header one fewer": table(first=("barcode",), beside=("ACGT",)),
}


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "csv.gz"])
def test_what_is_sure_is_read(tmp_path: pathlib.Path, name: str, suffix: str) -> None:
    data = GOOD[name]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    counts = read_counts(path)
    assert (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, tuple(GENES), tuple(CELLS))


@pytest.mark.parametrize("first", [0, 1])
def test_cells_and_genes_that_are_numbered(tmp_path: pathlib.Path, first: int) -> None:
    cells, genes = ([str(first + i) for i in range(size)] for size in (20, len(GENES)))
    for header in ("", "anything"):
        (tmp_path / "a.csv").write_text(table(first=(header,), genes=genes, cells=cells))
        counts = read_counts(tmp_path / "a.csv")
        assert (counts.digest, counts.cells) == (COUNTS.digest, tuple(cells))


def test_names_that_are_numbers_under_a_header_that_says_so(tmp_path: pathlib.Path) -> None:
    cells = [str(1000 + 7 * i) for i in range(20)]
    (tmp_path / "a.csv").write_text(table(first=("cell_id",), cells=cells))
    assert read_counts(tmp_path / "a.csv").cells == tuple(cells)


def test_a_gene_a_line(tmp_path: pathlib.Path) -> None:
    turned = [list(row) for row in zip(*ROWS, strict=True)]
    path = tmp_path / "a.csv"
    path.write_text(table(genes=CELLS, cells=GENES, rows=turned))
    with pytest.raises(UsageError, match="-o dataset_rows=genes if a row of the file is a gene"):
        read_counts(path)
    counts = read_counts(path, genes_by_cells=True)
    assert (counts.digest, counts.genes) == (COUNTS.digest, tuple(GENES))
    assert read_counts(path, genes_by_cells=False).genes == tuple(CELLS)


def changed(line: int, place: int, text: str) -> str:
    """The table with one field changed; line 1 is the header."""
    lines = [line.split(",") for line in table().splitlines()]
    lines[line - 1][place] = text
    return "\n".join(map(",".join, lines)) + "\n"


BAD: dict[str, tuple[str, str]] = {
    "no names": (
        "\n".join(",".join(row) for row in [GENES, *ROWS]),
        r"whether the first column \('tf0'\) holds counts or names",
    ),
    "numbers alone": ("\n".join(map(",".join, ROWS)), "it has no header"),
    "no header": ("\n".join([f"c{i}," + ",".join(row) for i, row in enumerate(ROWS)]), "it has no header"),
    "cluster": (
        table(first=("", "cluster"), beside=("3",)),
        "column 'cluster' would be read as counts of a gene: take out",
    ),
    "annotations": (
        table(first=("", "nCount_RNA", "percent.mt"), beside=("30", "2")),
        "columns 'nCount_RNA', 'percent.mt' would be",
    ),
    "cluster at the end": (
        table(genes=[*GENES, "seurat_clusters"], rows=[[*row, "3"] for row in ROWS]),
        "'seurat_clusters' would be",
    ),
    "text at the end": (
        table(genes=[*GENES, "kind"], rows=[[*row, "beta"] for row in ROWS]),
        r"line 2, column 17 \('kind'\): 'beta' is no number",
    ),
    "missing": (changed(5, 2, "NA"), r"line 5, column 3 \('tf1'\): a value is missing \('NA'\)"),
    "nothing": (changed(5, 2, ""), r"line 5, column 3 \('tf1'\): a value is missing \(''\)"),
    "missing at first": (
        changed(2, 1, "NA"),
        r"column 2 \('tf0'\) holds text in the first line and a number",
    ),
    "nan": (changed(5, 2, "nan"), "is not finite"),
    "infinite": (changed(5, 2, "1e999"), "is not finite"),
    "decimal comma": (table(";", rows=[[value + ",0" for value in row] for row in ROWS]), "decimal comma"),
    "one decimal comma": (table(";").replace(f";{ROWS[3][4]}", f";{ROWS[3][4]},5", 1), "decimal comma"),
    "longer line": (table() + "x" + ",1" * (len(GENES) + 1) + "\n", "line 22 has 17 fields, not 16"),
    "cut line": (table()[:-8], "line 21 has"),
    "header only": (table().splitlines()[0], "a header and no row"),
    "blank": ("\n\n", "no header"),
    "one column": ("a\nb\nc\n", "not parted alike"),
    "separators that differ": (table().replace(",", "\t", len(GENES)), "not parted alike"),
    "open quote": (table().replace("\n", '\n"', 1), "fields"),
    "text alone": ("\n".join(["name,a,b"] + ["x,y,z"] * 12), "is no number"),
    "page": ("<!doctype html>\n<html><body>not found</body></html>\n", "is no number"),
    "negative": (changed(5, 2, "-1"), "is negative"),
    "fraction": (changed(5, 2, "1.5"), "is no whole number"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_not_sure_is_refused_with_what_to_do(tmp_path: pathlib.Path, name: str) -> None:
    data, reason = BAD[name]
    (tmp_path / "a.csv").write_text(data)
    with pytest.raises(UsageError, match=reason) as caught:
        read_counts(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)
    assert "a.csv" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "," * 50_000_000,
        lambda: "a" * 50_000_000,
        lambda: ",a\n" + "x," * 20_000_000,
        lambda: ",a\nb,1\n" + "," * (MAX_FIELDS + 10),
        lambda: ",a\nb,1\n" + '"' + "a" * 20_000_000,
        lambda: ",a\nb," + "1" * 1_000_000 + "\n",
    ],
    ids=["separators", "letters", "wide line", "wide last line", "open quote", "long number"],
)
def test_a_huge_line_ends_soon(
    tmp_path: pathlib.Path, make: Callable[[], str], cpu_clock: Callable[[], float]
) -> None:
    (tmp_path / "a.csv").write_text(make())
    start = cpu_clock()
    with pytest.raises(UsageError, match=r"a\.csv") as caught:
        read_counts(tmp_path / "a.csv")
    assert cpu_clock() - start < 10
    assert len(str(caught.value)) < 600


@given(st.binary(max_size=200) | st.text(",;\t |#\"'\n01.9aNA-", max_size=120).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        found = read_table(path)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ends are right
    else:
        assert found.matrix.shape == (len(found.rows), len(found.columns))
