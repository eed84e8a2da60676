"""The five steps as Triton kernels; :mod:`.reference_ops` says what each computes.

Attention reads keys and values page by page and keeps a running maximum, total and weighted sum. The rows of
a group read their prompt together: one program holds the queries of many rows as one matrix, so the prompt's
keys leave memory once a tile instead of once a row. The row's own part then adds what the first part found.
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.decode_state import MAX_STEPS, PAGE, DecodeState, StepLayout
from ttd_core.policy.local.lean.kernels import attention, pointwise, sampling

#: Vocabulary entries that one program of the first sampling pass reads.
VOCABULARY_BLOCK = 4096


def add_norm(residual: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See the reference."""
    tokens, size = residual.shape
    adds = update is not None
    total = torch.empty_like(residual) if adds else residual
    normed = torch.empty_like(residual)
    block = triton.next_power_of_2(size)
    if update is None:
        update = residual
    pointwise.add_norm[(tokens,)](
        residual,
        update,
        weight,
        total,
        normed,
        eps,
        update.stride(0),
        SIZE=size,
        BLOCK=block,
        ADD=adds,
        num_warps=max(1, min(8, block // 512)),
    )
    return total, normed


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
    """See the reference."""
    tokens, size = cos.shape
    query_weight, key_weight = norms if norms is not None else (qkv, qkv)
    pointwise.rotate_and_store[(tokens,)](
        qkv,
        cos,
        sin,
        query_weight,
        key_weight,
        keys,
        values,
        slots,
        eps,
        qkv.stride(0),
        keys.stride(0),
        HEADS=heads[0],
        KV_HEADS=heads[1],
        BLOCK_HEADS=triton.next_power_of_2(heads[0]),
        BLOCK_KV=triton.next_power_of_2(heads[1]),
        HALF=size // 2,
        PAGE=PAGE,
        NORM=norms is not None,
        num_warps=4,
    )


def attend(
    qkv: Tensor, keys: Tensor, values: Tensor, state: DecodeState, layout: StepLayout, heads: tuple[int, int]
) -> Tensor:
    """See the reference."""
    size = keys.shape[-1]
    slots = layout.prompt_splits + (layout.own_splits if layout.own_splits > 1 else 0)
    shape = (layout.rows, heads[0], slots)
    sums = torch.empty((*shape, size), dtype=torch.float32, device=qkv.device)
    tops = torch.empty(shape, dtype=torch.float32, device=qkv.device)
    found = (sums, tops, torch.empty_like(tops))
    _attend_prompts(qkv, keys, values, state, layout, heads, found)
    output = torch.empty((layout.rows, heads[0] * size), dtype=qkv.dtype, device=qkv.device)
    attention.own_part[(layout.rows, heads[1], layout.own_splits)](
        qkv,
        keys,
        values,
        state.lengths,
        state.pages,
        *found,
        output,
        size**-0.5 * math.log2(math.e),
        qkv.stride(0),
        keys.stride(0),
        state.pages.stride(0),
        slots,
        layout.own_splits,
        PROMPT_SPLITS=layout.prompt_splits,
        HEADS=heads[0],
        SHARE=heads[0] // heads[1],
        SIZE=size,
        PAGE=PAGE,
        BLOCK=max(16, triton.next_power_of_2(heads[0] // heads[1])),
        FINISH=layout.own_splits == 1,
        num_warps=2,
        num_stages=2,
    )
    if layout.own_splits > 1:
        block = triton.next_power_of_2(slots)
        attention.join[(layout.rows, heads[0])](
            *found, output, slots, HEADS=heads[0], SIZE=size, BLOCK=block, num_warps=2
        )
    return output


def _attend_prompts(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    state: DecodeState,
    layout: StepLayout,
    heads: tuple[int, int],
    found: tuple[Tensor, Tensor, Tensor],
) -> None:
    """The prompts' part of attention: weighted sums, their maxima and totals, into ``found``."""
    size = keys.shape[-1]
    attention.prompt_part[(layout.tiles, heads[1], layout.prompt_splits)](
        qkv,
        keys,
        values,
        state.tile_rows,
        state.tile_lengths,
        state.tile_pages,
        *found,
        size**-0.5 * math.log2(math.e),
        qkv.stride(0),
        keys.stride(0),
        state.tile_pages.stride(0),
        state.tile_rows.stride(0),
        found[1].shape[2],
        layout.prompt_splits,
        HEADS=heads[0],
        SHARE=heads[0] // heads[1],
        SIZE=size,
        PAGE=PAGE,
        ROWS=layout.block // (heads[0] // heads[1]),
        BLOCK=layout.block,
        num_warps=2 if layout.block == 16 else 4,
        num_stages=2,
    )


def gated(gate_and_up: Tensor) -> Tensor:
    """See the reference."""
    tokens, both = gate_and_up.shape
    output = gate_and_up.new_empty(tokens, both // 2)
    block = 1024
    pointwise.gated[(tokens, triton.cdiv(both // 2, block))](
        gate_and_up, output, gate_and_up.stride(0), SIZE=both // 2, BLOCK=block, num_warps=4
    )
    return output


def draw(logits: Tensor, state: DecodeState) -> None:
    """See the reference."""
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, VOCABULARY_BLOCK)
    tops = torch.empty((rows, blocks), dtype=torch.float32, device=logits.device)
    totals = torch.empty_like(tops)
    sampling.block_totals[(rows, blocks)](
        logits, state.temperature, tops, totals, vocabulary, blocks, BLOCK=VOCABULARY_BLOCK, num_warps=8
    )
    sampling.draw[(rows,)](
        logits,
        state.temperature,
        tops,
        totals,
        state.uniforms,
        state.forced,
        state.ends,
        state.step,
        state.tokens,
        state.logprobs,
        state.lengths,
        state.last,
        state.left,
        vocabulary,
        blocks,
        MAX_STEPS=MAX_STEPS,
        ENDS=len(state.ends),
        BLOCKS=triton.next_power_of_2(blocks),
        BLOCK=VOCABULARY_BLOCK,
        num_warps=8,
    )
    state.step.add_(1)
