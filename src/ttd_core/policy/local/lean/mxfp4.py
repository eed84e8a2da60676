"""MXFP4: weights of four bits with one scale for 32 of them (OCP Microscaling Formats, version 1.0).

A code holds a sign, two bits of exponent and one of mantissa (E2M1). Two codes lie in a byte, the first in
its low half. A scale is the exponent of a power of two, 127 more than it is (E8M0). The published weights of
gpt-oss name the two parts ``*_blocks`` and ``*_scales``.

*Arranged* codes lie as the kernels of 16-bit numbers read them fastest: a group of 32 inputs has 16 bytes for
each output, one output after another, and byte j holds inputs j (low half) and j + 16 (high half). A byte's
halves then belong to two products of matrices, and nothing has to be interleaved.

Codes in *fragments* lie as the matrix units take them, so that what a thread of a kernel reads is what it
hands to them. 16 outputs and 64 inputs are 512 bytes, 16 for each of 32 threads: thread 4 g + t has outputs g
and g + 8, one after the other, of the first 32 inputs and then of the others. Those four parts are words of
32 bits, each with inputs 2 t + p + 8 i of its group, for p of 0 and 1 and i of 0 to 3: half word p holds them
where few operations make them a pair of numbers (:data:`PLACES`). Their scales are 32 bytes, four for each g,
in the order of the words.

Both take as many bytes as the published codes, so they can lie in the same place.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Values that share a scale.
GROUP = 32
#: What the sixteen codes mean.
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
#: The exponent that a scale of 0 stands for.
BIAS = 127
#: Scales up to this may be arranged: a code's bits, taken as those of a bfloat16, are the number divided by
#: 2**126, and one factor of 2**(scale - 1), which bfloat16 must have, makes them exact.
LARGEST_ARRANGED_SCALE = 128
#: Bits of a half word where four codes of a fragment lie, each by its own bits from the lowest. Bits 6, 7, 8
#: and 15 are bfloat16's first one of the fraction, the last two of the exponent, and the sign: shifted by 0,
#: 3 and 6 the first three lie so, and the fourth has what is left.
PLACES = ((6, 7, 8, 15), (3, 4, 5, 12), (0, 1, 2, 9), (13, 10, 11, 14))
#: Outputs and inputs of one fragment.
FRAGMENT = (16, 64)
#: Whether matrices of whole fragments are arranged in them, and not by row.
IN_FRAGMENTS = True


def unpack(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights [..., outputs, inputs].

    Exact in bfloat16 wherever the result has a bfloat16: a code has two significant bits.

    :param blocks: uint8 [..., outputs, inputs / 32, 16], or the same bytes as [..., outputs, inputs / 2].
    :param scales: uint8 [..., outputs, inputs / 32].
    """
    codes = torch.stack([blocks & 15, blocks >> 4], dim=-1)
    values = torch.tensor(VALUES, dtype=dtype, device=blocks.device)[codes.int()]
    values = values.view(*scales.shape, GROUP)
    return torch.ldexp(values, scales.int()[..., None] - BIAS).to(dtype).flatten(-2)


