"""HDF5 files made to break a reader, or to have it read other files: each is refused in one line, at once."""

from __future__ import annotations

import pathlib
import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest

from ttd_bio import hdf5
from ttd_bio.denoising import Denoising, DenoisingOptions
from ttd_bio.hdf5 import read_hdf5
from ttd_bio.reading import read_counts
from ttd_bio.sparse_parts import compressed
from ttd_bio.testing import simulated_counts, write_h5ad
from ttd_core.errors import UsageError

COUNTS = simulated_counts(20, 15)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A good file with a CSR X."""
    return write_h5ad(COUNTS, tmp_path / "a.h5ad")


def replaced(part: str, change: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    """A change of one of X's arrays."""

    def apply(file: h5py.File) -> None:
        values = change(file["X"][part][()])
        del file["X"][part]
        file["X"][part] = values

    return apply


def shape(*sizes: int) -> Callable[[h5py.File], None]:
    return lambda file: file["X"].attrs.__setitem__("shape", np.array(sizes))


def with_first(value: int) -> Callable[[Any], Any]:
    return lambda array: np.concatenate([np.array([value], array.dtype), array[1:]])


def with_middle(value: int) -> Callable[[Any], Any]:
    return lambda array: np.concatenate([array[:5], np.array([value], array.dtype), array[6:]])


