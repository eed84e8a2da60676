"""What every form of task has in common: its folder's files, its config, and how they are named.

Nothing of a folder is executed, and a file that a config names is read only where it lies in the folder.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import yaml

from ttd_core.dialogue.syntax import MAX_PROGRAM_CHARS
from ttd_core.errors import UsageError
from ttd_core.input_files import read_text_file
from ttd_core.text import showable_line

#: Largest config read, in bytes, and the most references (``*name``) in it: a few that refer to each other
#: stand for more than any memory holds.
MAX_CONFIG_BYTES, MAX_REFERENCES = 256 * 1024, 20
#: Deepest nesting of a config: the loader calls itself.
MAX_DEPTH = 50
#: Most entries of a folder that are looked at.
MAX_ENTRIES = 10_000
#: Longest time an evaluation may take, in seconds: a year.
MAX_SECONDS = 366 * 24 * 3600.0
#: Longest description taken from a README, in characters.
MAX_README_CHARS = 6000
#: Languages by a program's suffix, as code blocks are labelled.
LANGUAGES = {
    ".py": "python",
    ".cpp": "c++",
    ".cc": "c++",
    ".cxx": "c++",
    ".c": "c",
    ".cu": "cuda",
    ".rs": "rust",
    ".go": "go",
    ".jl": "julia",
    ".r": "r",
    ".f90": "fortran",
    ".f": "fortran",
    ".java": "java",
    ".js": "javascript",
    ".ts": "typescript",
    ".kt": "kotlin",
    ".swift": "swift",
    ".metal": "metal",
    ".sv": "systemverilog",
    ".v": "verilog",
    ".wl": "wolfram",
    ".m": "matlab",
    ".lean": "lean",
    ".sh": "bash",
    ".sql": "sql",
    ".json": "json",
    ".yaml": "yaml",
    ".md": "markdown",
    ".txt": "text",
}
_ENDINGS_OF_COPIES = (".bak", ".orig", ".pyc", ".swp", "~")
# The C parser where PyYAML was built with it; both are safe loaders.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def names_in(folder: pathlib.Path) -> list[str]:
    """Names of a folder's files, sorted.

    :raises UsageError: when it is no folder, cannot be read, or has too many entries.
    """
    if not folder.is_dir():
        if folder.exists():
            raise UsageError(f"{folder}: a file; name the task's folder, {folder.parent}")
        raise UsageError(f"{folder}: no such folder")
    names = []
    try:
        for number, entry in enumerate(folder.iterdir()):
            if number == MAX_ENTRIES:
                raise UsageError(f"{folder}: more than {MAX_ENTRIES} entries, so it is no task's folder")
            if entry.is_file():
                names.append(entry.name)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return sorted(names)


def files_below(folder: pathlib.Path, left_out: Set[str]) -> Iterator[pathlib.Path]:
    """Files of a folder and of those in it, in order; not hidden ones, nor what Python compiled.

    :param left_out: names of folders that are passed over.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith("."))
        for name in sorted(names):
            path = pathlib.Path(place, name)
            if not name.startswith(".") and path.suffix != ".pyc" and path.is_file():
                yield path


def starting_program(folder: pathlib.Path, stems: Iterable[str], suffix: str = "") -> pathlib.Path:
    """The one file ``STEM.*`` of a folder, of the first stem that has one.

    :param suffix: which to take where there are several.
    :raises UsageError: when there is none, or several and none of them has the suffix.
    """
    stems = tuple(stems)
    names = [name for name in names_in(folder) if not name.endswith(_ENDINGS_OF_COPIES)]
    for stem in stems:
        found = [name for name in names if name.startswith(f"{stem}.") and name.count(".") == 1]
        chosen = [name for name in found if suffix and name == f"{stem}{suffix}"] or found
        if len(chosen) > 1:
            raise UsageError(f"{folder}: several starting programs: {', '.join(found)}; keep one of them")
        if chosen:
            return folder / chosen[0]
    wanted = " or ".join(f"{stem}.*" for stem in stems)
    raise UsageError(f"{folder}: no starting program: a file {wanted} is wanted")


