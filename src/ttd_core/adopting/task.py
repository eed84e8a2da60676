"""What was understood of a task's folder, whichever framework it was written for."""

from __future__ import annotations

import enum
import pathlib

import attrs

from ttd_core.scores import Direction


class Form(enum.StrEnum):
    """The framework that a task was written for."""

    #: OpenEvolve and SkyDiscover: ``initial_program.*``, ``evaluator.py`` or ``evaluator/``, ``config.yaml``.
    OPENEVOLVE = "openevolve"
    #: ShinkaEvolve: ``initial.*``, and ``evaluate.py`` that writes metrics and whether they are correct.
    SHINKA = "shinka"
    #: GPU MODE: ``task.yml``, ``reference.py``, ``eval.py``.
    GPU_MODE = "gpu_mode"


class Call(enum.StrEnum):
    """How an evaluator is called."""

    #: ``evaluate(path)`` of a Python file, which returns metrics.
    FUNCTION = "function"
    #: ``evaluate_stage1(path)`` and on, each only where the one before reached its threshold.
    STAGES = "stages"
    #: ``evaluate.sh PATH``, which prints metrics as JSON.
    SHELL = "shell"
    #: ``evaluate.py --program_path PATH --results_dir FOLDER``; writes ``metrics.json`` and ``correct.json``.
    SCRIPT = "script"
    #: ``eval.py MODE CASES``, which writes lines ``key: value`` to the descriptor that ``POPCORN_FD`` names.
    POPCORN = "popcorn"


@attrs.frozen
class Evaluator:
    """How a program of the task is scored.

    :param call: how it is called.
    :param path: its file, absolute.
    :param thresholds: of stages: what the score of each must reach before the next one is run.
    :param tests: of GPU MODE: the cases that must be right, one a line as ``eval.py`` reads them.
    :param benchmarks: of GPU MODE: the cases that are timed.
    :param files: further files that must lie beside the program, by name (GPU MODE's ``files``), absolute.
    """

    call: Call
    path: pathlib.Path
    thresholds: tuple[float, ...] = ()
    tests: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    files: tuple[tuple[str, pathlib.Path], ...] = ()


@attrs.frozen
class Need:
    """What an evaluator needs that the sandbox gives nobody: a network, a key, Docker.

    :param kind: ``network``, ``key`` or ``docker``.
    :param what: in words, with the file and line that say so.
    """

    kind: str
    what: str


@attrs.frozen
class Task:
    """A task, as its folder describes it. Nothing of the folder was executed to find this out.

    :param form: the framework it was written for.
    :param folder: it, absolute.
    :param name: of the problem: the folder's, as a name may be.
    :param title: one line.
    :param description: the task in words, for the prompt; Markdown.
    :param language: of a program, as code blocks are labelled: ``python``, ``c++``, ``rust``.
    :param suffix: of a program's file, with its dot.
    :param program: the text of the program it starts from.
    :param entry: the function that the evaluator calls of it; empty where that cannot be read.
    :param evaluator: how a program is scored.
    :param program_path: where that text was read; ``None`` where nothing says so.
    :param metric: which of the evaluator's metrics is the score; of GPU MODE how the benchmarks' times become
        one: ``last``, ``mean`` or ``geom``.
    :param direction: whether a smaller or a larger one is better.
    :param timeout_s: seconds an evaluation may take; of GPU MODE those of tests and benchmarks together.
    :param lacks: modules that evaluator or program import and that the task's Python does not have.
    :param programs: programs that the evaluator starts and that are not on this machine's path, each with the
        file and line that says so.
    :param gpu: where the task asks for a CUDA device, as file and line; empty where it does not.
    :param needs: what the sandbox gives nobody.
    :param unused: what the folder says and nothing here uses, a line each.
    """

    form: Form
    folder: pathlib.Path
    name: str
    title: str
    description: str
    language: str
    suffix: str
    program: str
    entry: str
    evaluator: Evaluator
    program_path: pathlib.Path | None = None
    metric: str = "combined_score"
    direction: Direction = "max"
    timeout_s: float = 60.0
    lacks: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    gpu: str = ""
    needs: tuple[Need, ...] = ()
    unused: tuple[str, ...] = ()
