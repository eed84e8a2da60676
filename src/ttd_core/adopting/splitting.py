"""A program and its evaluator in jobs of their own, so that nothing the program does can reach its score.

Beside the evaluator stands a module with the program's functions. Each call of one is looked up in a record
by its name and arguments; what is not there yet ends the job, and the function is called on the same
arguments in a job of its own, which never sees the evaluator. Then the evaluator is run again with the record
extended, until it ends. What passes between the jobs is text that holds plain data and arrays
(``programs/values.py``), and this process only carries it. So no two jobs run at once, and any executor can
do this.

The evaluator's clocks are moved on by the seconds that a call's job took, by our clock: those of the module
``time``, in the process that calls.
"""

from __future__ import annotations

import ast
import collections
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ttd_core.adopting.evaluation import evaluation_job, program_text
from ttd_core.adopting.interpreter import Interpreter
from ttd_core.adopting.task import Call, Task
from ttd_core.problem import Execute
from ttd_core.sandbox.base import MIB, JobResult, Limits
from ttd_core.text import showable_line
from ttd_core.types import Status

#: Seconds of all jobs of one evaluation together, as a multiple of the time that one may take.
_TIMES = 4
#: Bytes of one call's arguments, or of what it returned, as text.
_CALL_BYTES = 4 * MIB
#: Bytes of all that was recorded, as JSON: it goes to the evaluator's job with the rest of its plan.
_RECORD_BYTES = 8 * MIB


def why_not_split(task: Task) -> str:
    """Why a task cannot be split, as far as its files say; empty when nothing speaks against it."""
    if task.language != "python":
        return f"its programs are {task.language}, and only functions of Python programs can be called apart"
    if task.evaluator.call is Call.POPCORN:
        return "its evaluator hands tensors on a GPU to the program, which are no data"
    functions, _ = _surface(task.program)
    if task.program and not functions:
        return "its program defines no function at top level that could be called apart"
    if task.entry and task.program and task.entry not in functions:
        return f"{task.entry} is no function that its program defines at top level"
    return ""


