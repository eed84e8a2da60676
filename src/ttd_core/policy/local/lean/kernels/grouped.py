"""Triton kernels of the products of experts, and of what lies around them. See :mod:`.triton_expert_ops`.

A tile is some assignments of one expert; tiles of different experts run side by side, and none is longer
than what its expert has. The expert's matrix is the left factor: with few tokens an expert the matrix units
are then full of weights, not of padding. MXFP4 codes become numbers in registers, on their way to the units.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from ttd_core.policy.local.lean.kernels.arranged import arranged_codes_times_inputs
from ttd_core.policy.local.lean.kernels.fragments import fragments_times_inputs


@triton.jit
def decode_codes(code, scale):
    """float32 values of E2M1 codes (int32, 0 to 15) times the powers of two of E8M0 scales (int32)."""
    magnitude = code & 7
    # With an exponent of 126 added, codes from 2 on are the number; 0 and 1 would be 0.5 and 0.75.
    value = ((magnitude << 22) + (126 << 23)).to(tl.float32, bitcast=True)
    value = tl.where(magnitude < 2, value * 2.0 - 1.0, value)
    value = tl.where(code >= 8, -value, value)
    # 2**-127 has no exponent bits of its own.
    bits = tl.where(scale == 0, 1 << 22, scale << 23)
    return value * bits.to(tl.float32, bitcast=True)


@triton.jit
def load_pairs(codes, row, block, rows, columns, COUNT: tl.constexpr):
    """A packed matrix [rows, columns] from column ``block * COUNT`` on: bytes [len(row), COUNT / 2]."""
    byte = block * (COUNT // 2) + tl.arange(0, COUNT // 2)
    inside = (row < rows)[:, None] & (byte < columns // 2)[None, :]
    return tl.load(codes + row[:, None] * (columns // 2) + byte[None, :], mask=inside, other=0)


@triton.jit
def load_exponents(scales, row, block, rows, columns, COUNT: tl.constexpr):
    """The scales of what :func:`load_pairs` reads: [len(row), COUNT / 32] bytes."""
    group = block * (COUNT // 32) + tl.arange(0, COUNT // 32)
    inside = (row < rows)[:, None] & (group < columns // 32)[None, :]
    return tl.load(scales + row[:, None] * (columns // 32) + group[None, :], mask=inside, other=0)


@triton.jit
def decode(pairs, exponents, ROWS: tl.constexpr, COUNT: tl.constexpr):
    """float32 [ROWS, COUNT] of what :func:`load_pairs` and :func:`load_exponents` read."""
    wide = tl.broadcast_to(exponents.to(tl.int32)[:, :, None], [ROWS, COUNT // 32, 16])
    scale, pair = tl.reshape(wide, [ROWS, COUNT // 2]), pairs.to(tl.int32)
    return tl.interleave(decode_codes(pair & 15, scale), decode_codes(pair >> 4, scale))


@triton.jit
def load_inputs(x, row, used, stride, block, inputs, COUNT: tl.constexpr):
    """Inputs of a tile's rows, from ``block * COUNT`` on: [len(row), COUNT], and zeros behind the last."""
    inner = block * COUNT + tl.arange(0, COUNT)
    mask = used[:, None] & (inner < inputs)[None, :]
    return tl.load(x + row[:, None] * stride + inner[None, :], mask=mask, other=0.0)


@triton.jit
def numbers_times_inputs(
    acc,
    values,
    output_stride,
    input_stride,
    output,
    outputs,
    x,
    row,
    used,
    x_stride,
    inputs,
    BLOCK_IN: tl.constexpr,
):
    """``acc`` plus a matrix of numbers times a tile's inputs."""
    for block in range(0, tl.cdiv(inputs, BLOCK_IN)):
        columns = tl.trans(load_inputs(x, row, used, x_stride, block, inputs, BLOCK_IN))
        column = block * BLOCK_IN + tl.arange(0, BLOCK_IN)
        at = values + output[:, None] * output_stride + column[None, :] * input_stride
        inside = (output < outputs)[:, None] & (column < inputs)[None, :]
        acc = tl.dot(tl.load(at, mask=inside, other=0.0), columns, acc, input_precision="ieee")
    return acc


