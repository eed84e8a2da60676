"""What contests share: seeds and cases, C++ programs judged case by case, answers kept and judged again.

A contest is a subclass that says how a seed becomes a case, how a program's output is read, and what an
answer scores; nothing else knows it. A state holds the answers to all cases, not the scores a run found, so
that check and reward judge them anew.
"""

from __future__ import annotations

import abc
import functools
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc import judging
from ttd_core.errors import UsageError
from ttd_core.problem import Execute, Options, Problem, option
from ttd_core.types import Action, Message, Reward, ScoredState, State, Status, Verdict

Answer = npt.NDArray[np.int32]

#: Text of a compiler shown in a later prompt, in characters.
_COMPILER_CHARS = 1500


@attrs.frozen
class ContestOptions(Options):
    """Options of every contest."""

    timeout_s: float = option(2.0, "processor seconds a program may use for one case")
    cpus: int = option(1, "processors a program may use", validator=attrs.validators.in_((1,)))
    cases: int = option(150, "cases a program is judged on", validator=attrs.validators.ge(1))
    first_seed: int = option(0, "seed of the first case", validator=attrs.validators.ge(0))
    cores: int = option(
        0, "cases run at once, each on a core of its own; 0 for all cores", validator=attrs.validators.ge(0)
    )
    program: str = option(
        "short",
        "the starting program: 'short' (a small model can retype it) or 'strong' (our best method)",
        validator=attrs.validators.in_(("short", "strong")),
    )
    reply: str = option(
        "program", "what a reply holds: 'program', all of it", validator=attrs.validators.in_(("program",))
    )


@attrs.frozen(eq=False)
class Case:
    """One input.

    :param seed: unsigned 64-bit.
    :param text: as a program reads it.
    :param facts: the same for the scorer; whatever the contest likes.
    """

    seed: int
    text: str
    facts: Any


class InvalidAnswer(ValueError):
    """An answer breaks a rule of the contest; the message says which, and where."""


def text_of(folder: str, name: str) -> str:
    """A text file shipped with the plugin: ``prompts/ahc039.md``, ``programs/ahc039.cpp``."""
    return importlib.resources.files("ttd_ahc").joinpath(folder, name).read_text(encoding="utf-8")


