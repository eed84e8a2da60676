"""Cheats as tests and benchmarks read them: programs in files that say first what must come of them.

::

    # Saves the mask's reads.
    # where: cpu, gpu
    # expect: invalid: the mask is ignored
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import pathlib
import re
import types
from typing import Any

import attrs

from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_action
from ttd_core.types import Action, State, Verdict
from ttd_kernels import trimul
from ttd_kernels.harness.evaluation_plan import EvaluationPlan
from ttd_kernels.harness.timing import TimingRules
from ttd_kernels.problem import KernelProblem
from ttd_kernels.trimul import TriMul, shape

#: A line of the head: a key and its value.
_HEADER_LINE = re.compile(r"# (where|expect|options): (.*)")
#: What stands in a cheat for the path of the file that computes the right answer.
_VERIFIER = "VERIFIER_PATH"


def module_at(path: pathlib.Path) -> types.ModuleType:
    """A trusted file as a module of the caller's own, which no import finds."""
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def our_program(name: str) -> types.ModuleType:
    """One of our kernels, ``programs/NAME.py`` of this package, as a module."""
    return module_at(pathlib.Path(str(importlib.resources.files("ttd_kernels"))) / "programs" / f"{name}.py")


@attrs.frozen
class Cheat:
    """One program that tries to score without doing the work.

    :param name: of its file, without suffix.
    :param why: what it tries.
    :param where: ``cpu`` and ``gpu``, where it makes sense.
    :param status: what its verdict must be, a regular expression.
    :param words: what the verdict must say, a regular expression.
    :param options: of the problem it is judged by.
    :param source: the program.
    """

    name: str
    why: str
    where: frozenset[str]
    status: str
    words: str
    options: dict[str, Any]
    source: str

    def caught_by(self, verdict: Verdict) -> bool:
        """Whether a verdict is the one that the cheat deserves."""
        return (
            not verdict.ok
            and verdict.value == 0.0
            and re.fullmatch(self.status, verdict.status.value) is not None
            and re.search(self.words, verdict.message) is not None
        )


def read_cheat(path: pathlib.Path) -> Cheat:
    """A cheat from its file; what it starts from, ``right.py`` beside it, is put before it."""
    text = path.read_text()
    facts = dict(_HEADER_LINE.findall(text))
    status, _, words = facts["expect"].partition(": ")
    options = dict(part.split("=") for part in facts.get("options", "").split() if part)
    return Cheat(
        name=path.stem,
        why=text.splitlines()[0].removeprefix("# "),
        where=frozenset(facts["where"].split(", ")),
        status=status,
        words=words,
        options=options,
        source=(path.parent / "right.py").read_text() + "\n\n" + text,
    )


def all_cheats(folder: pathlib.Path) -> list[Cheat]:
    """Every cheat of a folder, by name; each starts from the program ``right.py`` beside it."""
    return [read_cheat(path) for path in sorted(folder.glob("*.py")) if path.stem != "right"]


class LargeTriMul(TriMul):
    """TriMul at two of its shapes, so that a cheat is judged in seconds on a GPU."""

    timed_shapes = TriMul.timed_shapes[:2]


class SmallTriMul(TriMul):
    """TriMul at sizes for the CPU, timed all the same: clocks can be forged there too."""

    timed_shapes = (shape(48, 2, 128, "random", "normal"),)
    #: Whether the clock is looked at.
    measure = True

    def plan(self, device: str) -> EvaluationPlan:
        """Two shapes twice, one of them with a Cauchy input; one hidden shape; few repeats."""
        test_shapes = [
            shape(16, 1, 128, mask, kind) for mask, kind in (("random", "cauchy"), ("ones", "normal"))
        ]
        rules = TimingRules(max_repeats=8, slack_us=2000.0, relative_slack=0.5)
        hidden_shapes = [shape(20, 1, 96, "random", "normal")]
        return EvaluationPlan(
            [*test_shapes, *test_shapes],
            self.timed_shapes,
            hidden_shapes,
            measure=self.measure,
            timing_rules=rules,
        )


def verifier_path() -> pathlib.Path:
    """The file that computes TriMul's right answer, which a candidate must not be able to read."""
    return pathlib.Path(trimul.__file__)


def judged(problem: KernelProblem, source: str, execute: Execute) -> Verdict:
    """The verdict on a program, as a run gives it."""
    source = source.replace(_VERIFIER, repr(str(verifier_path())))
    return evaluate_action(Hooks(problem, plugins=()), State(), Action(source), execute)
