"""Which modules a task imports and its Python has not: asked of that Python, by name alone."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from ttd_core.adopting.sources import Import, Source, imports_of, is_local
from ttd_core.errors import UsageError
from ttd_core.input_files import read_text_file
from ttd_core.text import showable_line

#: Seconds that another Python may take to say what it has.
ASK_SECONDS = 30.0
_SHINKA = frozenset({"run_shinka_eval", "save_json_results", "load_program"})
#: What a task may import of its own framework: it is supplied, so the framework need not be installed.
SUPPLIED: dict[str, frozenset[str]] = {
    "openevolve": frozenset({"EvaluationResult"}),
    "openevolve.evaluation_result": frozenset({"EvaluationResult"}),
    "skydiscover": frozenset({"EvaluationResult"}),
    "skydiscover.evaluation": frozenset({"EvaluationResult"}),
    "skydiscover.evaluation.evaluation_result": frozenset({"EvaluationResult"}),
    "shinka.core": _SHINKA,
    "shinka.core.wrap_eval": _SHINKA,
    "shinka.eval": _SHINKA,
}
#: Distributions whose module is named otherwise.
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
    "Stemmer": "PyStemmer",
    "shinka": "shinka-evolve",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "dotenv": "python-dotenv",
    "git": "gitpython",
    "serial": "pyserial",
    "Crypto": "pycryptodome",
    "mpl_toolkits": "matplotlib",
}
#: Told names on standard input, it says which of them this Python has not; top modules only, so that nothing
#: is imported to find them.
_ASK = """
import importlib.util, json, sys
def has(name):
    if name in sys.builtin_module_names or name in getattr(sys, "stdlib_module_names", ()):
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False
print(json.dumps([name for name in json.load(sys.stdin) if not has(name)]))
"""


def missing_modules(
    sources: Sequence[Source],
    places: Sequence[pathlib.Path],
    named: Mapping[str, pathlib.Path],
    python: str | None,
) -> tuple[tuple[str, ...], list[str]]:
    """Modules that a task lacks, and a line for each that it would use if it were there.

    :param places: folders where modules of the task's own may lie.
    :param named: modules of its own that lie elsewhere, by name.
    :param python: the interpreter that is asked; ours by default.
    :raises UsageError: when that interpreter does not answer.
    """
    wanted: dict[str, list[Import]] = {}
    for each in (each for source in sources for each in imports_of(source)):
        top = each.module.split(".")[0]
        if top and not is_local(each.module, places, named) and not _is_supplied(each):
            wanted.setdefault(top, []).append(each)
    missing = absent(sorted(wanted), python)
    lacks = tuple(
        name for name in missing if not all(each.optional or each.deferred for each in wanted[name])
    )
    said = []
    for name in (name for name in missing if name not in lacks):
        how = "where it is installed" if all(each.optional for each in wanted[name]) else "by a function"
        said.append(f"{wanted[name][0].where}: {name} is imported {how}, and it is not installed")
    for name in lacks:
        where = next(each.where for each in wanted[name] if not (each.optional or each.deferred))
        beside = outside(name, places)
        what = f"is {beside}, outside the task's folder: copy it in" if beside else "is not installed"
        said.append(f"{where}: it imports {name}, which {what}")
    return lacks, said


def outside(module: str, places: Sequence[pathlib.Path]) -> pathlib.Path | None:
    """A module's file where it lies in a folder above the task's, which the sandbox does not have."""
    above = [parent / f"{module}.py" for place in places for parent in list(place.parents)[:3]]
    return next((path for path in above if os.path.isfile(path)), None)


def _is_supplied(each: Import) -> bool:
    return bool(each.names) and set(each.names) <= SUPPLIED.get(each.module, frozenset())


def absent(names: Sequence[str], python: str | None = None) -> list[str]:
    """Which of some top modules a Python has not.

    :param python: the interpreter; ours by default.
    :raises UsageError: when it does not answer.
    """
    if not names:
        return []
    if python is None:
        return [name for name in names if not _have(name)]
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _ASK],
            input=json.dumps(list(names)),
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"--python {python}: it did not say within {ASK_SECONDS:.0f} s what it has installed"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--python {python}: cannot be started: {reason}") from error
    try:
        said = json.loads(answer.stdout[-100_000:])
    except ValueError:
        said = None
    if answer.returncode or not isinstance(said, list):
        last = showable_line((answer.stderr.strip().splitlines() or ["it said nothing"])[-1])[:200]
        raise UsageError(f"--python {python}: not a Python that can be asked what it has: {last}")
    return [name for name in names if name in said]


def _have(name: str) -> bool:
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def packages_of(modules: Iterable[str], folder: pathlib.Path) -> list[str]:
    """What to install for some modules, as the folder's ``requirements.txt`` names it where it does."""
    required = _requirements(folder) + _requirements(folder / "evaluator")
    plain = {_plain(line): line for line in required}
    packages = []
    for module in modules:
        if outside(module, [folder]):
            continue
        name = _DISTRIBUTIONS.get(module, module.replace("_", "-"))
        packages.append(plain.get(_plain(name)) or plain.get(_plain(module)) or name)
    return packages


def _requirements(folder: pathlib.Path) -> list[str]:
    path = folder / "requirements.txt"
    try:
        lines = read_text_file(path).split("\n") if path.is_file() else []
    except UsageError:
        return []
    plain = (line.split("#")[0].split(";")[0].strip() for line in lines[:1000])
    return [line for line in plain if re.match(r"[A-Za-z0-9][\w.-]*(\[[\w,]*\])?\s*([<>=!~].*)?$", line)]


def _plain(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
