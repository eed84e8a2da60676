"""Writing a run folder safely: whole files, names that last, one writer, and storage errors in one line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import shlex
import shutil
import socket
import sqlite3
import stat
import struct
from collections.abc import Iterator
from typing import IO

from ttd_core.errors import ResumeError, StorageError
from ttd_core.input_files import MAX_FILE_BYTES

#: Most bytes of a line that is read back, and of a verdict: twice what a file that people hand in may have,
#: so that a record with the largest arrays fits as base 64. No record of a run reaches it.
LARGEST_LINE = 2 * MAX_FILE_BYTES

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
#: Bytes in which a line that is too long is passed over.
_PIECE = 1024 * 1024
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def resume_command(folder: pathlib.Path) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return f"ttd resume {shlex.quote(str(folder))}"


@contextlib.contextmanager
def storage_errors(path: pathlib.Path, action: str = "written") -> Iterator[None]:
    """Turn what goes wrong with a file or database at ``path`` into one clear line.

    :param action: what could not be done to it: ``written``, ``read``.
    :raises StorageError: for any :class:`OSError` or :class:`sqlite3.Error` inside.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{path} cannot be {action}: {_reason(error, path, action)}") from error


def require_plain_file(path: pathlib.Path) -> None:
    """Refuse what is no plain file, for a pipe keeps its reader waiting and a device may never end.

    :raises StorageError: names it; nothing where there is none.
    """
    with storage_errors(path, "read"):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise StorageError(f"{path} cannot be read: a pipe or a device is in its place. Move that away")


def _reason(error: OSError | sqlite3.Error, path: pathlib.Path, action: str) -> str:
    """What was wrong and what to do."""
    name = getattr(error, "sqlite_errorname", "") or ""
    code = error.errno if isinstance(error, OSError) else None
    if name == "SQLITE_FULL" or code in _FULL or (name.startswith("SQLITE_IOERR") and _free(path) == 0):
        free = f"{_free(path) / 1e6:.1f} MB free"
        return f"the disk is full ({free}). Free some space and resume; every committed step is kept"
    if name.startswith("SQLITE_READONLY") or code in _READ_ONLY:
        return "the folder or the disk is read-only. Make it writable, or choose another folder"
    if code in _IN_THE_WAY or (name == "SQLITE_CANTOPEN" and path.is_dir()):
        what = "a folder is in its place" if path.is_dir() else "a file is in the place of a folder"
        return f"{what}. Move that away"
    if code == errno.ENOENT and action == "read":
        return "it is missing. Bring it back from a copy"
    if name == "SQLITE_CANTOPEN" or code == errno.ENOENT:
        return "it is missing, or its folder cannot be written"
    if name.startswith("SQLITE_BUSY"):
        return "another process keeps it locked. Try again when that has ended"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "it is damaged. Restore the run folder from a copy"
    return error.strerror or f"{error}" if isinstance(error, OSError) else f"{error}"


def _free(path: pathlib.Path) -> int:
    """Bytes free for this user on the disk where a path is, or would be."""
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a whole file or nothing: to another name, synced, then renamed over ``path``.

    The name itself is durable after :func:`sync_folder`.

    :raises OSError: as the system reports it; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_lines(file: IO[bytes], limit: int) -> Iterator[bytes]:
    """The lines of a file from where it stands, each with its end; after each the file stands behind it.

    :param limit: most bytes of a line, as a rule :data:`LARGEST_LINE`. Of a longer one the end alone comes,
        as of one that is damaged, and no more than ``limit`` bytes of it are ever in memory.
    """
    while line := file.readline(limit + 1):
        if len(line) > limit:
            while line and not line.endswith(b"\n"):
                line = file.readline(_PIECE)
            line = line[-1:]
        yield line


class LineFile:
    """Appends lines to a file, one write a line, so that concurrent writers never interleave.

    Readers pass over a line of more than :data:`LARGEST_LINE` bytes (:func:`read_lines`).

    What was appended survives the end of this process, however it ends; a power cut may take the last lines.

    :param path: the file; made when missing. A line torn by a crash is closed, so the next stays whole.
    :raises StorageError: when it cannot be written.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        with storage_errors(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held until close
            size = self._file.seek(0, os.SEEK_END)
            self._file.seek(max(size - 1, 0))
            self._torn = self._file.read(1) not in (b"", b"\n")

    def append(self, text: str) -> None:
        """Write one line.

        :param text: without a line break.
        :raises StorageError: when the disk is full or read-only.
        """
        line = f"{text}\n".encode()
        with storage_errors(self._path):
            line = b"\n" + line if self._torn else line
            self._torn = self._file.write(line) != len(line)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sync_folder(folder: pathlib.Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WriterLock:
    """Held by the one process that writes a run; the system frees it when that process ends, however.

    A record lock: processes forked from the holder do not inherit it, so a sandbox that outlives a killed
    run does not block its resumption. It does not guard against two writers within one process.

    :raises ResumeError: when another process holds it.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._file: IO[str] = open(folder / "lock", "a+", encoding="ascii")  # noqa: SIM115 - held until release
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = (self._file.read().split() or ["unknown"])[0]
            self._file.close()
            raise ResumeError(
                f"{folder}: process {holder} is writing this run; wait for it or stop it"
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()} {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in."""
        self._file.close()


#: ``struct flock`` of Linux, 64 bits: type, whence, start, length, process.
_FLOCK = "hhqqi4x"


def writing_process(folder: pathlib.Path) -> int | None:
    """Id of the process that writes a run; ``None`` when none does. Asks without taking the lock."""
    if not _has_lock(folder):
        return None
    try:
        file = open(folder / "lock", "rb")  # noqa: SIM115 - closed below, whatever happens
    except FileNotFoundError:
        return None
    with file:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        # A writer asks for all of the file, so any lock there is its own; our own process never conflicts.
        kind, _, _, _, holder = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, wanted))
    return None if kind == fcntl.F_UNLCK else holder


def _has_lock(folder: pathlib.Path) -> bool:
    """Whether there is a lock that can be read: what is no plain file might keep its reader waiting."""
    return (folder / "lock").is_file()


def other_machine(folder: pathlib.Path) -> str:
    """The machine on which a run was written last, where that is not this one; empty otherwise.

    Whether it is still written there may be unknown here: file systems that machines share need not tell of
    locks.
    """
    if not _has_lock(folder):
        return ""
    try:
        words = (folder / "lock").read_text(encoding="utf-8", errors="replace")[:300].split()
    except OSError:
        return ""
    host = words[1] if len(words) > 1 else ""
    return "" if host == socket.gethostname() else host
