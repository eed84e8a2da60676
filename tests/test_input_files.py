"""Files that people hand in: read as data, or refused in a line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ttd_core import input_files
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file


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
    with pytest.raises(UsageError, match=r"large\.json: 300 bytes; at most 100 are read"):
        read_data_file(tmp_path / "large.json")
