"""Sampling: replies to several prompts in one batch, each given out as soon as it is complete.

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
from ttd_core.policy.local.replies import DecodeLimits, Reply, maybe_force, stream
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
    :param rows: replies decoded at once.
    """

    def __init__(self, backbone: Backbone, head: Head, layers: int, device: torch.device, rows: int) -> None:
        self._backbone = backbone
        self._head = head
        self._layers = layers
        self._device = device
        self._rows = rows

    def decode(
        self,
        prompts: Sequence[Sequence[int]],
        shares: Sequence[range],
        temperature: float,
        limits: DecodeLimits,
        seed: int,
    ) -> Iterator[Reply]:
        """Yield finished replies, each once, in the order they finish.

        :param shares: which replies to each prompt, by index within its group.
        """
        waiting = collections.deque(
            Reply(prompt, index, stream(seed, prompt, index))
            for prompt, share in enumerate(shares)
            for index in share
        )
        rows = min(self._rows, len(waiting))
        cache = ReplyCache(layers=self._layers, rows=rows)
        active: list[Reply] = []
        current: tuple[int, PromptCache, torch.Tensor] | None = None
        while waiting or active:
            fresh: list[Reply] = []
            while waiting and len(active) < rows:
                reply = waiting.popleft()
                if current is None or current[0] != reply.prompt:
                    current = (reply.prompt, *self._read_prompt(prompts[reply.prompt]))
                cache.add(current[1])
                active.append(reply)
                fresh.append(reply)
                if not waiting or waiting[0].prompt != reply.prompt or len(active) == rows:
                    self._extend(fresh, current[2].expand(len(fresh), -1), temperature, limits)
                    fresh = []
            yield from self._collect(active, cache)
            if active:
                self._extend(active, self._step(active, cache, prompts), temperature, limits)
                yield from self._collect(active, cache)

    @torch.inference_mode()
    def _read_prompt(self, tokens: Sequence[int]) -> tuple[PromptCache, torch.Tensor]:
        """Keys and values of a prompt, and the logits [1, vocabulary] that follow it."""
        cache = PromptCache()
        ids = torch.tensor([list(tokens)], device=self._device)
        hidden = self._backbone(ids, torch.arange(ids.shape[1], device=self._device)[None], cache, False)
        return cache, self._head(hidden[:, -1])

    @torch.inference_mode()
    def _step(
        self, active: Sequence[Reply], cache: ReplyCache, prompts: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Read each row's last token; logits [rows, vocabulary] of the next."""
        cache.begin_step(self._device)
        ids = torch.tensor([[reply.tokens[-1]] for reply in active], device=self._device)
        places = [[len(prompts[reply.prompt]) + len(reply.tokens) - 1] for reply in active]
        hidden = self._backbone(ids, torch.tensor(places, device=self._device), cache, True)
        cache.end_step()
        return self._head(hidden[:, -1])

    @torch.inference_mode()
    def _extend(
        self,
        replies: Sequence[Reply],
        logits: torch.Tensor,
        temperature: float,
        limits: DecodeLimits,
    ) -> None:
        """Append one token to each reply: forced if any is due, else sampled with its log-probability."""
        logprobs = (logits / temperature).log_softmax(dim=-1)
        # The first token whose cumulative probability exceeds the reply's random number.
        cumulative = logprobs.exp().cumsum(dim=-1)
        marks = torch.tensor(
            [reply.stream.random(dtype=np.float32) for reply in replies], device=logits.device
        )
        drawn = torch.searchsorted(cumulative, marks[:, None] * cumulative[:, -1:], right=True)
        drawn.clamp_(max=logits.shape[1] - 1)
        chances = logprobs.gather(1, drawn)[:, 0].tolist()
        for reply, token, chance in zip(replies, drawn[:, 0].tolist(), chances, strict=True):
            maybe_force(reply, limits)
            if reply.forced:
                self._append(reply, reply.forced.popleft(), 0.0, False, limits)
            else:
                self._append(reply, token, chance, True, limits)

    @staticmethod
    def _append(reply: Reply, token: int, logprob: float, sampled: bool, limits: DecodeLimits) -> None:
        reply.tokens.append(token)
        reply.logprobs.append(logprob)
        reply.trained.append(sampled)
        # A forced token never ends a reply: the marker that opens the final answer may hold an end token.
        if sampled and token in limits.ends:
            reply.stop = StopReason.STOP
        elif len(reply.tokens) >= limits.longest[reply.prompt]:
            reply.stop = StopReason.LENGTH

    @staticmethod
    def _collect(active: list[Reply], cache: ReplyCache) -> Iterator[Reply]:
        """Take finished replies out of the batch; the last row fills the gap, in both lists alike."""
        row = 0
        while row < len(active):
            if active[row].stop is None:
                row += 1
                continue
            done = active[row]
            cache.drop(row)
            active[row] = active[-1]
            active.pop()
            yield done
