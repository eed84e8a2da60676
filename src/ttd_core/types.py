"""The values that flow through a step.

A :class:`State` is a solution, or a place to start from. A :class:`Group` of rollouts starts from one state
with one prompt of :class:`Message` s. Each :class:`Rollout` is a :class:`Completion`, what the model replied,
with the :class:`Verdict` on it: the program in the reply is an :class:`Action`, running it leads to a new
state, and a state that passes the problem's check gets a :class:`Reward`. What did not work out has a
:class:`Status` that says why.

All are frozen, and so is a state's data (:mod:`ttd_core.frozen`): what survives a check cannot change
afterwards. Text that a model or a program wrote holds characters only: a lone half of a surrogate pair, which
no file, terminal or tokeniser takes, is replaced where such a value is made.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.frozen import ALLOWED_DTYPES as ALLOWED_DTYPES
from ttd_core.frozen import freeze as freeze
from ttd_core.stages import Counted, Stage, compared
from ttd_core.text import showable_line, without_surrogates


class Message(TypedDict):
    """One chat message: ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


class Status(enum.StrEnum):
    """How a rollout ended. Only ``OK`` carries a reward and a state."""

    OK = "ok"
    PARSE_ERROR = "parse_error"
    EDIT_ERROR = "edit_error"
    SYNTAX_ERROR = "syntax_error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    REJECTED = "rejected"
    PROBLEM_ERROR = "problem_error"
    INFRASTRUCTURE = "infrastructure"

    @property
    def sentence(self) -> str:
        """A sentence for people."""
        return _STATUS_SENTENCES[self]


_STATUS_SENTENCES = {
    Status.OK: "The program ran and its result passed every check.",
    Status.PARSE_ERROR: "No program could be found in the reply.",
    Status.EDIT_ERROR: "The reply's changes have no place in the program.",
    Status.SYNTAX_ERROR: "The program does not compile.",
    Status.CRASH: "The program raised an error or died.",
    Status.TIMEOUT: "The program used up its time.",
    Status.MEMORY: "The program used up its memory.",
    Status.OUTPUT_LIMIT: "The program printed or returned more than allowed.",
    Status.FORBIDDEN: "The program tried something the sandbox denies.",
    Status.INVALID: "The result broke a rule of the problem.",
    Status.REJECTED: "The result was refused: its claims and the verifier's findings contradict.",
    Status.PROBLEM_ERROR: "The problem's own code failed on the reply or its result.",
    Status.INFRASTRUCTURE: "The sandbox itself failed; never counted against the policy.",
}


class StopReason(enum.StrEnum):
    """Why sampling of a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    @property
    def sentence(self) -> str:
        """A sentence for people."""
        return _STOP_SENTENCES[self]


_STOP_SENTENCES = {
    StopReason.STOP: "The model ended its reply.",
    StopReason.LENGTH: "The reply reached the token limit.",
    StopReason.CANCELLED: "Sampling was cancelled.",
    StopReason.REFUSED: "The model or its server refused to reply; the text says why.",
}


def array_digest(array: npt.NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and bytes: the name under which an array is stored."""
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()


def pack(value: Any, arrays: dict[str, npt.NDArray[Any]]) -> Any:
    """Replace each array in ``value`` by ``{"$array": digest}`` and collect it in ``arrays``.

    :param value: JSON values and arrays, nested in lists and dictionaries.
    :param arrays: by digest (:func:`array_digest`); added to.
    :return: the same as plain JSON.
    """
    if isinstance(value, np.ndarray):
        digest = array_digest(value)
        arrays[digest] = value
        return {"$array": digest}
    if isinstance(value, list):
        return [pack(item, arrays) for item in value]
    if isinstance(value, dict):
        return {key: pack(item, arrays) for key, item in value.items()}
    return value


