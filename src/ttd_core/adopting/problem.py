"""An adopted task as a problem: its evaluator is run in the sandbox, and what it says is data."""

from __future__ import annotations

import ast
import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs

from ttd_core.adopting.evaluation import closed_to_jobs, evaluation_job, evaluation_limits, gpu_devices
from ttd_core.adopting.interpreter import Interpreter, interpreter, missing_programs, path_of
from ttd_core.adopting.modules import packages_of
from ttd_core.adopting.reading import read_task
from ttd_core.adopting.said import as_text, evaluator_section
from ttd_core.adopting.splitting import evaluate_split, why_not_split
from ttd_core.adopting.task import Call, Task
from ttd_core.dialogue import prompting
from ttd_core.errors import EnvironmentLacksError, UsageError
from ttd_core.options import Options, option, reply_option
from ttd_core.problem import UNREADABLE, Examples, Execute, Problem
from ttd_core.sandbox.base import JobResult
from ttd_core.text import showable_line
from ttd_core.types import Action, Message, Reward, ScoredState, State, Status, Verdict

#: Said wherever a score of an adopted task is shown that was made beside the candidate.
EVALUATORS_WORD = "the evaluator's word"
#: Largest score, and largest metric that is counted: sums of larger ones are infinite, and so would the
#: learning, the search and the pages be that are made of them.
LARGEST_SCORE = 1e30


@attrs.frozen
class AdoptedOptions(Options):
    """Options of an adopted task; its own time limit is the default of ``timeout_s``."""

    memory_mb: int = option(4096, "resident memory program and evaluator may use together, MiB")
    start: str = option("program", "where the first prompts start: 'program' (the task's) or 'empty'")
    metric: str | None = option(None, "which of the evaluator's metrics is the score; default the task's")
    direction: str | None = option(
        None,
        "whether its smaller ('min') or larger ('max') values are better; default the task's",
        validator=attrs.validators.optional(attrs.validators.in_(("min", "max"))),
    )
    python: str | None = option(None, "the Python that evaluator and program run in; default ttd's own")
    split: bool = option(
        False, "run program and evaluator in jobs of their own, so that no score can be forged"
    )
    calls: int = option(
        64, "with split: calls of the program's functions in one evaluation", validator=attrs.validators.ge(1)
    )
    evaluator_chars: int = option(2000, "characters of metrics and artifacts shown in the prompt")


def problem_class(task: Task) -> type[AdoptedProblem]:
    """The problem class of a task."""
    forms = ("program", "parts", "edits") if task.language == "python" else ("program", "edits")

    @attrs.frozen
    class TaskOptions(AdoptedOptions):
        """Options of one adopted task."""

        reply: str = reply_option(forms, edits_of_a_program=True)
        timeout_s: float = option(task.timeout_s, "wall seconds an evaluation may take")

    return type(
        "AdoptedTask",
        (AdoptedProblem,),
        {
            "__doc__": task.title,
            "adopted": task,
            "name": task.name,
            "title": task.title,
            "metric": task.metric,
            "direction": task.direction,
            "language": task.language,
            "entry": task.entry,
            "signature": _signature(task),
            "options_type": TaskOptions,
        },
    )


def _signature(task: Task) -> str:
    """The entry function as the task's own program writes it; its name alone where that cannot be read."""
    try:
        tree = ast.parse(task.program) if task.language == "python" else ast.Module([], [])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return task.entry
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == task.entry:
            return f"{node.name}({ast.unparse(node.args)})"
    return task.entry


