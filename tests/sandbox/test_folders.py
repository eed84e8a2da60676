"""Folders that a job wrote to: measured without counting too little, emptied whatever they hold."""

from __future__ import annotations

import math
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

import pytest

from ttd_core.sandbox.inside import folders


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder in memory where there is one: removing thousands of folders from a disk takes its time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        (pathlib.Path(made) / "folder").mkdir()
        yield pathlib.Path(made) / "folder"


def nest(path: pathlib.Path, levels: int) -> None:
    before = os.getcwd()
    os.chdir(path)
    try:
        for _ in range(levels):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)


def test_files_and_entries_are_counted(folder: pathlib.Path) -> None:
    assert folders.used_bytes(str(folder), math.inf) == 0
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_bytes(b"x" * 100_000)
    (folder / "link").symlink_to("/usr")
    used = folders.used_bytes(str(folder), math.inf)
    assert 100_000 + 3 * 4096 <= used < 150_000


def test_counting_stops_when_it_is_too_much(folder: pathlib.Path) -> None:
    for number in range(50):
        (folder / f"d{number}").mkdir()
        (folder / f"d{number}" / "file").write_bytes(b"x")
    assert folders.used_bytes(str(folder), 4096) > 4096


def test_what_is_nested_too_deep_counts_as_too_much_and_costs_no_time(folder: pathlib.Path) -> None:
    nest(folder, 3000)
    started = time.monotonic()
    assert folders.used_bytes(str(folder), 1e9) == math.inf
    assert time.monotonic() - started < 0.5
    assert folders.empty(str(folder))


def test_anything_can_be_emptied(folder: pathlib.Path) -> None:
    nest(folder, 2500)
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0)
    (folder / "outside").symlink_to(folder.parent)
    (folder / "-rf *\n").write_text("x")
    os.mkfifo(folder / "fifo")
    beside = folder.parent / "beside"
    beside.write_text("kept")
    assert folders.empty(str(folder))
    assert os.listdir(folder) == []
    assert beside.read_text() == "kept"
