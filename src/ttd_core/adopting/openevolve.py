"""Tasks of OpenEvolve and SkyDiscover: ``initial_program.*``, an evaluator in Python or shell, a config.

Both call ``evaluate(path)`` of ``evaluator.py``, or its stages ``evaluate_stage1`` and on, and take what it
returns as metrics of which ``combined_score`` is to grow. SkyDiscover has a folder ``evaluator/`` beside it,
whose ``evaluate.sh PATH`` prints the same as JSON. Defaults are those of the framework that the config's keys
belong to.
"""

from __future__ import annotations

import pathlib
from typing import Any

from ttd_core.adopting.facts import facts_of
from ttd_core.adopting.folder import (
    chosen_config,
    language_of,
    name_of,
    numbers,
    program_text,
    readme_text,
    seconds,
    section,
    starting_program,
    text_value,
    text_within,
    title_of,
)
from ttd_core.adopting.sources import Source, defined_names, entry_of, metric_of, source_of
from ttd_core.adopting.task import Call, Evaluator, Form, Task
from ttd_core.adopting.unused import unused_keys
from ttd_core.errors import UsageError

#: What a starting program's file is called, before its suffix.
STEMS = ("initial_program", "initial_prompt")
_CONFIGS = ("config.yaml", "config.yml")
#: Keys that SkyDiscover's configs have and OpenEvolve's have not.
_OF_SKYDISCOVER = frozenset(
    {*("search", "monitor", "agentic", "benchmark", "diff_based_generation", "max_solution_length")}
)
_FUNCTIONS = frozenset({"evaluate", "evaluate_stage1"})
#: Seconds an evaluation may take, and what each stage's score must reach, where the config says nothing.
_DEFAULTS = {"OpenEvolve": (300.0, (0.5, 0.75)), "SkyDiscover": (360.0, (0.3,))}
_STAGES = {"OpenEvolve": 3, "SkyDiscover": 2}


def read_openevolve(folder: pathlib.Path, python: str | None = None) -> Task:
    """A task of OpenEvolve or SkyDiscover.

    :param python: the interpreter that will run it; ours by default.
    :raises UsageError: when a file is missing or cannot be read; one line that says which.
    """
    where, config, other_configs = chosen_config(folder, "config", _CONFIGS)
    program = starting_program(folder, STEMS, str(config.get("file_suffix") or ""))
    text = program_text(program)
    framework = "SkyDiscover" if _is_skydiscover(folder, config) else "OpenEvolve"
    source, others = _evaluator_source(folder)
    settings = section(config, "evaluator", where)
    evaluator, about_stages = _evaluator(source, settings, where, framework)
    timeout_s = _DEFAULTS[framework][0]
    if settings.get("timeout") is not None:
        timeout_s = seconds(settings["timeout"], "evaluator.timeout", where)
    places = tuple(dict.fromkeys([source.path.parent, folder, folder / "evaluator"]))
    facts = facts_of(source, program, folder, places, python)
    metric, about_metric = metric_of(facts.evaluators(program), framework)
    description, about_prompt = _description(folder, config, where)
    said = [others, about_stages, about_metric, about_prompt, other_configs]
    return Task(
        form=Form.OPENEVOLVE,
        folder=folder,
        name=name_of(folder),
        title=title_of(folder),
        description=description,
        language=language_of(program.suffix),
        suffix=program.suffix,
        program=text,
        program_path=program,
        entry=entry_of(text, program.suffix, facts.evaluators(program)),
        evaluator=evaluator,
        metric=metric,
        timeout_s=timeout_s,
        lacks=facts.lacks,
        programs=facts.programs,
        gpu=facts.gpu,
        needs=facts.needs,
        unused=(*filter(None, said), *facts.said, *unused_keys(config, where, folder)),
    )


def _is_skydiscover(folder: pathlib.Path, config: dict[str, Any]) -> bool:
    return (folder / "evaluator").is_dir() or bool(_OF_SKYDISCOVER & config.keys())


def _evaluator_source(folder: pathlib.Path) -> tuple[Source, str]:
    """The evaluator that is called, and a line where there are others.

    Python's ``evaluate(path)`` comes before a shell's, and what lies in the folder before ``evaluator/``.
    """
    inside = folder / "evaluator"
    python = [path for path in (folder / "evaluator.py", inside / "evaluator.py") if path.is_file()]
    shell = [path for path in (folder / "evaluate.sh", inside / "evaluate.sh") if path.is_file()]
    if not python and not shell:
        raise UsageError(f"{folder}: no evaluator: evaluator.py, or evaluator/ with evaluate.sh, is wanted")
    sources = [source_of(path, folder) for path in python]
    able = [each for each in sources if each.tree and _FUNCTIONS & defined_names(each.tree)]
    able += [source_of(path, folder) for path in shell]
    if not able:
        raise UsageError(f"{python[0]}: it defines no function evaluate(path), and there is no evaluate.sh")
    others = ", ".join(each.name for each in able[1:])
    return able[0], f"{others}: {able[0].name} is the evaluator that is called" if others else ""


def _evaluator(
    source: Source, settings: dict[str, Any], where: pathlib.Path, framework: str
) -> tuple[Evaluator, str]:
    """How the evaluator is called, and a line where not all of it is."""
    if source.tree is None:
        return Evaluator(Call.SHELL, source.path), ""
    names = defined_names(source.tree)
    stages = next(number for number in range(1, 11) if f"evaluate_stage{number}" not in names) - 1
    cascade = settings.get("cascade_evaluation", True)
    if not isinstance(cascade, bool):
        raise UsageError(f"{where}: evaluator.cascade_evaluation must be true or false")
    if not stages or (not cascade and "evaluate" in names):
        said = f"{source.name}: its stages are not called: cascade_evaluation is false" if stages else ""
        return Evaluator(Call.FUNCTION, source.path), said
    thresholds = numbers(settings.get("cascade_thresholds"), "evaluator.cascade_thresholds", where)
    thresholds = thresholds or _DEFAULTS[framework][1]
    # A stage without a threshold before it is never reached, in either framework.
    reached = min(stages, _STAGES[framework], len(thresholds) + 1)
    said = f"{source.name}: from stage {reached + 1} on, which {framework} does not reach either"
    return Evaluator(Call.STAGES, source.path, thresholds[: reached - 1]), said if reached < stages else ""


def _description(folder: pathlib.Path, config: dict[str, Any], where: pathlib.Path) -> tuple[str, str]:
    """The task in words, and a line where they are not the config's."""
    prompt = section(config, "prompt", where)
    text = text_value(prompt.get("system_message"), "prompt.system_message", where)
    templates = prompt.get("template_dir")
    if text and "\n" not in text and len(text) < 256:
        # It may name a file, or one of the templates.
        names = [text] + ([f"{templates}/{text}.txt"] if isinstance(templates, str) else [])
        text = next((found for name in names if (found := text_within(folder, name))), text).strip()
    if text in ("", "system_message"):
        llm = section(config, "llm", where)
        text = text_value(llm.get("system_message"), "llm.system_message", where)
    if text:
        return text, ""
    if text := readme_text(folder):
        return text, f"{where.name}: it has no prompt.system_message; the prompt has README.md's text"
    return title_of(folder), f"{where.name}: it has no prompt.system_message, and there is no README.md"
