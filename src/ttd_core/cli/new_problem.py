"""``ttd new-problem``: a problem that runs, to be changed into one's own."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import keyword
import pathlib
import re
import shlex
import string
from collections.abc import Mapping

import click

from ttd_core.cli.output import complain, json_option, print_json, say
from ttd_core.errors import StorageError, UsageError
from ttd_core.plugin import entries

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
#: Template to path in the package; ``$`` names are filled in both.
_PACKAGE = {
    "pyproject.txt": "pyproject.toml",
    "README.md": "README.md",
    "module.txt": "src/$module.py",
    "test.txt": "tests/test_$plain.py",
}


@click.command("new-problem")
@click.argument("name", metavar="NAME")
@click.option("--minimal", is_flag=True, help="One file to run as it is, in place of a package.")
@click.option(
    "--to",
    "parent",
    type=click.Path(path_type=pathlib.Path),
    default=pathlib.Path(),
    help="Folder to make it in; default this one.",
)
@json_option
def new_problem(name: str, minimal: bool, parent: pathlib.Path, as_json: bool) -> None:
    """Begin a problem of your own.

    Makes a whole package: the problem, its test, a README, and the entry point that lets ttd find it; with
    --minimal a single file. Both run, and pass their checks, as they are.

    \b
    Example:
      ttd new-problem far-points
      ttd new-problem far-points --minimal
    """
    words = names_of(name)
    if minimal:
        files = {f"{words['plain']}.py": render("minimal.txt", words)}
        root = parent
        file = str(root / f"{words['plain']}.py")
        file = file if root.is_absolute() or root.parts else f"./{file}"
        commands = _commands_of_file(shlex.quote(f"{file}:{words['class_name']}"))
    else:
        files = {
            string.Template(path).substitute(words): render(f"package/{template}", words)
            for template, path in _PACKAGE.items()
        }
        root = parent / words["distribution"]
        commands = [
            f"cd {shlex.quote(str(root))}",
            "pip install -e '.[test]'",
            "pytest",
            f"ttd check-problem {name}",
        ]
    write_new(root, files)
    for entry in entries.entries():
        if entry.name == name:
            complain(
                f"{entry.label} is installed already: a second problem of that name could not be installed "
                "beside it, and its runs would bear the same name",
                "warning",
            )
    paths = [str(root / path) for path in files]
    if as_json:
        print_json({"name": name, "files": paths, "commands": commands})
    else:
        say("\n".join(["made:", *(f"  {path}" for path in paths), "next:", *(f"  {c}" for c in commands)]))


def names_of(name: str) -> dict[str, str]:
    """What the templates need, from a problem's name.

    :raises UsageError: when it is no plain name.
    """
    plain = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(plain):
        raise UsageError(
            f"'{name}' is no name for a problem: use lower-case words joined by '-', such as far-points"
        )
    words = plain.split("_")
    major, minor = importlib.metadata.version("ttd-core").split(".")[:2]
    return {
        "name": name,
        "plain": plain,
        "class_name": "".join(word.capitalize() for word in words),
        "module": f"ttd_{plain}",
        "distribution": f"ttd-{plain.replace('_', '-')}",
        "core": f"ttd-core>={major}.{minor}",
        "core_testing": f"ttd-core[testing]>={major}.{minor}",
    }


def render(template: str, words: Mapping[str, str]) -> str:
    """A template of the package with its names filled in."""
    folder = importlib.resources.files("ttd_core").joinpath("templates")
    return string.Template(folder.joinpath(template).read_text(encoding="utf-8")).substitute(words)


def write_new(root: pathlib.Path, files: Mapping[str, str]) -> None:
    """Write files where none is yet.

    :raises UsageError: when one exists; nothing is written then.
    :raises StorageError: when the folder cannot be written.
    """
    for path in files:
        if (root / path).exists():
            raise UsageError(f"{root / path} exists already; choose another name, or --to another folder")
    try:
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{root}: cannot be written: {error.strerror or error}") from error


def _commands_of_file(reference: str) -> list[str]:
    return [
        f"ttd check-problem {reference}",
        f"ttd show {reference} --prompt",
        f"ttd run {reference} --steps 3",
    ]
