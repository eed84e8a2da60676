"""Decoding's operations in plain torch: what the Triton kernels must compute, and what a CPU runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.paging import PAGE
from ttd_core.policy.local.lean.projection import PartialProduct


def add_norm(residual: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual stream with an update added, and its root-mean-square norm.

    :param residual: [tokens, hidden size].
    :param update: [tokens, hidden size]; ``None`` adds nothing.
    :param weight: [hidden size], the norm's.
    :return: the new residual stream and the normed one, in the model's dtype, rounded where the model rounds.
    """
    total = residual if update is None else residual + update
    return total, rms_norm(total, weight, eps)


def rotate_and_store(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    heads: tuple[int, int],
) -> None:
    """Norm (where the model does) and rotate queries and keys in place; store keys and values in their pages.

    :param qkv: [tokens, (heads + 2 kv heads) * head size], queries, keys and values side by side.
    :param cos: [tokens, head size], of the rotary embedding; ``sin`` likewise.
    :param norms: weights [head size] of the queries' and keys' norms.
    :param keys: [pages, kv heads, PAGE, head size], one layer's; ``values`` likewise.
    :param slots: int64 [tokens], see :meth:`DecodeState.next_slots`.
    :param heads: number of query heads and of key-value heads.
    """
    head_size = cos.shape[1]
    parts = qkv.view(len(qkv), -1, head_size)
    query, key, value = torch.split(parts, [heads[0], heads[1], heads[1]], dim=1)
    if norms is not None:
        query, key = rms_norm(query, norms[0], eps), rms_norm(key, norms[1], eps)
    rotated = [part * cos[:, None] + rotate_half(part) * sin[:, None] for part in (query, key)]
    parts[:, : heads[0] + heads[1]] = torch.cat(rotated, dim=1)
    keys[slots // PAGE, :, slots % PAGE] = rotated[1]
    values[slots // PAGE, :, slots % PAGE] = value


def adapted_rotate_and_store(
    product: PartialProduct,
    cos: Tensor,
    sin: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    eps: float,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    heads: tuple[int, int],
) -> Tensor:
    """:func:`rotate_and_store` of a product whose adapters are still to be added; returns ``qkv``."""
    qkv = product.complete()
    rotate_and_store(qkv, cos, sin, norms, eps, keys, values, slots, heads)
    return qkv


def adapted_swiglu(product: PartialProduct) -> Tensor:
    """:func:`swiglu` of a product whose adapters are still to be added."""
    return swiglu(product.complete())


def attend(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    state: DecodeState,
    layout: StepLayout,
    heads: tuple[int, int],
    window: int = 0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Each row's attention to its prompt and its own tokens, the one just stored included.

    :param qkv: [rows, (heads + 2 kv heads) * head size], after :func:`rotate_and_store`.
    :param keys: [pages, kv heads, PAGE, head size], one layer's; ``values`` likewise.
    :param heads: number of query heads and of key-value heads.
    :param window: tokens that each sees, itself included; 0 is all. Pages of others are not looked at.
    :param sinks: [heads], a logit of each head that takes part in the softmax and has no value.
    :return: [rows, heads * head size].
    """
    head_size = keys.shape[-1]
    queries = qkv.view(len(qkv), -1, head_size)[:, : heads[0]]
    result = torch.zeros_like(queries)
    prompts = {
        row: (state.tile_page_table[tile], int(state.tile_lengths[tile]))
        for tile in range(layout.tiles)
        for row in state.tile_rows[tile].tolist()
        if row >= 0
    }
    for row in range(layout.rows):
        prompt_pages, prompt_length = prompts.get(row, (state.page_table[row], 0))
        own_length = int(state.own_lengths[row]) + 1
        key, value = (
            torch.cat(
                [_read(store, prompt_pages, prompt_length), _read(store, state.page_table[row], own_length)],
                dim=1,
            )
            for store in (keys, values)
        )
        if window:
            key, value = key[:, -window:], value[:, -window:]
        query = queries[row].view(heads[1], heads[0] // heads[1], head_size)
        scores = torch.matmul(query, key.transpose(1, 2)).float() * head_size**-0.5
        if sinks is not None:
            scores = torch.cat([scores, sinks.float().view(heads[1], -1, 1)], dim=-1)
        weights = scores.softmax(-1)[..., : key.shape[1]]
        result[row] = torch.matmul(weights.to(value.dtype), value).view(heads[0], head_size)
    return result.view(layout.rows, -1)


def swiglu(gate_and_up: Tensor) -> Tensor:
    """``silu(gate) * up``: [tokens, 2 * size], both side by side, to [tokens, size]."""
    gate, up = gate_and_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def sample(logits: Tensor, state: DecodeState) -> None:
    """Append one token to each row that is not idle, and move the rows on.

    A sampled token is the first whose cumulative probability exceeds the row's random number.

    :param logits: [rows, vocabulary].
    """
    rows = len(logits)
    step = int(state.step)
    logprobs = (logits.float() / state.temperature).log_softmax(-1)
    cumulative = logprobs.exp().cumsum(-1)
    threshold = state.uniforms[:rows, step, None] * cumulative[:, -1:]
    sampled = torch.searchsorted(cumulative, threshold, right=True).clamp(max=logits.shape[1] - 1)
    forced = state.forced_tokens[:rows, step].long()
    token = torch.where(forced >= 0, forced, sampled[:, 0])
    state.new_tokens[:rows, step] = token.int()
    state.new_logprobs[:rows, step] = logprobs.gather(1, sampled)[:, 0]
    running = state.remaining[:rows] > 0
    ended = (forced < 0) & (token[:, None] == state.end_tokens[None, :]).any(1)
    state.own_lengths[:rows] += running.int()
    state.next_input[:rows] = torch.where(running, token, state.next_input[:rows])
    state.remaining[:rows] = torch.where(running & ~ended, state.remaining[:rows] - 1, 0)
    state.step.add_(1)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension, rounded where transformers rounds it."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def rotate_half(x: Tensor) -> Tensor:
    """The second half of the last dimension, negated, before the first."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((-high, low), dim=-1)


def _read(store: Tensor, pages: Tensor, length: int) -> Tensor:
    """[kv heads, length, head size] out of the pages."""
    used = pages[: -(-length // PAGE)].long()
    return store[used].transpose(0, 1).flatten(1, 2)[:, :length]
