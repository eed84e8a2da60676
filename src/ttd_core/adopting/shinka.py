"""Tasks of ShinkaEvolve: ``initial.*``, and ``evaluate.py`` that writes metrics and whether they are correct.

What a run is to do stands in a script, ``run_evo.py``, and often in a YAML file beside it. The script is read
as a syntax tree: a text that it computes is not found.
"""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from ttd_core.adopting.facts import facts_of
from ttd_core.adopting.folder import (
    chosen_config,
    language_of,
    name_of,
    names_in,
    program_text,
    readme_text,
    seconds,
    section,
    starting_program,
    text_value,
    title_of,
)
from ttd_core.adopting.sources import Source, entry_of, source_of
from ttd_core.adopting.task import Call, Evaluator, Form, Task
from ttd_core.errors import UsageError
from ttd_core.text import showable_line

STEMS = ("initial",)
EVALUATOR = "evaluate.py"
#: Seconds an evaluation may take where the task sets no time; ShinkaEvolve would wait for ever.
DEFAULT_SECONDS = 300.0
#: Longest message to a model that is read, in characters.
MAX_MESSAGE_CHARS = 200_000
_CONFIGS = ("shinka.yaml", "shinka_small.yaml")
_ARGUMENTS = ("program_path", "results_dir")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)")


def read_shinka(folder: pathlib.Path, python: str | None = None) -> Task:
    """A task of ShinkaEvolve.

    :param python: the interpreter that will run it; ours by default.
    :raises UsageError: when a file is missing or cannot be read; one line that says which.
    """
    program = starting_program(folder, STEMS)
    text = program_text(program)
    evaluator = source_of(folder / EVALUATOR, folder)
    missing = [name for name in _ARGUMENTS if name not in evaluator.text]
    if missing:
        raise UsageError(
            f"{evaluator.path}: it takes no --{missing[0]}; ShinkaEvolve calls it with --program_path and "
            "--results_dir"
        )
    script = _script(folder)
    where, config, said = chosen_config(folder, "shinka", _CONFIGS)
    timeout_s, about_time = _timeout(script, config, where)
    description, about_prompt = _description(folder, script, config, where)
    facts = facts_of(evaluator, program, folder, (folder,), python)
    lines = [about_prompt, about_time, said, *_unused(script, config, where)]
    return Task(
        form=Form.SHINKA,
        folder=folder,
        name=name_of(folder),
        title=title_of(folder),
        description=description,
        language=language_of(program.suffix),
        suffix=program.suffix,
        program=text,
        program_path=program,
        entry=entry_of(text, program.suffix, facts.evaluators(program)),
        evaluator=Evaluator(Call.SCRIPT, evaluator.path),
        timeout_s=timeout_s,
        lacks=facts.lacks,
        programs=facts.programs,
        gpu=facts.gpu,
        needs=facts.needs,
        unused=(*filter(None, lines), *facts.said),
    )


def _script(folder: pathlib.Path) -> Source | None:
    """The script that starts a run; ``None`` without one that can be read."""
    names = [n for n in names_in(folder) if n.startswith("run") and n.endswith(".py")]
    chosen = "run_evo.py" if "run_evo.py" in names else next(iter(names), None)
    try:
        return source_of(folder / chosen, folder) if chosen else None
    except UsageError:
        return None


def _timeout(script: Source | None, config: dict[str, Any], where: pathlib.Path) -> tuple[float, str]:
    """Seconds an evaluation may take, and a line where the task does not say."""
    value = section(config, "job_config", where).get("time")
    path = where
    if value is None and script is not None:
        value = next((each for name, each in _keywords(script, "JobConfig") if name == "time"), None)
        path = script.path
    if value is None:
        return DEFAULT_SECONDS, f"no time for an evaluation is set: {DEFAULT_SECONDS:g} s are given"
    if isinstance(value, str) and (match := _TIME.fullmatch(value.strip())):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        value = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    elif isinstance(value, str):
        raise UsageError(
            f"{path}: time is '{showable_line(value)[:60]}'; hours, minutes and seconds are wanted: 00:05:00"
        )
    return seconds(value, "time", path), ""


def _description(
    folder: pathlib.Path, script: Source | None, config: dict[str, Any], where: pathlib.Path
) -> tuple[str, str]:
    """The task in words, and a line where they are not the task's message to the model."""
    if text := (_message(script) if script is not None else ""):
        return text, ""
    settings = section(config, "evo_config", where)
    if text := text_value(settings.get("task_sys_msg"), "evo_config.task_sys_msg", where):
        return text, ""
    names = f"{script.name if script is not None else 'run_evo.py'}: no task_sys_msg is found"
    if text := readme_text(folder):
        return text, f"{names}; the prompt has README.md's text"
    return title_of(folder), f"{names}, and there is no README.md"


def _message(script: Source) -> str:
    """The text of ``task_sys_msg``, wherever the script sets it: an argument, a key, or a variable."""
    assert script.tree is not None
    texts: dict[str, str] = {}
    values: list[ast.expr] = []
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and (text := _text(node.value, texts)):
                    texts[target.id] = text
                elif isinstance(target, ast.Subscript) and _constant(target.slice) == "task_sys_msg":
                    values.append(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "task_sys_msg":
            values.append(node.value)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values += [value for key, value in pairs if key and _constant(key) == "task_sys_msg"]
    found = [text for value in values if (text := _text(value, texts))]
    found += [text for name, text in texts.items() if name.lower().endswith("task_sys_msg")]
    return found[0].strip() if found else ""


def _text(node: ast.expr, texts: dict[str, str]) -> str:
    """A text that an expression spells out: a literal, a variable that holds one, or several added up."""
    parts: list[str] = []
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            parts.insert(0, each.value)
        elif isinstance(each, ast.Name) and each.id in texts:
            parts.insert(0, texts[each.id])
        elif isinstance(each, ast.BinOp) and isinstance(each.op, ast.Add):
            waiting += [each.left, each.right]
        elif (
            isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == "strip"
        ):
            waiting.append(each.func.value)
        else:
            return ""
    text = "".join(parts)
    return text if len(text) <= MAX_MESSAGE_CHARS else ""


def _keywords(script: Source, ending: str) -> Iterator[tuple[str, Any]]:
    """Arguments given by name, as literals, to calls of what a name ends with."""
    for node in ast.walk(script.tree) if script.tree else ():
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name.endswith(ending):
                yield from ((each.arg, _constant(each.value)) for each in node.keywords if each.arg)


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _unused(script: Source | None, config: dict[str, Any], where: pathlib.Path) -> Iterator[str]:
    """What of the script and the config nothing uses."""
    why = "model, search, steps and jobs at a time are the run's"
    if script is not None:
        jobs = [
            name for name, _ in _keywords(script, "JobConfig") if name not in ("time", "eval_program_path")
        ]
        if jobs:
            yield f"{script.name}: of its job config {', '.join(jobs)}: evaluations run in ttd's sandbox"
        yield f"{script.name}: not run: {why}"
    rest = [showable_line(key)[:40] for key in config if key != "job_config"]
    if rest:
        yield f"{where.name}: {', '.join(rest[:8])}: {why}"
