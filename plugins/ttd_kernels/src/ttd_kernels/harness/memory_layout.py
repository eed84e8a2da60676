"""Where tensors lie in memory that judge and candidate share: one after the other, from a random start."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch

#: Bytes; every tensor starts at a multiple of this.
ALIGNMENT = 512

#: Where a tensor lies in shared memory: offset in bytes, dtype name (``float32``), sizes.
TensorLocation = tuple[int, str, list[int]]


def aligned(size: int) -> int:
    """``size`` bytes rounded up to a multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def random_locations(
    tensors: Sequence[tuple[torch.dtype, Sequence[int]]], capacity: int, reserved: int = 0
) -> list[TensorLocation]:
    """Locations for tensors, one after the other from a start that nobody can foretell.

    The start is drawn anew each time, so that a program cannot recognise a call by its addresses.

    :param tensors: dtype and sizes of each.
    :param capacity: bytes of the memory.
    :param reserved: bytes at its beginning that are left free, a multiple of the alignment.
    :raises ValueError: when the memory is too small.
    """
    lengths = [aligned(torch.Size(sizes).numel() * dtype.itemsize) for dtype, sizes in tensors]
    spare = capacity - reserved - sum(lengths)
    if spare < 0:
        raise ValueError(f"{sum(lengths)} bytes do not fit into {capacity - reserved}")
    offset = reserved + ALIGNMENT * secrets.randbelow(spare // ALIGNMENT + 1)
    locations = []
    for (dtype, sizes), length in zip(tensors, lengths, strict=True):
        locations.append((offset, dtype_name(dtype), list(sizes)))
        offset += length
    return locations
