"""Constructions on disk: one ``.npy`` file an array, named by its content, pickling off."""

from __future__ import annotations

import concurrent.futures
import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ttd_core.errors import StorageError
from ttd_core.run.files import storage_errors, sync_folder, write_atomically
from ttd_core.types import array_digest

#: Files written at once: what takes the time is the disk's answer to each sync.
_WRITERS = 8


class ArrayFiles:
    """Arrays by digest (:func:`~ttd_core.types.array_digest`) in one folder. A file never changes.

    :param folder: ``arrays/`` of a run.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> pathlib.Path:
        """Where an array is, or would be."""
        return self.folder / f"{digest}.npy"

    def save(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write, durably, those arrays that are not there yet.

        :raises StorageError: when the disk is full or read-only; no torn file is left.
        """
        missing = [digest for digest in arrays if not self.path(digest).exists()]
        if not missing:
            return
        with storage_errors(self.folder):
            with concurrent.futures.ThreadPoolExecutor(min(_WRITERS, len(missing))) as pool:
                list(pool.map(lambda digest: self._save_one(digest, arrays[digest]), missing))
            sync_folder(self.folder)

    def sweep(self) -> None:
        """Remove what writers that were killed left half-written; only for the run's one writer."""
        with storage_errors(self.folder):
            for path in self.folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def _save_one(self, digest: str, array: npt.NDArray[Any]) -> None:
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_atomically(self.path(digest), content.getvalue())

    def load(self, digest: str) -> npt.NDArray[Any]:
        """Read one array.

        :raises StorageError: when the file is missing, or holds anything else than its name says.
        """
        path = self.path(digest)
        with storage_errors(path, "read"):
            content = path.read_bytes()
        try:
            array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except ValueError as error:
            raise StorageError(f"{path} cannot be read: it is damaged ({error})") from error
        if array_digest(array) != digest:
            raise StorageError(f"{path} cannot be read: it is damaged (its content does not match its name)")
        return array


class LazyArrays(dict[str, npt.NDArray[Any]]):
    """Arrays by digest, each read from its file when it is first asked for.

    :raises StorageError: on access, when the file is missing or damaged.
    """

    def __init__(self, files: ArrayFiles) -> None:
        super().__init__()
        self._files = files

    def __missing__(self, digest: str) -> npt.NDArray[Any]:
        self[digest] = self._files.load(digest)
        return self[digest]