def arrange(blocks: Tensor) -> Tensor:
    """Published codes, arranged: uint8 [..., inputs / 32, outputs, 16].

    :param blocks: uint8 [..., outputs, inputs / 32, 16].
    """
    first, second = blocks[..., : GROUP // 4], blocks[..., GROUP // 4 :]
    even, odd = (first & 15) | (second << 4), (first >> 4) | (second & 0xF0)
    return torch.stack([even, odd], dim=-1).flatten(-2).transpose(-3, -2).contiguous()


def unpack_arranged(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights [..., outputs, inputs] of arranged codes.

    :param codes: uint8 [..., inputs / 32, outputs, 16], as :func:`arrange` returns them; or in fragments, of
        one matrix.
    :param scales: uint8 [..., inputs / 32, outputs], or as :func:`arrange_scales` returns them.
    """
    if in_fragments(codes):
        return unpack_fragments(codes, scales, dtype)
    numbers = torch.cat([codes & 15, codes >> 4], dim=-1).transpose(-3, -2)
    pairs = numbers[..., ::2] | (numbers[..., 1::2] << 4)
    return unpack(pairs, scales.transpose(-2, -1), dtype)


def arranged(blocks: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as it is arranged: in fragments where it is whole ones, else by row; and its scales.

    :param blocks: uint8 [outputs, inputs / 32, 16], published codes.
    :param scales: uint8 [outputs, inputs / 32].
    """
    outputs, inputs = len(scales), scales.shape[1] * GROUP
    if IN_FRAGMENTS and outputs % FRAGMENT[0] == 0 and inputs % FRAGMENT[1] == 0:
        return arrange_fragments(blocks), arrange_scales(scales)
    return arrange(blocks), scales.T.contiguous()


def in_fragments(codes: Tensor) -> bool:
    """Whether arranged codes lie in fragments, and not by row."""
    return codes.shape[-1] == FRAGMENT[0] * FRAGMENT[1] // 2


def arrange_fragments(blocks: Tensor) -> Tensor:
    """Published codes in fragments: uint8 [inputs / 64, outputs / 16, 512].

    :param blocks: uint8 [outputs, inputs / 32, 16].
    """
    outputs, groups, _ = blocks.shape
    # A published byte holds inputs 2 t + 8 i and the one after it: strip, half, g, block, group, i, t.
    parts = blocks.view(outputs // 16, 2, 8, groups // 2, 2, 4, 4)
    table = torch.zeros(4, 16, dtype=torch.int32, device=blocks.device)
    codes = torch.arange(16, dtype=torch.int32, device=blocks.device)
    for place, bits in enumerate(PLACES):
        for bit, at in enumerate(bits):
            table[place] |= ((codes >> bit) & 1) << at
    words = torch.zeros((*parts.shape[:5], 4), dtype=torch.int32, device=blocks.device)
    for place in range(4):
        pairs = parts[..., place, :].int()
        words |= table[place][pairs & 15] | (table[place][pairs >> 4] << 16)
    words = words.permute(3, 0, 2, 5, 4, 1).contiguous()
    return words.view(torch.uint8).view(groups // 2, outputs // 16, 512)


def arrange_scales(scales: Tensor) -> Tensor:
    """Scales of codes in fragments: uint8 [inputs / 64, outputs / 16, 32].

    :param scales: uint8 [outputs, inputs / 32].
    """
    outputs, groups = scales.shape
    parts = scales.view(outputs // 16, 2, 8, groups // 2, 2)
    return parts.permute(3, 0, 2, 4, 1).reshape(groups // 2, outputs // 16, 32)


def unpack_fragments(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights [outputs, inputs] of codes in fragments.

    :param codes: uint8 [inputs / 64, outputs / 16, 512], as :func:`arrange_fragments` returns them.
    :param scales: uint8 [inputs / 64, outputs / 16, 32], as :func:`arrange_scales` returns them.
    """
    blocks, strips, _ = codes.shape
    words = codes.contiguous().view(torch.int32).view(blocks, strips, 8, 4, 2, 2)
    parts = torch.zeros((strips, 2, 8, blocks, 2, 4, 4), dtype=torch.uint8, device=codes.device)
    for place, bits in enumerate(PLACES):
        for half in range(2):
            for bit, at in enumerate(bits):
                found = ((words >> (at + 16 * half)) & 1) << (bit + 4 * half)
                parts[..., place, :] |= found.permute(1, 5, 2, 0, 4, 3).to(torch.uint8)
    plain = scales.view(blocks, strips, 8, 2, 2).permute(1, 4, 2, 0, 3)
    return unpack(parts.view(16 * strips, 2 * blocks, 16), plain.reshape(16 * strips, 2 * blocks), dtype)
