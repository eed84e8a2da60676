"""The state of a decoding batch, held on the device: a step needs no word from the host.

The host writes a state, lets several steps run on it, and reads back what they sampled. A row is one reply.
Keys and values are stored in pages (:mod:`.paging`). All tokens of a prompt but its last are stored once for
the group and read tile by tile; a row's *own* tokens begin with a copy of the prompt's last one, so that the
first sampled token needs no special case.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ttd_core.policy.local.lean.paging import MAX_STEPS, PAGE


@attrs.frozen
class StepLayout:
    """What fixes the shapes of a step; one CUDA graph is recorded for each layout that occurs.

    :param rows: rows computed, idle ones included.
    :param tiles: tiles of prompt attention computed.
    :param tile_queries: queries that a tile holds, rows times the query heads of one key-value head: a power
        of two.
    :param prompt_splits: parts into which each prompt's keys are divided.
    :param own_splits: parts into which each row's own keys are divided.
    """

    rows: int
    tiles: int
    tile_queries: int
    prompt_splits: int
    own_splits: int


@attrs.frozen(eq=False)
class DecodeState:
    """State of the rows; every tensor keeps its address, so that recorded graphs may read and write it.

    :param next_input: int64 [rows], the token each row reads next.
    :param own_lengths: int32 [rows], own tokens stored so far.
    :param own_starts: int64 [rows], position of the first own token.
    :param remaining: int32 [rows], tokens the row may still append; 0 for an idle row.
    :param page_table: int32 [rows, width], the pages of the row's own keys and values, in order.
    :param uniforms: float32 [rows, MAX_STEPS], the random numbers of the coming steps, in [0, 1).
    :param forced_tokens: int32 [rows, MAX_STEPS], the token to append instead of a sampled one, or -1.
    :param new_tokens: int32 [rows, MAX_STEPS], what was appended.
    :param new_logprobs: float32 [rows, MAX_STEPS], log-probability of what was sampled.
    :param step: int64 [1], the step under way, from 0.
    :param temperature: float32 [1].
    :param end_tokens: int32 [end tokens], ids that end a reply, padded with -1.
    :param tile_rows: int32 [tiles, rows a tile], rows of one group that read their prompt together, or -1.
    :param tile_lengths: int32 [tiles], stored tokens of the tile's prompt.
    :param tile_page_table: int32 [tiles, width], the pages of the tile's prompt, in order.
    :param windowed_page_table: like ``page_table``, of layers that see a window where others do not; page 0
        stands for what they do not see. Of width 0 where all layers are of one kind.
    :param windowed_tile_page_table: likewise.
    """

    next_input: Tensor
    own_lengths: Tensor
    own_starts: Tensor
    remaining: Tensor
    page_table: Tensor
    uniforms: Tensor
    forced_tokens: Tensor
    new_tokens: Tensor
    new_logprobs: Tensor
    step: Tensor
    temperature: Tensor
    end_tokens: Tensor
    tile_rows: Tensor
    tile_lengths: Tensor
    tile_page_table: Tensor
    windowed_page_table: Tensor
    windowed_tile_page_table: Tensor

    @classmethod
    def allocate(
        cls,
        rows: int,
        tiles: int,
        rows_per_tile: int,
        width: int,
        end_tokens: int,
        device: torch.device,
        windowed: bool = False,
    ) -> DecodeState:
        """A state whose rows are all idle; page 0 belongs to nobody, so idle rows may write there.

        :param width: most pages of one row or one prompt.
        :param end_tokens: how many ids may end a reply.
        :param windowed: there are tables for layers that see a window too.
        """

        def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            next_input=zeros(rows, dtype=torch.int64),
            own_lengths=zeros(rows),
            own_starts=zeros(rows, dtype=torch.int64),
            remaining=zeros(rows),
            page_table=zeros(rows, width),
            uniforms=zeros(rows, MAX_STEPS, dtype=torch.float32),
            forced_tokens=zeros(rows, MAX_STEPS) - 1,
            new_tokens=zeros(rows, MAX_STEPS),
            new_logprobs=zeros(rows, MAX_STEPS, dtype=torch.float32),
            step=zeros(1, dtype=torch.int64),
            temperature=zeros(1, dtype=torch.float32) + 1,
            end_tokens=zeros(end_tokens) - 1,
            tile_rows=zeros(tiles, rows_per_tile) - 1,
            tile_lengths=zeros(tiles),
            tile_page_table=zeros(tiles, width),
            windowed_page_table=zeros(rows, width if windowed else 0),
            windowed_tile_page_table=zeros(tiles, width if windowed else 0),
        )

    def of_windows(self) -> DecodeState:
        """The same state as layers that see a window have it."""
        return attrs.evolve(
            self, page_table=self.windowed_page_table, tile_page_table=self.windowed_tile_page_table
        )

    def next_slots(self, rows: int) -> Tensor:
        """int64 [rows], where each row's next key and value go: page times PAGE plus offset in the page."""
        lengths = self.own_lengths[:rows].long()
        page = self.page_table[:rows].gather(1, (lengths // PAGE)[:, None])[:, 0].long()
        return page * PAGE + lengths % PAGE

    def make_idle(self) -> None:
        """Make every row idle, on page 0, so that a trial run of the step touches nothing in use."""
        idle = (
            self.next_input,
            self.own_lengths,
            self.own_starts,
            self.remaining,
            self.page_table,
            self.windowed_page_table,
            self.step,
        )
        for tensor in idle:
            tensor.zero_()
        self.tile_rows.fill_(-1)
        self.tile_lengths.zero_()
