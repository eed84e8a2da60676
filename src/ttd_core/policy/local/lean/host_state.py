"""Writing a :class:`~.decode_state.DecodeState` from the host: all that the coming steps need, in one go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ttd_core.policy.local.lean.batching import BatchRow, PromptTile
from ttd_core.policy.local.lean.decode_state import DecodeState
from ttd_core.policy.local.lean.paging import MAX_STEPS
from ttd_core.policy.local.replies import DecodeLimits


@torch.inference_mode()
def write_state(
    state: DecodeState,
    active: Sequence[BatchRow],
    tiles: Sequence[PromptTile],
    steps: int,
    temperature: float,
    limits: DecodeLimits,
) -> list[int]:
    """Fill ``state`` for the next ``steps`` steps; rows beyond ``active`` are idle.

    Each row draws ``steps`` numbers from its random stream.

    :param active: the replies being decoded, row by row.
    :param tiles: how they read their prompts.
    :param steps: at most MAX_STEPS.
    :return: how many forced tokens each active row gets in these steps.
    """
    host = _HostCopy(state)
    forced_counts = []
    for index, row in enumerate(active):
        host.next_input[index], host.own_lengths[index] = row.next_input, row.own_length
        host.own_starts[index] = row.prompt.stored
        host.remaining[index] = limits.max_tokens[row.reply.prompt_index] - row.own_length
        for table, held in zip((host.page_table, host.windowed_page_table), row.held, strict=False):
            table[index, held.first : held.first + len(held.pages)] = held.pages
        host.uniforms[index, :steps] = row.reply.stream.random(steps, dtype=np.float32)
        forced = list(row.reply.forced)[:steps]
        host.forced_tokens[index, : len(forced)] = forced
        forced_counts.append(len(forced))
    for index, tile in enumerate(tiles):
        host.tile_lengths[index] = tile.prompt.stored
        tables = host.tile_page_table, host.windowed_tile_page_table
        for table, held in zip(tables, tile.prompt.held or [], strict=False):
            table[index, held.first : held.first + len(held.pages)] = held.pages
        host.tile_rows[index, : len(tile.rows)] = tile.rows
    for name, values in vars(host).items():
        getattr(state, name).copy_(torch.from_numpy(values), non_blocking=True)
    state.temperature.fill_(temperature)
    end_tokens = torch.tensor(sorted(limits.end_tokens), dtype=torch.int32)
    state.end_tokens.fill_(-1)[: len(limits.end_tokens)] = end_tokens
    state.step.zero_()
    return forced_counts


class _HostCopy:
    """NumPy arrays by the names of the state's tensors that the host writes; every row is idle at first."""

    def __init__(self, state: DecodeState) -> None:
        rows, width = state.page_table.shape
        self.next_input = np.zeros(rows, np.int64)
        self.own_lengths = np.zeros(rows, np.int32)
        self.own_starts = np.zeros(rows, np.int64)
        self.remaining = np.zeros(rows, np.int32)
        self.page_table = np.zeros((rows, width), np.int32)
        self.uniforms = np.zeros((rows, MAX_STEPS), np.float32)
        self.forced_tokens = np.full((rows, MAX_STEPS), -1, np.int32)
        self.tile_rows = np.full(tuple(state.tile_rows.shape), -1, np.int32)
        self.tile_lengths = np.zeros(rows, np.int32)
        self.tile_page_table = np.zeros((rows, width), np.int32)
        self.windowed_page_table = np.zeros(tuple(state.windowed_page_table.shape), np.int32)
        self.windowed_tile_page_table = np.zeros_like(self.windowed_page_table)