class Contest(Problem):
    """A contest whose score is the mean over its cases.

    A state is ``{"seeds": uint64 [cases], "rows": int64 [cases], "answers": int32 [sum of rows, width]}``:
    the answers one after the other, ``rows`` of them for each case.
    """

    metric = "mean case score"
    direction = "max"
    language = "c++"
    entry = "main"
    signature = "int main(), one input on standard input, one answer on standard output"
    options_type = ContestOptions
    options: ContestOptions
    #: Integers in a row of an answer.
    width: ClassVar[int]
    #: What the mean case score is divided by to give the mean form of the reward.
    unit: ClassVar[float]

    # -- what a contest must say -----------------------------------------------------------------------

    @classmethod
    @abc.abstractmethod
    def make_case(cls, seed: int) -> Case:
        """The case of an unsigned 64-bit seed."""

    @abc.abstractmethod
    def read_answer(self, case: Case, text: str) -> Answer:
        """A program's output as integers, int32 [rows, width].

        :raises ValueError: when it cannot be read as an answer; the message goes into the verdict.
        """

    @abc.abstractmethod
    def score_answer(self, case: Case, answer: Answer) -> int:
        """The case's score, at least 0. Total on int32 arrays [rows, width].

        :raises ValueError: when the answer breaks a rule.
        """

    # -- what a contest may change ---------------------------------------------------------------------

    def seeds(self) -> list[int]:
        """The seeds a program is judged on."""
        return list(range(self.options.first_seed, self.options.first_seed + self.options.cases))

    def reward_of(self, total: int, count: int) -> tuple[float, Mapping[str, Any]]:
        """The reward for a sum of scores over ``count`` cases, and further metrics."""
        return total / count / self.unit, {}

    def picture(self, case: Case, answer: Answer) -> str | None:
        """A drawing of one valid answer as one ``<svg>`` element."""
        return None

    def task(self) -> str:
        """The statement, from ``prompts/``."""
        return text_of("prompts", f"{self.name}.md")

    def starting_program(self) -> str | None:
        """The program the ``program`` option names."""
        suffix = "_start" if self.options.program == "short" else ""
        return text_of("programs", f"{self.name}{suffix}.cpp")

    # -- prompts -----------------------------------------------------------------------------------------

    def render_prompt(self, state: State, history: Sequence[ScoredState]) -> list[Message]:
        """The usual prompt, with what the compiler said to the last program that failed from this state."""
        messages = super().render_prompt(state, history)
        failure = state.failures.get(Status.SYNTAX_ERROR)
        if failure is not None:
            said = (failure.output or failure.message)[:_COMPILER_CHARS].replace("~~~~", "~~~")
            heading = "## A program that did not compile\n\nThe last program tried from here failed:\n\n"
            content = f"{messages[0]['content']}\n\n{heading}~~~~\n{said}\n~~~~\nAvoid that."
            messages[0] = {"role": messages[0]["role"], "content": content}
        return messages

    # -- judging -----------------------------------------------------------------------------------------

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Compile once, run every case on a core of its own, stop at the first that fails."""
        compiled = judging.compile_program(execute, action.code)
        if isinstance(compiled, Verdict):
            return compiled
        judging.tell_duration(self.name, self.options)
        outcome = judging.run_cases(
            execute, compiled, _Bench(self), judging.case_limits(self.options), self.options.cores
        )
        if isinstance(outcome, Verdict):
            return attrs.evolve(outcome, code=action.code)
        answers = [outcome[seed].answer for seed in self.seeds()]
        summary = judging.summary(self.seeds(), outcome, self.options)
        return State(code=action.code, data=self._pack(answers), output=summary)

    def read_construction(self, path: pathlib.Path) -> State:
        """Answers from a file: what a program printed for a single case (``.txt``, ``.out``), else JSON.

        :raises UsageError: when the file cannot be read, or holds no answer.
        """
        if path.suffix.lower() not in {".txt", ".out"}:
            return super().read_construction(path)
        if len(self.seeds()) != 1:
            raise UsageError(
                f"{path}: the answer to one case: add --cases 1, and --first-seed SEED to say which"
            )
        try:
            return State(data=self.construct([path.read_text(encoding="utf-8")]))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not an answer of {self.name}: {error}") from error

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Answers from a list of texts, one for each seed in order, each as a program prints it.

        :raises ValueError: naming the seed whose text is no answer.
        """
        seeds = self.seeds()
        if type(value) is not list or len(value) != len(seeds):
            raise ValueError(f"a list of {len(seeds)} texts is needed, the answers to the cases in order")
        answers = []
        for seed, text in zip(seeds, value, strict=True):
            if type(text) is not str:
                raise ValueError(f"seed {seed}: the answer is {type(text).__name__}, not text")
            try:
                answers.append(self.read_answer(self.case(seed), text))
            except ValueError as error:
                raise ValueError(f"seed {seed}: {error}") from error
        return self._pack(answers)

    def check(self, state: State) -> Sequence[str]:
        """The first rule that any answer breaks."""
        try:
            self.scores(state)
        except ValueError as error:
            return [str(error)]
        return []

    def reward(self, state: State) -> Reward:
        """The mean of the case scores, judged anew."""
        scores = self.scores(state)
        total = sum(scores)
        value, metrics = self.reward_of(total, len(scores))
        return Reward(value, total / len(scores), {"sum": total, "cases": len(scores), **metrics})

    def plot(self, state: State) -> str | None:
        """The answer to the first case."""
        if self.check(state):
            return None
        return self.picture(self.case(self.seeds()[0]), self.answers(state)[0])

    @classmethod
    def case(cls, seed: int) -> Case:
        """The case of a seed, kept for the next time."""
        return _cached_case(cls, seed)

    def scores(self, state: State) -> list[int]:
        """The score of every case.

        :raises ValueError: when a rule is broken, naming the seed.
        """
        found = []
        for seed, answer in zip(self.seeds(), self.answers(state), strict=True):
            try:
                found.append(self.score_answer(self.case(seed), answer))
            except ValueError as error:
                raise InvalidAnswer(f"seed {seed}: {error}") from error
        return found

    def answers(self, state: State) -> list[Answer]:
        """The answers a state holds, int32 [rows, width] each.

        :raises ValueError: when it does not hold one for each case.
        """
        seeds = self.seeds()
        held = _plain(state.data.get("seeds"), "seeds", np.dtype(np.uint64), (len(seeds),))
        if held.tolist() != seeds:
            raise InvalidAnswer("the answers are to other seeds than those judged")
        rows = _plain(state.data.get("rows"), "rows", np.dtype(np.int64), (len(seeds),))
        if (rows < 0).any():
            raise InvalidAnswer("rows has a negative entry")
        total = sum(rows.tolist())
        packed: Answer = _plain(state.data.get("answers"), "answers", np.dtype(np.int32), (total, self.width))
        return np.split(packed, np.cumsum(rows)[:-1])

    def _pack(self, answers: Sequence[Answer]) -> Mapping[str, Any]:
        return {
            "seeds": np.array(self.seeds(), np.uint64),
            "rows": np.array([len(answer) for answer in answers], np.int64),
            "answers": np.concatenate(answers).astype(np.int32).reshape(-1, self.width),
        }


@attrs.frozen
class _Bench:
    """What the judge of programs needs of a contest."""

    contest: Contest

    def seeds(self) -> list[int]:
        return self.contest.seeds()

    def stdin(self, seed: int) -> bytes:
        return self.contest.case(seed).text.encode()

    def judge(self, seed: int, output: str) -> tuple[Answer, int]:
        case = self.contest.case(seed)
        answer = self.contest.read_answer(case, output)
        return answer, self.contest.score_answer(case, answer)


@functools.lru_cache(maxsize=1024)
def _cached_case(contest: type[Contest], seed: int) -> Case:
    return contest.make_case(seed)


def _plain(value: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if type(value) is not np.ndarray or value.dtype != dtype or value.shape != shape:
        told = f"{value.dtype}{list(value.shape)}" if type(value) is np.ndarray else type(value).__name__
        raise InvalidAnswer(f"{name} is {told}; it should be {dtype}{list(shape)}")
    return value
