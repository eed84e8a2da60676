"""From a folder to a task: which framework it was written for, and what it says."""

from __future__ import annotations

import contextlib
import pathlib

import attrs

from ttd_core.adopting import gpu_mode, openevolve, shinka
from ttd_core.adopting.folder import name_of, names_in
from ttd_core.adopting.task import Form, Task
from ttd_core.errors import UsageError

_READERS = {
    Form.OPENEVOLVE: openevolve.read_openevolve,
    Form.SHINKA: shinka.read_shinka,
    Form.GPU_MODE: gpu_mode.read_gpu_mode,
}
_FRAMEWORKS = {
    Form.OPENEVOLVE: "OpenEvolve or SkyDiscover",
    Form.SHINKA: "ShinkaEvolve",
    Form.GPU_MODE: "GPU MODE",
}
#: Folders of a folder that are looked into, and shown, where it is no task itself.
MAX_INNER, SHOWN_INNER = 100, 3
_WANTED = "initial_program.* with evaluator.py, initial.* with evaluate.py, or task.yml"


def read_task(folder: pathlib.Path, python: str | None = None) -> Task:
    """What a task's folder says; nothing of it is executed.

    :param python: the interpreter that will run the task, to say which modules it lacks; ours by default.
    :raises UsageError: when it is no task's folder, or a file of it cannot be read: one line that says which.
    """
    named = folder.expanduser().absolute()
    # A job sees a folder where it lies, and not the links that lead to it.
    folder = _resolved(named)
    task = _READERS[form_of(folder)](folder, python)
    return attrs.evolve(task, name=name_of(named)) if named.is_symlink() else task


def _resolved(folder: pathlib.Path) -> pathlib.Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:  # links that lead to each other
        raise UsageError(f"{folder}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def framework_of(form: Form) -> str:
    """The name of the framework that a form belongs to."""
    return _FRAMEWORKS[form]


def form_of(folder: pathlib.Path) -> Form:
    """Which form a folder has, by the evaluators and starting programs in it.

    :raises UsageError: when it is no folder, is empty, or has no form or several.
    """
    names = names_in(folder)
    evaluators = _evaluators(folder, names)
    if not names and not any(folder.iterdir()):
        raise UsageError(f"{folder}: empty; a task's folder has {_WANTED}")
    # Where there are evaluators of several frameworks, the starting program says whose task it is.
    whole = [form for form in evaluators if _has_program(form, names)] or list(evaluators)
    if len(whole) > 1:
        found = " and ".join(f"{evaluators[form]} (of {_FRAMEWORKS[form]})" for form in whole)
        raise UsageError(f"{folder}: two evaluators: {found}; keep one of them in a folder of its own")
    if whole:
        return whole[0]
    if _has_program(Form.OPENEVOLVE, names):
        return Form.OPENEVOLVE
    if _has_program(Form.SHINKA, names):
        raise UsageError(f"{folder}: no evaluator: evaluate.py is wanted beside {_program(names)}")
    raise UsageError(f"{folder}: no task: {_WANTED} is wanted{_tasks_within(folder)}")


def _tasks_within(folder: pathlib.Path) -> str:
    """Which folders of one seem to be tasks, for a message."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())[:MAX_INNER]
    found = []
    for path in inner:
        with contextlib.suppress(UsageError):
            found += [path.name] if path.name != "evaluator" and _evaluators(path, names_in(path)) else []
    if not found:
        return ""
    shown = ", ".join(found[:SHOWN_INNER]) + (" and others" if len(found) > SHOWN_INNER else "")
    return f"; in it, {shown} may be what you mean"


def _evaluators(folder: pathlib.Path, names: list[str]) -> dict[Form, str]:
    """What there is of each form's evaluators, by its name."""
    found: dict[Form, str] = {}
    for name in ("evaluator/evaluate.sh", "evaluator/evaluator.py", "evaluate.sh", "evaluator.py"):
        if (folder / name).is_file():
            found[Form.OPENEVOLVE] = name
    if shinka.EVALUATOR in names:
        found[Form.SHINKA] = shinka.EVALUATOR
    if gpu_mode.CONFIG in names:
        found[Form.GPU_MODE] = gpu_mode.CONFIG
    return found


def _has_program(form: Form, names: list[str]) -> bool:
    stems = {Form.OPENEVOLVE: openevolve.STEMS, Form.SHINKA: shinka.STEMS}.get(form)
    # A task.yml says itself where its starting program is.
    return stems is None or any(name.startswith(f"{stem}.") for name in names for stem in stems)


def _program(names: list[str]) -> str:
    return next(name for name in names if name.startswith("initial."))
