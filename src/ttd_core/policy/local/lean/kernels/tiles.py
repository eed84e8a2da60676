"""How much of a product of experts one program computes: the constants to tune, in one place.

``benchmarks/expert_products.py`` times others beside them.
"""

from __future__ import annotations

import os

import attrs
import torch

#: Values of the kernel's ``KIND``: a matrix of numbers, of published MXFP4 codes decoded by the kernel, of
#: published codes that Triton decodes, of arranged ones (:mod:`..mxfp4`) and of those in fragments, each
#: decoded by operations that Triton compiles, or by assembly.
PLAIN, PACKED, SCALED, ARRANGED, ASSEMBLED, FRAGMENTS, ASSEMBLED_FRAGMENTS = range(7)
#: Whether arranged codes are decoded by assembly, in bfloat16; ``None``: wherever the kernel is compiled, and
#: not where Triton's interpreter runs it, which has none.
ASSEMBLY: bool | None = None
#: Assignments of a tile: a power of two between these, near what an expert has on average.
LEAST_ROWS, MOST_ROWS = 16, 128
#: From so many assignments an expert on average, arranged matrices are decoded to memory once and multiplied
#: as numbers: more tiles would each decode all of them again. The gradient's product always does so.
DECODED_ROWS = 256
#: The numbers that there are at once then take one part in so many of the device's memory. Each part's
#: product passes over the tiles of all others, so parts should be few.
DECODED_PART = 64


@attrs.frozen
class Tile:
    """What one program multiplies.

    :param outputs: of the matrix, in all.
    :param inputs: at once; 32 of arranged codes are one group.
    :param warps: of 32 threads.
    :param stages: steps that are under way at once.
    """

    outputs: int
    inputs: int
    warps: int
    stages: int


#: Of arranged codes, by the assignments of a tile. Best of those tried for 16 and 64 (gpt-oss's first product
#: on an H200, docs/learner.md). A thread has 106, 158 and 240 registers of 16, 64 and 128 assignments, so a
#: multiprocessor 4, 3 and 2 programs. Of 128 with eight warps (137) it has one, alone with its waits.
ARRANGED_TILES = {
    16: Tile(128, 64, 4, 3),
    32: Tile(128, 64, 4, 3),
    64: Tile(128, 64, 4, 3),
    128: Tile(128, 64, 4, 3),
}
#: Of codes in fragments, by the assignments of a tile. A thread has 93, 92 and 142 registers of 16, 32 and 64
#: assignments, so a multiprocessor 5, 5 and 3 programs.
FRAGMENT_TILES = {
    16: Tile(128, 64, 4, 3),
    32: Tile(128, 64, 4, 3),
    64: Tile(128, 64, 4, 3),
    128: Tile(128, 64, 4, 3),
}
#: Of everything else, by whether a tile has 64 assignments or more.
TILES = {False: Tile(128, 64, 4, 3), True: Tile(128, 64, 8, 3)}
#: Outputs and groups of 32 inputs that a program decodes to memory.
DECODED_TILE = (128, 4)


def rows_of(average: int) -> int:
    """Assignments of a tile.

    :param average: assignments an expert has, a power of two.
    """
    # With few, reading weights is what takes time: nearly every expert then has one tile.
    return max(LEAST_ROWS, min(MOST_ROWS, 2 * average if average < 64 else average))


def assembles(dtype: torch.dtype) -> bool:
    """Whether codes are decoded by assembly, for products in a type."""
    # Triton decides by the same variable when a kernel is defined.
    compiled = os.environ.get("TRITON_INTERPRET") != "1"
    return dtype == torch.bfloat16 and (compiled if ASSEMBLY is None else ASSEMBLY)


def decoded_bytes(device: torch.device) -> int:
    """Bytes that matrices decoded to memory may take at once."""
    if device.type != "cuda":
        return 1 << 30
    return int(torch.cuda.get_device_properties(device).total_memory) // DECODED_PART


def tile_of(kind: int, rows: int, outputs: int) -> Tile:
    """What one program of a product multiplies.

    :param rows: assignments of a tile.
    :param outputs: of the product, a power of two that holds them.
    """
    if kind >= ARRANGED:
        tile = (FRAGMENT_TILES if kind >= FRAGMENTS else ARRANGED_TILES)[rows]
        return attrs.evolve(tile, outputs=min(tile.outputs, outputs))
    tile = TILES[rows >= 64]
    if outputs < tile.outputs:
        # An adapter's first product has few outputs, so few programs: they take larger steps.
        wide = outputs <= tile.outputs // 4 and rows < MOST_ROWS
        tile = Tile(outputs, tile.inputs * (2 if wide else 1), 4, tile.stages)
    return attrs.evolve(tile, stages=4) if kind == SCALED else tile
