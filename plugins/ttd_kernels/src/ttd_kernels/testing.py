"""Cheats as tests and benchmarks read them: each a program in a file, with what must come of it in its head.

::

    # Saves the mask's reads.
    # where: cpu, gpu
    # expect: invalid: the mask is ignored
"""

from __future__ import annotations

import pathlib
import re
from typing import Any

import attrs

from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_action
from ttd_core.types import Action, State, Verdict
from ttd_kernels import judging
from ttd_kernels.conductor import Plan
from ttd_kernels.timing import Rules
from ttd_kernels.trimul import TriMul, shape

_HEADER = re.compile(r"# (where|expect|options): (.*)")


@attrs.frozen
class Cheat:
    """One program.

    :param why: what it tries.
    :param where: ``cpu`` and ``gpu``, where it makes sense.
    :param status: what its verdict must be, a pattern.
    :param words: what the verdict must say, a pattern.
    :param options: of the problem.
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


def read(path: pathlib.Path) -> Cheat:
    """A cheat from its file."""
    text = path.read_text()
    facts = dict(_HEADER.findall(text))
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
    return [read(path) for path in sorted(folder.glob("*.py")) if path.stem != "right"]


class LargeTriMul(TriMul):
    """TriMul at two of its shapes, so that a cheat is judged in seconds on a GPU."""

    timed = TriMul.timed[:2]


class SmallTriMul(TriMul):
    """TriMul at sizes for the CPU, timed all the same: clocks can be forged there too."""

    timed = (shape(48, 2, 128, "random", "normal"),)
    #: Whether the clock is looked at.
    measure = True

    def plan(self, device: str) -> Plan:
        """Shapes twice, a Cauchy input, one that nobody named; few repeats."""
        tests = [shape(16, 1, 128, mask, kind) for mask, kind in (("random", "cauchy"), ("ones", "normal"))]
        rules = Rules(most=6, slack_us=2000.0, slack=0.5)
        hidden = [shape(20, 1, 96, "random", "normal")]
        return Plan([*tests, *tests], self.timed, hidden, measure=self.measure, rules=rules)


def judged(problem: TriMul, source: str, execute: Execute) -> Verdict:
    """The verdict on a program, as a run gives it."""
    source = source.replace("JUDGE", repr(str(pathlib.Path(judging.__file__).with_name("trimul.py"))))
    return evaluate_action(Hooks(problem, plugins=()), State(), Action(source), execute)