class AdoptedProblem(Problem):
    """A task written for another framework; :func:`problem_class` makes the class of one.

    :param options: an instance of ``options_type``.
    :raises UsageError: when ``split`` is asked for and cannot be, or ``python`` is no Python.
    """

    #: The task.
    adopted: ClassVar[Task]
    options: AdoptedOptions

    def __new__(cls, options: Options | None = None) -> Self:
        """One whose class has the metric and the direction that the options ask for."""
        task = cls.adopted
        metric = getattr(options, "metric", None) or task.metric
        direction = getattr(options, "direction", None) or task.direction
        if (metric, direction) == (task.metric, task.direction):
            return super().__new__(cls)
        asked = attrs.evolve(task, metric=metric, direction=direction)
        body = {"adopted": asked, "metric": metric, "direction": direction, "__doc__": cls.__doc__}
        return super().__new__(type(cls.__name__, (cls,), body))

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        task = type(self).adopted
        if self.options.python is not None:
            # by its whole path, wherever the run is resumed from
            self.options = attrs.evolve(self.options, python=path_of(self.options.python))
            # what it lacks depends on the Python that runs it
            found = read_task(task.folder, self.options.python)
            task = attrs.evolve(task, lacks=found.lacks, needs=found.needs, programs=found.programs)
        self._task = task
        self._interpreter: Interpreter | None = None
        self._required = False
        if self.options.split and (reason := why_not_split(task)):
            raise UsageError(f"{self.name}: split is not possible: {reason}")

    @property
    def interpreter(self) -> Interpreter:
        """The Python that evaluator and program run in.

        :raises UsageError: when it is none.
        """
        if self._interpreter is None:
            self._interpreter = interpreter(self.options.python)
        return self._interpreter

    def score_caution(self) -> str:
        """That a score is the evaluator's word, unless the candidate ran in a job of its own."""
        return "" if self.options.split else EVALUATORS_WORD

    def require_machine(self) -> None:
        """Refuse to begin where the task needs what no job is given, or what is not installed.

        :raises EnvironmentLacksError: in one line that names it.
        """
        task = self._task
        if task.needs:
            needs = "; ".join(f"a {need.kind}, {need.what}" for need in task.needs)
            raise EnvironmentLacksError(
                f"{self.name}: its evaluator needs what no job is given, and no option allows: {needs}"
            )
        if task.lacks:
            python = self.options.python or "python"
            lacks = ", ".join(task.lacks)
            packages = " ".join(map(shlex.quote, packages_of(task.lacks, task.folder)))
            install = f"{python} -m pip install {packages}, or " if packages else ""
            raise EnvironmentLacksError(
                f"{self.name}: {self.options.python or 'this Python'} lacks {lacks}: {install}"
                "name a Python that has it with --python"
            )
        said = " ".join(task.programs)
        missing = [*task.programs, *(name for name in missing_programs(task.language) if name not in said)]
        if missing:
            raise EnvironmentLacksError(
                f"{self.name}: jobs find no {' and no '.join(missing)} on this machine"
            )
        if (task.gpu or task.evaluator.call is Call.POPCORN) and not gpu_devices():
            raise EnvironmentLacksError(f"{self.name}: it wants a CUDA device, and this machine shows none")
        if closed := closed_to_jobs(task):
            raise EnvironmentLacksError(
                f"{self.name}: jobs of root run as another user, who cannot read {closed}: chmod -R go+rX "
                f"{shlex.quote(str(task.folder))}"
            )
        _ = self.interpreter

    # -- the program and the prompt -----------------------------------------------------------------

    def task(self) -> str:
        """The task's own description."""
        return self._task.description

    def starting_program(self) -> str | None:
        """The program that the task starts from."""
        return self._task.program or None

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None: it is the evaluator that calls the program."""
        return {}

    def render_prompt(self, state: State, history: Sequence[ScoredState]) -> list[Message]:
        """The default prompt, and before its last part what the evaluator said of the last program."""
        messages = prompting.default_prompt(self.brief(state), state, history)
        said = evaluator_section(state.data, self.options.evaluator_chars)
        if not said:
            return messages
        before, turn, after = messages[-1]["content"].rpartition("\n\n## Your turn")
        content = f"{before}\n\n{said}{turn}{after}" if turn else f"{after}\n\n{said}"
        return [*messages[:-1], {"role": messages[-1]["role"], "content": content}]

    # -- the evaluation -----------------------------------------------------------------------------

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Run the task's evaluator on the program in the sandbox and keep what it says as the new state."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        self._require_once()
        result = self._evaluate(whole.code, execute)
        if not result.ok:
            return Verdict.failed(result.status, result.message, code=whole.code, output=result.output)
        failed = result.value.get("failed") if isinstance(result.value, Mapping) else None
        if isinstance(failed, str):
            return Verdict.failed(Status.CRASH, failed, code=whole.code, output=result.output)
        try:
            data = self.construct(result.value)
        except UNREADABLE as error:
            return Verdict.failed(Status.INVALID, str(error), code=whole.code, output=result.output)
        digest = hashlib.sha256(whole.code.encode("utf-8", "surrogatepass")).hexdigest()
        return State(code=whole.code, data={**data, "program": digest}, output=result.output)

    def _require_once(self) -> None:
        if not self._required:
            self.require_machine()
            self._required = True

    def _evaluate(self, program: str, execute: Execute) -> JobResult:
        limits = evaluation_limits(self.options.limits())
        if self.options.split:
            return evaluate_split(self._task, self.interpreter, program, limits, self.options.calls, execute)
        return execute(evaluation_job(self._task, self.interpreter, program, limits))

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Metrics, artifacts and correctness of what an evaluator said.

        :raises ValueError: when it is no such thing.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("metrics"), Mapping):
            raise ValueError("the evaluator gave no metrics")
        artifacts = value.get("artifacts", {})
        if not isinstance(artifacts, Mapping):
            raise ValueError("the evaluator's artifacts are no dictionary")
        data: dict[str, Any] = {"metrics": value["metrics"], "artifacts": artifacts}
        for name, kind in (("correct", bool), ("error", str)):
            if isinstance(value.get(name), kind):
                data[name] = value[name]
        return data

    def check(self, state: State) -> list[str]:
        """What keeps the evaluator's answer from being a score, in its own words where it has some."""
        metrics = state.data.get("metrics")
        if not isinstance(metrics, Mapping):
            return ["the evaluator gave no metrics"]
        if unknown := sorted(set(state.data) - _ENTRIES):
            return [f"an evaluator's answer has no {showable_line(unknown[0])[:80]}"]
        if not _is_plain(state.data):
            return ["the evaluator's answer holds what is no JSON: an array, or a number that is not finite"]
        artifacts = state.data.get("artifacts")
        artifacts = artifacts if isinstance(artifacts, Mapping) else {}
        said = (state.data.get("error"), artifacts.get("error"), metrics.get("error"))
        words = [each for each in said if isinstance(each, str) and each.strip()]
        if words:
            return [f"the evaluator says: {showable_line(words[0])}"]
        if state.data.get("correct") is False:
            return ["the evaluator says that it is not correct, and no more"]
        return self._complaints_about_score(metrics)

    def _complaints_about_score(self, metrics: Mapping[str, Any]) -> list[str]:
        if self.metric not in metrics:
            names = ", ".join(showable_line(str(name))[:40] for name in list(metrics)[:8])
            return [f"the evaluator gave no {self.metric}{f', only {names}' if names else ''}"]
        score = metrics[self.metric]
        if isinstance(score, bool) or not isinstance(score, int | float) or not _is_finite(score):
            shown = showable_line(str(as_text(score)))[:80]
            return [f"the evaluator's {self.metric} is {shown}, not a finite number"]
        if abs(score) > LARGEST_SCORE:
            shown = showable_line(as_text(score))[:80]
            return [f"the evaluator's {self.metric} is {shown}, larger than any score ({LARGEST_SCORE:g})"]
        return []

    def reward(self, state: State) -> Reward:
        """It grows as the score gets better, and stays above 0, which a failure is worth."""
        metrics = state.data["metrics"]
        score = float(metrics[self.metric])
        goodness = score if self.direction == "max" else -score
        value = 1.0 + goodness if goodness >= 0 else 1.0 / (1.0 - goodness)
        numbers = {
            name: float(each)
            for name, each in metrics.items()
            if isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= LARGEST_SCORE
        }
        return Reward(value=value, score=score, metrics=numbers)

    def examples(self) -> Examples:
        """The task's own program is good, and so are two scores; answers that are none are not."""
        program = self.starting_program()
        own = [Action(program, self.language)] if program else []
        good = [State(data={"metrics": {self.metric: score}}) for score in (1.0, 2.0)]
        scored = {"metrics": {self.metric: 1.0}}
        bad = [
            {"metrics": {}},
            {"metrics": {self.metric: "nan"}},
            {"metrics": {self.metric: True}},
            {**scored, "correct": False},
            {**scored, "artifacts": {"error": "it raised"}},
            {**scored, "error": "it raised"},
        ]
        return Examples(good=[*own, *good], bad=[State(data=data) for data in bad])


#: What a state of an adopted task may hold.
_ENTRIES = frozenset({"metrics", "artifacts", "correct", "error", "program"})


def _is_plain(value: Any) -> bool:
    """Whether a value is JSON whose numbers are finite."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return True
    return isinstance(value, int | float) and _is_finite(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False
