"""MXFP4: weights of four bits with one scale for 32 of them (OCP Microscaling Formats, version 1.0).

A code holds a sign, two bits of exponent and one of mantissa (E2M1). Two codes lie in a byte, the first in
its low half. A scale is the exponent of a power of two, 127 more than it is (E8M0). The published weights of
gpt-oss name the two parts ``*_blocks`` and ``*_scales``.
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
