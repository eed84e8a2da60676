"""Operations of mixtures as Triton kernels; :mod:`.reference_expert_ops` says what each computes."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from ttd_core.policy.local.lean.kernels import grouped, routing
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

#: Assignments of a tile: a power of two between these, near what an expert has on average.
LEAST_ROWS, MOST_ROWS = 16, 128
#: Outputs and inputs of a matrix that a program multiplies at once.
BLOCK_OUT, BLOCK_IN = 128, 64
_BLOCK = 1024


def route(
    logits: Tensor, choices: int, normalised: bool, given: Tensor | None = None
) -> tuple[Tensor, Tensor, Groups]:
    """See :func:`.reference_expert_ops.route`."""
    tokens, count = logits.shape
    assignments, device = tokens * choices, logits.device
    rows = min(MOST_ROWS, triton.next_power_of_2(triton.cdiv(assignments, count)))
    # With few, reading weights is what takes time: nearly every expert then has one tile.
    rows = max(LEAST_ROWS, 2 * rows if rows < 64 else rows)
    # Every expert may have one tile that is not full.
    tiles = assignments // rows + min(count, assignments)

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
        tile_experts=integers(tiles),
        tile_starts=integers(tiles),
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
    routing.plan_tiles[(triton.cdiv(tiles, 64),)](
        counts,
        groups.offsets,
        groups.tile_experts,
        groups.tile_starts,
        tiles,
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
    _, output_stride, input_stride = weights.values.stride()
    kind = grouped.PLAIN
    if weights.scales is not None:
        # Triton's own decoding knows 16-bit partners only.
        kind = grouped.SCALED if x.dtype in (torch.bfloat16, torch.float16) else grouped.PACKED
    strides = (output_stride, input_stride)
    _launch(x, weights, groups, result, strides, kind, groups.choices if gathered else 0, False, added)
    return result


def product_backward(
    grad: Tensor, weights: ExpertWeights, groups: Groups, added: LowRank | None = None
) -> Tensor:
    """See :func:`.reference_expert_ops.product_backward`."""
    result = grad.new_empty(len(grad), weights.inputs)
    _, output_stride, input_stride = weights.values.stride()
    kind = grouped.PLAIN if weights.scales is None else grouped.PACKED
    _launch(grad, weights, groups, result, (input_stride, output_stride), kind, 0, True, added)
    return result


def adapter_grads(left: Tensor, right: Tensor, groups: Groups, gathered: bool) -> Tensor:
    """See :func:`.reference_expert_ops.adapter_grads`."""
    experts, rank, columns = len(groups.offsets) - 1, left.shape[1], right.shape[1]
    result = right.new_empty(experts, rank, columns)
    grouped.adapter_grads[(triton.cdiv(columns, BLOCK_OUT), experts)](
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
        BLOCK=BLOCK_OUT,
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
    strides: tuple[int, int],
    kind: int,
    choices: int,
    backward: bool,
    added: LowRank | None,
) -> None:
    """One grouped product.

    :param strides: of the matrices of numbers, by output and by input of this product.
    """
    values, scales = weights.values, weights.scales
    bias = None if backward else weights.bias
    rows, outputs = groups.tile_rows, result.shape[1]
    up, hidden = (x, x) if added is None else added
    rank = 0 if added is None else hidden.shape[1]
    block_out = min(BLOCK_OUT, _block(outputs))
    # An adapter's first product has few outputs, so few programs: they take larger steps.
    block_in = 2 * BLOCK_IN if block_out <= BLOCK_OUT // 4 and rows < MOST_ROWS else BLOCK_IN
    # Blocks of outputs first: those that share a tile's inputs, and tiles of one expert, run side by side.
    grouped.product[(triton.cdiv(outputs, block_out), len(groups.tile_experts))](
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
        BLOCK_OUT=block_out,
        BLOCK_IN=block_in,
        num_warps=8 if rows >= 64 and block_out == BLOCK_OUT else 4,
        num_stages=4 if kind == grouped.SCALED else 3,
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