DAMAGED = {
    "index beyond": (replaced("indices", with_first(10**6)), "'indices' runs from"),
    "index just beyond": (replaced("indices", with_first(15)), "outside of 0 to"),
    "index negative": (replaced("indices", with_first(-1)), "'indices' runs from -1"),
    "index huge": (replaced("indices", lambda a: a.astype("<u8") + 2**63), "'indices' runs from"),
    "indptr start": (replaced("indptr", with_first(1)), "'indptr' runs from 1"),
    "indptr falls": (replaced("indptr", with_middle(0)), "'indptr' decreases"),
    "indptr leaps": (replaced("indptr", with_middle(10**9)), "'indptr' decreases"),
    "indptr unsigned": (replaced("indptr", lambda a: with_middle(0)(a.astype("<u8"))), "'indptr' decreases"),
    "indptr short": (replaced("indptr", lambda a: a[:-1]), "'indptr' has 20 entries, not 21"),
    "indptr past": (replaced("indptr", lambda a: np.append(a[:-1], 10**9)), "'indptr' runs from 0 to"),
    "indptr empty": (replaced("indptr", lambda a: a[:0]), "'indptr' has 0 entries"),
    "indptr floats": (replaced("indptr", lambda a: a.astype(float)), "not whole numbers"),
    "data short": (replaced("data", lambda a: a[:-1]), "'data' has"),
    "data text": (replaced("data", lambda a: a.astype("S4")), "not numbers"),
    "data complex": (replaced("data", lambda a: a.astype(complex)), "not numbers"),
    "data square": (replaced("data", lambda a: a[None]), "has 2 dimensions, not 1"),
    "data scalar": (replaced("data", lambda a: a[0]), "has 0 dimensions, not 1"),
    "data gone": (lambda file: file["X"].__delitem__("data"), "X's data is missing"),
    "shape huge": (shape(10**9, 10**9), "beyond"),
    "shape wide": (shape(20, 3), "'indices' runs from"),
    "shape negative": (shape(-20, 15), "none of a matrix"),
    "shape of three": (shape(20, 15, 2), "none of a matrix"),
    "shape text": (lambda file: file["X"].attrs.__setitem__("shape", "abc"), ""),
    "layout of both": (
        lambda file: file["X"].attrs.__setitem__("encoding-type", "csc_matrix"),
        "'indptr' has",
    ),
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_damaged_arrays_are_refused(path: pathlib.Path, name: str) -> None:
    change, reason = DAMAGED[name]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(UsageError) as caught:
        read_counts(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def dataset(**given: Any) -> Callable[[h5py.File], None]:
    """X as a dataset made with these arguments."""

    def apply(file: h5py.File) -> None:
        del file["X"]
        file.create_dataset("X", **given)

    return apply


def huge_part(file: h5py.File) -> None:
    del file["X"]["data"]
    file["X"].create_dataset("data", (10**12,), "<f8", chunks=(1000,), fillvalue=1.0)


def huge_names(file: h5py.File) -> None:
    del file["obs/_index"]
    file["obs"].create_dataset("_index", (10**10,), h5py.string_dtype(), chunks=(1000,))


def wide_names(file: h5py.File) -> None:
    del file["obs/_index"]
    file["obs"].create_dataset("_index", (20,), "S1000000000", chunks=(1,))


LARGE = {
    "dense": dataset(shape=(10**6, 10**6), dtype="<f4", chunks=(100, 100), fillvalue=1.0),
    "within the bounds": dataset(shape=(2**14, 2**14), dtype="<f8", chunks=(64, 64), fillvalue=1.0),
    "unchunked": dataset(shape=(10**5, 10**5), dtype="<f8"),
    "wide": dataset(shape=(10, 2**40), dtype="i1", chunks=(10, 100)),
    "large chunk": dataset(shape=(20, 15), maxshape=(None, None), dtype="<f8", chunks=(20000, 20000)),
    "part": huge_part,
    "names": huge_names,
    "wide names": wide_names,
}


@pytest.mark.parametrize("name", sorted(LARGE))
def test_sizes_that_nothing_stands_for_cost_nothing(path: pathlib.Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        LARGE[name](file)
    assert path.stat().st_size < 10**6
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"more than is read|pieces of more than|holds next to none"):
        read_counts(path)
    assert time.monotonic() - start < 20


def test_a_chunk_that_unpacks_to_gigabytes(path: pathlib.Path) -> None:
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush every piece of zeros is packed alike: 6 GB.
    bomb = start + 360 * (packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH))
    with h5py.File(path, "a") as file:
        del file["X"]
        made = file.create_dataset("X", (20, 15), "<f4", chunks=(20, 15), compression="gzip")
        made.id.write_direct_chunk((0, 0), bomb)
    start = time.monotonic()
    with pytest.raises(UsageError, match=path.name):
        read_counts(path)
    assert time.monotonic() - start < 40


def secret(folder: pathlib.Path) -> pathlib.Path:
    """Another good file, which must not be read."""
    return write_h5ad(simulated_counts(30, 15), folder / "secret.h5ad")


def external_link(file: h5py.File, other: pathlib.Path) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink(str(other), "/X")


def external_part(file: h5py.File, other: pathlib.Path) -> None:
    del file["X"]["data"]
    file["X"]["data"] = h5py.ExternalLink(str(other), "/X/data")


def external_names(file: h5py.File, other: pathlib.Path) -> None:
    del file["obs"]
    file["obs"] = h5py.ExternalLink(str(other), "/obs")


def external_layer(file: h5py.File, other: pathlib.Path) -> None:
    file["layers"]["counts"] = h5py.ExternalLink(str(other), "/X")


def external_layers(file: h5py.File, other: pathlib.Path) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink(str(other), "/")


def soft_through_external(file: h5py.File, other: pathlib.Path) -> None:
    file["door"] = h5py.ExternalLink(str(other), "/")
    del file["X"]
    file["X"] = h5py.SoftLink("/door/X")


def external_storage(file: h5py.File, other: pathlib.Path) -> None:
    del file["X"]
    file.create_dataset("X", (20, 15), "u1", external=[(str(other), 0, 300)])


def external_storage_of_part(file: h5py.File, other: pathlib.Path) -> None:
    length = len(file["X"]["data"])
    del file["X"]["data"]
    file["X"].create_dataset("data", (length,), "u1", external=[(str(other), 0, length)])


def virtual(file: h5py.File, other: pathlib.Path) -> None:
    del file["X"]
    layout = h5py.VirtualLayout((20, 15), "<f4")
    layout[:] = h5py.VirtualSource(str(other), "dense", (20, 15))
    file.create_virtual_dataset("X", layout)


LINKS = [external_link, external_part, external_names, external_layer, external_layers, soft_through_external]
LINKS += [external_storage, external_storage_of_part, virtual]


@pytest.mark.parametrize("change", LINKS, ids=lambda change: change.__name__)
def test_no_other_file_is_read(
    path: pathlib.Path, tmp_path: pathlib.Path, change: Callable[..., None]
) -> None:
    other = secret(tmp_path)
    with h5py.File(other, "a") as file:
        file["dense"] = np.ones((20, 15), "<f4")
    with h5py.File(path, "a") as file:
        change(file, other)
    with pytest.raises(UsageError, match=r"another file|virtual dataset") as caught:
        read_counts(path)
    assert "\n" not in str(caught.value)


def test_no_other_file_is_read_for_a_result(simulated: pathlib.Path, tmp_path: pathlib.Path) -> None:
    problem = Denoising(DenoisingOptions(dataset=str(simulated)))
    result = write_h5ad(simulated_counts(), tmp_path / "r.h5ad")
    with h5py.File(result, "a") as file:
        file["layers"]["denoised"] = h5py.ExternalLink(str(simulated), "/X")
    with pytest.raises(UsageError, match="another file"):
        problem.read_construction(result)


def test_links_in_circles_end(path: pathlib.Path) -> None:
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"], file["Y"] = h5py.SoftLink("/Y"), h5py.SoftLink("/X")
    with pytest.raises(UsageError, match="leads in a circle"):
        read_counts(path)


def test_a_file_that_breaks_the_library_is_a_sentence(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(command: list[str], **given: Any) -> Any:
        return real([*command[:1], "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], **given)

    real = subprocess.Popen
    monkeypatch.setattr(hdf5.subprocess, "Popen", broken)
    with pytest.raises(UsageError, match="damaged: the HDF5 library failed on it"):
        read_counts(path)


def test_reading_that_does_not_end_is_ended(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(command: list[str], **given: Any) -> Any:
        return real([*command[:1], "-c", "import time; time.sleep(1000)"], **given)

    real = subprocess.Popen
    monkeypatch.setattr(hdf5.subprocess, "Popen", endless)
    monkeypatch.setattr(hdf5, "TIMEOUT_S", 0.5)
    with pytest.raises(UsageError, match=r"damaged: reading it took more than 0\.5 s"):
        read_counts(path)


@pytest.mark.parametrize("seed", range(12))
def test_bytes_changed_anywhere_are_read_or_refused(path: pathlib.Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data), 40).tolist():
        data[place] = int(rng.integers(256))
    # Sizes and addresses of the superblock and the first groups are where most is decided.
    struct.pack_into("<I", data, int(rng.integers(0, 2000)), int(rng.integers(2**32)))
    path.write_bytes(bytes(data))
    try:
        read_counts(path)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ends are right


def test_a_file_that_is_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_hdf5(tmp_path / "x.h5ad", ["X"])
    with pytest.raises(UsageError, match="not a file"):
        read_hdf5(tmp_path, ["X"])


def test_arrays_that_are_right_make_the_matrix() -> None:
    matrix = COUNTS.matrix.tocsc()
    again = compressed("csc", matrix.data, matrix.indices, matrix.indptr, matrix.shape)
    assert (again != matrix).nnz == 0
    assert compressed("csr", np.zeros(0), np.zeros(0, int), np.zeros(1, int), (0, 3)).shape == (0, 3)
