"""Replies under way: what both engines keep of one, where it ends, and the random numbers it draws from.

Each reply has a stream of random numbers of its own, so what it says does not depend on which other replies
are decoded beside it, nor on which engine decodes it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ttd_core.types import StopReason


@attrs.define(eq=False)
class Reply:
    """One reply under way.

    :param prompt: index of its prompt.
    :param index: index within the group.
    :param stream: its random numbers.
    :param forced: tokens still to be appended without sampling, next first.
    :param was_forced: whether the thinking budget has already been enforced.
    """

    prompt: int
    index: int
    stream: np.random.Generator
    tokens: list[int] = attrs.field(factory=list)
    logprobs: list[float] = attrs.field(factory=list)
    trained: list[bool] = attrs.field(factory=list)
    forced: collections.deque[int] = attrs.field(factory=collections.deque)
    was_forced: bool = False
    stop: StopReason | None = None


@attrs.frozen
class DecodeLimits:
    """Where a reply ends.

    :param ends: token ids that end a reply.
    :param longest: most tokens of a reply, per prompt.
    :param thinking: tokens of a reply after which the answer is forced, per prompt; ``None`` never.
    :param force: called once with the tokens so far when that is reached; returns what to append.
    """

    ends: frozenset[int]
    longest: Sequence[int]
    thinking: Sequence[int] | None
    force: Callable[[Sequence[int]], Sequence[int]]


def stream(seed: int, prompt: int, index: int) -> np.random.Generator:
    """The random numbers of one reply: its k-th token takes the k-th, forced or not."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, prompt, index])))


def whole_groups(prompts: int, count: int) -> list[range]:
    """Shares that ask for ``count`` replies to each prompt."""
    return [range(count)] * prompts


def maybe_force(reply: Reply, limits: DecodeLimits) -> None:
    """Queue the forced tokens once the thinking budget is used up."""
    if limits.thinking is None or reply.was_forced:
        return
    if len(reply.tokens) >= limits.thinking[reply.prompt]:
        reply.forced.extend(limits.force(reply.tokens))
        reply.was_forced = True


def arrays_of(reply: Reply) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens int64, log-probabilities float32 and trained mask bool of a reply, [length] each."""
    return (
        np.array(reply.tokens, dtype=np.int64),
        np.array(reply.logprobs, dtype=np.float32),
        np.array(reply.trained, dtype=np.bool_),
    )
