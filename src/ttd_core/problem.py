"""Problem: the class an author subclasses, and what is known about one before a run.

A minimal problem sets ``name``, ``title``, ``metric`` and ``direction`` and writes ``task``, ``construct``,
``check`` and ``reward``. Everything else (prompt layout, parsing, sandboxed execution, seeds) has a default
that can be overridden method by method. Each public method of the contract is one pluggy hook of
:mod:`ttd_core.plugin.spec`, so any other plugin can wrap it.
"""

from __future__ import annotations

import abc
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar

import attrs
import numpy as np

from ttd_core import scores
from ttd_core.certificate import Certificate
from ttd_core.dialogue import applying, completing, parsing, prompting
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file
from ttd_core.options import Options, option
from ttd_core.sandbox.base import Job, JobResult, PythonJob
from ttd_core.scores import Direction
from ttd_core.types import Action, Completion, Message, Reward, ScoredState, State, Status, Verdict

__all__ = ["UNREADABLE", "Baseline", "Examples", "Execute", "Options", "Problem", "option"]

#: The only way to run candidate code: give it a job, get data back.
Execute = Callable[[Job], JobResult]


@attrs.frozen
class Baseline:
    """A published or known result to show beside ours.

    :param label: who or what.
    :param score: in the problem's metric.
    :param source: where it was published.
    :param date: when, as far as it is known: ``2026``, ``2026-07`` or ``2026-07-31``.
    :param decimals: places after the point that are known of a score that was rounded, up, down or to
        nearest; none when the score is exact.
    :param on: the cases or the data that it was measured on, in the words of :meth:`Problem.measured_on`;
        empty where the problem has one measure only.
    """

    label: str
    score: float
    source: str = ""
    date: str = attrs.field(default="", kw_only=True)
    decimals: int | None = attrs.field(default=None, kw_only=True)
    on: str = attrs.field(default="", kw_only=True)

    def equals(self, score: float) -> bool:
        """Whether a score is this one in all the digits that are known of it.

        Bounds are rounded so that they stay true, other figures to nearest: which, a publication seldom
        says. So a score that is less than one unit of the last known place away may be the published one.
        """
        if self.decimals is None or not math.isfinite(score):
            return score == self.score
        away = Decimal(repr(float(score))) - Decimal(repr(float(self.score)))
        return abs(away) < Decimal(1).scaleb(-self.decimals)

    @property
    def by(self) -> str:
        """Who or what, and when."""
        return f"{self.label} ({self.date})" if self.date else self.label

    @property
    def origin(self) -> str:
        """Where and when it was published, and what it was measured on."""
        return ", ".join(filter(None, [self.source, self.on and f"on {self.on}", self.date]))

    def facts(self) -> dict[str, Any]:
        """It as JSON: label, score and source, and of the rest what is known."""
        rest = {"date": self.date or None, "decimals": self.decimals, "on": self.on or None}
        known = {name: value for name, value in rest.items() if value is not None}
        return {"label": self.label, "score": self.score, "source": self.source, **known}


@attrs.frozen
class Examples:
    """Answers whose judgement the author knows, for ``ttd check-problem`` and the contract's tests.

    Each is a value as the candidate's function returns it, an :class:`~ttd_core.types.Action` (a program, run
    in the sandbox) or a :class:`~ttd_core.types.State` (checked as it is).

    :param good: valid answers; two of different scores show that the reward grows with the score.
    :param bad: answers that break a rule each, or lie about themselves.
    """

    good: Sequence[Any] = ()
    bad: Sequence[Any] = ()


#: What reading a value of any shape as a construction may raise: the candidate's fault, not the plugin's.
UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def _reading_error(error: Exception) -> str:
    """What ``construct`` raised, in a line; a plain ``ValueError`` speaks for itself."""
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


