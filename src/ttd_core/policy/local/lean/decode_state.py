"""What one decoding step reads and moves forward, all on the device: steps need no word from the host.

The host writes a state, lets several steps run on it, and reads back what they drew. A row is one reply. Its
*own* tokens begin with the prompt's last one (which no other row shares a copy of), so that the first sampled
token is nothing special; the rest of the prompt is stored once for the group and read tile by tile.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

#: Tokens of one page of keys and values.
PAGE = 64
#: Most steps between two looks by the host.
MAX_STEPS = 32


@attrs.frozen
class StepLayout:
    """What fixes the shapes of a step; one CUDA graph is recorded for each layout that occurs.

    :param rows: rows computed, those at rest included.
    :param tiles: tiles of prompt attention computed.
    :param block: queries a tile holds, rows times the heads that share keys: a power of two.
    :param prompt_splits: parts into which each prompt's keys are divided.
    :param own_splits: parts into which each row's own keys are divided.
    """

    rows: int
    tiles: int
    block: int
    prompt_splits: int
    own_splits: int


@attrs.frozen(eq=False)
class DecodeState:
    """State of the rows; every tensor keeps its address.

    :param last: int64 [rows], the token each row reads next.
    :param lengths: int32 [rows], own tokens stored so far.
    :param starts: int64 [rows], position of the first own token.
    :param left: int32 [rows], tokens the row may still append; 0 is a row at rest.
    :param pages: int32 [rows, width], where the row's own keys and values are.
    :param uniforms: float32 [rows, MAX_STEPS], the random numbers of the coming steps, in [0, 1).
    :param forced: int32 [rows, MAX_STEPS], the token to append instead of a sampled one, or -1.
    :param tokens: int32 [rows, MAX_STEPS], what was appended.
    :param logprobs: float32 [rows, MAX_STEPS], log-probability of what was sampled.
    :param step: int64 [1], the step under way.
    :param temperature: float32 [1].
    :param ends: int32 [ends], tokens that end a reply; -1 fills up.
    :param tile_rows: int32 [tiles, rows a tile], rows of one group that read their prompt together, or -1.
    :param tile_lengths: int32 [tiles], stored tokens of the tile's prompt.
    :param tile_pages: int32 [tiles, width], where they are.
    """

    last: Tensor
    lengths: Tensor
    starts: Tensor
    left: Tensor
    pages: Tensor
    uniforms: Tensor
    forced: Tensor
    tokens: Tensor
    logprobs: Tensor
    step: Tensor
    temperature: Tensor
    ends: Tensor
    tile_rows: Tensor
    tile_lengths: Tensor
    tile_pages: Tensor

    @classmethod
    def make(
        cls, rows: int, tiles: int, rows_per_tile: int, width: int, ends: int, device: torch.device
    ) -> DecodeState:
        """A state with every row at rest; page 0 belongs to nobody, so rows at rest may write there."""

        def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            last=zeros(rows, dtype=torch.int64),
            lengths=zeros(rows),
            starts=zeros(rows, dtype=torch.int64),
            left=zeros(rows),
            pages=zeros(rows, width),
            uniforms=zeros(rows, MAX_STEPS, dtype=torch.float32),
            forced=zeros(rows, MAX_STEPS) - 1,
            tokens=zeros(rows, MAX_STEPS),
            logprobs=zeros(rows, MAX_STEPS, dtype=torch.float32),
            step=zeros(1, dtype=torch.int64),
            temperature=zeros(1, dtype=torch.float32) + 1,
            ends=zeros(ends) - 1,
            tile_rows=zeros(tiles, rows_per_tile) - 1,
            tile_lengths=zeros(tiles),
            tile_pages=zeros(tiles, width),
        )

    def slots(self, rows: int) -> Tensor:
        """int64 [rows], where each row's next key and value go: page times page size plus place in it."""
        lengths = self.lengths[:rows].long()
        page = self.pages[:rows].gather(1, (lengths // PAGE)[:, None])[:, 0].long()
        return page * PAGE + lengths % PAGE

    def rest(self) -> None:
        """Put every row to rest on page 0, so that a trial run of the step touches nothing."""
        for tensor in (self.last, self.lengths, self.starts, self.left, self.pages, self.step):
            tensor.zero_()
        self.tile_rows.fill_(-1)
        self.tile_lengths.zero_()
