"""One evaluation of an adopted task as a job of the sandbox: the program and its evaluator, together."""

from __future__ import annotations

import functools
import os
import secrets
from typing import Any

import attrs

from ttd_core.adopting.interpreter import Interpreter
from ttd_core.adopting.task import Call, Task
from ttd_core.package_files import package_text
from ttd_core.sandbox.base import MIB, Access, Limits, PythonJob

#: What a program's file is called, without its ending: no module of a task has this name.
PROGRAM = "candidate_program"
#: Bytes that an evaluation may write, print and give back, and processes and threads it may start.
_SCRATCH, _OUTPUT, _RESULT, _PROCESSES = 512 * MIB, 16 * MIB, 2 * MIB, 512
#: Folders whose programs an evaluation may start: shells, compilers and their parts.
_SYSTEM_PROGRAMS = ("/bin", "/usr/bin", "/usr/local/bin", "/usr/lib", "/usr/libexec", "/usr/local/lib")
#: SkyDiscover's containers have the evaluator's folder here.
_CONTAINER_FOLDER = "/benchmark"
#: NVIDIA's devices, for evaluators that need CUDA.
_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")


@functools.cache
def program_text(name: str) -> str:
    """A program of ours that runs inside the sandbox."""
    return package_text("ttd_core.adopting", "programs", name)


def stand_in_modules(interpreter: Interpreter) -> dict[str, str]:
    """What evaluators import of a framework that the task's Python does not have: file names and texts."""
    result = program_text("evaluation_result.py")
    core = program_text("shinka_core.py")
    of_each = {
        "openevolve": {"__init__.py": result, "evaluation_result.py": result},
        "skydiscover": {
            "__init__.py": result,
            "evaluation/__init__.py": result,
            "evaluation/evaluation_result.py": result,
        },
        "shinka": {"__init__.py": "", "core/__init__.py": core, "core/wrap_eval.py": core},
    }
    return {
        f"modules/{framework}/{name}": text
        for framework, files in of_each.items()
        if framework not in interpreter.frameworks
        for name, text in files.items()
    }


def evaluation_limits(limits: Limits) -> Limits:
    """The limits of a problem's options, with what an evaluator may write, print, give back and start."""
    return attrs.evolve(limits, scratch=_SCRATCH, output=_OUTPUT, result=_RESULT, processes=_PROCESSES)


def evaluation_access(task: Task, interpreter: Interpreter) -> Access:
    """What of this machine an evaluation sees and starts: the task's folder, its Python, programs."""
    files = [str(path) for _, path in task.evaluator.files]
    readable = dict.fromkeys(
        [str(task.folder), str(task.evaluator.path.parent), *files, *interpreter.readable]
    )
    system = [path for path in _SYSTEM_PROGRAMS if os.path.isdir(path)]
    devices = gpu_devices() if task.gpu or task.evaluator.call is Call.POPCORN else ()
    return Access(
        devices=devices,
        readable=tuple(readable),
        executables=tuple(dict.fromkeys([*interpreter.executables, *system])),
        pools=True,
        links=_links(task),
    )


def closed_to_jobs(task: Task) -> str:
    """What of a task's files no job can read, as root's jobs run as another user; empty where all can be."""
    if os.geteuid() != 0:
        return ""
    paths = [task.folder, task.evaluator.path.parent, task.evaluator.path]
    paths += [path for _, path in task.evaluator.files]
    closed = (path for path in paths if not path.stat().st_mode & (0o001 if path.is_dir() else 0o004))
    return str(next(closed, ""))


def _links(task: Task) -> tuple[tuple[str, str], ...]:
    """Where an evaluator written for a container finds its folder, unless this machine has that path."""
    if task.evaluator.call is not Call.SHELL or os.path.lexists(_CONTAINER_FOLDER):
        return ()
    return ((_CONTAINER_FOLDER, os.path.realpath(task.evaluator.path.parent)),)


def gpu_devices() -> tuple[str, ...]:
    """The devices of the machine's GPUs; none where it has none."""
    numbered = [f"/dev/nvidia{number}" for number in range(16)]
    return tuple(path for path in (*numbered, *_DEVICES) if os.path.exists(path))


def evaluation_job(
    task: Task, interpreter: Interpreter, program: str, limits: Limits, **changes: Any
) -> PythonJob:
    """The job that runs a task's evaluator on a program; its value is what ``programs/evaluate.py`` gives.

    :param program: its whole text, or what stands for it.
    :param changes: entries of the plan that are other than usual.
    """
    evaluator = task.evaluator
    beside = evaluator.call is Call.POPCORN
    files = {name: str(path) for name, path in evaluator.files}
    main = next((name for name, path in evaluator.files if path == evaluator.path), evaluator.path.name)
    if beside:
        files.setdefault(main, str(evaluator.path))
    plan: dict[str, Any] = {
        "call": evaluator.call.value,
        "caller": program_text("call.py"),
        "path": str(evaluator.path),
        "folders": list(dict.fromkeys([str(evaluator.path.parent), str(task.folder)])),
        "files": files,
        "main": main,
        "thresholds": list(evaluator.thresholds),
        "tests": list(evaluator.tests),
        "benchmarks": list(evaluator.benchmarks),
        "metric": task.metric,
        "seed": secrets.randbelow(1 << 31),
        "program": program,
        "program_name": f"{'submission' if beside else PROGRAM}{task.suffix}",
        "python": interpreter.command,
        "search": list(interpreter.search),
        "modules": stand_in_modules(interpreter),
        "first": False,
        "record": None,
    }
    return PythonJob(
        source=program_text("evaluate.py"),
        entry="run",
        args=[plan | changes],
        limits=limits,
        access=evaluation_access(task, interpreter),
    )
