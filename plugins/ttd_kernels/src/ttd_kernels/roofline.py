"""The least time that a GPU's memory and matrix units allow: the roofline model, for one NVIDIA H200."""

from __future__ import annotations

#: Device memory bytes per second, and half-precision multiplications and additions per second, of the GPU
#: that floors are stated for; both measured on an NVIDIA H200.
BYTES_PER_S = 4.3e12
OPERATIONS_PER_S = 790e12


def floor_us(moved_bytes: float, operations: float) -> float:
    """The least time of a kernel in microseconds: its bytes at the memory's rate or its operations at the
    matrix units', whichever takes longer.

    :param moved_bytes: each input read once and each output written once.
    :param operations: half-precision multiplications and additions of the matrix products.
    """
    return 1e6 * max(moved_bytes / BYTES_PER_S, operations / OPERATIONS_PER_S)
