"""The contract's checks of what a problem says and does: seeds, programs, prompts, replies, transitions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs
import numpy as np

from ttd_core.config.settings import describe_fields
from ttd_core.dialogue import parsing
from ttd_core.dialogue.prompting import fenced
from ttd_core.errors import EnvironmentLacksError, PluginError, UsageError
from ttd_core.plugin.hooks import Hooks
from ttd_core.problem import Execute
from ttd_core.run.evaluate import evaluate_state
from ttd_core.sandbox.base import Artifact, Job, JobResult
from ttd_core.testing import hostile
from ttd_core.testing.subject import Finding, Subject, shorten
from ttd_core.types import Action, Completion, ScoredState, State, Status, Verdict

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def find_in_declaration(subject: Subject) -> Iterator[Finding]:
    """The name, the words and the options."""
    problem = subject.problem
    if not _NAME.fullmatch(problem.name):
        yield Finding(
            f"name = {problem.name!r} is no plain name",
            "use lower-case letters, digits, '-' and '_' so that it can be typed and named in files",
        )
    for attribute in ("title", "metric"):
        text = getattr(problem, attribute)
        if not text.strip() or "\n" in text:
            yield Finding(f"{attribute} is not one line of text", "lists and prompts show it on a line")
    task = problem.task()
    if not isinstance(task, str) or not task.strip():
        yield Finding("task() is empty", "say what is sought, how it is scored and which rules hold")
    if problem.language == "python" and problem.entry not in problem.signature:
        yield Finding(
            f"signature {problem.signature!r} does not name entry {problem.entry!r}",
            "the prompt shows the signature and the sandbox calls the entry, so they must agree",
        )
    for name, _, _, help_text in describe_fields(problem.options_type):
        if not help_text:
            yield Finding(f"option {name} has no help text", "declare it with ttd_core.option(default, help)")


def find_in_seeds(subject: Subject) -> Iterator[Finding]:
    """Where a run starts: as many states as asked for, valid, scored, the same for the same random state."""
    try:
        seeds = subject.seeds
    except UsageError as error:
        yield Finding(str(error), "a run cannot start from a state that its own verifier refuses")
        return
    digests = [state.digest for state in subject.hooks.seed_states(np.random.default_rng(1), 2)]
    again = [state.digest for state in subject.hooks.seed_states(np.random.default_rng(1), 2)]
    if digests != again:
        yield Finding(
            "seed_states gives other states for the same random generator",
            "draw every random number from its rng argument, so that a run can be repeated",
        )
    for state, reward in seeds:
        if reward is None and (state.code or state.data):
            yield Finding("a seed state with an answer has no reward", "only an empty state starts unscored")
    problem, budget = subject.problem, subject.problem.options.budget
    if problem.tells_budget(seeds[0][0]) and problem.with_budget(0.5).options.budget != 0.5 * budget:
        yield Finding(
            "with_budget(0.5) has another budget than half of it",
            "build the problem with options.with_budget(share), so that short runs can come first",
        )


def find_in_program(subject: Subject) -> Iterator[Finding]:
    """The starting program compiles, defines the entry, runs in the sandbox, and gives a valid answer."""
    problem = subject.problem
    source = problem.starting_program()
    if source is None:
        return
    if problem.language == "python":
        failure = parsing.checked_program(source, problem.entry)
        if failure is not None:
            yield Finding(
                f"the starting program is no program: {failure.message}",
                f"it must compile and define {problem.entry}",
            )
            return
    verdict = subject.program_verdict
    assert verdict is not None
    if verdict.status is Status.INFRASTRUCTURE:
        raise EnvironmentLacksError(f"the starting program cannot be judged here: {verdict.message}")
    if not verdict.ok:
        yield Finding(
            f"the starting program fails: {verdict.status}: {verdict.message or verdict.status.sentence}",
            "a run that starts from it must have a score to improve on",
        )
    elif problem.deterministic:
        again = subject.evaluate(Action(source, problem.language))
        if _result(again) != _result(verdict):
            yield Finding(
                f"deterministic is set, but the starting program came to {verdict.value!r} and then to "
                f"{again.value!r}, or to another state",
                "leave it out where times are measured, or programs draw random numbers or end by a clock",
            )
    options = attrs.evolve(problem.options, start="program")
    started = Hooks(type(problem)(options), plugins=()).seed_states(np.random.default_rng(0), 1)[0]
    if not (started.code or started.data):
        yield Finding(
            "with start = 'program' a run starts from nothing",
            "let seed_states return State(code=self.starting_program()) then",
        )


def _result(verdict: Verdict) -> tuple[Status, float, str]:
    """What must be equal for one verdict to stand for the other."""
    return verdict.status, verdict.value, "" if verdict.state is None else verdict.state.digest


def find_in_prompts(subject: Subject) -> Iterator[Finding]:
    """Prompts are repeatable, change nothing, and show the program, its score and what to define."""
    problem, hooks = subject.problem, subject.hooks
    if problem.language == "python":
        text = _prompt(subject, State(), [])
        if problem.entry not in text:
            yield Finding(
                f"the prompt never names {problem.entry}, which a reply must define",
                "show self.signature in render_prompt",
            )
    for answer in subject.valid_answers[:2]:
        state = attrs.evolve(answer.state, code=answer.state.code or _stub(subject))
        history = [ScoredState(state, answer.reward)]
        before = state.digest
        text = _prompt(subject, state, history)
        if text != _prompt(subject, state, history):
            yield Finding(
                "the same state gives two different prompts", "render_prompt must not draw or count"
            )
        if state.digest != before:
            yield Finding("render_prompt changes the state", "copy what you want to change")
        if state.code.strip() not in text:
            yield Finding("the prompt does not show the last program", "put state.code into it")
        if problem.format_score(answer.reward.score) not in text:
            yield Finding("the prompt does not show the last score", "put format_score(score) into it")
        hooks.render_prompt(state, history * 2)


def find_in_parsing(subject: Subject) -> Iterator[Finding]:
    """A program in a fence is found; replies without one fail as verdicts."""
    program = subject.problem.starting_program() or _stub(subject)
    label = {"c++": "cpp"}.get(subject.problem.language, subject.problem.language)
    plain_reply = Completion(f"I would try this.\n\n{fenced(program, label)}\nDone.")
    parsed = subject.hooks.parse_action(plain_reply)
    if not isinstance(parsed, Action):
        yield Finding(
            f"parse_action does not find the program in a plain reply: {parsed.message}",
            f"take what stands in the last ```{label} block",
        )
    for reply in hostile.broken_replies(program):
        try:
            parsed = subject.hooks.parse_action(Completion(reply))
        except PluginError as error:
            yield Finding(
                f"parse_action fails on the reply {shorten(reply, 40)}: {error.reason}",
                "return a failed Verdict for a reply without a program",
            )
            return
        if isinstance(parsed, Action) and not parsed.code.strip():
            yield Finding(
                f"parse_action finds an empty program in {shorten(reply, 40)}",
                "return a failed Verdict for a reply without a program",
            )
            return


def find_in_transition(subject: Subject) -> Iterator[Finding]:
    """Whatever comes back from the sandbox, a transition gives a state or a failed verdict."""
    action = Action(subject.problem.starting_program() or _stub(subject), subject.problem.language)
    for status in Status:
        if status is Status.OK:
            continue
        reached = subject.hooks.transition(State(), action, _always(JobResult(status, f"({status})")))
        if not isinstance(reached, Verdict):
            yield Finding(
                f"transition makes a state of a job that ended with {status}",
                "return Verdict.failed(result.status, result.message) when result.ok is false",
            )
            return
        if status is Status.INFRASTRUCTURE and reached.status is not status:
            yield Finding(
                f"transition turns a failure of the sandbox itself into {reached.status}",
                "keep result.status, so that the policy is not blamed for it",
            )
    for value in hostile.values():
        result = JobResult(Status.OK, value=value, stdout=b"\xff0", artifact=Artifact("0" * 64))
        try:
            reached = subject.hooks.transition(State(), action, _always(result))
        except PluginError as error:
            yield Finding(
                f"transition fails on a program that returns {shorten(value)}: {error.reason}",
                "raise ValueError in construct for what cannot be read",
            )
            return
        if isinstance(reached, State):
            evaluate_state(subject.hooks, reached)


def _always(result: JobResult) -> Execute:
    """A sandbox that gives this result to every job."""

    def execute(_job: Job) -> JobResult:
        return result

    return execute


def _prompt(subject: Subject, state: State, history: list[ScoredState]) -> str:
    """The prompt's messages as one text."""
    return "\n".join(message["content"] for message in subject.hooks.render_prompt(state, history))


def _stub(subject: Subject) -> str:
    """A program that defines what it must and does nothing."""
    if subject.problem.language == "python":
        return f"def {subject.problem.entry}(*args, **kwargs):\n    return None\n"
    return "int main() { return 0; }\n"
