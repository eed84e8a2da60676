"""What is read back from ``run.db``: one frozen record a row (:mod:`ttd_core.run.row_encoding` wrote it)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import attrs

from ttd_core.search.archive import Fate
from ttd_core.types import Message, Reward, Status, StopReason


def decode_reward(text: str | None) -> Reward | None:
    """A reward from its column; ``None`` for an unscored seed."""
    return None if text is None else Reward(**decode_object(text))


def decode_object(text: str) -> dict[str, Any]:
    """A JSON object.

    :raises ValueError: when it is something else.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text:.40} is no JSON object")
    return value


def _messages(text: str) -> list[Message]:
    """A prompt.

    :raises ValueError: when it is something else.
    """
    value = json.loads(text)
    if not isinstance(value, list):
        raise ValueError(f"{text:.40} is no prompt")
    for message in value:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(name), str) for name in ("role", "content")
        ):
            raise ValueError(f"{message!r:.40} is no message of a prompt")
    return value


def _require_both(value: float | None, score: float | None) -> None:
    """Refuse a reward without its score, and a score without its reward."""
    if (value is None) != (score is None):
        raise ValueError(f"a reward of {value} and a score of {score}, of which one is missing")


#: Index of a group in its step, and of a rollout in that group.
RolloutIndex = tuple[int, int]
#: Step, group in the step, index in the group.
Place = tuple[int, int, int]


def place_name(place: Place) -> str:
    """A place as people read it: STEP/GROUP/INDEX."""
    return "/".join(map(str, place))


@attrs.frozen
class StepRecord:
    """One committed step.

    :param step: 1 for the first.
    :param finished: seconds since the epoch.
    :param rollouts: how many it had.
    :param valid: how many were ok.
    :param mean_value: mean reward, failed rollouts as 0.
    :param best_value: best reward of the step; ``None`` when nothing succeeded.
    :param best_score: the score of that rollout; ``None`` when nothing succeeded.
    :param expansions: T of PUCT after the step: how many expansions there have been.
    """

    step: int
    finished: float
    rollouts: int
    valid: int
    mean_value: float
    best_value: float | None
    best_score: float | None
    expansions: int

    def __attrs_post_init__(self) -> None:
        _require_both(self.best_value, self.best_score)


@attrs.frozen
class GroupRecord:
    """One group: the rollouts that share a start and a prompt.

    :param step: its step.
    :param group_index: its index in the step, from 0.
    :param start: node of the start state.
    :param prompt_tokens: length of the prompt as tokenised; 0 if the policy does not say.
    :param prompt: the chat messages.
    """

    step: int
    group_index: int
    start: int
    prompt_tokens: int
    prompt: list[Message] = attrs.field(converter=_messages)


@attrs.frozen
class RolloutRecord:
    """One rollout.

    :param step: its step.
    :param group_index: its group's index in the step, from 0.
    :param rollout_index: its index in the group, from 0.
    :param status: how it ended.
    :param fate: what the archive did with it.
    :param node: the node it became or repeats; ``None`` otherwise.
    :param value: its reward; ``None`` when it failed.
    :param score: in the problem's metric; ``None`` when it failed.
    :param advantage: by the objective, before KL shaping; ``None`` when not recorded or not counted.
    :param tokens: length of the completion, forced tokens included.
    :param trained_tokens: how many of them the model chose itself.
    :param stop: why sampling ended.
    :param seconds: wall seconds its program ran.
    :param level: sandbox level it ran at, empty if it never ran.
    :param digest: identity of its state; ``None`` when it failed.
    :param message: one line for people.
    :param metrics: further facts, JSON.
    :param code: the program judged, empty where none was found.
    :param output: tail of what the program printed.
    :param text: the whole completion; empty when it was not asked for.
    """

    step: int
    group_index: int
    rollout_index: int
    status: Status = attrs.field(converter=Status)
    fate: Fate = attrs.field(converter=Fate)
    node: int | None
    value: float | None
    score: float | None
    advantage: float | None
    tokens: int
    trained_tokens: int
    stop: StopReason = attrs.field(converter=StopReason)
    seconds: float
    level: str
    digest: str | None
    message: str
    metrics: dict[str, Any] = attrs.field(converter=decode_object)
    code: str
    output: str
    text: str

    def __attrs_post_init__(self) -> None:
        _require_both(self.value, self.score)
        if self.value is None and self.status is Status.OK:
            raise ValueError("it is ok and has no reward")


