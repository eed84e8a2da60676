"""What is installed: problems and plugins by entry point, read from metadata alone.

Nothing is imported here, so listing stays fast and a broken plugin can be listed; a title is read from the
source. Group ``ttd.problems`` holds one line a problem (name -> class), group ``ttd.plugins`` one a module
with hooks.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import pathlib
import re
import warnings
from collections.abc import Sequence

import attrs

from ttd_core.errors import RegistryClashError, UnknownProblemError, did_you_mean

PROBLEMS = "ttd.problems"
PLUGINS = "ttd.plugins"

#: Problems of the distributions published beside this one, for the hint on what to install.
_PUBLISHED = {
    "erdos": "ttd-math",
    "ac1": "ttd-math",
    "ac2": "ttd-math",
    "cp26": "ttd-math",
    "cp32": "ttd-math",
    "trimul": "ttd-kernels",
    "mla_decode": "ttd-kernels",
    "ahc039": "ttd-ahc",
    "ahc058": "ttd-ahc",
    "denoising": "ttd-bio",
}
#: What the name of a problem begins with that is a task's folder: ``adopted:FOLDER``.
ADOPTED = "adopted:"
_FILE_REFERENCE = re.compile(r"^(?P<path>.+\.py)(?::(?P<object>[A-Za-z_][\w.]*))?$")


@attrs.frozen
class Entry:
    """One entry point.

    :param name: the problem's or plugin's name.
    :param value: ``module:attribute`` (or a module) that it names; for a file, the reference itself.
    :param distribution: the distribution that registers it; empty for a file.
    :param version: that distribution's version; empty for a file.
    """

    name: str
    value: str
    distribution: str = ""
    version: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version, or the file."""
        return f"{self.distribution} {self.version}" if self.distribution else self.value

    @property
    def label(self) -> str:
        """Name and origin, for messages."""
        return f"{self.name} ({self.origin})" if self.distribution else self.name


#: A problem's entry point.
ProblemEntry = Entry


def entries(group: str = PROBLEMS) -> list[Entry]:
    """Every entry point of a group, by name; names claimed twice appear twice."""
    installed = {
        Entry(point.name, point.value, point.dist.name, point.dist.version)
        for point in importlib.metadata.entry_points(group=group)
        if point.dist is not None
    }
    return sorted(installed, key=lambda entry: (entry.name, entry.distribution, entry.value))


def title_in_source(entry: Entry) -> str:
    """A problem's title as its class's source states it, read without importing anything.

    Empty where the source has none that can be read so: a title that is computed, or inherited.
    """
    module, _, name = entry.value.partition(":")
    package, *rest = module.split(".")
    # Only the top package may be looked up: for a module within it, Python would import the package.
    with contextlib.suppress(ImportError, ValueError, OSError, SyntaxError, RecursionError, MemoryError):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return ""
        origin = pathlib.Path(spec.origin)
        if rest:
            inside = origin.parent.joinpath(*rest)
            origin = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
        with warnings.catch_warnings(action="ignore"):
            return _title_of(ast.parse(origin.read_bytes()), name)
    return ""


def _title_of(module: ast.Module, class_name: str) -> str:
    classes = (each for each in module.body if isinstance(each, ast.ClassDef) and each.name == class_name)
    for statement in (line for cls in classes for line in cls.body):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        named = any(isinstance(target, ast.Name) and target.id == "title" for target in targets)
        if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return ""


def clashes(listed: Sequence[Entry]) -> list[RegistryClashError]:
    """One error for each name that several of the entries claim."""
    claims: dict[str, list[Entry]] = {}
    for entry in listed:
        claims.setdefault(entry.name, []).append(entry)
    return [
        RegistryClashError(
            f"'{name}' is claimed by {' and '.join(entry.origin for entry in claimed)}; uninstall all but one"
        )
        for name, claimed in claims.items()
        if len(claimed) > 1
    ]


def is_file_reference(name: str) -> bool:
    """Whether a problem is named by its file: ``./my_problem.py:MyProblem``, or the file alone."""
    return not is_adopted_reference(name) and _FILE_REFERENCE.match(name) is not None


def is_adopted_reference(name: str) -> bool:
    """Whether a problem is named by a task's folder: ``adopted:FOLDER``."""
    return name.startswith(ADOPTED)


def adopted_folder(reference: str) -> pathlib.Path:
    """The folder of ``adopted:FOLDER``, absolute; a ``~`` is the home folder.

    :raises UnknownProblemError: when none is named.
    """
    folder = reference.removeprefix(ADOPTED)
    if not folder.strip():
        raise UnknownProblemError("adopted: names no folder; write adopted:FOLDER")
    return pathlib.Path(folder).expanduser().absolute()


def is_reference(name: str) -> bool:
    """Whether a problem is named by where it is, a file or a folder, and not by an entry point."""
    return is_file_reference(name) or is_adopted_reference(name)


def split_file_reference(reference: str) -> tuple[str, str | None]:
    """Path and class of a file reference; no class where only the file is named."""
    match = _FILE_REFERENCE.match(reference)
    if match is None:
        raise UnknownProblemError(f"'{reference}' is not FILE.py:Class")
    return match["path"], match["object"]


def find(name: str) -> Entry:
    """The entry of a problem, of ``FILE.py:Class``, or of ``adopted:FOLDER``.

    :raises UnknownProblemError: when nothing registers it; says what comes closest, or what to install.
    :raises RegistryClashError: when two distributions register it; names both.
    """
    if is_reference(name):
        return Entry(name, name)
    installed = entries()
    claimed = [entry for entry in installed if entry.name == name]
    for clash in clashes(claimed):
        raise clash
    if claimed:
        return claimed[0]
    raise UnknownProblemError(f"no installed plugin registers problem '{name}'.{_hint(name, installed)}")


def _hint(name: str, installed: Sequence[Entry]) -> str:
    if name in _PUBLISHED:
        return f" It comes with {_PUBLISHED[name]}: pip install {_PUBLISHED[name]}"
    names = [entry.name for entry in installed]
    close = did_you_mean(name, [*names, *_PUBLISHED])
    if close:
        return close
    return f" Installed: {', '.join(names)}." if names else " None is installed: pip install ttd-math"