def _surface(program: str) -> tuple[list[str], dict[str, str]]:
    """A program's functions at top level, and its constants that are literals, as they are written."""
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [], {}
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    bound, read = _names_at_top(body)
    constants: dict[str, str] = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None or len(targets) != 1:
            continue
        name = targets[0].id if isinstance(targets[0], ast.Name) else ""
        changeable = any(isinstance(each, ast.List | ast.Dict | ast.Set) for each in ast.walk(node.value))
        # What is bound twice, or may be filled, has a value that only running the program tells.
        if not name or bound[name] > 1 or (changeable and read[name]):
            continue
        try:
            ast.literal_eval(node.value)
            constants[name] = ast.unparse(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return functions, constants


def _names_at_top(body: Sequence[ast.stmt]) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """How often a module that is imported binds each name, and reads it; functions bind what is global."""
    bound: collections.Counter[str] = collections.Counter()
    read: collections.Counter[str] = collections.Counter()
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                shared = (each.names for each in ast.walk(node) if isinstance(each, ast.Global))
                bound.update([name, *itertools.chain.from_iterable(shared)])
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                waiting += node.orelse
            case ast.alias():
                bound[(node.asname or node.name).partition(".")[0]] += 1
            case ast.Name(ctx=ast.Load()):
                read[node.id] += 1
            case ast.Name():
                bound[node.id] += 1
            case _:
                waiting += ast.iter_child_nodes(node)
    return bound, read


def _stand_in(program: str) -> str:
    """The text of the module that stands for a program beside its evaluator."""
    functions, constants = _surface(program)
    lines = ["import ttd_stand_in as _ttd"]
    lines += [f"{name} = {written}" for name, written in constants.items()]
    for name in functions:
        lines += [f"def {name}(*args, **kwargs):", f"    return _ttd.call({name!r}, args, kwargs)"]
    return "\n".join(lines) + "\n"


@attrs.define
class _Evaluation:
    """One evaluation: what was recorded, and what was used."""

    task: Task
    interpreter: Interpreter
    program: str
    limits: Limits
    calls: int
    execute: Execute
    record: list[dict[str, Any]] = attrs.field(factory=list)
    recorded: int = 0
    seconds: float = 0.0
    output: str = ""

    def run(self) -> JobResult:
        """Run the evaluator again and again until no call is missing: its last result, or why none."""
        asked: list[str] = []
        while True:
            result = self._evaluator()
            value = result.value if result.ok else None
            if not isinstance(value, Mapping):
                return self._with_output(result)
            if isinstance(value.get("refused"), str):
                return self._refused(result, value["refused"])
            if value.get("unused"):
                return self._refused(result, "the evaluator does not make the same calls each time it is run")
            wanted = value.get("asked")
            if wanted is None:
                return self._with_output(result)
            used = value.get("used")
            if asked and not (isinstance(used, Sequence) and set(asked) & set(used)):
                return self._refused(result, "the evaluator does not make the same calls each time it is run")
            if not _is_asking(wanted):
                return self._refused(result, "its evaluator's calls cannot be read")
            if len(self.record) + len(wanted) > self.calls:
                return self._refused(result, f"the evaluator calls the program more than {self.calls} times")
            asked = [call["identity"] for call in wanted]
            for call in wanted:
                failure = self._call(call)
                if failure is not None:
                    return failure

    def _evaluator(self) -> JobResult:
        modules = {
            "first/ttd_values.py": program_text("values.py"),
            "first/ttd_commands.py": program_text("commands.py"),
            "first/ttd_stand_in.py": program_text("stand_in.py"),
            "first/sitecustomize.py": program_text("sitecustomize.py"),
        }
        return self._run(_stand_in(self.program), modules, {"record": self.record})

    def _call(self, call: Mapping[str, Any]) -> JobResult | None:
        """Call one function of the program in a job of its own and record it; a result where that failed."""
        plan = {
            "call": "calls",
            "caller": program_text("functions.py"),
            "name": call["name"],
            "arguments": call["arguments"],
        }
        result = self._run(self.program, {"first/ttd_values.py": program_text("values.py")}, plan)
        self.output = (self.output + result.output)[-self.limits.output_kept :]
        if not result.ok:
            return self._with_output(result)
        value = result.value if isinstance(result.value, Mapping) else {}
        if isinstance(value.get("failed"), str):
            return self._with_output(attrs.evolve(result, status=Status.CRASH, message=value["failed"]))
        if isinstance(value.get("refused"), str):
            return self._refused(result, value["refused"], by="")
        entry: dict[str, Any] = {"identity": call["identity"], "seconds": result.wall_s, "cpu": result.cpu_s}
        raised = value.get("raised")
        if isinstance(value.get("returned"), str):
            entry["returned"] = value["returned"]
        elif (
            isinstance(raised, Sequence)
            and len(raised) == 2
            and all(isinstance(each, str) for each in raised)
        ):
            entry["raised"] = list(raised)
        else:
            return self._refused(result, "what the program left cannot be read", by="")
        if len(entry.get("returned", "")) > _CALL_BYTES:
            return self._refused(result, f"what {call['name']} returned takes more than 4 MiB", by="")
        self.recorded += len(json.dumps(entry))
        if self.recorded > _RECORD_BYTES:
            most = f"more than {_RECORD_BYTES // MIB} MiB"
            return self._refused(result, f"what the program's functions returned takes {most} in all", by="")
        self.record.append(entry)
        return None

    def _run(self, program: str, modules: Mapping[str, str], changes: Mapping[str, Any]) -> JobResult:
        """One job, within the time that is left for all of them."""
        left = _TIMES * self.limits.wall_s - self.seconds
        if left <= 0:
            message = f"its jobs took more than {_TIMES} times {self.limits.wall_s:g} s together"
            return JobResult(Status.TIMEOUT, message)
        limits = attrs.evolve(self.limits, wall_s=min(left, self.limits.wall_s))
        job = evaluation_job(self.task, self.interpreter, program, limits, **changes)
        plan = dict(job.args[0])
        plan |= {"modules": {**plan["modules"], **modules}, "first": "first/sitecustomize.py" in modules}
        result = self.execute(attrs.evolve(job, args=[plan]))
        self.seconds += result.wall_s
        return result

    def _refused(self, result: JobResult, reason: str, by: str = "split: ") -> JobResult:
        message = f"{by}{showable_line(reason)[:500]}"
        return self._with_output(attrs.evolve(result, status=Status.INVALID, message=message, value=None))

    def _with_output(self, result: JobResult) -> JobResult:
        """A result with what the program printed before what the evaluator did."""
        return attrs.evolve(result, output=(self.output + result.output)[-self.limits.output_kept :])


def _is_asking(wanted: Any) -> bool:
    """Whether this is a list of calls, as ``programs/stand_in.py`` asks for them."""
    names = ("identity", "name", "arguments")
    return isinstance(wanted, Sequence) and all(
        isinstance(call, Mapping)
        and all(isinstance(call.get(name), str) for name in names)
        and len(call["arguments"]) <= _CALL_BYTES
        and all(part.isalnum() for part in call["identity"].split("."))
        for call in wanted
    )


def evaluate_split(
    task: Task, interpreter: Interpreter, program: str, limits: Limits, calls: int, execute: Execute
) -> JobResult:
    """Evaluate a program with its evaluator in another job.

    :param limits: of each job.
    :param calls: most calls of the program's functions.
    :return: the evaluator's last result, as of :func:`~ttd_core.adopting.evaluation.evaluation_job`.
    """
    return _Evaluation(task, interpreter, program, limits, calls, execute).run()
