"""MXFP4: weights of four bits with one scale for 32 of them (OCP Microscaling Formats, version 1.0).

A code holds a sign, two bits of exponent and one of mantissa (E2M1). Two codes lie in a byte, the first in
its low half. A scale is the exponent of a power of two, 127 more than it is (E8M0). The published weights of
gpt-oss name the two parts ``*_blocks`` and ``*_scales``.

*Arranged* codes lie as the kernels of 16-bit numbers read them fastest: a group of 32 inputs has 16 bytes for
each output, one output after another, and byte j holds inputs j (low half) and j + 16 (high half). A byte's
halves then belong to two products of matrices, and nothing has to be interleaved. They take as many bytes as
the published ones, so they can lie in the same place.
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

    :param codes: uint8 [..., inputs / 32, outputs, 16], as :func:`arrange` returns them.
    :param scales: uint8 [..., inputs / 32, outputs].
    """
    numbers = torch.cat([codes & 15, codes >> 4], dim=-1).transpose(-3, -2)
    pairs = numbers[..., ::2] | (numbers[..., 1::2] << 4)
    return unpack(pairs, scales.transpose(-2, -1), dtype)