def unpack(value: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """Inverse of :func:`pack`.

    :param arrays: by digest.
    :raises KeyError: when an array is missing.
    """
    if isinstance(value, dict):
        if set(value) == {"$array"}:
            return arrays[value["$array"]]
        return {key: unpack(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    return value


def _written(default: str | None = None) -> Any:
    """A field of text that a model or a program wrote.

    :param default: ``None`` where the text must be given.
    """
    if default is None:
        return attrs.field(converter=without_surrogates)
    return attrs.field(default=default, converter=without_surrogates)


#: Characters kept of a verdict's message; one of a rule that quotes a candidate's data may be of any length.
MESSAGE_CHARS = 2000


def _message(text: str) -> str:
    text = without_surrogates(text)
    return text if len(text) <= MESSAGE_CHARS else f"{text[: MESSAGE_CHARS - 3]}..."


#: Characters kept of a failed program's output: as many from its beginning as from its end.
FAILURE_CHARS = 4000


@attrs.frozen
class Failure:
    """Why a program failed, for the next prompt.

    :param message: one line.
    :param output: what the program or its compiler printed, its middle left out where it is long.
    """

    message: str = _written()
    output: str = _written("")

    @classmethod
    def of(cls, message: str, output: str) -> Failure:
        """From a verdict's message and output; a long output loses its middle (:data:`FAILURE_CHARS`)."""
        if len(output) > FAILURE_CHARS:
            half = FAILURE_CHARS // 2
            output = f"{output[:half]}\n...\n{output[-half:]}"
        return cls(message, output)


@attrs.frozen(eq=False)
class State:
    """A solution, or a place to start from.

    :param code: the program that produced it, empty for a seed without one.
    :param data: the construction: JSON values and arrays by name, empty where the code is the solution.
    :param output: the tail of what the program printed.
    :param failures: of the programs that were tried from here and failed, the last of each status. Set on
        the state that a prompt is rendered for; not stored with it and no part of its identity.
    """

    code: str = _written("")
    data: Mapping[str, Any] = attrs.field(factory=dict, converter=freeze)
    output: str = _written("")
    failures: Mapping[Status, Failure] = attrs.field(factory=dict)

    @property
    def digest(self) -> str:
        """Identity for deduplication: the construction's if there is one, else the code's."""
        if not self.data:
            return hashlib.sha256(b"code:" + self.code.encode("utf-8", "surrogatepass")).hexdigest()
        text = json.dumps(pack(self.data, {}), sort_keys=True)
        return hashlib.sha256(b"data:" + text.encode()).hexdigest()

    def to_json(self, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """JSON form; arrays are collected in ``arrays`` by digest."""
        return {"code": self.code, "data": pack(self.data, arrays), "output": self.output}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> State:
        """Inverse of :meth:`to_json`."""
        return cls(code=value["code"], data=unpack(value["data"], arrays), output=value["output"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self.digest == other.digest and self.code == other.code and self.output == other.output

    def __hash__(self) -> int:
        return hash(self.digest)


def _finite(_instance: Any, attribute: attrs.Attribute[float], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{attribute.name} must be a finite number, not {value!r}")


@attrs.frozen
class Reward:
    """What a valid state is worth.

    Of two valid states of one problem, the one with the better score has the larger value.

    :param value: what the learner maximises, finite.
    :param score: the problem's own metric (a bound, a sum of radii, microseconds), finite.
    :param metrics: further numbers worth keeping, JSON.
    """

    value: float = attrs.field(validator=_finite)
    score: float = attrs.field(validator=_finite)
    metrics: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class ScoredState:
    """A state with its reward: one entry of the history that a prompt shows."""

    state: State
    reward: Reward


@attrs.frozen
class Action:
    """What the model proposes: a program.

    :param code: the program's source.
    :param language: ``python`` or ``c++``; what the problem's transition expects.
    :param edits: whether ``code`` holds search-and-replace blocks against the start's program instead.
    """

    code: str = _written()
    language: str = "python"
    edits: bool = False


@attrs.frozen
class Verdict:
    """The judgement of one rollout, or of one stage that failed.

    :param status: how it ended; ``OK`` needs ``state`` and ``reward``.
    :param message: one line for people: what was wrong, where; its end left out where it is long.
    :param state: the new state, only when ok.
    :param reward: its reward, only when ok.
    :param code: the program judged, where one was found (kept for failures too).
    :param output: tail of the program's output.
    :param seconds: wall seconds the program ran.
    :param level: the sandbox level it ran at, empty if it never ran.
    :param metrics: further facts, JSON.
    :param stages: what each share of the budget came to, where short runs come first.
    """

    status: Status
    message: str = attrs.field(default="", converter=_message)
    state: State | None = None
    reward: Reward | None = None
    code: str = _written("")
    output: str = _written("")
    seconds: float = 0.0
    level: str = ""
    metrics: Mapping[str, Any] = attrs.field(factory=dict)
    stages: Sequence[Stage] = ()

    def __attrs_post_init__(self) -> None:
        if self.status is Status.OK and (self.state is None or self.reward is None):
            raise ValueError("an ok verdict needs a state and a reward")

    @property
    def ok(self) -> bool:
        """Whether the rollout produced a valid, scored state."""
        return self.status is Status.OK

    @property
    def value(self) -> float:
        """The reward's value; 0 for a failed rollout."""
        return self.reward.value if self.reward is not None else 0.0

    @classmethod
    def failed(cls, status: Status, message: str, **fields: Any) -> Verdict:
        """A verdict for a rollout that did not make it.

        :raises ValueError: if ``status`` is ok.
        """
        if status is Status.OK:
            raise ValueError("a failed verdict cannot be ok")
        return cls(status=status, message=message, **fields)


#: Characters of a refusal that a verdict tells.
_REFUSAL_CHARS = 400


@attrs.frozen(eq=False)
class Completion:
    """One sampled reply.

    :param text: the whole decoded reply, special tokens removed.
    :param tokens: int64 [length], sampled and forced tokens, the end token included.
    :param logprobs: float32 [length], the sampler's log-probability of each token; 0 where forced.
    :param trained: bool [length], False where the token was forced.
    :param stop: why sampling ended.
    :param answer: the part after the thinking, empty when there was only thinking; ``text`` when not given.
    """

    text: str = _written()
    tokens: npt.NDArray[np.int64] = attrs.field(factory=lambda: np.zeros(0, np.int64))
    logprobs: npt.NDArray[np.float32] = attrs.field(factory=lambda: np.zeros(0, np.float32))
    trained: npt.NDArray[np.bool_] = attrs.field(factory=lambda: np.zeros(0, np.bool_))
    stop: StopReason = StopReason.STOP
    answer: str = attrs.field(
        default=attrs.Factory(lambda self: self.text, takes_self=True), converter=without_surrogates
    )

    def __attrs_post_init__(self) -> None:
        if not len(self.tokens) == len(self.logprobs) == len(self.trained):
            raise ValueError(
                f"tokens, logprobs and trained differ in length: "
                f"{len(self.tokens)}, {len(self.logprobs)}, {len(self.trained)}"
            )

    @property
    def lacks_answer(self) -> str:
        """Why there is no answer, in a line; empty where there is one."""
        if self.answer.strip():
            return ""
        if self.stop is StopReason.REFUSED:
            return f"no answer: {showable_line(self.text)[:_REFUSAL_CHARS]}"
        return "no answer, only thinking" if self.text.strip() else "the reply is empty"


@attrs.frozen(eq=False)
class Rollout:
    """What the model replied, and what came of it."""

    completion: Completion
    verdict: Verdict


@attrs.frozen(eq=False)
class Group:
    """The rollouts that share one start state and one prompt.

    :param start: id of the start state's node in the archive.
    :param prompt: the rendered chat messages.
    :param prompt_tokens: int64 [length], the prompt as the policy tokenised it (empty if it does not).
    :param rollouts: in the order they were asked for.
    :param late: whether they belong to a group of an earlier step, which ended without them.
    """

    start: int
    prompt: Sequence[Message]
    prompt_tokens: npt.NDArray[np.int64]
    rollouts: Sequence[Rollout]
    late: bool = False

    def __iter__(self) -> Iterator[Rollout]:
        return iter(self.rollouts)

    @property
    def counted(self) -> list[Counted]:
        """What each rollout counts for by itself (:mod:`ttd_core.stages`)."""
        return [Counted.of(rollout.verdict.value, rollout.verdict.stages) for rollout in self.rollouts]

    @property
    def rewards(self) -> npt.NDArray[np.float64]:
        """float64 [rollouts]: what each counts for beside the others; 0 where it failed."""
        return np.array(compared(self.counted), dtype=np.float64)
