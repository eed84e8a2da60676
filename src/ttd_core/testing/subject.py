"""What the contract's checks look at: one problem, its known answers, and a sandbox to run programs in."""

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
class Outcome:
    """What one check came to.

    :param findings: the faults; empty when the check passed or was skipped.
    :param skipped: why it could not be made here; empty when it was.
    """

    findings: tuple[Finding, ...] = ()
    skipped: str = ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings: those of a verifier on absurd input are its affair, only its verdict counts."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@attrs.frozen
class Check:
    """One clause of the contract.

    :param name: one word.
    :param title: what it holds, in words.
    :param find: yields the faults.
    """

    name: str
    title: str
    find: Callable[[Subject], Iterator[Finding]]

    def run(self, subject: Subject) -> Outcome:
        """Make the check; whatever the problem raises is a finding, what the machine lacks skips it."""
        with quiet():
            try:
                return Outcome(tuple(self.find(subject)))
            except PluginError as error:
                return Outcome((Finding(f"{error.hook} fails: {error.reason}", _advice(error.hook)),))
            except EnvironmentLacksError as error:
                return Outcome(skipped=str(error))
            except TtdError as error:
                return Outcome((Finding(str(error), "the contract needs an answer here"),))


def _advice(hook: str) -> str:
    if hook in ("construct", "ttd_transition"):
        return "raise ValueError for what cannot be read, so that it is a failed rollout and ends no run"
    if hook == "ttd_check":
        return "look before you compute, and return a violation for whatever does not fit"
    return "no input may end a run"


@attrs.frozen
class Judged:
    """A known answer that was found valid."""

    label: str
    state: State
    reward: Reward


class Subject:
    """A problem under check.

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

    def again(self) -> Subject:
        """The same problem built anew: it has seen nothing yet."""
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

    def judge(self, answer: Any) -> Verdict:
        """The verdict on a returned value, a program or a state.

        :raises PluginError: when the problem fails on it.
        """
        if isinstance(answer, Action):
            return evaluate_action(self.hooks, State(), answer, self.execute)
        state = answer if isinstance(answer, State) else self.construct(answer)
        return state if isinstance(state, Verdict) else evaluate_state(self.hooks, state)

    @functools.cached_property
    def seeds(self) -> list[tuple[State, Reward | None]]:
        """Three seed states, scored as a run scores them."""
        return score_seeds(self.hooks, np.random.default_rng(0), 3, self.execute)

    @functools.cached_property
    def program(self) -> Verdict | None:
        """The verdict on the starting program; ``None`` where there is none."""
        source = self.problem.starting_program()
        return None if source is None else self.judge(Action(source, self.problem.language))

    @functools.cached_property
    def good(self) -> list[Verdict]:
        """The verdicts on the answers said to be good, in their order."""
        return [self.judge(answer) for answer in self.examples.good]

    @functools.cached_property
    def valid(self) -> list[Judged]:
        """Every known answer that is valid: the good examples, scored seeds, the starting program's."""
        found: list[Judged] = []
        for number, verdict in enumerate(self._trying(lambda: self.good), start=1):
            found += _judged(f"good example {number}", verdict.state, verdict.reward)
        for state, reward in self._trying(lambda: self.seeds):
            found += _judged("a seed state", state, reward)
        for ran in self._trying(lambda: [self.program]):
            if ran is not None:
                found += _judged("the starting program's answer", ran.state, ran.reward)
        return list({judged.state.digest: judged for judged in reversed(found)}.values())[::-1]

    def _trying(self, get: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        # Each source has a check of its own that tells what is wrong with it.
        try:
            return get()
        except TtdError:
            return ()


def prepared(problem: Problem, given: Mapping[str, Any]) -> Problem:
    """The problem with a short time budget, so that its check takes seconds.

    :param given: options set by a person, which stay as they are.
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


def _judged(label: str, state: State | None, reward: Reward | None) -> list[Judged]:
    return [] if state is None or reward is None else [Judged(label, state, reward)]
