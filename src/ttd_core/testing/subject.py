"""What a check of the contract is, and what it looks at: one problem, its known answers, and a sandbox."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.errors import EnvironmentLacksError, PluginError, TtdError, one_line
from ttd_core.plugin.hooks import Hooks
from ttd_core.plugin.registry import provenance
from ttd_core.problem import UNREADABLE, Examples, Execute, Problem
from ttd_core.run.evaluate import evaluate_action, evaluate_state
from ttd_core.run.seeds import score_seeds
from ttd_core.types import Action, Reward, State, Status, Verdict

#: Seconds a starting program is given, and told it has, unless the options say otherwise.
TIMEOUT_S, BUDGET_S = 60.0, 2.0


@attrs.frozen
class Finding:
    """One fault: what is wrong, and what to do about it; together one sentence."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}."


@attrs.frozen
class CheckResult:
    """What one check found.

    :param findings: the faults; empty when the check passed or was skipped.
    :param skipped: why it could not be made here; empty when it was.
    """

    findings: tuple[Finding, ...] = ()
    skipped: str = ""


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings inside: on absurd input a verifier may give some, only its verdict counts."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@attrs.frozen
class Check:
    """One clause of the contract.

    :param name: one word.
    :param title: the clause, in words.
    :param find: yields the faults of a problem; nothing when it keeps the clause.
    """

    name: str
    title: str
    find: Callable[[Subject], Iterator[Finding]]

    def run(self, subject: Subject) -> CheckResult:
        """Check a problem. What it raises is a finding too; what this machine lacks skips the check."""
        with without_warnings():
            try:
                return CheckResult(tuple(self.find(subject)))
            except PluginError as error:
                return CheckResult((Finding(f"{error.hook} fails: {error.reason}", _advice(error.hook)),))
            except EnvironmentLacksError as error:
                return CheckResult(skipped=str(error))
            except TtdError as error:
                return CheckResult((Finding(str(error), "the contract needs an answer here"),))


def _advice(hook: str) -> str:
    if hook in ("construct", "ttd_transition"):
        return "raise ValueError for what cannot be read, so that it is a failed rollout and ends no run"
    if hook == "ttd_check":
        return "look before you compute, and return a violation for whatever does not fit"
    return "no input may end a run"


@attrs.frozen
class ValidAnswer:
    """A known answer whose verdict is ok.

    :param label: where it comes from, for sentences.
    """

    label: str
    state: State
    reward: Reward


class Subject:
    """The problem under test, and what several checks ask of it, each computed once.

    :param problem: as a run would build it.
    :param execute: runs jobs in the sandbox.
    :param examples: known answers; the problem's own when left out.
    """

    def __init__(self, problem: Problem, execute: Execute, examples: Examples | None = None) -> None:
        self.problem = problem
        self.execute = execute
        self.hooks = Hooks(problem, plugins=())
        self._examples = examples

    @functools.cached_property
    def examples(self) -> Examples:
        """The known answers."""
        if self._examples is not None:
            return self._examples
        try:
            examples = self.problem.examples()
        except Exception as error:
            raise PluginError(provenance(self.problem), "examples", one_line(error)) from error
        if not isinstance(examples, Examples):
            raise PluginError(
                provenance(self.problem),
                "examples",
                f"returned {type(examples).__name__} instead of Examples",
            )
        return examples

    def rebuilt(self) -> Subject:
        """The same with the problem built anew: whatever it kept in memory is gone."""
        fresh = type(self.problem)(self.problem.options)
        return Subject(fresh, self.execute, self._examples)

    def construct(self, value: Any) -> State | Verdict:
        """A returned value as a state, as ``transition`` reads it.

        :raises PluginError: when ``construct`` raises what does not mean "cannot be read".
        """
        try:
            return State(data=self.problem.construct(value))
        except UNREADABLE as error:
            return Verdict.failed(Status.INVALID, one_line(error))
        except Exception as error:
            reason = f"on {shorten(value)} it raises {one_line(error)}"
            raise PluginError(provenance(self.problem), "construct", reason) from error

    def evaluate(self, answer: Any) -> Verdict:
        """The verdict on a returned value, a program or a state.

        :raises PluginError: when the problem fails on it.
        """
        if isinstance(answer, Action):
            return evaluate_action(self.hooks, State(), answer, self.execute)
        state = answer if isinstance(answer, State) else self.construct(answer)
        return state if isinstance(state, Verdict) else evaluate_state(self.hooks, state)

    @functools.cached_property
    def seeds(self) -> list[tuple[State, Reward | None]]:
        """Three seed states, scored as a run scores them.

        :raises UsageError: when one is not valid.
        """
        return score_seeds(self.hooks, np.random.default_rng(0), 3, self.execute)

    @functools.cached_property
    def program_verdict(self) -> Verdict | None:
        """The verdict on the starting program; ``None`` where there is none."""
        source = self.problem.starting_program()
        return None if source is None else self.evaluate(Action(source, self.problem.language))

    @functools.cached_property
    def good_verdicts(self) -> list[Verdict]:
        """The verdicts on the answers said to be good, in their order."""
        return [self.evaluate(answer) for answer in self.examples.good]

    @functools.cached_property
    def valid_answers(self) -> list[ValidAnswer]:
        """Every known answer that is valid: the good examples, scored seeds, the starting program's."""
        answers: list[ValidAnswer] = []
        for number, verdict in enumerate(self._or_nothing(lambda: self.good_verdicts), start=1):
            answers += _if_valid(f"good example {number}", verdict.state, verdict.reward)
        for state, reward in self._or_nothing(lambda: self.seeds):
            answers += _if_valid("a seed state", state, reward)
        for ran in self._or_nothing(lambda: [self.program_verdict]):
            if ran is not None:
                answers += _if_valid("the starting program's answer", ran.state, ran.reward)
        # Of equal states the first stays.
        return list({answer.state.digest: answer for answer in reversed(answers)}.values())[::-1]

    def _or_nothing(self, get: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        # Each source has a check of its own that says what is wrong with it.
        try:
            return get()
        except TtdError:
            return ()


def with_short_budget(problem: Problem, given: Mapping[str, Any]) -> Problem:
    """The problem with a short time budget, so that checking it takes seconds.

    :param given: options set by a person, by name; these stay as they are.
    """
    options = problem.options
    changes: dict[str, Any] = {}
    if "timeout_s" not in given:
        changes["timeout_s"] = min(options.timeout_s, TIMEOUT_S)
    if "budget_s" not in given:
        limit = changes.get("timeout_s", options.timeout_s)
        changes["budget_s"] = min(options.budget_s or BUDGET_S, 0.9 * limit)
    return type(problem)(attrs.evolve(options, **changes))


def shorten(value: Any, limit: int = 60) -> str:
    """A value as people see it in a sentence."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):
        # An integer of thousands of digits has no text.
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _if_valid(label: str, state: State | None, reward: Reward | None) -> list[ValidAnswer]:
    return [] if state is None or reward is None else [ValidAnswer(label, state, reward)]
