"""Measure and empty a folder that a job wrote to, whatever it holds: no depth, name or mode can stop it.

Only for when every process of the job has ended, so that nothing changes underneath; measuring is safe
before, and then never counts too little.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat

_ENTRY_BYTES = 4096
_MOST_LEVELS = 64


def used_bytes(path: str, limit: float) -> float:
    """Bytes that files beneath a folder occupy, 4 KiB for each entry itself.

    :param limit: where counting may stop, since more is too much already.
    :return: infinity where a part is nested deeper than any program needs, or closed to us.
    """
    total = 0
    waiting = [(path, 0)]
    while waiting and total <= limit:
        folder, depth = waiting.pop()
        if depth > _MOST_LEVELS:
            return math.inf
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    total += _ENTRY_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue  # the job removed it meanwhile
        except OSError:
            return math.inf
    return total


class NamelessFiles:
    """Files that processes hold open, or mapped, whose name in a folder is gone: they take its space still.

    :param path: the folder; empty for none.
    """

    def __init__(self, path: str) -> None:
        self._device = os.stat(path).st_dev if path else -1
        self._inside = path.encode() + b"/"
        #: the largest size that each was seen with, by inode
        self._sizes: dict[int, int] = {}

    def used_bytes(self, pids: list[int], unknown: int) -> int:
        """Bytes that they occupy now.

        :param unknown: taken for the size of a file that is mapped alone, where we may not ask for it.
        """
        held: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(OSError):  # it ended meanwhile
                self._add_open(f"/proc/{pid}/fd", held)
                self._add_mapped(pid, held, unknown)
        self._sizes |= held
        return sum(held.values())

    def _add_open(self, folder: str, held: dict[int, int]) -> None:
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed meanwhile
                status = os.stat(f"{folder}/{name}")
                if status.st_dev == self._device and not status.st_nlink and stat.S_ISREG(status.st_mode):
                    held[status.st_ino] = status.st_blocks * 512

    def _add_mapped(self, pid: int, held: dict[int, int], unknown: int) -> None:
        with open(f"/proc/{pid}/maps", "rb") as file:
            text = file.read()
        if self._inside not in text:
            return
        for line in text.splitlines():
            if self._inside not in line or not line.endswith(b" (deleted)"):
                continue
            span, _, _, _, inode, *_ = line.split()
            if int(inode) not in held:
                link = f"/proc/{pid}/map_files/{span.decode()}"
                held[int(inode)] = self._size_of(link, int(inode), unknown)

    def _size_of(self, link: str, inode: int, unknown: int) -> int:
        try:
            return self._status(link).st_blocks * 512
        except OSError:  # only root follows such a link
            return self._sizes.get(inode, unknown)

    @staticmethod
    def _status(link: str) -> os.stat_result:
        return os.stat(link)


def _enter(name: str, folder: int) -> int:
    """Open a folder in an open folder, and close that one."""
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _clear_files(folder: int) -> str:
    """Remove what is no folder.

    :return: the name of a folder inside, made passable; empty if there is none.
    """
    inner = ""
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            inner = name
        else:
            os.unlink(name, dir_fd=folder)
    if inner:
        os.chmod(inner, 0o700, dir_fd=folder)
    return inner


def empty(path: str) -> bool:
    """Remove all that lies in a folder.

    Walks with one descriptor, down by name and up by ``..``, so depth costs neither stack nor descriptors
    nor long paths.

    :return: whether it is empty now.
    """
    here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    entered: list[str] = []
    try:
        while True:
            inner = _clear_files(here)
            if inner:
                here = _enter(inner, here)
                entered.append(inner)
            elif entered:
                here = _enter("..", here)
                os.rmdir(entered.pop(), dir_fd=here)
            else:
                return True
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):  # closed already where entering failed
            os.close(here)
