"""Triton's side of MXFP4 codes in fragments (:mod:`..mxfp4`): from memory straight to the matrix units.

What a thread loads are the codes that it must hand to the matrix units: nothing goes through shared memory
and nothing changes threads, as it does where rows lie one after another. A word becomes four pairs of
bfloat16 by 11 operations and 4 multiplications. Codes and scales are read a step ahead into registers by
hand, since Triton reads ahead only what passes through shared memory.
"""

# Triton reads a kernel's parameters from the launch, so they carry no types here.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from ttd_core.policy.local.lean.kernels.arranged import complete, times_factor


@triton.jit
def half_number(words, factor, PLACE: tl.constexpr, HALF: tl.constexpr, DTYPE: tl.constexpr):
    """The numbers at one of the four places of one half of each word, times their factors."""
    half = words >> 16 * HALF
    if PLACE < 3:  # noqa: SIM108 - a condition of Triton's compiler
        bits = (half << 3 * PLACE) & 0x81C0
    else:
        bits = ((half << 1) & 0x8000) | ((half >> 3) & 0x0180) | ((half >> 7) & 0x0040)
    return times_factor(bits.to(tl.int16), factor.to(tl.int16), DTYPE)


@triton.jit
def numbers_by_assembly(words, factor):
    """The same of all places and halves, in bfloat16: halves of the first place, of the second, and so on."""
    return tl.inline_asm_elementwise(
        """{
        .reg .b32 pair, part;
        and.b32 pair, $8, 0x81C081C0;
        mul.bf16x2 pair, pair, $9; mov.b32 {$0, $1}, pair;
        shl.b32 pair, $8, 3; and.b32 pair, pair, 0x81C081C0;
        mul.bf16x2 pair, pair, $9; mov.b32 {$2, $3}, pair;
        shl.b32 pair, $8, 6; and.b32 pair, pair, 0x81C081C0;
        mul.bf16x2 pair, pair, $9; mov.b32 {$4, $5}, pair;
        shl.b32 pair, $8, 1; and.b32 pair, pair, 0x80008000;
        shr.b32 part, $8, 3; and.b32 part, part, 0x01800180; or.b32 pair, pair, part;
        shr.b32 part, $8, 7; and.b32 part, part, 0x00400040; or.b32 pair, pair, part;
        mul.bf16x2 pair, pair, $9; mov.b32 {$6, $7}, pair;
        }""",
        "=h,=h,=h,=h,=h,=h,=h,=h,r,r",
        [words, factor],
        dtype=(tl.bfloat16,) * 8,
        is_pure=True,
        pack=1,
    )


