"""Attention within a pack, forward and backward, without a mask where the device allows it.

Every token sees what comes before it in its own part (the prompt, or a reply); replies see the prompt too. On
a CUDA device that is flash attention over parts of different lengths. Behind a short prompt each reply gets a
copy of the prompt's keys. A long one is not copied: a second call goes from all replies to the prompt, and
the two results are combined over one log-sum-exp; given that and the combined result, the backward pass of
each call is exact for its share. Sinks join the same log-sum-exp afterwards. With a window only the end of a
prompt, as far as a reply's first token sees it, is copied. Elsewhere, and in float32, a mask is used.
"""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.packing import Pack

#: What attention returned, [tokens, heads, head size], and what its backward pass needs beside it: the
#: log-sum-exp of each query's scores, float32 [heads, tokens]; ``None`` where it is done with a mask.
AttentionOutput = tuple[Tensor, Tensor | None]
#: Cumulative lengths of the parts' queries and keys (int32 [parts + 1]), and the longest of each: the
#: ``cu_seqlens_q``, ``cu_seqlens_k``, ``max_seqlen_q`` and ``max_seqlen_k`` of flash attention.
Sequences = tuple[Tensor, Tensor, int, int]


#: Tokens from which a prompt's keys are not copied. Behind a shorter one the second call's backward pass,
#: which is divided by keys, leaves most of the device idle.
LONG_PROMPT = 2048


def attention_for(pack: Pack, dtype: torch.dtype, window: int = 0) -> PackAttention:
    """The attention of one pack, for its device and dtype.

    :param window: tokens that each sees, itself included; 0 is all.
    """
    device = pack.ids.device
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        if window or pack.prompt_length < LONG_PROMPT:
            return CopiedPromptAttention.of(pack, window)
        return SeparatePromptAttention.of(pack)
    mask = pack.mask
    if window:
        positions = pack.positions[0]
        mask = mask & (positions[:, None] - positions[None, :] < window)
    return MaskedAttention(mask)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, sinks: Tensor | None) -> Tensor:
    """Scaled dot-product attention under a mask, with sinks or without: [batch, heads, queries, head size].

    :param query: [batch, heads, queries, head size].
    :param key: [batch, kv heads, keys, head size]; ``value`` likewise.
    :param mask: bool [1, 1, queries, keys], True where attention is allowed.
    :param sinks: [heads], a logit of each head that takes part in the softmax and has no value.
    """
    if sinks is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = torch.matmul(query, key.transpose(2, 3)).float() * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask, float("-inf"))
    sink = sinks.float()[None, :, None, None].expand(*scores.shape[:3], 1)
    weights = torch.cat([scores, sink], dim=-1).softmax(-1)[..., :-1]
    return torch.matmul(weights.to(value.dtype), value)


@attrs.frozen(eq=False)
class MaskedAttention:
    """Scaled dot-product attention under the pack's mask.

    :param mask: bool [1, 1, tokens, tokens].
    """

    mask: Tensor

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None = None
    ) -> AttentionOutput:
        """Of queries [tokens, heads, head size] to keys and values [tokens, kv heads, head size].

        :param sinks: [heads], see :func:`masked_attention`.
        """
        q, k, v = (part.transpose(0, 1)[None] for part in (query, key, value))
        return masked_attention(q, k, v, self.mask, sinks)[0].transpose(0, 1), None

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _attention: AttentionOutput,
        sinks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to queries, keys and values; the forward pass is done again."""
        with torch.enable_grad():
            inputs = [part.detach().requires_grad_() for part in (query, key, value)]
            output, _ = self.forward(inputs[0], inputs[1], inputs[2], sinks)
            grad_query, grad_key, grad_value = torch.autograd.grad(output, inputs, grad)
        return grad_query, grad_key, grad_value


@attrs.frozen(eq=False)
class CopiedPromptAttention:
    """Flash attention in which every reply has its own copy of the prompt's keys and values.

    :param key_tokens: int64 [keys], the token that each key is of.
    :param sequences: the prompt and the replies as sequences, a reply's keys with the prompt's before them.
    :param window: tokens that each sees, itself included; 0 is all.
    """

    key_tokens: Tensor
    sequences: Sequences
    window: int = 0

    @classmethod
    def of(cls, pack: Pack, window: int = 0) -> CopiedPromptAttention:
        """Of a pack on its device."""
        device = pack.ids.device
        prompt = torch.arange(pack.prompt_length, device=device)
        # What the first token of a reply sees of the prompt.
        seen = min(pack.prompt_length, window - 1) if window else pack.prompt_length
        end = prompt[pack.prompt_length - seen :]
        if len(pack.reply_lengths) == 1:
            # One reply and its prompt are one sequence.
            query_lengths = key_lengths = [pack.prompt_length + pack.reply_lengths[0]]
            key_tokens = torch.arange(query_lengths[0], device=device)
        else:
            query_lengths = [pack.prompt_length, *pack.reply_lengths]
            key_lengths = [pack.prompt_length, *(seen + n for n in pack.reply_lengths)]
            reply_tokens = torch.arange(pack.prompt_length, sum(query_lengths), device=device)
            replies = torch.split(reply_tokens, list(pack.reply_lengths))
            key_tokens = torch.cat([prompt, *(part for reply in replies for part in (end, reply))])
        cumulative = [_cumulative(lengths, device) for lengths in (query_lengths, key_lengths)]
        longest = max(query_lengths), max(key_lengths)
        return cls(key_tokens, (cumulative[0], cumulative[1], *longest), window)

    def _copied(self, part: Tensor) -> Tensor:
        return part if len(self.key_tokens) == len(part) else part[self.key_tokens]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None = None
    ) -> AttentionOutput:
        """See :class:`MaskedAttention`."""
        keys, values = self._copied(key), self._copied(value)
        return with_sinks(*flash(query, keys, values, self.sequences, True, self.window), sinks)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention: AttentionOutput,
        _sinks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to queries, keys and values; those of a key's copies add up in float32."""
        output, logsumexp = attention
        if logsumexp is None:
            raise RuntimeError("flash attention returns a log-sum-exp")
        grad_query, grad_keys, grad_values = _flash_backward(
            grad,
            query,
            self._copied(key),
            self._copied(value),
            output,
            logsumexp,
            self.sequences,
            True,
            self.window,
        )
        if len(self.key_tokens) == len(key):
            return grad_query, grad_keys, grad_values
        sums = []
        for copies, like in (grad_keys, key), (grad_values, value):
            wide = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
            sums.append(wide.index_add_(0, self.key_tokens, copies.float()).to(like.dtype))
        return grad_query, sums[0], sums[1]


