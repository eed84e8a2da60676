"""A task's files copied to where they may be changed: its folder, and what lies beside it that it names."""

from __future__ import annotations

import itertools
import os
import pathlib
import shutil

from ttd_core.adopting.folder import files_below
from ttd_core.adopting.task import Task
from ttd_core.errors import StorageError, UsageError

#: Most files and bytes of a task that are copied.
MAX_FILES, MAX_BYTES = 2000, 512 * 1024 * 1024
#: Folders that tools and runs leave behind.
_LEFT_BEHIND = frozenset(
    {
        *("__pycache__", "node_modules", "venv", "env", "build", "dist"),
        *("openevolve_output", "outputs", "results", "runs", "wandb"),
    }
)


def files_to_copy(task: Task) -> dict[pathlib.PurePath, pathlib.Path]:
    """What a copy of a task has, by the paths from the folder that holds all of it.

    Hidden files, what tools leave behind, and links that lead out of the folder are left out.

    :raises UsageError: when it is more than any task has.
    """
    root = _root(task)
    paths = [*_walked(task.folder), *_beside(task)]
    found: dict[pathlib.PurePath, pathlib.Path] = {path.relative_to(root): path for path in paths}
    if len(found) > MAX_FILES or sum(path.stat().st_size for path in found.values()) > MAX_BYTES:
        raise UsageError(
            f"{task.folder}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB; copy what the task needs "
            "into a folder of its own first"
        )
    return found


def folder_within(task: Task) -> pathlib.PurePath:
    """Where the task's folder is in a copy of it."""
    return task.folder.resolve().relative_to(_root(task).resolve())


def copy_task(task: Task, target: pathlib.Path) -> list[pathlib.Path]:
    """Copy a task's files; bytes as they are, and whether they may be executed.

    :param target: a folder, made where there is none.
    :return: what was written.
    :raises UsageError: when it is more than any task has.
    :raises StorageError: when a file cannot be read or written.
    """
    written = []
    for name, path in files_to_copy(task).items():
        try:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
            shutil.copymode(path, target / name)
        except OSError as error:
            raise StorageError(f"{target / name}: cannot be written: {error.strerror or error}") from error
        written.append(target / name)
    return written


def _root(task: Task) -> pathlib.Path:
    """The folder that holds the task's and all that it names outside of it."""
    return pathlib.Path(os.path.commonpath([task.folder.resolve(), *(path.parent for path in _beside(task))]))


def _beside(task: Task) -> list[pathlib.Path]:
    """Files that a task names and that need not lie in its folder."""
    paths = [path for _, path in task.evaluator.files]
    return [path.resolve() for path in (*paths, task.program_path) if path is not None]


def _walked(folder: pathlib.Path) -> list[pathlib.Path]:
    folder = folder.resolve()
    within = (path for path in files_below(folder, _LEFT_BEHIND) if path.resolve().is_relative_to(folder))
    # One more than are copied, so that this can be refused.
    return list(itertools.islice(within, MAX_FILES + 1))