@triton.jit
def matrix_of(
    words, scales, STEPS: tl.constexpr, BLOCK_OUT: tl.constexpr, DTYPE: tl.constexpr, ASSEMBLY: tl.constexpr
):
    """Numbers [BLOCK_OUT, 64 * STEPS] of the words of fragments, by step, strip of 16 outputs and thread.

    :param words: int32 [STEPS * BLOCK_OUT * 8].
    :param scales: int32 [STEPS * BLOCK_OUT * 2], four bytes for each four words.
    """
    COUNT: tl.constexpr = STEPS * BLOCK_OUT * 8
    wide = tl.reshape(tl.broadcast_to(scales[:, None], [COUNT // 4, 4]), [COUNT])
    # 2**(scale - 1) as a bfloat16, twice.
    factor = (((wide >> (tl.arange(0, COUNT) % 4 * 8)) & 255) + 126) * 0x00800080
    if ASSEMBLY:
        a, b, c, d, e, f, g, h = numbers_by_assembly(words, factor)
    else:
        a = half_number(words, factor, 0, 0, DTYPE)
        b = half_number(words, factor, 0, 1, DTYPE)
        c = half_number(words, factor, 1, 0, DTYPE)
        d = half_number(words, factor, 1, 1, DTYPE)
        e = half_number(words, factor, 2, 0, DTYPE)
        f = half_number(words, factor, 2, 1, DTYPE)
        g = half_number(words, factor, 3, 0, DTYPE)
        h = half_number(words, factor, 3, 1, DTYPE)
    first, second = tl.join(tl.join(a, b), tl.join(c, d)), tl.join(tl.join(e, f), tl.join(g, h))
    # Step, strip, g, t, group, half of the outputs; then the half word and the two bits of its place.
    parts = tl.reshape(tl.join(first, second), [STEPS, BLOCK_OUT // 16, 8, 4, 2, 2, 2, 2, 2])
    return tl.reshape(tl.permute(parts, 1, 5, 2, 0, 4, 8, 7, 3, 6), [BLOCK_OUT, 64 * STEPS])


@triton.jit
def load_words(
    start,
    first,
    blocks,
    strips,
    strip,
    STEPS: tl.constexpr,
    STRIPS: tl.constexpr,
    EACH: tl.constexpr,
):
    """Words of so many blocks of 64 inputs from ``first`` on, and strips of 16 outputs from ``strip`` on.

    ``EACH``: of a thread and strip; 4 are its codes, 1 is that of their scales, which four threads share.
    Behind the last block or strip there is the last one again.
    """
    word = tl.arange(0, STEPS * STRIPS * 32 * EACH)
    thread = word // EACH % 32
    fragment = tl.minimum(strip + word // (32 * EACH) % STRIPS, strips - 1)
    block = first if STEPS == 1 else first + word // (32 * EACH * STRIPS)
    fragment += tl.minimum(block, blocks - 1) * strips
    if EACH == 1:
        return tl.load(start + fragment * 8 + thread // 4)
    at = fragment * 128 + thread * EACH + word % EACH
    return tl.load(start + tl.max_contiguous(tl.multiple_of(at, EACH), EACH))


@triton.jit
def fragments_times_inputs(
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
    ASSEMBLY: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """``acc`` plus a matrix of codes in fragments times a tile's inputs."""
    STEPS: tl.constexpr = BLOCK_IN // 64
    STRIPS: tl.constexpr = BLOCK_OUT // 16
    values, scales = values.to(tl.pointer_type(tl.int32)), scales.to(tl.pointer_type(tl.int32))
    blocks, strips, strip = inputs // 64, outputs // 16, out_block * STRIPS
    codes = load_words(values, 0, blocks, strips, strip, STEPS, STRIPS, 4)
    scale = load_words(scales, 0, blocks, strips, strip, STEPS, STRIPS, 1)
    inner = tl.arange(0, BLOCK_IN)
    for first in range(0, blocks, STEPS):
        codes_ahead = load_words(values, first + STEPS, blocks, strips, strip, STEPS, STRIPS, 4)
        scale_ahead = load_words(scales, first + STEPS, blocks, strips, strip, STEPS, STRIPS, 1)
        matrix = matrix_of(codes, scale, STEPS, BLOCK_OUT, x.dtype.element_ty, ASSEMBLY)
        inside = used[:, None]
        if STEPS > 1:
            # What is read twice behind the last block is multiplied with zeros.
            inside = inside & (first * 64 + inner < inputs)[None, :]
        at = x + row[:, None] * x_stride + (first * 64 + inner)[None, :]
        acc = tl.dot(matrix, tl.trans(tl.load(at, mask=inside, other=0.0)), acc, input_precision="ieee")
        acc = complete(acc)
        codes, scale = codes_ahead, scale_ahead
    return acc


@triton.jit
def decode_fragments(
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
    """What :func:`.arranged.decode_matrices` does, of codes in fragments."""
    STEPS: tl.constexpr = GROUPS // 2
    place = tl.program_id(2).to(tl.int64)
    expert = first_expert + place
    if tl.load(offsets + expert) == tl.load(offsets + expert + 1):
        return
    strip, first = tl.program_id(1) * (BLOCK_OUT // 16), tl.program_id(0) * STEPS
    values, scales = values.to(tl.pointer_type(tl.int32)), scales.to(tl.pointer_type(tl.int32))
    values, scales = values + expert * groups * outputs * 4, scales + expert * groups * outputs // 4
    blocks, strips = groups // 2, outputs // 16
    codes = load_words(values, first, blocks, strips, strip, STEPS, BLOCK_OUT // 16, 4)
    scale = load_words(scales, first, blocks, strips, strip, STEPS, BLOCK_OUT // 16, 1)
    numbers = matrix_of(codes, scale, STEPS, BLOCK_OUT, result.dtype.element_ty, ASSEMBLY)
    output = tl.program_id(1) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    column = first * 64 + tl.arange(0, 64 * STEPS)
    inside = (output < outputs)[:, None] & (column < groups * 32)[None, :]
    at = result + (place * outputs + output[:, None]) * (groups * 32) + column[None, :]
    tl.store(at, numbers, mask=inside)
