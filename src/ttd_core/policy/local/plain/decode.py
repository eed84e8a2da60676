"""The plain decoder: replies to several prompts in one batch, each yielded as soon as it is complete.

A prompt is read once and shared by its group; a finished reply makes room for a waiting one. Tokens may be
forced (a thinking budget that ran out): they carry log-probability 0 and are marked as not trained.

Each reply draws from a stream of random numbers of its own, so what it says does not depend on which other
replies were decoded beside it. This is the decoder for any model on any device; on a CUDA device
:mod:`~ttd_core.policy.local.lean.decode` does the same for the models it knows.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ttd_core.policy.local.plain.attention import PromptCache, ReplyCache
from ttd_core.policy.local.replies import DecodeLimits, DecodingReply, queue_forced
from ttd_core.types import StopReason

#: The model without its head: (token ids [rows, length], positions, cache, is_decoding) -> hidden states.
Backbone = Callable[[torch.Tensor, torch.Tensor, PromptCache | ReplyCache, bool], torch.Tensor]
#: Hidden states [rows, hidden size] -> float32 logits [rows, vocabulary].
Head = Callable[[torch.Tensor], torch.Tensor]


class PlainDecoder:
    """Samples replies to several prompts.

    :param backbone: the model without its head.
    :param head: the head.
    :param layers: number of attention layers.
    :param device: where the model lives.
    :param max_rows: most replies decoded at once.
    """

    def __init__(
        self, backbone: Backbone, head: Head, layers: int, device: torch.device, max_rows: int
    ) -> None:
        self._backbone = backbone
        self._head = head
        self._layers = layers
        self._device = device
        self._max_rows = max_rows

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        indices: Sequence[Sequence[int]],
        temperature: float,
        limits: DecodeLimits,
        seed: int,
    ) -> Iterator[DecodingReply]:
        """Yield finished replies, each once, in the order they finish.

        :param prompts: token ids of each prompt.
        :param indices: which replies to each prompt, by index within its group.
        """
        waiting = collections.deque(
            DecodingReply.begin(seed, prompt, index)
            for prompt, group in enumerate(indices)
            for index in group
        )
        rows = min(self._max_rows, len(waiting))
        cache = ReplyCache(layers=self._layers, rows=rows)
        active: list[DecodingReply] = []
        # The prompt read last, by index, and the logits that follow it.
        last_read: tuple[int, PromptCache, torch.Tensor] | None = None
        while waiting or active:
            # Replies to the prompt read last that have no token yet.
            new: list[DecodingReply] = []
            while waiting and len(active) < rows:
                reply = waiting.popleft()
                if last_read is None or last_read[0] != reply.prompt_index:
                    last_read = (reply.prompt_index, *self._read_prompt(prompts[reply.prompt_index]))
                cache.add(last_read[1])
                active.append(reply)
                new.append(reply)
                if not waiting or waiting[0].prompt_index != reply.prompt_index or len(active) == rows:
                    self._extend(new, last_read[2].expand(len(new), -1), temperature, limits)
                    new = []
            yield from self._take_finished(active, cache)
            if active:
                self._extend(active, self._step(active, cache, prompts), temperature, limits)
                yield from self._take_finished(active, cache)

    @torch.inference_mode()
    def _read_prompt(self, tokens: Sequence[int]) -> tuple[PromptCache, torch.Tensor]:
        """Keys and values of a prompt, and the logits [1, vocabulary] that follow it."""
        cache = PromptCache()
        ids = torch.tensor([list(tokens)], device=self._device)
        hidden = self._backbone(ids, torch.arange(ids.shape[1], device=self._device)[None], cache, False)
        return cache, self._head(hidden[:, -1])

    @torch.inference_mode()
    def _step(
        self, active: Sequence[DecodingReply], cache: ReplyCache, prompts: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Read each row's last token; logits [rows, vocabulary] of the next."""
        cache.begin_step(self._device)
        ids = torch.tensor([[reply.tokens[-1]] for reply in active], device=self._device)
        positions = [[len(prompts[reply.prompt_index]) + len(reply.tokens) - 1] for reply in active]
        hidden = self._backbone(ids, torch.tensor(positions, device=self._device), cache, True)
        cache.end_step()
        return self._head(hidden[:, -1])

    @torch.inference_mode()
    def _extend(
        self,
        replies: Sequence[DecodingReply],
        logits: torch.Tensor,
        temperature: float,
        limits: DecodeLimits,
    ) -> None:
        """Append one token to each reply: forced if any is due, else sampled with its log-probability."""
        logprobs = (logits / temperature).log_softmax(dim=-1)
        # The first token whose cumulative probability exceeds the reply's random number.
        cumulative = logprobs.exp().cumsum(dim=-1)
        uniforms = torch.tensor(
            [reply.stream.random(dtype=np.float32) for reply in replies], device=logits.device
        )
        sampled = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
        sampled.clamp_(max=logits.shape[1] - 1)
        sampled_logprobs = logprobs.gather(1, sampled)[:, 0].tolist()
        for reply, token, logprob in zip(replies, sampled[:, 0].tolist(), sampled_logprobs, strict=True):
            queue_forced(reply, limits)
            # A forced token never ends a reply: the marker that opens the final answer may hold an end token.
            ends = not reply.forced and token in limits.end_tokens
            if reply.forced:
                reply.append_forced([reply.forced.popleft()])
            else:
                reply.append_sampled([token], [logprob])
            if ends:
                reply.stop = StopReason.STOP
            elif len(reply.tokens) >= limits.max_tokens[reply.prompt_index]:
                reply.stop = StopReason.LENGTH

    @staticmethod
    def _take_finished(active: list[DecodingReply], cache: ReplyCache) -> Iterator[DecodingReply]:
        """Take finished replies out of the batch; the last row fills the gap, in both lists alike."""
        row = 0
        while row < len(active):
            if active[row].stop is None:
                row += 1
                continue
            finished = active[row]
            cache.drop(row)
            active[row] = active[-1]
            active.pop()
            yield finished