def require_within(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Refuse a link that leads out of a task's folder: what is there is another's, and no job sees it.

    :raises UsageError: in one line that says where it leads.
    """
    if path.is_relative_to(folder) and not (there := path.resolve()).is_relative_to(folder.resolve()):
        raise UsageError(
            f"{path}: a link that leads out of the task's folder, to {there}; put a copy in its place"
        )


def program_text(path: pathlib.Path) -> str:
    """The text of a starting program.

    :raises UsageError: when it cannot be read, is empty, is longer than any program that is read, or is a
        link that leads out of its folder.
    """
    require_within(path, path.parent)
    text = read_text_file(path)
    if not text.strip():
        raise UsageError(f"{path}: the starting program is empty")
    if len(text) > MAX_PROGRAM_CHARS:
        raise UsageError(f"{path}: {len(text)} characters; at most {MAX_PROGRAM_CHARS} are read")
    return text


def language_of(suffix: str) -> str:
    """A language by a file's suffix, ``text`` where it says none."""
    return LANGUAGES.get(suffix.lower(), suffix.lower().removeprefix(".") or "text")


def name_of(folder: pathlib.Path) -> str:
    """A problem's name from its folder's; a folder that is only a number bears its parent's name as well."""
    name = _as_name(folder.name)
    if not name or name[0].isdigit():
        name = "-".join(filter(None, [_as_name(folder.parent.name), name]))
    return name if name and not name[0].isdigit() else f"task-{name}".rstrip("-")


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")


def title_of(folder: pathlib.Path) -> str:
    """One line about a task: its README's heading, or the folder's name."""
    text = _readme(folder)
    heading = re.search(r"^#{1,2}[ \t]+(.+)$", text, re.MULTILINE)
    line = showable_line(re.sub(r"[*`_#]", "", heading[1])) if heading else ""
    return line[:120] or re.sub(r"[-_]+", " ", folder.name)


def readme_text(folder: pathlib.Path) -> str:
    """What a task's README says, cut at :data:`MAX_README_CHARS`; empty without one."""
    text = _readme(folder)
    return text if len(text) <= MAX_README_CHARS else text[:MAX_README_CHARS].rsplit("\n", 1)[0]


def _readme(folder: pathlib.Path) -> str:
    path = folder / "README.md"
    try:
        require_within(path, folder)
        return read_text_file(path).strip() if path.is_file() else ""
    except UsageError:
        return ""


def text_within(folder: pathlib.Path, name: str) -> str | None:
    """The text of a file that a config names, where it lies in the folder; ``None`` where there is none."""
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return read_text_file(path)
    except (OSError, ValueError):
        return None
    return None


def read_yaml(path: pathlib.Path) -> dict[str, Any]:
    """A YAML file whose values have names, read by the safe loader.

    :raises UsageError: when it cannot be read as that.
    """
    require_within(path, path.parent)
    text = read_text_file(path, MAX_CONFIG_BYTES)
    try:
        _require_small(path, text)
        value = yaml.load(text, Loader=_LOADER)
    except UsageError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1} column {mark.column + 1})" if mark else ""
        raise UsageError(f"{path}: not YAML: {showable_line(error.problem or str(error))}{where}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError, TypeError, LookupError, AttributeError) as error:
        raise UsageError(f"{path}: not YAML: {showable_line(str(error))[:300]}") from error
    except (RecursionError, MemoryError) as error:
        raise UsageError(f"{path}: not YAML that is read: it is nested too deeply") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path}: it must hold keys with values, such as 'evaluator:', and holds none")
    return {str(key): item for key, item in value.items()}


def _require_small(path: pathlib.Path, text: str) -> None:
    """Refuse YAML that is nested too deeply for the loader, or that could stand for more than it holds.

    :raises UsageError: in one line.
    """
    references = depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        references += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{path}: not YAML that is read: it is nested deeper than {MAX_DEPTH} levels")
    if references > MAX_REFERENCES:
        raise UsageError(f"{path}: {references} references (*name); at most {MAX_REFERENCES} are read")


def chosen_config(
    folder: pathlib.Path, stem: str, preferred: Sequence[str]
) -> tuple[pathlib.Path, dict[str, Any], str]:
    """The YAML file ``STEM*`` that is read, its keys, and a line where there are others.

    :param preferred: names that come first, in this order; one that is not there has no keys.
    :raises UsageError: when it cannot be read.
    """
    names = [name for name in names_in(folder) if name.startswith(stem) and name.endswith((".yaml", ".yml"))]
    if not names:
        return folder / f"{stem}.yaml", {}, ""
    chosen = next((name for name in preferred if name in names), names[0])
    others = ", ".join(name for name in names if name != chosen)
    said = f"{others}: {chosen} is the config that is read" if others else ""
    return folder / chosen, read_yaml(folder / chosen), said


def section(config: Mapping[str, Any], name: str, where: pathlib.Path) -> dict[str, Any]:
    """The keys below one of a config's; none where it is left out or empty.

    :raises UsageError: when its value is something else.
    """
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{where}: '{name}' must have keys below it, and is {_shown(value)}")
    return {str(key): item for key, item in value.items()}


def seconds(value: Any, what: str, where: pathlib.Path) -> float:
    """A number of seconds above 0, of :data:`MAX_SECONDS` at most.

    :param what: the key that it is of.
    :raises UsageError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{where}: {what} is {_shown(value)}; a number of seconds above 0 is wanted")
    if value > MAX_SECONDS:
        raise UsageError(f"{where}: {what} is {_shown(value)}, more than the seconds of a year")
    return float(value)


def numbers(value: Any, what: str, where: pathlib.Path) -> tuple[float, ...]:
    """A list of finite numbers; empty where it is left out.

    :param what: the key that it is of.
    :raises UsageError: when it is none.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(map(_is_number, value)):
        raise UsageError(f"{where}: {what} must be a list of numbers, none of them infinite")
    return tuple(float(each) for each in value)


def _is_number(value: Any) -> bool:
    largest = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and -largest <= value <= largest


def text_value(value: Any, what: str, where: pathlib.Path) -> str:
    """A text of a config, blanks around it dropped; empty where it is left out.

    :raises UsageError: when it is no text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{where}: {what} is {_shown(value)}; text is wanted")
    return value.strip()


def _shown(value: Any) -> str:
    """A value in a message; what holds others is named by its kind, for references may make it endless."""
    if isinstance(value, dict | list | set | tuple):
        return "keys with values" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a huge number"
    return f"'{showable_line(str(value)[:60])}'"