@attrs.frozen
class Outcomes:
    """The rollouts of one step that ended alike.

    :param count: how many.
    :param tokens: of their replies, forced ones included.
    :param seconds: that their programs ran, added up.
    """

    step: int
    status: Status = attrs.field(converter=Status)
    count: int
    tokens: int
    seconds: float


@attrs.frozen
class HeldNode:
    """What PUCT reckons with of one held state.

    :param id: its node.
    :param value: its reward; ``None`` for an unscored seed.
    :param seed: whether it is a seed.
    :param visits: n of PUCT.
    :param best_child: m of PUCT; ``None`` until a child succeeds.
    """

    id: int
    value: float | None
    seed: bool = attrs.field(converter=bool)
    visits: int
    best_child: float | None


@attrs.frozen
class StateRecord:
    """One state that entered the archive, with its newest statistics. Its construction is read apart.

    :param id: its node.
    :param parent: node of the start it came from; ``None`` for a seed.
    :param step: the step that found it; 0 for a seed.
    :param seed: whether it is a seed.
    :param digest: its identity.
    :param reward: what it is worth; ``None`` for an unscored seed.
    :param code: its program.
    :param output: tail of what the program printed.
    :param visits: n of PUCT: how often it or a descendant was expanded.
    :param best_child: m of PUCT: best reward of a direct child; ``None`` until one succeeds.
    :param attempts: rollouts that started here.
    :param duplicates: rollouts that arrived here again.
    :param place: ``held`` in the archive, kept for its ``lineage`` only, or ``dropped``.
    """

    id: int
    parent: int | None
    step: int
    seed: bool = attrs.field(converter=bool)
    digest: str
    reward: Reward | None = attrs.field(converter=decode_reward)
    code: str
    output: str
    visits: int
    best_child: float | None
    attempts: int
    duplicates: int
    place: str


@attrs.frozen
class HintRecord:
    """A hint of a person that prompts carried (:mod:`ttd_core.run.requests`).

    :param number: from 1, in the order in which they were left.
    :param written: seconds since the epoch.
    :param began: the first step whose prompts carry it.
    :param ended: the first step after that whose prompts do not; ``None`` while it stands.
    :param text: what it says.
    """

    number: int
    written: float
    began: int
    ended: int | None
    text: str

    def stands(self, step: int) -> bool:
        """Whether the prompts of a step carry it."""
        return self.began <= step and (self.ended is None or step < self.ended)


def columns(record: type[attrs.AttrsInstance]) -> str:
    """Names of a record's columns, in the record's order, for a SELECT or an INSERT."""
    return ", ".join(field.name for field in attrs.fields(record))


def decode_row(row: Sequence[Any]) -> list[Any]:
    """A row as Python values: texts that UTF-8 cannot hold come back from their bytes."""
    return [value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value for value in row]


class _HasParent(Protocol):
    @property
    def id(self) -> int: ...

    @property
    def parent(self) -> int | None: ...


def require_parents(states: Iterable[_HasParent], known: Collection[int]) -> None:
    """Refuse a state whose parent is not there, or is no older one, so that every lineage has an end.

    :param known: ids of all states that there are.
    :raises ValueError: names both.
    """
    for state in states:
        if state.parent is not None and (state.parent not in known or state.parent >= state.id):
            raise ValueError(f"state {state.id} came from state {state.parent}, which is no older one")
