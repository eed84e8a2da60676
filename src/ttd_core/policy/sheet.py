"""The host's side of a board: all that the coming steps need, written in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ttd_core.policy.board import STEPS, Board
from ttd_core.policy.decode import DecodeLimits
from ttd_core.policy.rows import Row, Tile


@torch.inference_mode()
def write(
    board: Board,
    active: Sequence[Row],
    tiles: Sequence[Tile],
    steps: int,
    temperature: float,
    limits: DecodeLimits,
) -> list[int]:
    """Fill the board for ``steps`` steps; how many forced tokens each row gets in them."""
    sheet = _Sheet(board)
    queued = []
    for index, row in enumerate(active):
        sheet.last[index], sheet.lengths[index] = row.last, row.length
        sheet.starts[index] = row.group.stored
        sheet.left[index] = limits.longest[row.reply.prompt] - row.length
        sheet.pages[index, : len(row.pages)] = row.pages
        sheet.uniforms[index, :steps] = row.reply.stream.random(steps, dtype=np.float32)
        queue = list(row.reply.forced)[:steps]
        sheet.forced[index, : len(queue)] = queue
        queued.append(len(queue))
    for index, tile in enumerate(tiles):
        pages = tile.group.pages or []
        sheet.tile_lengths[index] = tile.group.stored
        sheet.tile_pages[index, : len(pages)] = pages
        sheet.tile_rows[index, : len(tile.rows)] = tile.rows
    for name, values in vars(sheet).items():
        getattr(board, name).copy_(torch.from_numpy(values), non_blocking=True)
    board.temperature.fill_(temperature)
    board.ends.fill_(-1)[: len(limits.ends)] = torch.tensor(sorted(limits.ends), dtype=torch.int32)
    board.step.zero_()
    return queued


class _Sheet:
    """Every row at rest until it is filled in; one attribute for each tensor of the board that is written."""

    def __init__(self, board: Board) -> None:
        rows, width = board.pages.shape
        self.last = np.zeros(rows, np.int64)
        self.lengths = np.zeros(rows, np.int32)
        self.starts = np.zeros(rows, np.int64)
        self.left = np.zeros(rows, np.int32)
        self.pages = np.zeros((rows, width), np.int32)
        self.uniforms = np.zeros((rows, STEPS), np.float32)
        self.forced = np.full((rows, STEPS), -1, np.int32)
        self.tile_rows = np.full(tuple(board.tile_rows.shape), -1, np.int32)
        self.tile_lengths = np.zeros(rows, np.int32)
        self.tile_pages = np.zeros((rows, width), np.int32)