class Problem(abc.ABC):
    """One hard problem: how it is put to a model, how an answer is read, run, checked and rewarded.

    :param options: an instance of ``options_type``; defaults when omitted.
    """

    #: Unique name, as in the entry point.
    name: ClassVar[str]
    #: One line for lists.
    title: ClassVar[str]
    #: Name of the score ("upper bound C5", "sum of radii", "microseconds").
    metric: ClassVar[str]
    #: Whether a smaller or a larger score is better.
    direction: ClassVar[Direction]
    #: Published results, in any order.
    baselines: ClassVar[tuple[Baseline, ...]] = ()
    #: The score that prompts name as the one to aim for; ``None`` for the best published one. A problem sets
    #: it where a later record shall not change its prompts, or where results are measured on several things.
    default_target: ClassVar[float | None] = None
    #: Attrs class of this problem's options.
    options_type: ClassVar[type[Options]] = Options
    #: Function a candidate must define.
    entry: ClassVar[str] = "run"
    #: Signature shown to the model, e.g. ``run(seed, budget_s, **kwargs) -> list``.
    signature: ClassVar[str] = "run(seed, budget_s, **kwargs)"
    #: Modules ready in the sandbox.
    preload: ClassVar[tuple[str, ...]] = ("numpy",)
    #: Language of a candidate.
    language: ClassVar[str] = "python"
    #: Whether a verdict follows from program and start: no time is measured, no program ends by a clock.
    deterministic: ClassVar[bool] = False
    #: Shares of its budget that a program runs with before all of it; set by a run with a ``cascade``.
    first_shares: tuple[float, ...] = ()

    def __init__(self, options: Options | None = None) -> None:
        self.options = options if options is not None else self.options_type()

    # -- what an author must write ------------------------------------------------------------------

    @abc.abstractmethod
    def task(self) -> str:
        """The task in words: what is sought, how it is scored, the rules. Markdown."""

    @abc.abstractmethod
    def construct(self, value: Any) -> Mapping[str, Any]:
        """Turn what the candidate returned into a construction: named arrays and JSON values.

        Runs in the trusted process on plain data. Never believe a score the candidate reports.

        :raises ValueError: when it cannot be read as one; the message goes into the verdict.
        """

    @abc.abstractmethod
    def check(self, state: State) -> Sequence[str]:
        """Violations of the rules, one sentence each; empty when valid. Total: never raises on any state."""

    @abc.abstractmethod
    def reward(self, state: State) -> Reward:
        """Score a valid state, recomputing everything from its data."""

    # -- what an author may change ------------------------------------------------------------------

    def starting_program(self) -> str | None:
        """Source of a program that works, for runs with ``start = "program"``; ``None`` if there is none."""
        return None

    def inject(self, state: State) -> Mapping[str, Any]:
        """Global names a candidate finds set, JSON or arrays (the last construction, say)."""
        return {}

    def helpers(self) -> str:
        """Python source run before the candidate's, in the same namespace (an evaluator, say)."""
        return ""

    def arguments(self, state: State) -> Mapping[str, Any]:
        """Keyword arguments the entry function is called with."""
        return {"seed": 0, "budget_s": self.options.budget}

    def tells_budget(self, state: State) -> bool:
        """Whether programs are told ``options.budget``; a problem with its own transition says so itself."""
        return type(self).transition is Problem.transition and "budget_s" in self.arguments(state)

    def with_budget(self, share: float) -> Problem:
        """This problem with programs that are told a share of the budget (:meth:`Options.with_budget`)."""
        return type(self)(self.options.with_budget(share))

    def require_machine(self) -> None:
        """Called once before a run: does this machine have what the rewards need (a GPU, say)?

        :raises EnvironmentLacksError: when it has not; one line that says what to do.
        """
        return None

    def seed_states(self, rng: np.random.Generator, count: int) -> Sequence[State]:
        """Where a run starts: ``count`` states. Unscored ones have reward 0.

        :param rng: the only source of random numbers, so that a run can be repeated.
        :raises UsageError: when the ``start`` option asks for a program and the problem has none.
        """
        if self.options.start == "empty":
            return [State() for _ in range(count)]
        program = self.starting_program() if self.options.start == "program" else None
        if program is None:
            known = "'empty'" if self.starting_program() is None else "'empty' or 'program'"
            raise UsageError(f"{self.name}: start must be {known}, not {self.options.start!r}")
        return [State(code=program) for _ in range(count)]

    def render_prompt(self, state: State, history: Sequence[ScoredState]) -> list[Message]:
        """Chat messages asking for a better program than ``state``'s.

        :param history: the lineage, oldest first; the last entry is ``state`` itself. Empty for a seed
            that has no score.
        """
        return prompting.default_prompt(self.brief(state), state, history)

    def brief(self, state: State) -> prompting.Brief:
        """What the default prompt says of this problem when it asks for a better program than ``state``'s."""
        return prompting.Brief(
            title=self.title,
            task=self.task(),
            metric=self.metric,
            direction=self.direction,
            language=self.language,
            signature=self.signature,
            options=self.options,
            tells_budget="budget_s" in self.arguments(state),
            first_shares=self.first_shares,
            target=self.target,
            format_score=self.format_score,
        )

    def parse_action(self, completion: Completion) -> Action | Verdict:
        """Read the program out of a reply: the last fenced code block that compiles, or its edits."""
        if completion.lacks_answer:
            return Verdict.failed(Status.PARSE_ERROR, completion.lacks_answer)
        if self.options.reply == "edits":
            return applying.read_edits(completion.answer, self.language, self.entry)
        entry = "" if self.options.reply == "parts" else self.entry
        return parsing.parse_program(completion.answer, language=self.language, entry=entry)

    def complete(self, state: State, action: Action) -> Action | Verdict:
        """The whole program an action stands for: edits and parts are of ``state``'s program.

        A verdict where they have no place in it, or where something changes that the program's
        ``EVOLVE-BLOCK`` lines keep. A transition of a problem's own begins with it.
        """
        return completing.whole_program(state.code, action, self.options.reply, self.entry)

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Run the program in the sandbox and read its result as a new state."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        job = PythonJob(
            source=whole.code,
            entry=self.entry,
            kwargs=self.arguments(state),
            inject=self.inject(state),
            helpers=self.helpers(),
            preload=self.preload,
            limits=self.options.limits(),
        )
        result = execute(job)
        if not result.ok:
            return Verdict.failed(result.status, result.message, code=whole.code, output=result.output)
        try:
            data = self.construct(result.value)
            return State(code=whole.code, data=data, output=result.output)
        except UNREADABLE as error:
            reason = _reading_error(error)
            return Verdict.failed(Status.INVALID, reason, code=whole.code, output=result.output)

    def read_construction(self, path: pathlib.Path) -> State:
        """Read a construction from a file for ``ttd eval``: JSON (as ``construct`` takes it) or ``.npy``.

        :raises UsageError: when the file cannot be read as one.
        """
        value = read_data_file(path)
        try:
            return State(data=self.construct(value))
        except UNREADABLE as error:
            raise UsageError(f"{path}: not a construction of {self.name}: {_reading_error(error)}") from error

    def project(self, state: State) -> tuple[State, str]:
        """The valid construction nearest to one that breaks a rule by little, for ``--project``.

        :return: it, and one sentence that says what was changed, by how much.
        :raises UsageError: when the problem has no honest repair, or none for this construction.
        """
        raise UsageError(f"{self.name} has no repair to offer: --project is for problems with one nearest")

    def certificate(self, state: State) -> Certificate:
        """The score of a valid state in exact arithmetic, for ``ttd certify``.

        :raises UsageError: when the problem's score has no exact form.
        """
        raise UsageError(
            f"{self.name} has no exact certificates: its score is not an exact function of its data"
        )

    def examples(self) -> Examples:
        """Answers known to be good or bad; ``ttd check-problem`` holds the verifier to them."""
        return Examples()

    def measured_on(self) -> str:
        """The cases or the data that scores are taken on under these options; empty where there is no choice.

        A score is compared with those baselines alone that were measured on the same.
        """
        return ""

    def score_caution(self) -> str:
        """What a score is where it was made beside the candidate, which can forge it; empty elsewhere.

        A few words (``the evaluator's word``), shown wherever such a score is, and noted with a run.
        """
        return ""

    def plot(self, state: State) -> str | None:
        """A picture of a state as one ``<svg>`` element, for people; ``None`` if there is none."""
        return None

    # -- shared by all ------------------------------------------------------------------------------

    @classmethod
    def better(cls, first: float | Fraction, second: float | Fraction) -> bool:
        """Whether score ``first`` is strictly better than ``second``; rationals are compared exactly."""
        return scores.better(cls.direction, first, second)

    @classmethod
    def best_of(cls, several: Iterable[float]) -> float:
        """The best of some scores, none of which is NaN.

        :raises ValueError: when there are none.
        """
        return scores.best_of(cls.direction, several)

    @classmethod
    def gain(cls, before: float, after: float) -> float:
        """How much better score ``after`` is than score ``before``; negative when it is worse."""
        return scores.gain(cls.direction, before, after)

    @classmethod
    def ranked_baselines(cls) -> list[Baseline]:
        """The published results, the best first, whatever they were measured on."""
        return scores.best_first(cls.direction, cls.baselines, lambda baseline: baseline.score)

    @classmethod
    def best_baseline(cls) -> Baseline | None:
        """The best published result, the first named of equals; ``None`` when nothing is published."""
        return next(iter(cls.ranked_baselines()), None)

    def comparable_baselines(self) -> list[Baseline]:
        """The published results that scores under these options compare with, the best first."""
        here = self.measured_on()
        return [each for each in self.ranked_baselines() if each.on in ("", here)]

    def best_comparable(self) -> Baseline | None:
        """The best published result that scores under these options compare with; ``None`` without any."""
        return next(iter(self.comparable_baselines()), None)

    def beats(self, score: float, baseline: Baseline) -> bool:
        """Whether a score is better than a published one, in a digit that is known of it."""
        return self.better(score, baseline.score) and not baseline.equals(score)

    @property
    def target(self) -> float | None:
        """The score to aim for: the option, else the problem's default, else the best published one."""
        if self.options.target is not None:
            return self.options.target
        if self.default_target is not None:
            return self.default_target
        best = self.best_baseline()
        return best.score if best else None

    def format_score(self, score: float) -> str:
        """A score as shown to people, ten significant digits."""
        return f"{score:.10g}"

    def format_baseline(self, baseline: Baseline) -> str:
        """A published score as shown to people, with the digits that are known of it."""
        if baseline.decimals is None:
            return self.format_score(baseline.score)
        return f"{baseline.score:.{baseline.decimals}f}"
