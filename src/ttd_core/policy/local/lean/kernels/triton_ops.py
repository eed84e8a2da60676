"""Decoding's operations as Triton kernels; :mod:`.reference_ops` says what each computes.

Attention reads keys and values page by page with a running softmax. The rows of a group read their prompt
together: one program holds the queries of many rows as one matrix, so the prompt's keys leave memory once a
tile instead of once a row. Each row's attention to its own tokens is then combined with the prompt's parts.
"""

from __future__ import annotations

import math

import attrs
import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.decode_state import DecodeState, StepLayout
from ttd_core.policy.local.lean.kernels import adapted, attention, pointwise, sampling
from ttd_core.policy.local.lean.paging import MAX_STEPS, PAGE
from ttd_core.policy.local.lean.projection import PartialProduct

#: Vocabulary entries that one program of the first sampling pass reads.
VOCABULARY_BLOCK = 4096
#: Warps, and stages of loading, of a program of attention to own tokens.
OWN_WARPS, OWN_STAGES = 2, 3
#: Smallest head whose halves fit a matrix product.
_LEAST_HEAD = 32
#: Longest window, in tokens, whose keys are not divided among several programs.
UNDIVIDED = 8 * PAGE


def add_norm(residual: Tensor, update: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See :func:`.reference_ops.add_norm`."""
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
    """See :func:`.reference_ops.rotate_and_store`."""
    tokens, head_size = cos.shape
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
        HALF=head_size // 2,
        PAGE=PAGE,
        NORM=norms is not None,
        num_warps=4,
    )


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
    """See :func:`.reference_ops.adapted_rotate_and_store`."""
    tokens, head_size = cos.shape
    if not product.ranks or head_size < _LEAST_HEAD:
        qkv = product.complete()
        rotate_and_store(qkv, cos, sin, norms, eps, keys, values, slots, heads)
        return qkv
    query_weight, key_weight = norms if norms is not None else (product.both, product.both)
    block = _tokens_a_program(tokens)
    adapted.rotate_and_store[(triton.cdiv(tokens, block), heads[0] + 2 * heads[1])](
        product.both,
        product.lora_b,
        cos,
        sin,
        query_weight,
        key_weight,
        keys,
        values,
        slots,
        eps,
        tokens,
        product.both.stride(0),
        product.lora_b.stride(0),
        keys.stride(0),
        *product.ranks,
        HEADS=heads[0],
        KV_HEADS=heads[1],
        HALF=head_size // 2,
        PAGE=PAGE,
        NORM=norms is not None,
        TOKENS=block,
        K=_block_of_ranks(product),
        num_warps=4,
    )
    return product.result


def adapted_swiglu(product: PartialProduct) -> Tensor:
    """See :func:`.reference_ops.adapted_swiglu`."""
    if not product.ranks:
        return swiglu(product.result)
    tokens, size = len(product.both), product.lora_b.shape[1] // 2
    output = product.both.new_empty(tokens, size)
    block, columns = _tokens_a_program(tokens), 128
    adapted.swiglu[(triton.cdiv(tokens, block), triton.cdiv(size, columns))](
        product.both,
        product.lora_b,
        output,
        tokens,
        product.both.stride(0),
        product.lora_b.stride(0),
        *product.ranks,
        SIZE=size,
        TOKENS=block,
        BLOCK=columns,
        K=_block_of_ranks(product),
        num_warps=4,
    )
    return output


def _tokens_a_program(tokens: int) -> int:
    """Few, while programs are too few to keep the device busy: each reads its part of the adapter again."""
    return 16 if tokens <= 128 else 32


def _block_of_ranks(product: PartialProduct) -> int:
    """A power of two that holds each adapter's rank; a matrix product takes at least 16."""
    return max(16, 1 << (max(product.ranks) - 1).bit_length())


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
    """See :func:`.reference_ops.attend`."""
    head_size = keys.shape[-1]
    if 0 < window <= UNDIVIDED:
        layout = attrs.evolve(layout, prompt_splits=1, own_splits=1)
    # Parts of each softmax that pass through memory; own keys in one split are added as they are read.
    parts = layout.prompt_splits + (layout.own_splits if layout.own_splits > 1 else 0)
    shape = (layout.rows, heads[0], parts)
    acc = torch.empty((*shape, head_size), dtype=torch.float32, device=qkv.device)
    peaks = torch.empty(shape, dtype=torch.float32, device=qkv.device)
    softmax_parts = (acc, peaks, torch.empty_like(peaks))
    _attend_prompts(qkv, keys, values, state, layout, heads, softmax_parts, window)
    output = torch.empty((layout.rows, heads[0] * head_size), dtype=qkv.dtype, device=qkv.device)
    attention.attend_own[(layout.rows, heads[1], layout.own_splits)](
        qkv,
        keys,
        values,
        state.own_lengths,
        state.page_table,
        *softmax_parts,
        qkv if sinks is None else sinks,
        output,
        head_size**-0.5 * math.log2(math.e),
        qkv.stride(0),
        keys.stride(0),
        state.page_table.stride(0),
        parts,
        layout.own_splits,
        PROMPT_SPLITS=layout.prompt_splits,
        HEADS=heads[0],
        HEADS_PER_KV=heads[0] // heads[1],
        SIZE=head_size,
        PAGE=PAGE,
        BLOCK=max(16, triton.next_power_of_2(heads[0] // heads[1])),
        FINISH=layout.own_splits == 1,
        WINDOW=window,
        SINKS=sinks is not None,
        num_warps=OWN_WARPS,
        num_stages=OWN_STAGES,
    )
    if layout.own_splits > 1:
        block = triton.next_power_of_2(parts)
        attention.combine_parts[(layout.rows, heads[0])](
            *softmax_parts,
            qkv if sinks is None else sinks,
            output,
            parts,
            HEADS=heads[0],
            SIZE=head_size,
            BLOCK=block,
            SINKS=sinks is not None,
            num_warps=2,
        )
    return output


def _attend_prompts(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    state: DecodeState,
    layout: StepLayout,
    heads: tuple[int, int],
    softmax_parts: tuple[Tensor, Tensor, Tensor],
    window: int,
) -> None:
    """Attention to the prompts, into ``softmax_parts``: weighted sums, their peaks and totals."""
    head_size = keys.shape[-1]
    attention.attend_prompts[(layout.tiles, heads[1], layout.prompt_splits)](
        qkv,
        keys,
        values,
        state.own_lengths,
        state.tile_rows,
        state.tile_lengths,
        state.tile_page_table,
        *softmax_parts,
        head_size**-0.5 * math.log2(math.e),
        qkv.stride(0),
        keys.stride(0),
        state.tile_page_table.stride(0),
        state.tile_rows.stride(0),
        softmax_parts[1].shape[2],
        layout.prompt_splits,
        HEADS=heads[0],
        HEADS_PER_KV=heads[0] // heads[1],
        SIZE=head_size,
        PAGE=PAGE,
        ROWS=layout.tile_queries // (heads[0] // heads[1]),
        BLOCK=layout.tile_queries,
        WINDOW=window,
        num_warps=2 if layout.tile_queries == 16 else 4,
        num_stages=2,
    )


def swiglu(gate_and_up: Tensor) -> Tensor:
    """See :func:`.reference_ops.swiglu`."""
    tokens, both = gate_and_up.shape
    output = gate_and_up.new_empty(tokens, both // 2)
    block = 1024
    pointwise.swiglu[(tokens, triton.cdiv(both // 2, block))](
        gate_and_up, output, gate_and_up.stride(0), SIZE=both // 2, BLOCK=block, num_warps=4
    )
    return output


def sample(logits: Tensor, state: DecodeState) -> None:
    """See :func:`.reference_ops.sample`."""
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, VOCABULARY_BLOCK)
    peaks, totals = block_totals(logits, state.temperature)
    sampling.sample[(rows,)](
        logits,
        state.temperature,
        peaks,
        totals,
        state.uniforms,
        state.forced_tokens,
        state.end_tokens,
        state.step,
        state.new_tokens,
        state.new_logprobs,
        state.own_lengths,
        state.next_input,
        state.remaining,
        vocabulary,
        blocks,
        MAX_STEPS=MAX_STEPS,
        END_TOKENS=len(state.end_tokens),
        BLOCKS=triton.next_power_of_2(blocks),
        BLOCK=VOCABULARY_BLOCK,
        num_warps=8,
    )
    state.step.add_(1)


def block_totals(logits: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """The largest logit of each block of the vocabulary, and the sum of exponentials over it.

    :param logits: [rows, vocabulary].
    :param temperature: float32 [1].
    :return: float32 [rows, blocks] each.
    """
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, VOCABULARY_BLOCK)
    peaks = torch.empty((rows, blocks), dtype=torch.float32, device=logits.device)
    totals = torch.empty_like(peaks)
    sampling.block_totals[(rows, blocks)](
        logits, temperature, peaks, totals, vocabulary, blocks, BLOCK=VOCABULARY_BLOCK, num_warps=8
    )
    return peaks, totals
