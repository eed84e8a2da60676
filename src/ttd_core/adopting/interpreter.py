"""The Python that a task's evaluator runs in, and what of this machine it needs to be seen by a job."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import attrs

from ttd_core.errors import UsageError
from ttd_core.sandbox import layout
from ttd_core.sandbox.base import SEARCH_PATH
from ttd_core.text import showable_line

#: Frameworks that evaluators import from; of each that is not installed, a stand-in is given.
FRAMEWORKS = ("openevolve", "skydiscover", "shinka")
_PROBE = """
import importlib.util, json, sys
frameworks = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None]
print(json.dumps({
    "executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix,
    "search": [path for path in sys.path if path], "frameworks": frameworks,
}))
"""
_PROBE_S = 60.0


@attrs.frozen
class Interpreter:
    """A Python, and how a job reaches it.

    :param command: its executable.
    :param search: folders for ``PYTHONPATH``.
    :param readable: what a job must see of this machine for it, beyond the usual.
    :param executables: what a job must be able to execute for it.
    :param frameworks: which of :data:`FRAMEWORKS` are installed there.
    """

    command: str
    search: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    executables: tuple[str, ...] = ()
    frameworks: frozenset[str] = frozenset()


def path_of(python: str) -> str:
    """A Python's path, absolute, of a path or a program's name.

    :raises UsageError: when there is no such program.
    """
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UsageError(f"python: there is no program {python}")
    return os.path.abspath(found)


@functools.cache
def interpreter(python: str | None) -> Interpreter:
    """The interpreter at a path; this process's own where none is named.

    :param python: a path, or a program's name.
    :raises UsageError: when it cannot be run.
    """
    if python is None:
        shown = layout.find()
        installed = frozenset(name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None)
        return Interpreter(shown.python, shown.libraries, (), (shown.python,), installed)
    facts = _probe(path_of(python))
    if pathlib.Path(facts["prefix"]).resolve() == pathlib.Path(sys.prefix).resolve():
        return interpreter(None)
    command = facts["executable"]
    seen = [facts["prefix"], facts["base"], *filter(os.path.isdir, facts["search"])]
    readable = tuple(dict.fromkeys(os.path.realpath(path) for path in seen if path != "/usr"))
    executables = tuple(dict.fromkeys([os.path.realpath(command), os.path.join(facts["base"], "bin")]))
    return Interpreter(command, (), readable, executables, frozenset(facts["frameworks"]))


def _probe(path: str) -> dict[str, Any]:
    command = [path, "-c", _PROBE, *FRAMEWORKS]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, cwd="/", check=False)
        facts: dict[str, Any] = json.loads(ran.stdout)
        return facts
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"python: {path} is no Python that runs: {showable_line(str(error))}") from error


#: Programs that an evaluator needs beside Python, by the language of a candidate.
_COMPILERS = {
    "c": ("gcc",),
    "c++": ("g++",),
    "cpp": ("g++",),
    "fortran": ("gfortran",),
    "go": ("go",),
    "java": ("javac", "java"),
    "julia": ("julia",),
    "r": ("Rscript",),
    "rust": ("rustc",),
    "wolfram": ("wolframscript",),
}


def missing_programs(language: str) -> list[str]:
    """Programs that evaluating a language takes and that no job finds on this machine."""
    return [name for name in _COMPILERS.get(language, ()) if shutil.which(name, path=SEARCH_PATH) is None]
