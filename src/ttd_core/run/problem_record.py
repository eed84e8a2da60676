"""The problem of a run as it was when the run began: noted with the run, compared when it goes on.

Two verifiers in one archive would make scores that cannot be compared, so a change is refused unless it is
accepted, and then told in the report. What a page says of a problem is noted too, so that a run folder can be
read where the problem is not installed, or its file has moved; nothing of a run folder is ever executed.
"""

from __future__ import annotations

import difflib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from ttd_core.adopting.problem import AdoptedProblem
from ttd_core.adopting.record import digests_of
from ttd_core.config import RunConfig
from ttd_core.errors import PluginError, ResumeError, UnknownProblemError, UsageError
from ttd_core.input_files import read_text_file
from ttd_core.plugin.entries import find, is_file_reference, split_file_reference
from ttd_core.plugin.registry import load
from ttd_core.problem import Baseline, Problem
from ttd_core.run.reading import RunReader
from ttd_core.text import showable_line
from ttd_core.types import Reward, State

#: In a run's folder: the file of its problem, where that is one file. For people; nothing reads it.
PROBLEM_FOLDER = "problem"
_FACTS = ("name", "title", "metric", "direction", "language")


@attrs.frozen
class ProblemRecord:
    """What is noted of a problem.

    :param origin: the distribution that brings it with its version, or its file.
    :param source: of a problem in a file of its own, that file; of an adopted task, its files with their
        digests; empty for an installed one.
    :param facts: what a page says of it: its name, title, metric, direction, baselines, and the caution about
        its scores where there is one.
    """

    origin: str
    source: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, problem: Problem, reference: str) -> ProblemRecord:
        """Of a problem that was built.

        :param reference: how a config names it.
        """
        facts: dict[str, Any] = {name: getattr(problem, name) for name in _FACTS}
        facts["baselines"] = [attrs.asdict(baseline) for baseline in problem.baselines]
        if caution := problem.score_caution():
            facts["caution"] = caution
        if isinstance(problem, AdoptedProblem):
            return cls(str(problem.adopted.folder), digests_of(problem.adopted), facts)
        if is_file_reference(reference):
            path = pathlib.Path(split_file_reference(reference)[0])
            return cls(str(path), read_text_file(path), facts)
        return cls(find(reference).origin, "", facts)

    @property
    def caution(self) -> str:
        """What its scores are where they were made beside the candidate; empty elsewhere."""
        return str(self.facts.get("caution", ""))

    @classmethod
    def of_run(cls, run: RunReader) -> ProblemRecord | None:
        """What a run noted; ``None`` in runs of versions that noted nothing."""
        noted = run.problem_record()
        return cls.from_text(noted) if noted is not None else None

    @classmethod
    def from_text(cls, text: str) -> ProblemRecord:
        """Inverse of :meth:`to_text`."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """As JSON, as it is kept in the run's database."""
        return json.dumps(attrs.asdict(self))

    def changes_to(self, now: ProblemRecord) -> str:
        """How the problem differs from what it is now, in a line; empty when it does not."""
        if self.source != now.source:
            return f"{now.origin} was changed: {_first_difference(self.source, now.source)}"
        if not self.source and self.origin != now.origin:
            return f"{self.facts['name']} is of {now.origin} now, and was of {self.origin}"
        return ""


def _first_difference(before: str, after: str) -> str:
    """How many lines differ, and the first of them."""
    changed = [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    if not changed:
        return "in its line ends"
    first = showable_line(changed[0])
    return f"{len(changed)} lines removed or added, the first: {first[:100]}"


def require_problem_file(folder: pathlib.Path, recorded: ProblemRecord | None) -> None:
    """Refuse to judge anything where the file or folder of the run's problem is not there.

    The copy in the run's folder is for people: nothing of a run folder is executed.

    :param recorded: ``None`` in runs of versions that noted nothing.
    :raises ResumeError: names the file.
    """
    if recorded is not None and recorded.source and not pathlib.Path(recorded.origin).exists():
        raise ResumeError(
            f"{recorded.origin} is missing: the run's problem. Put it back; as the run knows it, it is "
            f"kept in {folder / PROBLEM_FOLDER}"
        )


def require_same_problem(
    folder: pathlib.Path, recorded: ProblemRecord | None, problem: Problem, reference: str, accept: bool
) -> str:
    """Refuse to go on with a problem that is not the one that the run began with.

    :param recorded: ``None`` in runs of versions that noted nothing.
    :param accept: whether a change is accepted.
    :return: the change that was accepted, in a line; empty for none.
    :raises ResumeError: for a change that is not accepted; says which.
    """
    change = recorded.changes_to(ProblemRecord.of(problem, reference)) if recorded else ""
    if change and not accept:
        raise ResumeError(
            f"{folder}: {change}. Scores of two verifiers in one archive cannot be compared: undo the change "
            f"(what the run knows is in {folder / PROBLEM_FOLDER}), start a new run, or go on all the same "
            "with --accept-problem"
        )
    return change


def problem_of_run(run: RunReader, config: RunConfig) -> Problem:
    """The problem of a run that is read: as installed, else what was noted of it, which draws no pictures.

    :raises TtdError: when it cannot be built, and nothing was noted.
    """
    try:
        return load(config.problem, config.options)
    except (UnknownProblemError, UsageError, PluginError):
        recorded = recorded_problem(run)
        if recorded is None:
            raise
        return recorded


def recorded_problem(run: RunReader) -> Problem | None:
    """The problem of a run as it noted it: without its code, so nothing is imported or executed.

    ``None`` in runs of versions that noted nothing.
    """
    recorded = ProblemRecord.of_run(run)
    return _recorded_problem(recorded.facts) if recorded is not None else None


class _RecordedProblem(Problem):
    """Shows what was noted of a problem; judges nothing."""

    #: What the run noted.
    _caution: ClassVar[str] = ""
    #: Said where its code would be needed.
    _NOT_HERE: ClassVar[str] = "the run's problem is not here, only what the run noted of it"

    def task(self) -> str:
        """Not noted."""
        return ""

    def score_caution(self) -> str:
        """As it was noted."""
        return self._caution

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Nothing can be read without the problem's code.

        :raises UsageError: always.
        """
        raise UsageError(self._NOT_HERE)

    def check(self, state: State) -> list[str]:
        """Nothing is valid without the problem's code."""
        return [self._NOT_HERE]

    def reward(self, state: State) -> Reward:
        """Nothing can be scored without the problem's code.

        :raises UsageError: always.
        """
        raise UsageError(self._NOT_HERE)


def _recorded_problem(facts: Mapping[str, Any]) -> Problem:
    known = {field.name for field in attrs.fields(Baseline)}
    baselines = tuple(
        Baseline(**{name: value for name, value in each.items() if name in known})
        for each in facts["baselines"]
    )
    shown = {name: facts[name] for name in _FACTS}
    shown |= {"baselines": baselines, "_caution": str(facts.get("caution", ""))}
    cls: type[Problem] = type("RecordedProblem", (_RecordedProblem,), shown)
    return cls()
