"""Attention within a pack, forward and backward, without a mask where the device allows it.

Every token sees what comes before it in its own part (the prompt, or a reply); replies see the prompt too. On
a CUDA device that is flash attention over parts of different lengths. Behind a short prompt each reply gets a
copy of the prompt's keys. A long one is not copied: a second call goes from all replies to the prompt, and
the two are joined over one normaliser; given that and the joined result, the backward pass of each call is
exact for its share. Elsewhere, and in float32, a mask is used.
"""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.packing import Pack

#: What the backward pass needs of the forward pass: the result, and the normalisers if there are any.
Result = tuple[Tensor, Tensor | None]
#: Where queries and keys of each part start and end, and the longest of each.
_Ends = tuple[Tensor, Tensor, int, int]


#: Tokens from which a prompt's keys are not copied. Behind a shorter one the second call's backward pass,
#: which is divided by keys, leaves most of the device idle.
LONG = 2048


def attention_of(pack: Pack, dtype: torch.dtype) -> PackAttention:
    """The attention of one pack."""
    device = pack.ids.device
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return PartsAttention.of(pack) if pack.prompt >= LONG else CopiesAttention.of(pack)
    return MaskedAttention(pack.mask)


@attrs.frozen(eq=False)
class MaskedAttention:
    """Scaled dot-product attention under the pack's mask.

    :param mask: bool [1, 1, tokens, tokens].
    """

    mask: Tensor

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Result:
        """[tokens, heads, head size], of queries shaped so and keys [tokens, kv heads, head size]."""
        q, k, v = (part.transpose(0, 1)[None] for part in (query, key, value))
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, enable_gqa=True)
        return found[0].transpose(0, 1), None

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, _result: Result
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by queries, keys and values; the forward pass is done again."""
        with torch.enable_grad():
            fresh = [part.detach().requires_grad_() for part in (query, key, value)]
            found, _ = self.forward(*fresh)
            by_query, by_key, by_value = torch.autograd.grad(found, fresh, grad)
        return by_query, by_key, by_value


@attrs.frozen(eq=False)
class CopiesAttention:
    """Flash attention in which every reply has its own copy of the prompt's keys and values.

    :param sources: int64 [keys], the token that each key is of.
    :param ends: where queries and keys of each part start and end (int32), and the longest of each.
    """

    sources: Tensor
    ends: _Ends

    @classmethod
    def of(cls, pack: Pack) -> CopiesAttention:
        """Of a pack on its device."""
        device = pack.ids.device
        prompt = torch.arange(pack.prompt, device=device)
        if len(pack.lengths) == 1:
            # One reply and its prompt are one sequence.
            queries = keys = [pack.prompt + pack.lengths[0]]
            sources = torch.arange(queries[0], device=device)
        else:
            queries = [pack.prompt, *pack.lengths]
            keys = [pack.prompt, *(pack.prompt + length for length in pack.lengths)]
            replies = torch.split(torch.arange(pack.prompt, sum(queries), device=device), list(pack.lengths))
            sources = torch.cat([prompt, *(part for reply in replies for part in (prompt, reply))])
        starts = [
            torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
            for lengths in (queries, keys)
        ]
        return cls(sources, (starts[0], starts[1], max(queries), max(keys)))

    def _copied(self, part: Tensor) -> Tensor:
        return part if len(self.sources) == len(part) else part[self.sources]

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Result:
        """See :class:`MaskedAttention`; the normalisers are float32 [heads, tokens]."""
        return _flash(query, self._copied(key), self._copied(value), self.ends, True)

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, result: Result
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by queries, keys and values; those of a key's copies are summed in float32."""
        found, normaliser = result
        if normaliser is None:
            raise RuntimeError("flash attention gives normalisers")
        by_query, by_key, by_value = _flash_backward(
            grad, query, self._copied(key), self._copied(value), found, normaliser, self.ends, True
        )
        if len(self.sources) == len(key):
            return by_query, by_key, by_value
        sums = []
        for part, like in (by_key, key), (by_value, value):
            wide = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
            sums.append(wide.index_add_(0, self.sources, part.float()).to(like.dtype))
        return by_query, sums[0], sums[1]


@attrs.frozen(eq=False)
class PartsAttention:
    """Flash attention over the parts of a pack, and from the replies to the prompt.

    :param prompt: tokens of the prompt.
    :param starts: int32 [parts + 1], where each part starts, and the end.
    :param longest: tokens of the longest part.
    :param whole: int32 [2], all replies as one sequence; ``before`` the prompt as one.
    """

    prompt: int
    starts: Tensor
    longest: int
    whole: Tensor
    before: Tensor

    @classmethod
    def of(cls, pack: Pack) -> PartsAttention:
        """Of a pack on its device."""
        device = pack.ids.device
        lengths = [pack.prompt, *pack.lengths]
        starts = [0, *itertools.accumulate(lengths)]
        return cls(
            pack.prompt,
            torch.tensor(starts, dtype=torch.int32, device=device),
            max(lengths),
            torch.tensor([0, starts[-1] - pack.prompt], dtype=torch.int32, device=device),
            torch.tensor([0, pack.prompt], dtype=torch.int32, device=device),
        )

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Result:
        """See :class:`MaskedAttention`; the normalisers are float32 [heads, tokens]."""
        ends = (self.starts, self.starts, self.longest, self.longest)
        found, normaliser = _flash(query, key, value, ends, True)
        first = self.prompt
        ends = (self.whole, self.before, len(query) - first, first)
        other, other_normaliser = _flash(query[first:], key[:first], value[:first], ends, False)
        mine = normaliser[:, first:]
        joined = torch.logaddexp(mine, other_normaliser)
        shares = [(part - joined).exp().T[..., None] for part in (mine, other_normaliser)]
        found[first:] = (found[first:] * shares[0] + other * shares[1]).to(found.dtype)
        return found, torch.cat([normaliser[:, :first], joined], dim=1)

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, result: Result
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by queries, keys and values."""
        found, normaliser = result
        if normaliser is None:
            raise RuntimeError("flash attention gives normalisers")
        ends = (self.starts, self.starts, self.longest, self.longest)
        by_query, by_key, by_value = _flash_backward(grad, query, key, value, found, normaliser, ends, True)
        first = self.prompt
        ends = (self.whole, self.before, len(query) - first, first)
        shared = _flash_backward(
            grad[first:],
            query[first:],
            key[:first],
            value[:first],
            found[first:],
            normaliser[:, first:].contiguous(),
            ends,
            False,
        )
        by_query[first:] += shared[0]
        by_key[:first] += shared[1]
        by_value[:first] += shared[2]
        return by_query, by_key, by_value


PackAttention = MaskedAttention | CopiesAttention | PartsAttention


def _flash(query: Tensor, key: Tensor, value: Tensor, ends: _Ends, causal: bool) -> tuple[Tensor, Tensor]:
    found: Any = torch.ops.aten._flash_attention_forward(query, key, value, *ends, 0.0, causal, False)
    return found[0], found[1]


def _flash_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    found: Tensor,
    normaliser: Tensor,
    ends: _Ends,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    # Without dropout the random state is never read, but it must be there.
    state = torch.zeros(2, dtype=torch.uint64, device=grad.device)
    spare = torch.empty(0, dtype=torch.uint64, device=grad.device)
    by_query, by_key, by_value = torch.ops.aten._flash_attention_backward(
        grad.contiguous(), query, key, value, found, normaliser, *ends, 0.0, causal, state, spare
    )
    return by_query, by_key, by_value
