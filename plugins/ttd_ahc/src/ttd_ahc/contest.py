"""What contests share: seeds and cases, C++ programs judged case by case, answers kept and judged again.

A contest is a subclass that says how a seed becomes a case, how a program's output is read, and what an
answer scores; nothing else here knows any contest. A state holds the answers to all cases, not the scores
that a run gave them, so that check and reward judge them anew.
"""

from __future__ import annotations

import abc
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc import judging
from ttd_ahc.cases import Answer, Case, InvalidAnswer
from ttd_ahc.options import ContestOptions
from ttd_ahc.reading import MAX_ANSWER_BYTES
from ttd_core.dialogue.prompting import fenced
from ttd_core.errors import UsageError
from ttd_core.input_files import read_text_file
from ttd_core.package_files import package_text
from ttd_core.problem import Execute, Problem
from ttd_core.text import showable
from ttd_core.types import Action, Message, Reward, ScoredState, State, Status, Verdict

__all__ = [
    "OFFICIAL_CASES",
    "TRAINING_CASES",
    "Answer",
    "Case",
    "Contest",
    "ContestOptions",
    "InvalidAnswer",
]

#: The cases that decided a contest, and those that programs are judged on by default, in words.
OFFICIAL_CASES, TRAINING_CASES = "the 150 official cases", "seeds 0-149"
#: Text of a compiler shown in a later prompt, in characters.
_COMPILER_CHARS = 1500


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
    #: Integers in a row of an answer (2 where a row is a point, 1 where it is an action).
    width: ClassVar[int]
    #: What the mean case score is divided by to give the mean form of the reward.
    unit: ClassVar[float]

    # -- what a contest must say -----------------------------------------------------------------------

    @classmethod
    @abc.abstractmethod
    def make_case(cls, seed: int) -> Case:
        """The case of an unsigned 64-bit seed."""

    @abc.abstractmethod
    def read_answer(self, case: Case, output: bytes) -> Answer:
        """A program's output as integers, int32 [rows, width].

        :param output: any bytes, at most ``MAX_ANSWER_BYTES``; see :mod:`ttd_ahc.reading`.
        :raises ValueError: when it cannot be read as an answer; the message goes into the verdict. Nothing
            else may be raised.
        """

    @abc.abstractmethod
    def score_answer(self, case: Case, answer: Answer) -> int:
        """The case's score, at least 0.

        :param answer: int32 [rows, width] of any content, read from an output or from a stored state.
        :raises ValueError: when the answer breaks a rule; nothing else may be raised.
        """

    # -- what a contest may change ---------------------------------------------------------------------

    def seeds(self) -> list[int]:
        """The seeds a program is judged on."""
        return list(range(self.options.first_seed, self.options.first_seed + self.options.cases))

    def cases_in_words(self) -> str:
        """The cases that a program is judged on, for people."""
        seeds = self.seeds()
        return f"seeds {seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"

    def measured_on(self) -> str:
        """The cases, and the time of a case where it is not the contest's."""
        usual = attrs.fields(ContestOptions).timeout_s.default
        limit = self.options.timeout_s
        return self.cases_in_words() + (f" of {limit:g} s" if limit != usual else "")

    def reward_of(self, total: int, count: int) -> tuple[float, Mapping[str, Any]]:
        """The reward for a sum of scores, and further metrics.

        :param total: the sum of the case scores.
        :param count: over how many cases.
        """
        return total / count / self.unit, {}

    def picture(self, case: Case, answer: Answer) -> str | None:
        """A drawing of one valid answer as one ``<svg>`` element; ``None`` if there is none."""
        return None

    def task(self) -> str:
        """The statement, from ``prompts/``."""
        return package_text("ttd_ahc", "prompts", f"{self.name}.md")

    def starting_program(self) -> str | None:
        """The program the ``program`` option names."""
        suffix = "_start" if self.options.program == "short" else ""
        return package_text("ttd_ahc", "programs", f"{self.name}{suffix}.cpp")

    # -- prompts -----------------------------------------------------------------------------------------

    def render_prompt(self, state: State, history: Sequence[ScoredState]) -> list[Message]:
        """The usual prompt, with what the compiler said to the last program that failed from this state."""
        messages = super().render_prompt(state, history)
        failure = state.failures.get(Status.SYNTAX_ERROR)
        if failure is not None:
            # the message first: of a compiler that was stopped, the output does not say so
            said = showable(f"{failure.message}\n{failure.output.strip()}"[:_COMPILER_CHARS])
            heading = "## A program that did not compile\n\nThe last program tried from here failed:\n\n"
            content = f"{messages[0]['content']}\n\n{heading}{fenced(said)}\nAvoid that."
            messages[0] = {"role": messages[0]["role"], "content": content}
        return messages

    # -- judging -----------------------------------------------------------------------------------------

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None: a case is read from standard input, and its time limit is the statement's."""
        return {}

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Compile once, run every case on a core of its own, stop at the first that fails.

        With ``keep_going`` the others run too, and the verdict on the first says what they score.
        """
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        compiled = judging.compile_program(execute, whole.code)
        if isinstance(compiled, Verdict):
            return compiled
        judging.announce_duration(self.name, self.options)
        limits = judging.case_limits(self.options)
        cores, keep_going = self.options.cores, self.options.keep_going
        runs = judging.run_cases(execute, compiled, self, limits, cores, keep_going)
        if isinstance(runs, Verdict):
            return attrs.evolve(runs, code=whole.code)
        answers = [runs[seed].answer for seed in self.seeds()]
        summary = judging.summary(self.seeds(), runs, self.options)
        return State(code=whole.code, data=self._pack(answers), output=summary)

    def stdin(self, seed: int) -> bytes:
        """What a program reads from standard input in the case of a seed."""
        return self.case(seed).text.encode()

    def judge_output(self, seed: int, output: bytes) -> tuple[Answer, int]:
        """The answer that a program printed for the case of a seed, and its score.

        :raises ValueError: when it is no answer, or breaks a rule.
        """
        answer = self._read(seed, output)
        return answer, self.score_answer(self.case(seed), answer)

    def _read(self, seed: int, output: bytes) -> Answer:
        if len(output) > MAX_ANSWER_BYTES:
            raise InvalidAnswer(f"the answer is {len(output)} bytes; at most {MAX_ANSWER_BYTES} are read")
        return self.read_answer(self.case(seed), output)

    def read_construction(self, path: pathlib.Path) -> State:
        """Answers from a file: what a program printed for a single case (``.txt``, ``.out``), else JSON.

        :raises UsageError: when the file cannot be read, or holds no answer.
        """
        if pathlib.Path(path.name.lower().removesuffix(".gz")).suffix not in {".txt", ".out"}:
            return super().read_construction(path)
        if len(self.seeds()) != 1:
            raise UsageError(
                f"{path}: the answer to one case: add --cases 1, and --first-seed SEED to say which"
            )
        try:
            return State(data=self.construct([read_text_file(path)]))
        except ValueError as error:
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
                # A lone surrogate is no character of an answer: its bytes are refused like any other's.
                answers.append(self._read(seed, text.encode(errors="surrogatepass")))
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
        case_scores = []
        for seed, answer in zip(self.seeds(), self.answers(state), strict=True):
            try:
                case_scores.append(self.score_answer(self.case(seed), answer))
            except ValueError as error:
                raise InvalidAnswer(f"seed {seed}: {error}") from error
        return case_scores

    def answers(self, state: State) -> list[Answer]:
        """The answers a state holds, int32 [rows, width] each.

        :raises ValueError: when it does not hold one for each case.
        """
        seeds = self.seeds()
        answered = _array(state.data.get("seeds"), "seeds", np.dtype(np.uint64), (len(seeds),))
        if answered.tolist() != seeds:
            raise InvalidAnswer("the answers are to other seeds than those judged")
        rows = _array(state.data.get("rows"), "rows", np.dtype(np.int64), (len(seeds),))
        if (rows < 0).any():
            raise InvalidAnswer("rows has a negative entry")
        total = sum(rows.tolist())
        packed: Answer = _array(state.data.get("answers"), "answers", np.dtype(np.int32), (total, self.width))
        return np.split(packed, np.cumsum(rows)[:-1])

    def _pack(self, answers: Sequence[Answer]) -> Mapping[str, Any]:
        return {
            "seeds": np.array(self.seeds(), np.uint64),
            "rows": np.array([len(answer) for answer in answers], np.int64),
            "answers": np.concatenate(answers).astype(np.int32).reshape(-1, self.width),
        }


@functools.lru_cache(maxsize=1024)
def _cached_case(contest: type[Contest], seed: int) -> Case:
    return contest.make_case(seed)


def _array(value: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The value, if it is an array of exactly this type and shape.

    :raises InvalidAnswer: if it is not.
    """
    if type(value) is not np.ndarray or value.dtype != dtype or value.shape != shape:
        actual = f"{value.dtype}{list(value.shape)}" if type(value) is np.ndarray else type(value).__name__
        raise InvalidAnswer(f"{name} is {actual}; it should be {dtype}{list(shape)}")
    return value
