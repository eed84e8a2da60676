"""The runs below one folder, each named by its path from there; what leads outside is not found."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator

from ttd_core.run.overview import looks_like_a_run
from ttd_core.run.reading import ARRAYS, DATABASE, LOG
from ttd_core.run.requests import REQUESTS
from ttd_core.run.setup import CONFIG_FILE

#: Folders between the top one and a run, at most: those of experiments.
DEPTH = 3
#: Runs and other folders that are looked at, at most.
MOST = 5000
#: The run's name where the folder is a run itself.
ITSELF = "."


class NotFoundError(LookupError):
    """What an address names is not there; the message is for people."""


class RunFolders:
    """The runs below a folder.

    :param root: the folder; it may come to be later.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root.absolute()

    def names(self) -> list[str]:
        """Every run's name: its path from the folder, with slashes."""
        if _is_run(self.root):
            return [ITSELF]
        folders = itertools.islice(self._below(self.root, DEPTH), MOST)
        return [
            folder.relative_to(self.root).as_posix()
            for folder in folders
            if _is_run(folder) and self._is_inside(folder)
        ]

    def folder(self, name: str) -> pathlib.Path:
        """The folder of a run.

        :raises NotFoundError: when there is no run of that name below the folder, or it lies elsewhere.
        """
        parts = pathlib.PurePosixPath(name).parts
        if name != ITSELF and (not parts or name.startswith("/") or ".." in parts or "\0" in name):
            raise NotFoundError(f"there is no run {name!r} here")
        folder = self.root.joinpath(*parts)
        try:
            if looks_like_a_run(folder) and self._is_inside(folder):
                return folder
        except OSError as error:
            # A name that no file can have, or a folder of somebody else's.
            raise NotFoundError(f"there is no run {name[:80]!r} here") from error
        raise NotFoundError(
            f"the run {name!r} is not here; if it was before, its folder was removed or moved"
        )

    def title(self, name: str) -> str:
        """What a run is called on a page."""
        return self.root.name if name == ITSELF else name

    def _below(self, folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
        """Folders in a folder, in the order of their names, and in those that are no runs."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            path = pathlib.Path(entry.path)
            # os.path tells of links that lead in a circle that they are no folder; the entry itself raises.
            if entry.name.startswith(".") or not os.path.isdir(path):
                continue
            yield path
            if depth > 1 and not entry.is_symlink() and not _is_run(path):
                yield from self._below(path, depth - 1)

    def _is_inside(self, folder: pathlib.Path) -> bool:
        """Whether the folder and all that is read of it lie below the top folder, links followed."""
        root = os.path.realpath(self.root)
        parts = (DATABASE, f"{DATABASE}-wal", LOG, CONFIG_FILE, ARRAYS, REQUESTS)
        paths = (folder, *(folder / name for name in parts))
        # Path.resolve raises where links lead in a circle; such a file cannot be opened.
        return all(pathlib.Path(os.path.realpath(path)).is_relative_to(root) for path in paths)


def _is_run(folder: pathlib.Path) -> bool:
    """Whether a folder is a run's; one that this user must not look into is none."""
    try:
        return looks_like_a_run(folder)
    except OSError:
        return False
