"""Triton's side of arranged MXFP4 codes (:mod:`..mxfp4`): decoded for the matrix units, or to memory.

A code's bits are put where bfloat16 has sign, exponent and first bit of the fraction: that is the number
divided by 2**126, codes 0.5 and -0.5 among them, which are subnormal then. One multiplication by
2**(scale - 1) is exact. In other types the same bits are those of a float32.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import os

import triton
import triton.language as tl

#: Triton's interpreter, chosen by the same variable, has no assembly.
COMPILED = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")


@triton.jit
def half_bits(codes):
    """Both halves' numbers divided by 2**126, as bits of bfloat16 (int16), of bytes of two codes."""
    wide = codes.to(tl.int16)
    low = ((wide & 7) << 6) | ((wide & 8) << 12)
    high = ((wide & 0x70) << 2) | ((wide & 0x80) << 8)
    return low, high


@triton.jit
def half_bits_by_assembly(codes):
    """The same bits; four bytes at once, two numbers in every instruction, which the compiler does not do."""
    low, high = tl.inline_asm_elementwise(
        """{
        .reg .b32 first, second, exponent, sign;
        prmt.b32 first, $4, 0, 0x4140;
        prmt.b32 second, $4, 0, 0x4342;
        shl.b32 exponent, first, 6; and.b32 exponent, exponent, 0x01C001C0;
        shl.b32 sign, first, 12; and.b32 sign, sign, 0x80008000; or.b32 $0, exponent, sign;
        shl.b32 exponent, second, 6; and.b32 exponent, exponent, 0x01C001C0;
        shl.b32 sign, second, 12; and.b32 sign, sign, 0x80008000; or.b32 $1, exponent, sign;
        shl.b32 exponent, first, 2; and.b32 exponent, exponent, 0x01C001C0;
        shl.b32 sign, first, 8; and.b32 sign, sign, 0x80008000; or.b32 $2, exponent, sign;
        shl.b32 exponent, second, 2; and.b32 exponent, exponent, 0x01C001C0;
        shl.b32 sign, second, 8; and.b32 sign, sign, 0x80008000; or.b32 $3, exponent, sign;
        }""",
        "=r,=r,=r,=r,r",
        [codes],
        dtype=(tl.int16, tl.int16),
        is_pure=True,
        pack=4,
    )
    return low, high


@triton.jit
def times_factor(bits, factor_bits, DTYPE: tl.constexpr):
    """The product of two numbers given as bits of bfloat16, in a type."""
    if tl.bfloat16 == DTYPE:
        return bits.to(tl.bfloat16, bitcast=True) * factor_bits.to(tl.bfloat16, bitcast=True)
    number = (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    factor = (factor_bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return (number * factor).to(DTYPE)


@triton.jit
def complete(acc):
    """``acc``, when the matrix units are done with it, and with the factors that they read from registers.

    Triton lets a product run on while the next step's factors are written over its own where nothing but the
    next product reads its result (its issue 9433). This reads it, by no instruction.
    """
    if COMPILED:
        acc = tl.inline_asm_elementwise("// $0 $1", "=r,0", [acc], dtype=tl.float32, is_pure=True, pack=1)
    return acc


@triton.jit
def load_scales(scales, first, groups, output, outputs, GROUPS: tl.constexpr):
    """Scales of ``GROUPS`` groups of inputs from ``first`` on: [len(output), GROUPS]."""
    group = first + tl.arange(0, GROUPS)
    inside = (output < outputs)[:, None] & (group < groups)[None, :]
    return tl.load(scales + group[None, :] * outputs + output[:, None], mask=inside, other=1)


@triton.jit
def load_codes(values, first, groups, output, outputs, GROUPS: tl.constexpr):
    """Bytes of the same groups: [len(output), 16 * GROUPS]."""
    inner = tl.arange(0, 16 * GROUPS)
    group = first + inner // 16
    at = values + (group[None, :] * outputs + output[:, None]) * 16 + (inner % 16)[None, :]
    return tl.load(at, mask=(output < outputs)[:, None] & (group < groups)[None, :], other=0)


@triton.jit
def halves(
    codes,
    scale,
    GROUPS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    DTYPE: tl.constexpr,
    ASSEMBLY: tl.constexpr,
):
    """Numbers of what the two functions above read: of each group inputs 0 to 15, and inputs 16 to 31.

    Both are [BLOCK_OUT, 16 * GROUPS], and zeros beyond the last group or output.
    """
    # One scale was read for its sixteen bytes; it is spread in registers.
    wide = tl.broadcast_to(scale[:, :, None], [BLOCK_OUT, GROUPS, 16])
    factor = (tl.reshape(wide, [BLOCK_OUT, 16 * GROUPS]).to(tl.int16) + 126) << 7
    if ASSEMBLY:
        low, high = half_bits_by_assembly(codes)
    else:
        low, high = half_bits(codes)
    return times_factor(low, factor, DTYPE), times_factor(high, factor, DTYPE)


@triton.jit
def arranged_codes_times_inputs(
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
    ASSEMBLY: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """``acc`` plus a matrix of arranged codes times a tile's inputs."""
    GROUPS: tl.constexpr = BLOCK_IN // 32
    groups = inputs // 32
    inner = tl.arange(0, 16 * GROUPS)
    # Triton itself reads ahead codes and inputs, and no loads as small as those of scales.
    scale = load_scales(scales, 0, groups, output, outputs, GROUPS)
    for first in range(0, groups, GROUPS):
        scale_ahead = load_scales(scales, first + GROUPS, groups, output, outputs, GROUPS)
        codes = load_codes(values, first, groups, output, outputs, GROUPS)
        low, high = halves(codes, scale, GROUPS, BLOCK_OUT, x.dtype.element_ty, ASSEMBLY)
        group = first + inner // 16
        inside = used[:, None] & (group < groups)[None, :]
        at = x + row[:, None] * x_stride + (group * 32 + inner % 16)[None, :]
        acc = tl.dot(low, tl.trans(tl.load(at, mask=inside, other=0.0)), acc, input_precision="ieee")
        acc = tl.dot(high, tl.trans(tl.load(at + 16, mask=inside, other=0.0)), acc, input_precision="ieee")
        acc = complete(acc)
        scale = scale_ahead
    return acc


@triton.jit
def decode_matrices(
    values,
    scales,
    result,
    offsets,
    first_expert,
    groups,
    outputs,
    BLOCK_OUT: tl.constexpr,
    GROUPS: tl.constexpr,
    ASSEMBLY: tl.constexpr,
):
    """One program a block of an expert's matrix: its numbers, to ``result`` [experts, outputs, inputs].

    ``first_expert`` is the first one of ``result``. Experts without assignments are left out.
    """
    place = tl.program_id(2).to(tl.int64)
    expert = first_expert + place
    if tl.load(offsets + expert) == tl.load(offsets + expert + 1):
        return
    output = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    first = tl.program_id(0) * GROUPS
    matrix = groups * outputs
    codes = load_codes(values + expert * matrix * 16, first, groups, output, outputs, GROUPS)
    scale = load_scales(scales + expert * matrix, first, groups, output, outputs, GROUPS)
    low, high = halves(codes, scale, GROUPS, BLOCK_OUT, result.dtype.element_ty, ASSEMBLY)
    inner = tl.arange(0, 16 * GROUPS)
    group = first + inner // 16
    inside = (output < outputs)[:, None] & (group < groups)[None, :]
    at = result + place * matrix * 32 + output[:, None] * (groups * 32) + (group * 32 + inner % 16)[None, :]
    tl.store(at, low, mask=inside)
    tl.store(at + 16, high, mask=inside)