@triton.jit
def codes_times_inputs(
    acc,
    values,
    scales,
    output,
    outputs,
    x,
    row,
    used,
    x_stride,
    inputs,
    SCALED: tl.constexpr,
    FORMAT: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """``acc`` plus a packed matrix times a tile's inputs."""
    # Triton itself reads ahead only the codes; scales and inputs are read a block ahead here.
    exponents = load_exponents(scales, output, 0, outputs, inputs, BLOCK_IN)
    columns = load_inputs(x, row, used, x_stride, 0, inputs, BLOCK_IN)
    for block in range(0, tl.cdiv(inputs, BLOCK_IN)):
        exponents_ahead = load_exponents(scales, output, block + 1, outputs, inputs, BLOCK_IN)
        columns_ahead = load_inputs(x, row, used, x_stride, block + 1, inputs, BLOCK_IN)
        pairs = load_pairs(values, output, block, outputs, inputs, BLOCK_IN)
        right = tl.trans(columns)
        if SCALED:
            # Fast: scales that stand for no number are refused when a model is read.
            acc = tl.dot_scaled(pairs, exponents, "e2m1", right, None, FORMAT, acc, fast_math=True)
        else:
            matrix = decode(pairs, exponents, BLOCK_OUT, BLOCK_IN).to(right.dtype)
            acc = tl.dot(matrix, right, acc, input_precision="ieee")
        exponents, columns = exponents_ahead, columns_ahead
    return acc


@triton.jit
def transposed_codes_times_inputs(
    acc,
    values,
    scales,
    out_block,
    outputs,
    x,
    row,
    used,
    x_stride,
    inputs,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """``acc`` plus a matrix that is packed as [inputs, outputs], as the backward pass meets it."""
    inner = tl.arange(0, BLOCK_IN)
    exponents = load_exponents(scales, inner, out_block, inputs, outputs, BLOCK_OUT)
    for block in range(0, tl.cdiv(inputs, BLOCK_IN)):
        ahead = load_exponents(scales, (block + 1) * BLOCK_IN + inner, out_block, inputs, outputs, BLOCK_OUT)
        columns = tl.trans(load_inputs(x, row, used, x_stride, block, inputs, BLOCK_IN))
        pairs = load_pairs(values, block * BLOCK_IN + inner, out_block, inputs, outputs, BLOCK_OUT)
        matrix = tl.trans(decode(pairs, exponents, BLOCK_IN, BLOCK_OUT)).to(columns.dtype)
        acc = tl.dot(matrix, columns, acc, input_precision="ieee")
        exponents = ahead
    return acc


@triton.jit
def add_adapter(
    acc,
    up,
    expert,
    strides,
    output,
    outputs,
    hidden,
    place,
    used,
    RANK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
):
    """``acc`` plus an adapter's second matrix times what its first one made of a tile's inputs."""
    rank = tl.arange(0, BLOCK_RANK)
    at = up + expert * strides[0] + output[:, None] * strides[1] + rank[None, :] * strides[2]
    matrix = tl.load(at, mask=(output < outputs)[:, None] & (rank < RANK)[None, :], other=0.0)
    columns = tl.trans(load_inputs(hidden, place.to(tl.int64), used, RANK, 0, RANK, BLOCK_RANK))
    return tl.dot(matrix, columns, acc, input_precision="ieee")


@triton.jit
def rows_of_tile(tile, expert, order, offsets, tile_starts, CHOICES: tl.constexpr, ROWS: tl.constexpr):
    """Places of a tile's assignments, which of them there are, and the rows of their inputs."""
    place = tl.load(tile_starts + tile) + tl.arange(0, ROWS)
    used = place < tl.load(offsets + expert + 1)
    row = place.to(tl.int64)
    if CHOICES > 0:
        row = (tl.load(order + place, mask=used, other=0) // CHOICES).to(tl.int64)
    return place, used, row


@triton.jit
def store_sums(result, acc, bias, expert, place, used, output, outputs, BIAS: tl.constexpr):
    """Write sums [len(output), len(place)], plus a bias if there is one, to ``result`` [places, outputs]."""
    if BIAS:
        biases = tl.load(bias + expert * outputs + output, mask=output < outputs, other=0.0)
        acc += biases.to(tl.float32)[:, None]
    at = result + place.to(tl.int64)[None, :] * outputs + output[:, None]
    tl.store(at, acc.to(result.dtype.element_ty), mask=(output < outputs)[:, None] & used[None, :])


@triton.jit
def product(
    x,
    values,
    scales,
    bias,
    result,
    order,
    offsets,
    tile_experts,
    tile_starts,
    x_stride,
    inputs,
    outputs,
    expert_stride,
    output_stride,
    input_stride,
    scale_stride,
    first_expert,
    experts,
    hidden,
    up,
    up_strides,
    CHOICES: tl.constexpr,
    KIND: tl.constexpr,
    FORMAT: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BIAS: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """One program a tile and block of outputs: the matrix times the tile's inputs.

    ``first_expert`` and ``experts``: those whose matrices are there; tiles of others are left out.
    ``KIND``: see :mod:`.tiles`.
    ``CHOICES``: of a token, whose input its assignments share; 0 where each assignment has its own.
    ``TRANSPOSED``: a packed matrix lies as [inputs, outputs], as the backward pass meets it.
    ``RANK``: of the adapter, 0 without one. Its second matrix ``up``, with strides by expert, output and
    rank, times ``hidden`` [assignments, RANK], what the first one made of the inputs, is added.
    """
    out_block, tile = tl.program_id(0), tl.program_id(1)
    expert = tl.load(tile_experts + tile).to(tl.int64)
    # A tile without an expert has -1.
    if (expert < first_expert) | (expert >= first_expert + experts):
        return
    place, used, row = rows_of_tile(tile, expert, order, offsets, tile_starts, CHOICES, ROWS)
    output = out_block * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    values += (expert - first_expert) * expert_stride
    scales += (expert - first_expert) * scale_stride
    acc = tl.zeros([BLOCK_OUT, ROWS], tl.float32)
    right, codes = (x, row, used, x_stride, inputs), (acc, values, scales)
    if KIND == 0:
        matrix = (values, output_stride, input_stride)
        acc = numbers_times_inputs(acc, *matrix, output, outputs, *right, BLOCK_IN)
    elif KIND >= 5:
        acc = fragments_times_inputs(*codes, out_block, outputs, *right, KIND == 6, BLOCK_OUT, BLOCK_IN)
    elif KIND >= 3:
        acc = arranged_codes_times_inputs(*codes, output, outputs, *right, KIND == 4, BLOCK_OUT, BLOCK_IN)
    elif TRANSPOSED:
        acc = transposed_codes_times_inputs(*codes, out_block, outputs, *right, BLOCK_OUT, BLOCK_IN)
    else:
        acc = codes_times_inputs(*codes, output, outputs, *right, KIND == 2, FORMAT, BLOCK_OUT, BLOCK_IN)
    if RANK > 0:
        acc = add_adapter(acc, up, expert, up_strides, output, outputs, hidden, place, used, RANK, BLOCK_RANK)
    store_sums(result, acc, bias, expert, place, used, output, outputs, BIAS)


@triton.jit
def adapter_grads(
    left,
    right,
    result,
    order,
    offsets,
    right_stride,
    columns,
    CHOICES: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program an expert and block of columns: the sum of left times right over its assignments."""
    expert = tl.program_id(1).to(tl.int64)
    rank = tl.arange(0, BLOCK_RANK)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first, last = tl.load(offsets + expert), tl.load(offsets + expert + 1)
    acc = tl.zeros([BLOCK_RANK, BLOCK], tl.float32)
    for start in range(first, last, ROWS):
        place = start + tl.arange(0, ROWS)
        used = place < last
        row = place.to(tl.int64)
        inner = load_inputs(left, row, used, RANK, 0, RANK, BLOCK_RANK)
        if CHOICES > 0:
            row = (tl.load(order + place, mask=used, other=0) // CHOICES).to(tl.int64)
        outer = load_inputs(right, row, used, right_stride, tl.program_id(0), columns, BLOCK)
        acc = tl.dot(tl.trans(inner), outer, acc, input_precision="ieee")
    at = result + (expert * RANK + rank)[:, None] * columns + column[None, :]
    inside = (rank < RANK)[:, None] & (column < columns)[None, :]
    tl.store(at, acc.to(result.dtype.element_ty), mask=inside)


@triton.jit
def combine(
    parts,
    shares,
    places,
    result,
    SIZE: tl.constexpr,
    CHOICES: tl.constexpr,
    BLOCK: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """One program a token and block of columns: the weighted sum over its assignments."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < SIZE
    total = tl.zeros([BLOCK], tl.float32)
    for choice in tl.static_range(CHOICES):
        place = tl.load(places + token * CHOICES + choice).to(tl.int64)
        part = tl.load(parts + place * SIZE + column, mask=inside, other=0.0).to(tl.float32)
        if WEIGHTED:
            part *= tl.load(shares + token * CHOICES + choice)
        total += part
    tl.store(result + token * SIZE + column, total.to(result.dtype.element_ty), mask=inside)


@triton.jit
def combine_backward(
    grad,
    parts,
    shares,
    places,
    grad_parts,
    grad_shares,
    grad_stride,
    SIZE: tl.constexpr,
    CHOICES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program an assignment: the gradient of its part, and of its share."""
    assignment = tl.program_id(0).to(tl.int64)
    token = assignment // CHOICES
    place = tl.load(places + assignment).to(tl.int64)
    share = tl.load(shares + assignment)
    column = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, SIZE, BLOCK):
        inside = first + column < SIZE
        upstream = tl.load(grad + token * grad_stride + first + column, mask=inside, other=0.0)
        upstream = upstream.to(tl.float32)
        at = place * SIZE + first + column
        total += upstream * tl.load(parts + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad_parts + at, (upstream * share).to(grad_parts.dtype.element_ty), mask=inside)
    tl.store(grad_shares + assignment, tl.sum(total, 0))


@triton.jit
def clamped_swiglu(gate_and_up, result, alpha, limit, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One program a row and block of columns."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < SIZE
    at = gate_and_up + row * 2 * SIZE + 2 * column
    gate = tl.minimum(tl.load(at, mask=inside, other=0.0).to(tl.float32), limit)
    up = tl.load(at + 1, mask=inside, other=0.0).to(tl.float32)
    up = tl.minimum(tl.maximum(up, -limit), limit)
    value = (up + 1.0) * gate / (1.0 + tl.exp(-alpha * gate))
    tl.store(result + row * SIZE + column, value.to(result.dtype.element_ty), mask=inside)


@triton.jit
def clamped_swiglu_backward(
    gate_and_up, grad_result, grad, alpha, limit, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    """One program a row and block of columns: the gradient of gate and up; zero where they were clamped."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < SIZE
    offset = row * 2 * SIZE + 2 * column
    raw_gate = tl.load(gate_and_up + offset, mask=inside, other=0.0).to(tl.float32)
    raw_up = tl.load(gate_and_up + offset + 1, mask=inside, other=0.0).to(tl.float32)
    gate, up = tl.minimum(raw_gate, limit), tl.minimum(tl.maximum(raw_up, -limit), limit)
    upstream = tl.load(grad_result + row * SIZE + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-alpha * gate))
    grad_gate = upstream * (up + 1.0) * sigmoid * (1.0 + alpha * gate * (1.0 - sigmoid))
    grad_up = upstream * gate * sigmoid
    grad_gate = tl.where(raw_gate > limit, 0.0, grad_gate)
    grad_up = tl.where((raw_up > limit) | (raw_up < -limit), 0.0, grad_up)
    tl.store(grad + offset, grad_gate.to(grad.dtype.element_ty), mask=inside)
    tl.store(grad + offset + 1, grad_up.to(grad.dtype.element_ty), mask=inside)
