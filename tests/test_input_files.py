"""Files that people hand in: read as data, or refused in a line."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from ttd_core import input_files
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file, read_text_file


def test_reads_json_and_arrays(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"h": [0.5, NaN]}')
    np.save(tmp_path / "b.npy", np.arange(3.0))
    value = read_data_file(tmp_path / "a.json")
    assert value["h"][0] == 0.5
    assert np.isnan(value["h"][1])
    assert read_data_file(tmp_path / "b.npy").tolist() == [0, 1, 2]


def test_refuses_pickles_and_other_files(tmp_path, monkeypatch) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.json").write_text("run()")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    (tmp_path / "large.json").write_text(json.dumps([1] * 100))
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(UsageError, match=r"pickle\.npy: not a numpy array"):
        read_data_file(tmp_path / "pickle.npy")
    with pytest.raises(UsageError, match=r"text\.json: not JSON"):
        read_data_file(tmp_path / "text.json")
    with pytest.raises(UsageError, match=r"deep\.json: not JSON"):
        read_data_file(tmp_path / "deep.json")
    with pytest.raises(UsageError, match=r"empty\.npy: not a numpy array"):
        read_data_file(tmp_path / "empty.npy")
    with pytest.raises(UsageError, match=r"nosuch\.json: cannot be read: No such file"):
        read_data_file(tmp_path / "nosuch.json")
    monkeypatch.setattr(input_files, "MAX_FILE_BYTES", 100)
    with pytest.raises(UsageError, match=r"large\.json: larger than the 100 bytes that are read"):
        read_data_file(tmp_path / "large.json")


def test_what_a_file_holds_decides_and_not_its_name(tmp_path) -> None:
    np.save(tmp_path / "h.npy", np.arange(3.0))
    (tmp_path / "H.NPY").write_bytes((tmp_path / "h.npy").read_bytes())
    (tmp_path / "h.data").write_bytes((tmp_path / "h.npy").read_bytes())
    (tmp_path / "h.json.gz").write_bytes(gzip.compress(b"[0, 1, 2]"))
    (tmp_path / "bom.json").write_bytes("[0, 1, 2]".encode("utf-8-sig"))
    (tmp_path / "wide.json").write_bytes("[0, 1, 2]\r\n".encode("utf-16"))
    for name in ("H.NPY", "h.data", "h.json.gz", "bom.json", "wide.json"):
        assert np.array_equal(read_data_file(tmp_path / name), [0, 1, 2]), name
    np.savez_compressed(tmp_path / "two.npz", centers=np.zeros((2, 2)), radii=np.ones(2))
    value = read_data_file(tmp_path / "two.npz")
    assert {name: array.shape for name, array in value.items()} == {"centers": (2, 2), "radii": (2,)}


def test_damaged_files_are_refused(tmp_path) -> None:
    np.save(tmp_path / "h.npy", np.arange(30.0))
    whole = (tmp_path / "h.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    (tmp_path / "header.npy").write_bytes(whole[:40])
    packed = gzip.compress(b"[0, 1, 2]" * 1000)
    (tmp_path / "cut.gz").write_bytes(packed[:-9])
    np.savez(tmp_path / "two.npz", a=np.zeros(50))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:200])
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    for name in ("cut.npy", "header.npy", "cut.gz", "cut.npz", "pickled.npz"):
        with pytest.raises(UsageError, match=rf"{name}: (not|damaged)"):
            read_data_file(tmp_path / name)


def test_text_is_read_whatever_editor_saved_it(tmp_path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "program.py").write_bytes("a = 'é'\r\nb\r\n".encode(encoding))
        assert read_text_file(tmp_path / "program.py") == "a = 'é'\nb\n"
    (tmp_path / "program.py").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"program\.py: not a text file: not UTF-8 text: byte 0"):
        read_text_file(tmp_path / "program.py")
