"""Tasks of GPU MODE: ``task.yml`` lists the files that lie beside a submission, its tests and benchmarks.

The files may lie in the folder or, as in the public tasks, in one of the two folders above it: what several
tasks share. The score is the time of the benchmarks, so a smaller one is better.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from ttd_core.adopting.facts import facts_of
from ttd_core.adopting.folder import (
    language_of,
    name_of,
    program_text,
    read_yaml,
    seconds,
    section,
    text_value,
    title_of,
)
from ttd_core.adopting.sources import entry_of, source_of
from ttd_core.adopting.task import Call, Evaluator, Form, Task
from ttd_core.errors import UsageError
from ttd_core.text import showable_line

CONFIG = "task.yml"
#: What stands for the program in ``files``.
SUBMISSION = "@SUBMISSION@"
#: Seconds for the tests, and for the benchmarks, where the task sets none.
DEFAULT_SECONDS = 180.0
#: How benchmarks' times become one: GPU MODE's names.
RANKINGS = ("last", "mean", "geom")
#: Most files and cases of a task.
MAX_FILES, MAX_CASES = 100, 1000
_READ = frozenset(
    {
        *("files", "description", "config", "templates", "tests", "benchmarks", "lang"),
        *("test_timeout", "benchmark_timeout", "ranking_by"),
    }
)


def read_gpu_mode(folder: pathlib.Path, python: str | None = None) -> Task:
    """A task of GPU MODE.

    :param python: the interpreter that will run it; ours by default.
    :raises UsageError: when a file is missing or cannot be read; one line that says which.
    """
    where = folder / CONFIG
    config = read_yaml(where)
    submission, files = _files(config, folder, where)
    main = text_value(section(config, "config", where).get("main"), "config.main", where) or "eval.py"
    if main not in files:
        raise UsageError(f"{where}: config.main is '{showable_line(main)}', which is not among its files")
    program, about_program = _program(config, folder, where, submission)
    text = program_text(program)
    evaluator = source_of(files[main], folder)
    ranking = text_value(config.get("ranking_by"), "ranking_by", where) or "last"
    if ranking not in RANKINGS:
        raise UsageError(f"{where}: ranking_by is '{showable_line(ranking)}'; one of {', '.join(RANKINGS)}")
    modules = {path.stem: path for name, path in files.items() if name.endswith(".py")}
    # The program is no module of the task's own: what it imports is asked for by itself.
    facts = facts_of(evaluator, program, folder, (folder,), python, modules | {"submission": program})
    return Task(
        form=Form.GPU_MODE,
        folder=folder,
        name=name_of(folder),
        title=title_of(folder),
        description=text_value(config.get("description"), "description", where) or title_of(folder),
        language=language_of(pathlib.Path(submission).suffix),
        suffix=pathlib.Path(submission).suffix,
        program=text,
        program_path=program,
        entry=entry_of(text, program.suffix, facts.evaluators(program)),
        evaluator=Evaluator(
            Call.POPCORN,
            evaluator.path,
            tests=_cases(config, "tests", where),
            benchmarks=_cases(config, "benchmarks", where),
            files=tuple(files.items()),
        ),
        metric=ranking,
        direction="min",
        timeout_s=sum(
            seconds(config.get(key, DEFAULT_SECONDS), key, where)
            for key in ("test_timeout", "benchmark_timeout")
        ),
        lacks=facts.lacks,
        programs=facts.programs,
        gpu=facts.gpu,
        needs=facts.needs,
        unused=(*filter(None, [about_program]), *facts.said, *_unused(config)),
    )


def _files(
    config: Mapping[str, Any], folder: pathlib.Path, where: pathlib.Path
) -> tuple[str, dict[str, pathlib.Path]]:
    """What the program's file is called, and the files that lie beside it, by name."""
    entries = config.get("files")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_FILES:
        raise UsageError(f"{where}: 'files' must list up to {MAX_FILES} files, each with a name and a source")
    submissions: list[str] = []
    files: dict[str, pathlib.Path] = {}
    for entry in entries:
        name, source = (entry.get("name"), entry.get("source")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            raise UsageError(f"{where}: each of 'files' must have a name and a source, both text")
        if pathlib.PurePath(name).name != name or name in files or name in submissions:
            raise UsageError(f"{where}: '{showable_line(name)[:60]}' is no plain file name, or stands twice")
        if source == SUBMISSION:
            submissions.append(name)
        else:
            files[name] = _source(source, folder, where)
    if len(submissions) != 1:
        raise UsageError(f"{where}: one of 'files' must have the source {SUBMISSION}: {len(submissions)} do")
    return submissions[0], files


def _source(source: str, folder: pathlib.Path, where: pathlib.Path) -> pathlib.Path:
    """A file of the task's, in its folder or in what it shares with the tasks beside it."""
    try:
        path = (folder / source).resolve()
        shared = folder.resolve().parents[:2]
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise UsageError(f"{where}: '{showable_line(source)[:60]}' cannot be read") from error
    if not there:
        raise UsageError(f"{where}: there is no file {showable_line(source)[:200]}")
    if not any(path.is_relative_to(parent) for parent in shared if parent != parent.parent):
        raise UsageError(f"{where}: {showable_line(source)[:200]} lies outside the task and what it shares")
    return path


def _program(
    config: Mapping[str, Any], folder: pathlib.Path, where: pathlib.Path, submission: str
) -> tuple[pathlib.Path, str]:
    """The starting program, and a line where there is another."""
    templates = section(config, "templates", where)
    named = [each for each in templates.values() if isinstance(each, str)]
    suffix = pathlib.PurePath(submission).suffix
    fitting = [each for each in named if pathlib.PurePath(each).suffix == suffix]
    own = folder / submission
    if own.is_file():
        others = [each for each in named if (folder / each).resolve() != own.resolve()]
        said = f"{CONFIG}: templates ({', '.join(others)}): {submission} is the starting program"
        return own, said if others else ""
    if not fitting:
        raise UsageError(f"{where}: no starting program: neither {submission} nor a template *{suffix}")
    if len(fitting) > 1:
        raise UsageError(f"{where}: several starting programs: {', '.join(fitting)}; keep one template")
    return _source(fitting[0], folder, where), ""


def _cases(config: Mapping[str, Any], key: str, where: pathlib.Path) -> tuple[str, ...]:
    """Cases as lines ``key: value; key: value``."""
    cases = config.get(key)
    if not isinstance(cases, list) or not 0 < len(cases) <= MAX_CASES:
        raise UsageError(f"{where}: '{key}' must list up to {MAX_CASES} cases")
    return tuple(_case(case, key, where) for case in cases)


def _case(case: Any, key: str, where: pathlib.Path) -> str:
    if not isinstance(case, dict) or not case:
        raise UsageError(f"{where}: each of '{key}' must be keys with values")
    parts = []
    for name, value in case.items():
        flat = value if isinstance(value, list) else [value]
        if len(flat) > MAX_CASES or not all(isinstance(each, int | float | str) for each in flat):
            raise UsageError(f"{where}: a case of '{key}' has a value that is no number, text or list")
        part = f"{name}: {value}"
        if len(part) > MAX_CASES or any(mark in part for mark in ";\n\r"):
            raise UsageError(f"{where}: a case of '{key}' has too long a value, or ';' or a line end in it")
        parts.append(part)
    return "; ".join(parts)


def _unused(config: Mapping[str, Any]) -> list[str]:
    """What of the config nothing uses."""
    lines = []
    if "ranked_timeout" in config:
        lines.append(f"{CONFIG}: ranked_timeout: the benchmarks are what is timed")
    if config.get("multi_gpu"):
        lines.append(f"{CONFIG}: multi_gpu: a job has one GPU")
    known = _READ | {"ranked_timeout", "multi_gpu"}
    if rest := sorted(showable_line(key)[:40] for key in config.keys() - known):
        lines.append(f"{CONFIG}: {', '.join(rest[:8])}: not used")
    return lines
