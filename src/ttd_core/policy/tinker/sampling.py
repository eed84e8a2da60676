"""Replies from a sampling client of the Tinker protocol, with the final answer forced where it must be.

A group is asked for in parts, so that its first replies can be judged while others are written. A reply that
used up its thinking without opening the final answer gets the closing appended, unsampled, and goes on from
there as a request of its own.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from tinker import types as wire

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.models.chat import ChatCodec, Room
from ttd_core.types import StopReason

_SEEDS = 2**31 - 2**16


def result(value: Any) -> Any:
    """What a call came to: some versions of the client return it, others a future of it."""
    return value.result() if hasattr(value, "result") else value


@attrs.define(eq=False)
class Reply:
    """A reply, perhaps under way."""

    tokens: list[int] = attrs.field(factory=list)
    logprobs: list[float] = attrs.field(factory=list)
    trained: list[bool] = attrs.field(factory=list)
    stop: StopReason = StopReason.LENGTH

    def extend(self, sequence: Any) -> None:
        """Append what was sampled.

        :raises EnvironmentLacksError: when the server gave no log-probabilities.
        """
        if sequence.logprobs is None:
            raise EnvironmentLacksError(
                "the Tinker server samples without log-probabilities; none can learn so"
            )
        self.tokens += sequence.tokens
        self.logprobs += sequence.logprobs
        self.trained += [True] * len(sequence.tokens)
        self.stop = StopReason.STOP if sequence.stop_reason == "stop" else StopReason.LENGTH

    def force(self, tokens: Sequence[int]) -> None:
        """Append what was not sampled."""
        self.tokens += tokens
        self.logprobs += [0.0] * len(tokens)
        self.trained += [False] * len(tokens)

    def arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Tokens, log-probabilities and trained mask, [length] each."""
        return (
            np.array(self.tokens, np.int64),
            np.array(self.logprobs, np.float32),
            np.array(self.trained, np.bool_),
        )


@attrs.frozen(eq=False)
class _Asked:
    """What one request will bring: up to ``most`` tokens for each of some replies to a prompt."""

    prompt: int
    replies: Sequence[tuple[int, Reply]]
    most: int


class GroupSampler:
    """Samples groups of replies.

    :param client: a sampling client.
    :param codec: the model's chat format.
    :param limits: where replies end.
    :param at_once: most replies of one request.
    """

    def __init__(self, client: Any, codec: ChatCodec, limits: Room, at_once: int) -> None:
        self._client = client
        self._codec = codec
        self._limits = limits
        self._at_once = at_once

    def replies(
        self, prompts: Sequence[Sequence[int]], count: int, seed: int
    ) -> Iterator[tuple[int, int, Reply]]:
        """Yield prompt, index and reply, each as soon as it is whole; what is abandoned is cancelled."""
        rng = np.random.default_rng(seed)
        pending: dict[concurrent.futures.Future[Any], _Asked] = {}
        whole: list[tuple[int, int, Reply]] = []

        def ask(prompt: int, replies: list[tuple[int, Reply]], most: int) -> None:
            tokens = [*prompts[prompt], *(replies[0][1].tokens if len(replies) == 1 else [])]
            future = self._ask(tokens, len(replies), most, int(rng.integers(_SEEDS)))
            pending[future] = _Asked(prompt, replies, most)

        def go_on(prompt: int, index: int, reply: Reply) -> None:
            rest = self._close_thinking(prompt, reply)
            if rest > 0:
                ask(prompt, [(index, reply)], rest)
            else:
                whole.append((prompt, index, reply))

        for prompt, longest in enumerate(self._limits.longest):
            thinking = (
                longest if self._limits.thinking is None else min(longest, self._limits.thinking[prompt])
            )
            for start in range(0, count, self._at_once):
                part = [(index, Reply()) for index in range(start, min(start + self._at_once, count))]
                if thinking > 0:
                    ask(prompt, part, thinking)
                else:
                    for index, reply in part:
                        go_on(prompt, index, reply)
        try:
            while pending or whole:
                yield from whole
                whole.clear()
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    asked = pending.pop(future)
                    for (index, reply), sequence in zip(
                        asked.replies, future.result().sequences, strict=True
                    ):
                        reply.extend(sequence)
                        if len(sequence.tokens) < asked.most and reply.stop is StopReason.LENGTH:
                            # The server's own limit is lower; asking for more would give nothing.
                            whole.append((asked.prompt, index, reply))
                        else:
                            go_on(asked.prompt, index, reply)
        finally:
            for future in pending:
                future.cancel()

    def _ask(self, tokens: Sequence[int], count: int, most: int, seed: int) -> concurrent.futures.Future[Any]:
        params = wire.SamplingParams(
            max_tokens=most, seed=seed, temperature=1.0, stop=sorted(self._codec.ends)
        )
        asked = self._client.sample(
            prompt=wire.ModelInput.from_ints(list(tokens)), num_samples=count, sampling_params=params
        )
        future: concurrent.futures.Future[Any] = (
            asked if isinstance(asked, concurrent.futures.Future) else asked.future()
        )
        return future

    def _close_thinking(self, prompt: int, reply: Reply) -> int:
        """Force the final answer if the thinking is used up; tokens still to sample, 0 for a whole reply."""
        longest = self._limits.longest[prompt]
        if self._limits.thinking is None or reply.stop is StopReason.STOP:
            return 0
        reply.force(self._codec.closing(reply.tokens)[: longest - len(reply.tokens)])
        return longest - len(reply.tokens)
