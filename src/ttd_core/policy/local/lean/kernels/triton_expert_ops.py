"""Operations of mixtures as Triton kernels; :mod:`.reference_expert_ops` says what each computes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.kernels import arranged, fragments, grouped, routing, tiles
from ttd_core.policy.local.lean.kernels.reference_expert_ops import (
    ExpertWeights,
    Groups,
    LowRank,
    route_backward,
)

__all__ = [
    "adapter_grads",
    "clamped_swiglu",
    "clamped_swiglu_backward",
    "combine",
    "combine_backward",
    "product",
    "product_backward",
    "route",
    "route_backward",
]

#: Columns of an adapter's gradient, and of what is done number by number, that a program has.
_GRAD_BLOCK, _BLOCK = 128, 1024


def route(
    logits: Tensor, choices: int, normalised: bool, given: Tensor | None = None
) -> tuple[Tensor, Tensor, Groups]:
    """See :func:`.reference_expert_ops.route`."""
    tokens, count = logits.shape
    assignments, device = tokens * choices, logits.device
    rows = tiles.rows_of(triton.next_power_of_2(triton.cdiv(assignments, count)))
    # Every expert may have one tile that is not full.
    tile_count = assignments // rows + min(count, assignments)

    def integers(size: int) -> Tensor:
        return torch.empty(size, dtype=torch.int32, device=device)

    experts = integers(assignments).view(tokens, choices)
    shares = torch.empty((tokens, choices), dtype=torch.float32, device=device)
    counts = torch.zeros(count, dtype=torch.int32, device=device)
    numbers = integers(assignments)
    groups = Groups(
        choices=choices,
        order=integers(assignments),
        places=integers(assignments),
        offsets=integers(count + 1),
        tile_experts=integers(tile_count),
        tile_starts=integers(tile_count),
        tile_rows=rows,
    )
    block_experts = triton.next_power_of_2(count)
    routing.choose_experts[(tokens,)](
        logits,
        experts if given is None else given,
        experts,
        shares,
        counts,
        numbers,
        logits.stride(0),
        EXPERTS=count,
        CHOICES=choices,
        BLOCK_EXPERTS=block_experts,
        BLOCK_CHOICES=triton.next_power_of_2(choices),
        NORMALISED=normalised,
        GIVEN=given is not None,
        num_warps=1,
    )
    routing.plan_tiles[(triton.cdiv(tile_count, 64),)](
        counts,
        groups.offsets,
        groups.tile_experts,
        groups.tile_starts,
        tile_count,
        EXPERTS=count,
        BLOCK_EXPERTS=block_experts,
        ROWS=rows,
        BLOCK=64,
    )
    routing.place_assignments[(triton.cdiv(assignments, _BLOCK),)](
        experts, numbers, groups.offsets, groups.order, groups.places, assignments, BLOCK=_BLOCK
    )
    return experts, shares, groups


def product(
    x: Tensor, weights: ExpertWeights, groups: Groups, gathered: bool, added: LowRank | None = None
) -> Tensor:
    """See :func:`.reference_expert_ops.product`."""
    result = x.new_empty(len(groups.order), weights.outputs)
    choices = groups.choices if gathered else 0
    if weights.arranged and len(groups.order) >= tiles.DECODED_ROWS * len(weights.values):
        for first, numbers in _decoded(weights, groups, x.dtype):
            _launch(x, numbers, groups, result, tiles.PLAIN, choices, added=added, first=first)
        return result
    kind = tiles.PLAIN
    if weights.arranged:
        kind = (tiles.FRAGMENTS if weights.fragments else tiles.ARRANGED) + tiles.assembles(x.dtype)
    elif weights.scales is not None:
        # Triton's own decoding knows 16-bit partners only.
        kind = tiles.SCALED if x.dtype in (torch.bfloat16, torch.float16) else tiles.PACKED
    _launch(x, weights, groups, result, kind, choices, added=added)
    return result


def product_backward(
    grad: Tensor, weights: ExpertWeights, groups: Groups, added: LowRank | None = None
) -> Tensor:
    """See :func:`.reference_expert_ops.product_backward`."""
    result = grad.new_empty(len(grad), weights.inputs)
    if weights.arranged:
        for first, numbers in _decoded(weights, groups, grad.dtype):
            _launch(grad, numbers, groups, result, tiles.PLAIN, 0, True, added, first)
        return result
    kind = tiles.PLAIN if weights.scales is None else tiles.PACKED
    _launch(grad, weights, groups, result, kind, 0, True, added)
    return result


def _decoded(
    weights: ExpertWeights, groups: Groups, dtype: torch.dtype
) -> Iterator[tuple[int, ExpertWeights]]:
    """Arranged matrices as numbers: some experts at a time and the first one's index, in the same memory.

    Matrices of experts without assignments hold anything.
    """
    assert weights.scales is not None
    experts, inputs, outputs = len(weights.values), weights.inputs, weights.outputs
    device = weights.values.device
    count = min(experts, max(1, tiles.decoded_bytes(device) // (inputs * outputs * dtype.itemsize)))
    numbers = torch.empty(count, outputs, inputs, dtype=dtype, device=device)
    block_out, block_groups = tiles.DECODED_TILE
    blocks = triton.cdiv(inputs // 32, block_groups), triton.cdiv(outputs, block_out)
    for first in range(0, experts, count):
        some = numbers[: min(count, experts - first)]
        decode = fragments.decode_fragments if weights.fragments else arranged.decode_matrices
        decode[(*blocks, len(some))](
            weights.values,
            weights.scales,
            some,
            groups.offsets,
            first,
            inputs // 32,
            outputs,
            BLOCK_OUT=block_out,
            GROUPS=block_groups,
            ASSEMBLY=tiles.assembles(dtype),
            num_warps=4,
        )
        yield first, ExpertWeights(some, bias=weights.bias)


def adapter_grads(left: Tensor, right: Tensor, groups: Groups, gathered: bool) -> Tensor:
    """See :func:`.reference_expert_ops.adapter_grads`."""
    experts, rank, columns = len(groups.offsets) - 1, left.shape[1], right.shape[1]
    result = right.new_empty(experts, rank, columns)
    grouped.adapter_grads[(triton.cdiv(columns, _GRAD_BLOCK), experts)](
        left,
        right,
        result,
        groups.order,
        groups.offsets,
        right.stride(0),
        columns,
        CHOICES=groups.choices if gathered else 0,
        RANK=rank,
        BLOCK_RANK=_block(rank),
        ROWS=64,
        BLOCK=_GRAD_BLOCK,
        num_warps=4,
        num_stages=3,
    )
    return result


def _block(size: int) -> int:
    """The least block that a product of matrices takes and that holds ``size`` rows."""
    return max(16, int(triton.next_power_of_2(size)))


def _launch(
    x: Tensor,
    weights: ExpertWeights,
    groups: Groups,
    result: Tensor,
    kind: int,
    choices: int,
    backward: bool = False,
    added: LowRank | None = None,
    first: int = 0,
) -> None:
    """One grouped product.

    :param first: index of the first expert whose matrix is in ``weights``.
    """
    values, scales = weights.values, weights.scales
    # Of the matrices of numbers, by output and by input of this product; read of no others.
    strides = values.stride()[:0:-1] if backward else values.stride()[1:]
    bias = None if backward else weights.bias
    rows, outputs = groups.tile_rows, result.shape[1]
    up, hidden = (x, x) if added is None else added
    rank = 0 if added is None else hidden.shape[1]
    tile = tiles.tile_of(kind, rows, _block(outputs))
    # Blocks of outputs first: those that share a tile's inputs, and tiles of one expert, run side by side.
    grouped.product[(triton.cdiv(outputs, tile.outputs), len(groups.tile_experts))](
        x,
        values,
        values if scales is None else scales,
        x if bias is None else bias,
        result,
        groups.order,
        groups.offsets,
        groups.tile_experts,
        groups.tile_starts,
        x.stride(0),
        x.shape[1],
        outputs,
        values.stride(0),
        strides[0],
        strides[1],
        0 if scales is None else scales.stride(0),
        first,
        len(values),
        hidden,
        up,
        (0, 0, 0) if added is None else up.stride(),
        CHOICES=choices,
        KIND=kind,
        FORMAT="bf16" if x.dtype == torch.bfloat16 else "fp16",
        TRANSPOSED=backward,
        BIAS=bias is not None,
        RANK=rank,
        BLOCK_RANK=_block(rank),
        ROWS=rows,
        BLOCK_OUT=tile.outputs,
        BLOCK_IN=tile.inputs,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def clamped_swiglu(gate_and_up: Tensor, alpha: float, limit: float) -> Tensor:
    """See :func:`.reference_expert_ops.clamped_swiglu`."""
    rows, both = gate_and_up.shape
    result = gate_and_up.new_empty(rows, both // 2)
    grouped.clamped_swiglu[(rows, triton.cdiv(both // 2, _BLOCK))](
        gate_and_up, result, alpha, limit, SIZE=both // 2, BLOCK=_BLOCK
    )
    return result


def clamped_swiglu_backward(gate_and_up: Tensor, grad: Tensor, alpha: float, limit: float) -> Tensor:
    """See :func:`.reference_expert_ops.clamped_swiglu_backward`."""
    rows, both = gate_and_up.shape
    result = torch.empty_like(gate_and_up)
    grouped.clamped_swiglu_backward[(rows, triton.cdiv(both // 2, _BLOCK))](
        gate_and_up, grad, result, alpha, limit, SIZE=both // 2, BLOCK=_BLOCK
    )
    return result


def combine(parts: Tensor, shares: Tensor | None, groups: Groups) -> Tensor:
    """See :func:`.reference_expert_ops.combine`."""
    tokens, size = len(parts) // groups.choices, parts.shape[1]
    result = parts.new_empty(tokens, size)
    grouped.combine[(tokens, triton.cdiv(size, _BLOCK))](
        parts,
        parts if shares is None else shares,
        groups.places,
        result,
        SIZE=size,
        CHOICES=groups.choices,
        BLOCK=_BLOCK,
        WEIGHTED=shares is not None,
    )
    return result


def combine_backward(grad: Tensor, parts: Tensor, shares: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """See :func:`.reference_expert_ops.combine_backward`."""
    grad_parts, grad_shares = torch.empty_like(parts), torch.empty_like(shares)
    grouped.combine_backward[(len(parts),)](
        grad,
        parts,
        shares,
        groups.places,
        grad_parts,
        grad_shares,
        grad.stride(0),
        SIZE=parts.shape[1],
        CHOICES=groups.choices,
        BLOCK=_BLOCK,
    )
    return grad_parts, grad_shares
