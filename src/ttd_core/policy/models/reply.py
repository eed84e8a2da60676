"""A reply's tokens as they accumulate, sampled and forced."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt

from ttd_core.types import StopReason


@attrs.define(eq=False)
class ReplyTokens:
    """Tokens of one reply, with what a :class:`~ttd_core.types.Completion` says of each.

    :param tokens: token ids so far.
    :param logprobs: the sampler's log-probability of each; 0 where forced.
    :param trained: False where a token was forced.
    :param stop: why it ended; ``None`` while it goes on.
    """

    tokens: list[int] = attrs.field(factory=list)
    logprobs: list[float] = attrs.field(factory=list)
    trained: list[bool] = attrs.field(factory=list)
    stop: StopReason | None = None

    def append_sampled(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Append sampled tokens."""
        self.tokens += tokens
        self.logprobs += logprobs
        self.trained += [True] * len(tokens)

    def append_forced(self, tokens: Sequence[int]) -> None:
        """Append tokens that were not sampled: they have log-probability 0 and are not trained."""
        self.tokens += tokens
        self.logprobs += [0.0] * len(tokens)
        self.trained += [False] * len(tokens)

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Tokens, log-probabilities and trained mask, [length] each."""
        return (
            np.array(self.tokens, dtype=np.int64),
            np.array(self.logprobs, dtype=np.float32),
            np.array(self.trained, dtype=np.bool_),
        )
