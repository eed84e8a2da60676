"""``ttd adopt --write``: a plugin of one's own, made from a task's folder."""

from __future__ import annotations

import json
import pathlib
import shlex
import string

from ttd_core.adopting.copying import copy_task, files_to_copy, folder_within
from ttd_core.adopting.modules import packages_of
from ttd_core.adopting.reading import framework_of
from ttd_core.adopting.task import Task
from ttd_core.cli.new_problem import names_of, render, write_new
from ttd_core.errors import UsageError
from ttd_core.text import showable_line, without_surrogates

#: Template to path in the package; ``$`` names are filled in both.
_PACKAGE = {
    "adopted_pyproject.txt": "pyproject.toml",
    "adopted_README.md": "README.md",
    "adopted_module.txt": "src/$module/__init__.py",
    "adopted_test.txt": "tests/test_$plain.py",
}


def write_plugin(task: Task, root: pathlib.Path) -> tuple[list[str], list[str]]:
    """Make a package whose problem is the task, with the task's files in it.

    :param root: its folder, made where there is none.
    :return: the files that were written, the task's counted as their folder, and what to do with them.
    :raises UsageError: when something stands there already; nothing is written then.
    :raises StorageError: when a file cannot be read or written.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} exists already and is not empty; name a new folder")
    words = names_of(task.name)
    inside = pathlib.PurePosixPath("task", *folder_within(task).parts)
    # Looked at before anything is written, for it may be refused.
    files_to_copy(task)
    words |= {
        "framework": framework_of(task.form),
        "folder": repr(str(inside)),
        "title": repr(showable_line(without_surrogates(task.title))),
        "metric": repr(task.metric),
        "direction": task.direction,
        "timeout_s": f"{task.timeout_s:g}",
        "dependencies": ", ".join(
            json.dumps(each) for each in (words["core"], *packages_of(task.lacks, task.folder))
        ),
    }
    files = {
        string.Template(path).substitute(words): render(f"package/{name}", words)
        for name, path in _PACKAGE.items()
    }
    package = f"src/{words['module']}"
    files[f"{package}/prompt.md"] = without_surrogates(task.description) + "\n"
    write_new(root, files)
    copied = copy_task(task, root / package / "task")
    paths = [str(root / path) for path in files]
    paths.append(f"{root / package / 'task'} ({len(copied)} of the task's files)")
    commands = [
        f"cd {shlex.quote(str(root))}",
        "pip install -e '.[test]'",
        "pytest",
        f"ttd check-problem {task.name}",
    ]
    return paths, commands
