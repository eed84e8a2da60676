"""The tokens of a step's rollouts with their log-probabilities, where ``keep_tokens`` asks for them.

All rollouts of a step lie behind each other in a few arrays, stored like constructions; the texts of tokens
are in the database once for the whole run. What nobody knows, such as the base model's log-probabilities in a
run without learning, is NaN.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.errors import StorageError
from ttd_core.learn.learner import LearnedLogprobs
from ttd_core.policy.base import SpellsTokens
from ttd_core.run.records import RolloutIndex
from ttd_core.text import without_surrogates
from ttd_core.types import Completion, Group, pack, unpack

Floats = npt.NDArray[np.float32]
#: Arrays by digest, as :func:`~ttd_core.types.pack` collects them.
Arrays = dict[str, npt.NDArray[Any]]

_ARRAYS: Mapping[str, type[np.generic]] = {
    **{"ids": np.int32, "trained": np.bool_},
    **dict.fromkeys(("sampled", "base", "recomputed"), np.float32),
}


@attrs.frozen(eq=False)
class TokenRecord:
    """The tokens of one rollout's reply.

    :param ids: int32 [length], by the model's tokeniser.
    :param texts: of each, as far as it is a text of its own; empty where the policy does not spell tokens.
    :param trained: bool [length], False where the token was forced.
    :param sampled: float32 [length], log-probability when it was sampled; NaN where forced.
    :param base: float32 [length], under the model without its adapter; NaN where it was not computed.
    :param recomputed: float32 [length], by the learner before its step; NaN where it does not tell.
    """

    ids: npt.NDArray[np.int32]
    texts: Sequence[str]
    trained: npt.NDArray[np.bool_]
    sampled: Floats
    base: Floats
    recomputed: Floats


@attrs.frozen(eq=False)
class KeptTokens:
    """The tokens of a step that are to be stored.

    :param data: JSON with the names of the arrays.
    :param arrays: by digest.
    :param texts: by token id.
    """

    data: str
    arrays: Arrays
    texts: Mapping[int, str]

    def write(self, connection: sqlite3.Connection, step: int) -> None:
        """Write the rows; the arrays must be saved before.

        :param connection: in the step's transaction.
        """
        connection.execute("INSERT INTO tokens (step, data) VALUES (?, ?)", (step, self.data))
        connection.executemany(
            "INSERT OR IGNORE INTO vocabulary (token, text) VALUES (?, ?)", self.texts.items()
        )


def keep_tokens(
    groups: Sequence[Group], learned: Mapping[RolloutIndex, LearnedLogprobs], policy: object, most: int
) -> KeptTokens | None:
    """The tokens of a step's rollouts, whole rollouts of all groups in turn; ``None`` where there are none.

    :param groups: of the step.
    :param learned: what learning computed, by place.
    :param policy: spells the tokens, where it can.
    :param most: tokens at most; a rollout that does not fit any more is left out.
    """
    chosen = list(_chosen(groups, most))
    if not chosen:
        return None
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _ARRAYS}
    for place, reply in chosen:
        unknown = np.full(len(reply.tokens), np.nan, np.float32)
        known = learned.get(place, LearnedLogprobs(unknown, unknown))
        columns["ids"].append(reply.tokens)
        columns["trained"].append(reply.trained)
        columns["sampled"].append(np.where(reply.trained, reply.logprobs, np.nan))
        columns["base"].append(known.base)
        columns["recomputed"].append(known.recomputed)
    joined = {name: np.concatenate(columns[name]).astype(kind) for name, kind in _ARRAYS.items()}
    places = np.array([(*place, len(reply.tokens)) for place, reply in chosen], np.int64)
    ids = [int(token) for token in np.unique(joined["ids"])]
    texts = policy.token_texts(ids) if isinstance(policy, SpellsTokens) else []
    arrays: Arrays = {}
    data = json.dumps(pack({"places": places, **joined}, arrays))
    return KeptTokens(data, arrays, dict(zip(ids, map(without_surrogates, texts), strict=bool(texts))))


def _chosen(groups: Sequence[Group], most: int) -> Iterator[tuple[RolloutIndex, Completion]]:
    """The first rollout of every group, then the second of every group, as far as they fit."""
    left = most
    for index in range(max((len(group.rollouts) for group in groups), default=0)):
        for number, group in enumerate(groups):
            if index < len(group.rollouts):
                reply = group.rollouts[index].completion
                if 0 < len(reply.tokens) <= left:
                    left -= len(reply.tokens)
                    yield (number, index), reply


def read_tokens(
    data: str, arrays: Mapping[str, npt.NDArray[Any]], texts: Mapping[int, str]
) -> dict[RolloutIndex, TokenRecord]:
    """Inverse of :func:`keep_tokens`, by place.

    :param texts: by token id; those of tokens that it lacks are empty.
    :raises StorageError: when the arrays do not fit each other.
    """
    columns = unpack(json.loads(data), arrays)
    places = columns["places"]
    ends = np.cumsum(places[:, 2])
    if len(places) and any(len(columns[name]) != ends[-1] for name in _ARRAYS):
        raise StorageError("the kept tokens of a step cannot be read: their arrays differ in length")
    parts = {name: np.split(columns[name], ends[:-1]) for name in _ARRAYS}
    return {
        (int(group), int(index)): TokenRecord(
            texts=[texts.get(int(token), "") for token in parts["ids"][row]],
            **{name: parts[name][row] for name in _ARRAYS},
        )
        for row, (group, index, _) in enumerate(places)
    }
