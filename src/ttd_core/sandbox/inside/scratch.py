"""The folder that a job may write to: made for it, and taken away with it."""

from __future__ import annotations

import os
import stat

from ttd_core.sandbox.inside import folders, kernel


class Scratch:
    """Makes and removes the folder of one job after the other.

    :param path: where it is.
    :param mounts: whether it can be a tmpfs of exactly its size; else it lies on disk.
    """

    def __init__(self, path: str, mounts: bool) -> None:
        self._path = path
        self._mounts = mounts

    def folder(self, size: int) -> str:
        """Where the folder is of a job that may write ``size`` bytes; empty where it may write nothing."""
        return self._path if size else ""

    def open(self, size: int, uid: int) -> str:
        """Make it, for the user ``uid``; on disk anew for each job, since a folder keeps its size and times.

        :return: as :meth:`folder`.
        :raises OSError: when it cannot be made.
        """
        path = self.folder(size)
        if path and self._mounts:
            options = f"size={size},nr_inodes=65536,mode=700,uid={uid},gid={uid}"
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
        elif path:
            os.mkdir(path, 0o700)
            if uid:
                os.chown(path, uid, uid)
        return path

    def close(self, path: str) -> bool:
        """Take away what :meth:`open` made, once every process of the job has ended.

        :return: whether nothing is left.
        """
        if not path:
            return True
        if self._mounts:
            kernel.umount(path, kernel.MNT_DETACH)
            return True
        if folders.empty(path):
            os.rmdir(path)
        return not os.path.lexists(path)


def open_output(folder: str, name: str) -> int | None:
    """Open what a compiler left, only if it is an ordinary file: no link, FIFO or device is followed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(folder, name), flags)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return descriptor
