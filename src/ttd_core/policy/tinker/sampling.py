"""Replies from a sampling client of the Tinker protocol, with the final answer forced where it must be.

A group is requested in parts, so that its first replies can be judged while others are written. A reply that
used up its thinking without opening the final answer gets the closing appended, unsampled, and goes on from
there as a request of its own.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from tinker import types as protocol

from ttd_core.errors import EnvironmentLacksError
from ttd_core.policy.models.chat import ChatCodec, ReplyLimits
from ttd_core.policy.models.reply import ReplyTokens
from ttd_core.types import StopReason

#: Seeds of requests lie below this; a server adds the number of a reply to its request's.
_SEEDS = 2**31 - 2**16


def await_result(value: Any) -> Any:
    """What a call of the client returns: some versions give it at once, others a future of it."""
    return value.result() if hasattr(value, "result") else value


def append_sequence(reply: ReplyTokens, sequence: Any) -> None:
    """Append what a server sampled to a reply.

    :param sequence: one of the sequences in the server's answer.
    :raises EnvironmentLacksError: when it has no log-probabilities.
    """
    if sequence.logprobs is None:
        raise EnvironmentLacksError("the Tinker server samples without log-probabilities; none can learn so")
    reply.append_sampled(sequence.tokens, sequence.logprobs)
    reply.stop = StopReason.STOP if sequence.stop_reason == "stop" else StopReason.LENGTH


@attrs.frozen(eq=False)
class _Request:
    """A request under way: up to ``max_tokens`` more tokens for each of some replies to a prompt.

    :param prompt: the prompt's index.
    :param replies: each with its index in the group.
    """

    prompt: int
    replies: Sequence[tuple[int, ReplyTokens]]
    max_tokens: int


class GroupSampler:
    """Samples groups of replies.

    :param client: a sampling client.
    :param codec: the model's chat format.
    :param limits: where replies end.
    :param replies_per_request: most replies of one request.
    """

    def __init__(self, client: Any, codec: ChatCodec, limits: ReplyLimits, replies_per_request: int) -> None:
        self._client = client
        self._codec = codec
        self._limits = limits
        self._replies_per_request = replies_per_request

    def replies(
        self, prompts: Sequence[Sequence[int]], count: int, seed: int
    ) -> Iterator[tuple[int, int, ReplyTokens]]:
        """Yield prompt, index and reply, each as soon as it is complete; what is abandoned is cancelled.

        :param prompts: token ids of each prompt.
        :param count: replies to each.
        """
        rng = np.random.default_rng(seed)
        pending: dict[concurrent.futures.Future[Any], _Request] = {}
        complete: list[tuple[int, int, ReplyTokens]] = []

        def request(prompt: int, replies: list[tuple[int, ReplyTokens]], max_tokens: int) -> None:
            tokens = [*prompts[prompt], *(replies[0][1].tokens if len(replies) == 1 else [])]
            future = self._request(tokens, len(replies), max_tokens, int(rng.integers(_SEEDS)))
            pending[future] = _Request(prompt, replies, max_tokens)

        def go_on(prompt: int, index: int, reply: ReplyTokens) -> None:
            left = self._close_thinking(prompt, reply)
            if left > 0:
                request(prompt, [(index, reply)], left)
            else:
                complete.append((prompt, index, reply))

        for prompt, max_tokens in enumerate(self._limits.max_tokens):
            if self._limits.thinking_tokens is not None:
                max_tokens = min(max_tokens, self._limits.thinking_tokens[prompt])
            for start in range(0, count, self._replies_per_request):
                stop = min(start + self._replies_per_request, count)
                part = [(index, ReplyTokens()) for index in range(start, stop)]
                if max_tokens > 0:
                    request(prompt, part, max_tokens)
                else:
                    for index, reply in part:
                        go_on(prompt, index, reply)
        try:
            while pending or complete:
                yield from complete
                complete.clear()
                done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    finished = pending.pop(future)
                    sequences = future.result().sequences
                    for (index, reply), sequence in zip(finished.replies, sequences, strict=True):
                        append_sequence(reply, sequence)
                        if len(sequence.tokens) < finished.max_tokens and reply.stop is StopReason.LENGTH:
                            # The server's own limit is lower; asking for more would give nothing.
                            complete.append((finished.prompt, index, reply))
                        else:
                            go_on(finished.prompt, index, reply)
        finally:
            for future in pending:
                future.cancel()

    def _request(
        self, tokens: Sequence[int], count: int, max_tokens: int, seed: int
    ) -> concurrent.futures.Future[Any]:
        params = protocol.SamplingParams(
            max_tokens=max_tokens, seed=seed, temperature=1.0, stop=sorted(self._codec.end_tokens)
        )
        answer = self._client.sample(
            prompt=protocol.ModelInput.from_ints(list(tokens)), num_samples=count, sampling_params=params
        )
        future: concurrent.futures.Future[Any] = (
            answer if isinstance(answer, concurrent.futures.Future) else answer.future()
        )
        return future

    def _close_thinking(self, prompt: int, reply: ReplyTokens) -> int:
        """Force the final answer if the thinking is used up.

        :return: tokens still to sample; 0 for a complete reply.
        """
        max_tokens = self._limits.max_tokens[prompt]
        if self._limits.thinking_tokens is None or reply.stop is StopReason.STOP:
            return 0
        reply.append_forced(self._codec.closing(reply.tokens)[: max_tokens - len(reply.tokens)])
        return max_tokens - len(reply.tokens)