@attrs.frozen(eq=False)
class SeparatePromptAttention:
    """Flash attention of each part to itself, and in a second call of all replies to the prompt.

    :param prompt_length: tokens of the prompt.
    :param within: prompt and replies as sequences of their own.
    :param to_prompt: all replies as one sequence of queries, the prompt as one of keys.
    """

    prompt_length: int
    within: Sequences
    to_prompt: Sequences

    @classmethod
    def of(cls, pack: Pack) -> SeparatePromptAttention:
        """Of a pack on its device."""
        device = pack.ids.device
        lengths = [pack.prompt_length, *pack.reply_lengths]
        parts, longest = _cumulative(lengths, device), max(lengths)
        reply_tokens = sum(pack.reply_lengths)
        replies = _cumulative([reply_tokens], device)
        prompt = _cumulative([pack.prompt_length], device)
        return cls(
            pack.prompt_length,
            (parts, parts, longest, longest),
            (replies, prompt, reply_tokens, pack.prompt_length),
        )

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None = None
    ) -> AttentionOutput:
        """See :class:`MaskedAttention`."""
        output, logsumexp = flash(query, key, value, self.within, True)
        first = self.prompt_length
        from_prompt, prompt_logsumexp = flash(
            query[first:], key[:first], value[:first], self.to_prompt, False
        )
        own_logsumexp = logsumexp[:, first:]
        combined = torch.logaddexp(own_logsumexp, prompt_logsumexp)
        weights = [(part - combined).exp().T[..., None] for part in (own_logsumexp, prompt_logsumexp)]
        output[first:] = (output[first:] * weights[0] + from_prompt * weights[1]).to(output.dtype)
        return with_sinks(output, torch.cat([logsumexp[:, :first], combined], dim=1), sinks)

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention: AttentionOutput,
        _sinks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to queries, keys and values."""
        output, logsumexp = attention
        if logsumexp is None:
            raise RuntimeError("flash attention returns a log-sum-exp")
        grad_query, grad_key, grad_value = _flash_backward(
            grad, query, key, value, output, logsumexp, self.within, True
        )
        first = self.prompt_length
        to_prompt = _flash_backward(
            grad[first:],
            query[first:],
            key[:first],
            value[:first],
            output[first:],
            logsumexp[:, first:].contiguous(),
            self.to_prompt,
            False,
        )
        grad_query[first:] += to_prompt[0]
        grad_key[:first] += to_prompt[1]
        grad_value[:first] += to_prompt[2]
        return grad_query, grad_key, grad_value


PackAttention = MaskedAttention | CopiedPromptAttention | SeparatePromptAttention


def _cumulative(lengths: list[int], device: torch.device) -> Tensor:
    """int32 [sequences + 1]: where each sequence starts, and the end."""
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


def with_sinks(output: Tensor, logsumexp: Tensor, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp with a sink in the softmax of each head.

    :param output: [tokens, heads, head size]; changed in place.
    :param logsumexp: float32 [heads, tokens].
    :param sinks: [heads]; ``None`` changes nothing.
    """
    if sinks is None:
        return output, logsumexp
    combined = torch.logaddexp(logsumexp, sinks.float()[:, None])
    # Weights stay in float32: the product is rounded once.
    return output.mul_((logsumexp - combined).exp().T[..., None]), combined


def flash(
    query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, causal: bool, window: int = 0
) -> tuple[Tensor, Tensor]:
    """The result [tokens, heads, head size] and the log-sum-exp, float32 [heads, tokens]."""
    outputs: Any = torch.ops.aten._flash_attention_forward(
        query, key, value, *sequences, 0.0, causal, False, **_windowed(window)
    )
    return outputs[0], outputs[1]


def _windowed(window: int) -> dict[str, int]:
    """Flash attention counts what lies before a token, not the token."""
    return {"window_size_left": window - 1, "window_size_right": 0} if window else {}


def _flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    sequences: Sequences,
    causal: bool,
    window: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    # Without dropout the random state is never read, but it must be there.
    random_state = torch.zeros(2, dtype=torch.uint64, device=grad.device)
    unused = torch.empty(0, dtype=torch.uint64, device=grad.device)
    grad_query, grad_key, grad_value = torch.ops.aten._flash_attention_backward(
        grad.contiguous(),
        query,
        key,
        value,
        output,
        logsumexp,
        *sequences,
        0.0,
        causal,
        random_state,
        unused,
        **_windowed(window),
    )
    return grad_query, grad_key, grad_value
