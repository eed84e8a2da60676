"""What a task lacks and needs, whichever form it has."""

from __future__ import annotations

import ast
import contextlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

import attrs

from ttd_core.adopting.folder import names_in
from ttd_core.adopting.modules import missing_modules
from ttd_core.adopting.needs import gpu_of, needs_of, programs_of
from ttd_core.adopting.sources import Source, followed, source_of
from ttd_core.adopting.task import Need
from ttd_core.errors import UsageError

_NOTHING: Mapping[str, pathlib.Path] = {}


@attrs.frozen
class Facts:
    """What a task's sources say.

    :param sources: the evaluator, the files that it imports, and the starting program with those it imports.
    :param lacks: modules that the task's Python has not.
    :param programs: programs that it starts and that are not on this machine.
    :param needs: what the sandbox gives nobody.
    :param gpu: where it asks for a CUDA device; empty where it does not.
    :param said: lines about what is there and not used.
    """

    sources: list[Source]
    lacks: tuple[str, ...]
    programs: tuple[str, ...]
    needs: tuple[Need, ...]
    gpu: str
    said: list[str]

    def evaluators(self, program: pathlib.Path) -> list[Source]:
        """The sources without the starting program."""
        return [source for source in self.sources if source.path != program]


def facts_of(
    evaluator: Source,
    program: pathlib.Path,
    folder: pathlib.Path,
    places: Sequence[pathlib.Path],
    python: str | None,
    named: Mapping[str, pathlib.Path] = _NOTHING,
) -> Facts:
    """What an evaluator and a starting program lack and need.

    :param places: folders where modules of the task's own may lie.
    :param python: the interpreter that will run it; ours by default.
    :param named: modules of its own that lie elsewhere, by name.
    :raises UsageError: when that interpreter does not answer.
    """
    first = [evaluator, *_started(evaluator, folder)]
    if program.suffix == ".py":
        # A program of a newer Python than ours cannot be read here, and may run well.
        with contextlib.suppress(UsageError):
            first.append(source_of(program, folder))
    sources = followed(first, folder, places, named)
    lacks, said = missing_modules(sources, places, named, python)
    said += [
        f"{name}: not run; run it yourself where the evaluator needs what it fetches"
        for name in _fetching(places, folder)
    ]
    return Facts(sources, lacks, programs_of(sources), needs_of(sources), gpu_of(sources), said)


def _started(evaluator: Source, folder: pathlib.Path) -> list[Source]:
    """Python files beside an evaluator that it starts as programs: a shell script's, or named in a call."""
    if evaluator.tree is None:
        names = re.findall(r"(?<![\w-])[\w-]+\.py\b", evaluator.text)
    else:
        calls = (node for node in ast.walk(evaluator.tree) if isinstance(node, ast.List | ast.Call))
        given = (each for node in calls for each in (node.elts if isinstance(node, ast.List) else node.args))
        names = [
            each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
    plain = dict.fromkeys(name for name in names if re.fullmatch(r"[\w-]+\.py", name))
    paths = [path for name in plain if os.path.isfile(path := evaluator.path.parent / name)]
    found = []
    for path in paths[:20]:
        with contextlib.suppress(UsageError):
            found.append(source_of(path, folder))
    return found


def _fetching(places: Sequence[pathlib.Path], folder: pathlib.Path) -> list[str]:
    """Scripts of a task that fetch its data, by their names."""
    return [
        str((place / name).relative_to(folder))
        for place in places
        if place.is_dir() and place.is_relative_to(folder)
        for name in names_in(place)
        if re.fullmatch(r"(?:download|fetch|get|prepare)[\w-]*\.(?:sh|py)", name)
    ]
