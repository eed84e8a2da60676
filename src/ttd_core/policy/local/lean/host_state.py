"""The host's side of a state: all that the coming steps need, written in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ttd_core.policy.local.lean.batching import BatchRow, PromptTile
from ttd_core.policy.local.lean.decode_state import MAX_STEPS, DecodeState
from ttd_core.policy.local.replies import DecodeLimits


@torch.inference_mode()
def write(
    state: DecodeState,
    active: Sequence[BatchRow],
    tiles: Sequence[PromptTile],
    steps: int,
    temperature: float,
    limits: DecodeLimits,
) -> list[int]:
    """Fill the state for ``steps`` steps; how many forced tokens each row gets in them."""
    host = _HostCopy(state)
    queued = []
    for index, row in enumerate(active):
        host.last[index], host.lengths[index] = row.last, row.length
        host.starts[index] = row.group.stored
        host.left[index] = limits.longest[row.reply.prompt] - row.length
        host.pages[index, : len(row.pages)] = row.pages
        host.uniforms[index, :steps] = row.reply.stream.random(steps, dtype=np.float32)
        queue = list(row.reply.forced)[:steps]
        host.forced[index, : len(queue)] = queue
        queued.append(len(queue))
    for index, tile in enumerate(tiles):
        pages = tile.group.pages or []
        host.tile_lengths[index] = tile.group.stored
        host.tile_pages[index, : len(pages)] = pages
        host.tile_rows[index, : len(tile.rows)] = tile.rows
    for name, values in vars(host).items():
        getattr(state, name).copy_(torch.from_numpy(values), non_blocking=True)
    state.temperature.fill_(temperature)
    state.ends.fill_(-1)[: len(limits.ends)] = torch.tensor(sorted(limits.ends), dtype=torch.int32)
    state.step.zero_()
    return queued


class _HostCopy:
    """Every row at rest until it is filled in; one attribute for each tensor of the state that is written."""

    def __init__(self, state: DecodeState) -> None:
        rows, width = state.pages.shape
        self.last = np.zeros(rows, np.int64)
        self.lengths = np.zeros(rows, np.int32)
        self.starts = np.zeros(rows, np.int64)
        self.left = np.zeros(rows, np.int32)
        self.pages = np.zeros((rows, width), np.int32)
        self.uniforms = np.zeros((rows, MAX_STEPS), np.float32)
        self.forced = np.full((rows, MAX_STEPS), -1, np.int32)
        self.tile_rows = np.full(tuple(state.tile_rows.shape), -1, np.int32)
        self.tile_lengths = np.zeros(rows, np.int32)
        self.tile_pages = np.zeros((rows, width), np.int32)
