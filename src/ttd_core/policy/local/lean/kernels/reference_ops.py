"""The five steps in plain torch: what the device kernels must compute, and how they are tested on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ttd_core.policy.local.lean.decode_state import PAGE, DecodeState, StepLayout


def add_norm(residual: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual stream with an update added, and its root-mean-square norm.

    :param residual: [tokens, hidden size].
    :return: the new residual stream and the normed one, in the model's dtype, rounded where the model rounds.
    """
    total = residual if update is None else residual + update
    return total, rms(total, weight, eps)


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
    :param slots: int64 [tokens], see :meth:`DecodeState.slots`.
    :param heads: number of query heads and of key-value heads.
    """
    size = cos.shape[1]
    parts = qkv.view(len(qkv), -1, size)
    query, key, value = torch.split(parts, [heads[0], heads[1], heads[1]], dim=1)
    if norms is not None:
        query, key = rms(query, norms[0], eps), rms(key, norms[1], eps)
    turned = [part * cos[:, None] + rotate_half(part) * sin[:, None] for part in (query, key)]
    parts[:, : heads[0] + heads[1]] = torch.cat(turned, dim=1)
    keys[slots // PAGE, :, slots % PAGE] = turned[1]
    values[slots // PAGE, :, slots % PAGE] = value


def attend(
    qkv: Tensor, keys: Tensor, values: Tensor, state: DecodeState, layout: StepLayout, heads: tuple[int, int]
) -> Tensor:
    """Each row's attention over its prompt and its own tokens, the one just stored included.

    :param qkv: [rows, (heads + 2 kv heads) * head size], after :func:`rotate_and_store`.
    :return: [rows, heads * head size].
    """
    size = keys.shape[-1]
    queries = qkv.view(len(qkv), -1, size)[:, : heads[0]]
    result = torch.zeros_like(queries)
    prompts = {
        row: (state.tile_pages[tile], int(state.tile_lengths[tile]))
        for tile in range(layout.tiles)
        for row in state.tile_rows[tile].tolist()
        if row >= 0
    }
    for row in range(layout.rows):
        pages, length = prompts.get(row, (state.pages[row], 0))
        own = int(state.lengths[row]) + 1
        key, value = (
            torch.cat([_read(store, pages, length), _read(store, state.pages[row], own)], dim=1)
            for store in (keys, values)
        )
        query = queries[row].view(heads[1], heads[0] // heads[1], size)
        weights = (torch.matmul(query, key.transpose(1, 2)).float() * size**-0.5).softmax(-1)
        result[row] = torch.matmul(weights.to(value.dtype), value).view(heads[0], size)
    return result.view(layout.rows, -1)


def gated(gate_and_up: Tensor) -> Tensor:
    """SwiGLU: [tokens, 2 * size] to [tokens, size]."""
    gate, up = gate_and_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def draw(logits: Tensor, state: DecodeState) -> None:
    """Append one token to each row that is not at rest, and move the rows on.

    A sampled token is the first whose cumulative probability exceeds the row's random number.

    :param logits: [rows, vocabulary].
    """
    rows = len(logits)
    step = int(state.step)
    logprobs = (logits.float() / state.temperature).log_softmax(-1)
    cumulative = logprobs.exp().cumsum(-1)
    mark = state.uniforms[:rows, step, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, mark, right=True).clamp(max=logits.shape[1] - 1)
    forced = state.forced[:rows, step].long()
    token = torch.where(forced >= 0, forced, drawn[:, 0])
    state.tokens[:rows, step] = token.int()
    state.logprobs[:rows, step] = logprobs.gather(1, drawn)[:, 0]
    running = state.left[:rows] > 0
    ended = (forced < 0) & (token[:, None] == state.ends[None, :]).any(1)
    state.lengths[:rows] += running.int()
    state.last[:rows] = torch.where(running, token, state.last[:rows])
    state.left[:rows] = torch.where(running & ~ended, state.left[:rows] - 1, 0)
    state.step.add_(1)


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
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
