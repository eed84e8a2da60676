"""From a folder to a task: which framework it was written for, and what it says."""

from __future__ import annotations

import pathlib

from ttd_core.adopting.openevolve import read_openevolve
from ttd_core.adopting.task import Task


def read_task(folder: pathlib.Path, python: str | None = None) -> Task:
    """What a task's folder says; nothing of it is executed.

    :param python: the interpreter that will run the task, to say which modules it lacks; ours by default.
    :raises UsageError: when it is no task's folder, or a file of it cannot be read: one line that says which.
    """
    return read_openevolve(folder.expanduser().absolute(), python)
