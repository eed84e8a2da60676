"""Durable files and the one-line messages of storage failures."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import sqlite3
import threading

import pytest

from ttd_core.errors import ResumeError, StorageError
from ttd_core.run.files import (
    WriterLock,
    other_machine,
    read_lines,
    require_plain_file,
    storage_errors,
    write_atomically,
    writing_process,
)


def sqlite_error(name):
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full ("),
        (OSError(errno.EDQUOT, "x"), "the disk is full ("),
        (sqlite_error("SQLITE_FULL"), "the disk is full ("),
        (OSError(errno.EROFS, "x"), "the folder or the disk is read-only."),
        (PermissionError(errno.EACCES, "x"), "the folder or the disk is read-only."),
        (sqlite_error("SQLITE_READONLY_DBMOVED"), "the folder or the disk is read-only."),
        (sqlite_error("SQLITE_CANTOPEN"), "it is missing, or its folder cannot be written"),
        (sqlite_error("SQLITE_BUSY"), "another process keeps it locked."),
        (sqlite_error("SQLITE_CORRUPT"), "it is damaged."),
        (sqlite_error("SQLITE_NOTADB"), "it is damaged."),
        (sqlite_error("SQLITE_IOERR_FSYNC"), "what SQLite says"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_failure_is_one_line_that_names_the_path(tmp_path, error, reason):
    path = tmp_path / "run.db"
    with pytest.raises(StorageError) as caught, storage_errors(path, "read"):
        raise error
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read: ")
    assert reason in message
    assert "\n" not in message
    assert caught.value.__cause__ is error
    assert caught.value.exit_code == 3


def test_a_failure_is_told_where_the_folder_is_missing_too(tmp_path):
    path = tmp_path / "gone" / "deeper" / "run.db"
    with pytest.raises(StorageError, match="the disk is full"), storage_errors(path):
        raise OSError(errno.ENOSPC, "x")


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), storage_errors(None):
        raise ZeroDivisionError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "best.json"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.json"]
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_lock_is_free_again_once_released_and_not_inherited(tmp_path):
    WriterLock(tmp_path).release()
    lock = WriterLock(tmp_path)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # forked from the holder, as a sandbox's server is: it must be refused like any other
        try:
            WriterLock(tmp_path)
        except ResumeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert f"process {os.getpid()} is writing this run" in os.read(read, 1000).decode()
    os.close(read)
    lock.release()


def test_a_lock_that_is_no_plain_file_keeps_nobody_waiting(tmp_path) -> None:
    os.mkfifo(tmp_path / "lock")
    found: list[object] = []
    looking = threading.Thread(
        target=lambda: found.extend((writing_process(tmp_path), other_machine(tmp_path))), daemon=True
    )
    looking.start()
    looking.join(5)
    assert found == [None, ""]


def test_what_stands_in_the_way_is_said(tmp_path: pathlib.Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.touch()
    expected = {folder: "a folder is in its place", file / "inner": "a file is in the place of a folder"}
    for path, reason in expected.items():
        with pytest.raises(StorageError) as caught, storage_errors(path, "read"):
            path.read_bytes()
        assert str(caught.value) == f"{path} cannot be read: {reason}. Move that away"
    with (
        pytest.raises(StorageError, match=r"folder cannot be written: a folder is in its place\."),
        storage_errors(folder),
        contextlib.closing(sqlite3.connect(folder)),
    ):
        pass


def test_a_pipe_or_a_device_is_not_read(tmp_path: pathlib.Path) -> None:
    pipe, device = tmp_path / "pipe", tmp_path / "device"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    require_plain_file(tmp_path / "none")
    for path in (pipe, device):
        with pytest.raises(StorageError, match=r"a pipe or a device is in its place\. Move that away"):
            require_plain_file(path)
    with pytest.raises(StorageError, match=r"a folder is in its place\. Move that away"):
        require_plain_file(tmp_path)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"ab\ncd", [b"ab\n", b"cd"]),
        (b"abcd\nef\n", [b"abcd\n", b"ef\n"]),
        (b"abcde\nef\n", [b"\n", b"ef\n"]),
        (b"ef\n" + b"x" * 3_000_000 + b"\nab\n", [b"ef\n", b"\n", b"ab\n"]),
        (b"ef\n" + b"x" * 3_000_000, [b"ef\n", b""]),
    ],
)
def test_of_a_line_that_is_too_long_its_end_alone_is_read(
    content: bytes, lines: list[bytes], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert list(read_lines(file, 5)) == lines
