"""Replies being decoded: what both engines keep of one, where it ends, and the random numbers it draws from.

Each reply has a stream of random numbers of its own, so what it says does not depend on which other replies
are decoded beside it, nor on which engine decodes it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ttd_core.policy.models.reply import ReplyTokens


@attrs.define(eq=False, kw_only=True)
class DecodingReply(ReplyTokens):
    """One reply being decoded; its ``stop`` is ``None`` until it is complete.

    :param prompt_index: index of its prompt.
    :param index: index within the group.
    :param stream: its random numbers.
    :param forced: tokens still to be appended without sampling, next first.
    :param was_forced: whether the thinking budget has already been enforced.
    """

    prompt_index: int
    index: int
    stream: np.random.Generator
    forced: collections.deque[int] = attrs.field(factory=collections.deque)
    was_forced: bool = False

    @classmethod
    def begin(cls, seed: int, prompt_index: int, index: int) -> DecodingReply:
        """A reply without tokens, its random numbers given by the seed and by which reply it is.

        The k-th token takes the k-th number, forced or not.
        """
        seeds = np.random.SeedSequence([seed, prompt_index, index])
        stream = np.random.Generator(np.random.Philox(seeds))
        return cls(prompt_index=prompt_index, index=index, stream=stream)


@attrs.frozen
class DecodeLimits:
    """Where replies end.

    :param end_tokens: token ids that end a reply.
    :param max_tokens: most tokens of a reply, per prompt.
    :param thinking_tokens: tokens of a reply after which its answer is forced, per prompt; ``None`` never.
    :param closing: called once with a reply's tokens when that is reached; returns the tokens to append.
    """

    end_tokens: frozenset[int]
    max_tokens: Sequence[int]
    thinking_tokens: Sequence[int] | None
    closing: Callable[[Sequence[int]], Sequence[int]]


def whole_groups(prompts: int, count: int) -> list[range]:
    """For each prompt the indices of its whole group of ``count`` replies."""
    return [range(count)] * prompts


def queue_forced(reply: DecodingReply, limits: DecodeLimits) -> None:
    """Queue the forced tokens of a reply whose thinking budget is used up; once for each reply."""
    if limits.thinking_tokens is None or reply.was_forced:
        return
    if len(reply.tokens) >= limits.thinking_tokens[reply.prompt_index]:
        reply.forced.extend(limits.closing(reply.tokens))
        reply.was_forced = True
