"""HDF5 files of counts as tools write them, old and new: read to the same counts, or refused in one line."""

from __future__ import annotations

import gzip
import itertools
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from ttd_bio.counts import canonical_csr
from ttd_bio.reading import read_counts
from ttd_bio.testing import simulated_counts
from ttd_core.errors import UsageError

COUNTS = simulated_counts(20, 15, depth=100)
DENSE = COUNTS.matrix.toarray()
CELLS, GENES = [f"cell-a{i}" for i in range(20)], [f"tf{i}" for i in range(DENSE.shape[1])]


def write(path: pathlib.Path, matrix: Any = DENSE, **parts: Any) -> pathlib.Path:
    """An AnnData file with our names."""
    data = anndata.AnnData(matrix)
    data.obs_names, data.var_names = CELLS, GENES
    for name, value in parts.items():
        if name == "raw":
            data.raw = anndata.AnnData(value, data.obs, data.var)
        else:
            data.layers[name] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path)
    return path


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A good file."""
    return write(tmp_path / "a.h5ad")


def store(file: h5py.File, layout: str, counts: Any, **dtypes: str) -> None:
    """X of that layout and type, written by hand."""
    del file["X"]
    if layout == "dense":
        file["X"] = counts.toarray().astype(dtypes["data"])
        file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        return
    group = file.create_group("X")
    group.attrs.update(
        {"encoding-type": f"{layout}_matrix", "encoding-version": "0.1.0", "shape": counts.shape}
    )
    matrix = counts.tocsr() if layout == "csr" else counts.tocsc()
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(matrix, part).astype(dtypes.get(part, "<i4"))


@pytest.mark.parametrize("layout", ["dense", "csr", "csc"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", ">f8", ">i4", "i1", "<u8", ">u2", "<f8"])
def test_counts_of_every_type_and_byte_order(path: pathlib.Path, layout: str, dtype: str) -> None:
    with h5py.File(path, "a") as file:
        store(file, layout, COUNTS.matrix, data=dtype, indices=">i8", indptr="<u4")
    counts = read_counts(path)
    assert (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, tuple(GENES), tuple(CELLS))


def test_bool_counts(tmp_path: pathlib.Path) -> None:
    expected = canonical_csr((DENSE > 0).astype(int))
    assert (read_counts(write(tmp_path / "b.h5ad", DENSE > 0)).matrix != expected).nnz == 0


def test_entries_of_one_place_are_summed_without_overflow(path: pathlib.Path) -> None:
    matrix = COUNTS.matrix
    with h5py.File(path, "a") as file:
        store(file, "csr", matrix, data="i1")
        group = file["X"]
        for name, values in (("data", np.full(3, 120, "i1")), ("indices", np.zeros(3, "<i4"))):
            joined = np.concatenate([values, group[name][()]])
            del group[name]
            group[name] = joined
        group["indptr"][1:] += 3
    assert read_counts(path).matrix[0, 0] == matrix[0, 0] + 360


def old_sparse(file: h5py.File) -> None:
    store(file, "csr", COUNTS.matrix, data="<f4")
    for name in ("encoding-type", "encoding-version", "shape"):
        del file["X"].attrs[name]
    file["X"].attrs.update({"h5sparse_format": b"csr", "h5sparse_shape": COUNTS.matrix.shape})


def old_records(file: h5py.File) -> None:
    old_sparse(file)
    for frame, names in (("obs", CELLS), ("var", GENES)):
        del file[frame]
        records = np.zeros(len(names), [("n", "<f8"), ("index", "S20")])
        records["index"] = [name.encode() for name in names]
        file[frame] = records
    for name in ("obsm", "varm", "uns", "layers", "obsp", "varp"):
        del file[name]


def no_encodings(file: h5py.File) -> None:
    for thing in (file["X"], file["obs"], file["var"], file):
        for name in ("encoding-type", "encoding-version"):
            thing.attrs.pop(name, None)
    file["obs"].move("_index", "index")
    del file["obs"].attrs["_index"]


def unsorted(file: h5py.File) -> None:
    store(file, "csr", COUNTS.matrix, data="<f4")
    group = file["X"]
    bounds = group["indptr"][()]
    for name in ("data", "indices"):
        values = group[name][()]
        group[name][...] = np.concatenate([values[a:b][::-1] for a, b in itertools.pairwise(bounds)])


def fixed_names(file: h5py.File) -> None:
    del file["obs/_index"]
    file["obs/_index"] = np.array([name.encode() for name in CELLS])


def categorical_names(file: h5py.File) -> None:
    del file["obs/_index"]
    group = file["obs"].create_group("_index")
    group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    group["codes"] = np.arange(20, dtype="i1")[::-1]
    group["categories"] = CELLS[::-1]


def nullable_names(file: h5py.File) -> None:
    del file["obs/_index"]
    group = file["obs"].create_group("_index")
    group.attrs.update({"encoding-type": "nullable-string-array", "encoding-version": "0.1.0"})
    group["values"], group["mask"] = CELLS, np.zeros(20, bool)


def soft_link(file: h5py.File) -> None:
    file.move("X", "elsewhere")
    file["X"] = h5py.SoftLink("/elsewhere")


def unknown_beside(file: h5py.File) -> None:
    for frame in ("obs", "uns", "obsm", "var"):
        group = file[frame].create_group("odd")
        group.attrs.update({"encoding-type": "from-the-future", "encoding-version": "9"})
    file["obs"].attrs["column-order"] = ["odd"]
    nothing = file["uns"].create_dataset("nothing", data=h5py.Empty("f"))
    nothing.attrs.update({"encoding-type": "null", "encoding-version": "0.1.0"})
    file["layers"].create_group("odd").attrs["encoding-type"] = "from-the-future"


def unknown_frame(file: h5py.File) -> None:
    for frame in ("obs", "uns"):
        file[frame].attrs.update({"encoding-type": "from-the-future", "encoding-version": "9"})


FORMS = [old_sparse, old_records, no_encodings, unsorted, fixed_names, categorical_names, nullable_names]
FORMS += [soft_link, unknown_beside, unknown_frame]


@pytest.mark.parametrize("change", FORMS, ids=lambda change: change.__name__)
def test_the_same_counts_and_names_in_another_form(path: pathlib.Path, change: Callable[..., None]) -> None:
    with h5py.File(path, "a") as file:
        change(file)
    counts = read_counts(path)
    assert (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, tuple(GENES), tuple(CELLS))


def test_numbers_as_names_and_names_that_occur_twice(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["obs/_index"], file["var/_index"]
        file["obs/_index"] = np.arange(20) + 7
        file["var/_index"] = ["same"] * len(GENES)
    counts = read_counts(path)
    assert (counts.digest, counts.cells[:2], set(counts.genes)) == (COUNTS.digest, ("7", "8"), {"same"})


def test_names_that_cannot_be_read_are_numbered_and_that_is_said(path: pathlib.Path, capsys: Any) -> None:
    with h5py.File(path, "a") as file:
        del file["obs/_index"]
        file["obs"].create_group("_index").attrs["encoding-type"] = "from-the-future"
    assert read_counts(path).cells[:2] == ("cell0", "cell1")
    assert "names of cells are stored in a way that is not read" in capsys.readouterr().err


def test_gzip_is_known_by_content(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    packed = gzip.compress(path.read_bytes())
    for name in ("b.h5ad.gz", "c.h5ad", "d.bin.gz"):
        (tmp_path / name).write_bytes(packed)
        assert read_counts(tmp_path / name).digest == COUNTS.digest
    (tmp_path / "cut.h5ad.gz").write_bytes(packed[:-200])
    with pytest.raises(UsageError, match="damaged gzip file"):
        read_counts(tmp_path / "cut.h5ad.gz")


LOGS = np.log1p(1e4 * DENSE / DENSE.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("parts", "layer", "hint"),
    [
        ({"raw": DENSE}, "raw.X", "raw.X holds whole counts: -o dataset_layer=raw.X"),
        ({"raw_counts": sparse.csc_matrix(DENSE)}, "raw_counts", "-o dataset_layer=raw_counts"),
        ({"raw": DENSE}, "raw", "-o dataset_layer=raw.X"),
        ({"my counts": DENSE}, "my counts", "-o dataset_layer='my counts'"),
        ({"raw": DENSE, "umi": DENSE}, "layers/umi", "raw.X, umi hold whole counts"),
        ({"counts": LOGS, "umi": DENSE}, "umi", "-o dataset_layer=umi"),
    ],
)
def test_counts_elsewhere_in_the_file_are_named_and_can_be_chosen(
    tmp_path: pathlib.Path, parts: dict[str, Any], layer: str, hint: str
) -> None:
    path = write(tmp_path / "a.h5ad", LOGS, **parts)
    with pytest.raises(UsageError, match="is no whole number") as caught:
        read_counts(path)
    assert hint in str(caught.value)
    assert read_counts(path, layer=layer).digest == COUNTS.digest


def test_the_layer_counts_comes_first_and_x_can_be_chosen(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.h5ad", DENSE + 1, counts=DENSE)
    assert read_counts(path).digest == COUNTS.digest
    assert read_counts(path, layer="X").matrix[0, 0] == DENSE[0, 0] + 1


@pytest.mark.parametrize("top", [False, True])
def test_raw_alone_with_its_own_genes(path: pathlib.Path, top: bool) -> None:
    with h5py.File(path, "a") as file:
        if top:
            file.move("X", "raw.X")
            file.move("var", "raw.var")
        else:
            group = file.create_group("raw")
            file.move("X", "raw/X")
            group["var"] = file["var"]
            del file["var"]
    with pytest.raises(UsageError, match=r"neither layer 'counts' nor X; it has raw\.X; raw\.X holds whole"):
        read_counts(path)
    assert read_counts(path, layer="raw.X").genes == tuple(GENES)


def test_an_encoding_of_x_that_is_not_known(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.h5ad", sparse.csr_matrix(LOGS), raw=DENSE)
    with h5py.File(path, "a") as file:
        file["X"].attrs["encoding-type"] = "coo_matrix"
    with pytest.raises(UsageError, match="X is stored as 'coo_matrix', which is not read") as caught:
        read_counts(path)
    assert str(caught.value).endswith("; raw.X holds whole counts: -o dataset_layer=raw.X")


def test_a_layer_that_is_not_there(path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="no layer 'umi'; it has X; X holds whole counts"):
        read_counts(path, layer="umi")


def write_10x(path: pathlib.Path, version: int) -> pathlib.Path:
    matrix = sparse.csc_matrix(DENSE.T)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        group["shape"] = np.array(matrix.shape, "<i4")
        group["barcodes"] = [name.encode() for name in CELLS]
        if version == 3:
            features = group.create_group("features")
            features["name"] = [name.encode() for name in GENES]
            features["feature_type"] = [b"Gene Expression"] * (len(GENES) - 1) + [b"Antibody Capture"]
        else:
            group["gene_names"] = [name.encode() for name in GENES]
    return path


def test_10x_files_of_both_versions(tmp_path: pathlib.Path, capsys: Any) -> None:
    counts = read_counts(write_10x(tmp_path / "two.h5", 2))
    assert (counts.digest, counts.genes, counts.cells) == (COUNTS.digest, tuple(GENES), tuple(CELLS))
    counts = read_counts(write_10x(tmp_path / "three.h5", 3))
    assert counts.genes == tuple(GENES[:-1])
    assert (counts.matrix != COUNTS.matrix[:, :-1]).nnz == 0
    assert (
        "1 features that are not of the type Gene Expression are left out (Antibody"
        in capsys.readouterr().err
    )


def test_a_file_whose_names_show_that_it_is_turned(tmp_path: pathlib.Path) -> None:
    data = anndata.AnnData(DENSE.T)
    data.var_names = [f"{''.join('ACGT'[(i >> k) & 3] for k in range(0, 20, 2))}-1" for i in range(20)]
    data.obs_names = [f"ENSG{i:011d}" for i in range(len(GENES))]
    data.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(UsageError, match="-o dataset_rows=genes if a row of the file is a gene"):
        read_counts(tmp_path / "t.h5ad")
    assert read_counts(tmp_path / "t.h5ad", genes_by_cells=True).digest == COUNTS.digest


@pytest.mark.parametrize("part", ["features/name", "features/feature_type", "barcodes", "indptr"])
def test_a_10x_file_with_a_part_cut(tmp_path: pathlib.Path, part: str) -> None:
    path = write_10x(tmp_path / "three.h5", 3)
    with h5py.File(path, "a") as file:
        values = file["matrix"][part][:-2]
        del file["matrix"][part]
        file["matrix"][part] = values
    with pytest.raises(UsageError, match=r"names (of features )?for|types of features for|'indptr' has"):
        read_counts(path)


def test_a_10x_file_has_no_layers(tmp_path: pathlib.Path) -> None:
    path = write_10x(tmp_path / "two.h5", 2)
    assert read_counts(path, layer="X").digest == COUNTS.digest
    with pytest.raises(UsageError, match="one matrix and no layer 'umi'"):
        read_counts(path, layer="umi")


def test_a_file_that_another_program_writes(path: pathlib.Path) -> None:
    with h5py.File(path, "a"), pytest.raises(UsageError, match="another program has it open for writing"):
        read_counts(path)


def loom(file: h5py.File) -> None:
    file["matrix"], file["row_attrs/Gene"], file["col_attrs/CellID"] = DENSE.T, GENES, CELLS


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (loom, "a loom file"),
        (lambda file: file.create_group("mod"), "a MuData file"),
        (lambda file: file.create_group("assays"), "a Seurat file"),
        (lambda file: file.create_group("model_weights"), "no AnnData: it holds 'model_weights'"),
        (lambda file: None, "no AnnData: it holds nothing"),
        (lambda file: [file.create_group(name) for name in ("obs", "var", "uns")], "it holds no matrix"),
    ],
)
def test_other_hdf5_files_are_named(tmp_path: pathlib.Path, fill: Callable[..., None], reason: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        fill(file)
    with pytest.raises(UsageError, match=reason):
        read_counts(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.where(DENSE.max() == DENSE, np.nan, DENSE), "is not finite"),
        (DENSE - 1.0, "is negative"),
        (np.zeros_like(DENSE), "no molecule"),
        (DENSE.astype(np.float64) * 2.0**40, "above"),
    ],
)
def test_what_is_no_count_is_named(tmp_path: pathlib.Path, matrix: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_counts(write(tmp_path / "a.h5ad", matrix))


def test_sums_that_would_hide_what_is_no_count_are_refused() -> None:
    halves = sparse.csr_matrix((np.full(4, 0.5), [0, 0, 1, 1], [0, 4]), shape=(1, 2))
    with pytest.raises(UsageError, match="no whole number"):
        canonical_csr(halves)
    twice = sparse.csr_matrix((np.full(2, 2**63, np.uint64), [0, 0], [0, 2]), shape=(1, 2))
    with pytest.raises(UsageError, match="above"):
        canonical_csr(twice)


def test_a_file_without_cells(tmp_path: pathlib.Path) -> None:
    for shape in ((0, 15), (15, 0), (0, 0)):
        anndata.AnnData(np.zeros(shape, np.float32)).write_h5ad(tmp_path / "e.h5ad")
        with pytest.raises(UsageError, match="empty"):
            read_counts(tmp_path / "e.h5ad")


def test_cut_empty_and_other_files(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole = path.read_bytes()
    broken = {"cut short": whole[:-500], "empty": b"", "no HDF5 file": b"text\n", "damaged": whole[:60]}
    for reason, part in broken.items():
        (tmp_path / "c.h5ad").write_bytes(part)
        with pytest.raises(UsageError, match=reason) as caught:
            read_counts(tmp_path / "c.h5ad")
        assert "\n" not in str(caught.value)
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / ".zgroup").write_text("{}")
    with pytest.raises(UsageError, match="a zarr store"):
        read_counts(tmp_path / "s.zarr")
