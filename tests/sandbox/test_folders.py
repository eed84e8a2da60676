"""Folders that a job wrote to: measured without counting too little, emptied whatever they hold."""

from __future__ import annotations

import ctypes
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import pytest

from ttd_core.sandbox.inside import folders

_LIBC = ctypes.CDLL(None)


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


def test_what_is_nested_too_deep_counts_as_too_much_and_costs_no_time(
    folder: pathlib.Path, cpu_clock: Callable[[], float]
) -> None:
    nest(folder, 3000)
    started = cpu_clock()
    assert folders.used_bytes(str(folder), 1e9) == math.inf
    assert cpu_clock() - started < 0.5
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


def _map_a_page(descriptor: int) -> int:
    """Map a file's first page as C does: Python's own mapping keeps the file open."""
    _LIBC.mmap.restype = ctypes.c_void_p
    address = _LIBC.mmap(None, ctypes.c_size_t(4096), 1, 2, descriptor, ctypes.c_long(0))
    assert address
    return int(address)


def test_files_without_a_name_are_counted_while_they_are_open_or_mapped(folder: pathlib.Path) -> None:
    files = folders.NamelessFiles(str(folder))
    own = [os.getpid()]
    path = folder / "file"
    path.write_bytes(b"x" * 200_000)
    with path.open("rb") as held:
        assert files.used_bytes(own, 1 << 30) == 0, "it has a name, by which it is counted already"
        path.unlink()
        assert 200_000 <= files.used_bytes(own, 1 << 30) < 300_000
        address = _map_a_page(held.fileno())
    assert 200_000 <= files.used_bytes(own, 1 << 30) < 300_000, "a page is mapped, and the file is whole"
    _LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096))
    assert files.used_bytes(own, 1 << 30) == 0
    assert files.used_bytes([2**22 - 1], 1 << 30) == 0, "a process that is gone holds nothing"


def test_a_mapped_file_whose_size_nobody_tells_counts_as_was_asked(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = folders.NamelessFiles(str(folder))
    path = folder / "file"
    path.write_bytes(b"x" * 200_000)
    with path.open("rb") as file:
        address = _map_a_page(file.fileno())
    path.unlink()
    monkeypatch.setattr(folders.NamelessFiles, "_status", staticmethod(_refuse))
    assert files.used_bytes([os.getpid()], 12345) == 12345
    _LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096))


def _refuse(link: str) -> os.stat_result:
    raise PermissionError(link)
