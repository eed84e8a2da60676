"""Replies under way, and how they are put together into the shapes that a step is recorded for."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from torch import Tensor

from ttd_core.policy.local.lean.decode_state import StepLayout
from ttd_core.policy.local.lean.kv_pages import pages_for
from ttd_core.policy.local.replies import Reply

#: Most queries that one tile of prompt attention holds. Twice as many were slower on an H200.
TILE = 64


@attrs.define(eq=False)
class SharedPrompt:
    """A prompt under way; all but its last token are stored once."""

    tokens: Sequence[int]
    users: int
    pages: list[int] | None = None

    @property
    def stored(self) -> int:
        """Its tokens that are stored for the whole group."""
        return len(self.tokens) - 1


@attrs.define(eq=False)
class BatchRow:
    """A reply under way, and where its own keys and values are."""

    reply: Reply
    group: SharedPrompt
    pages: list[int] = attrs.field(factory=list)
    aside: Tensor | None = None

    @property
    def length(self) -> int:
        """Own tokens stored: as many as the reply has, for the prompt's last takes the newest one's place."""
        return len(self.reply.tokens)

    @property
    def last(self) -> int:
        """The token to read next."""
        return int(self.reply.tokens[-1] if self.reply.tokens else self.group.tokens[-1])


@attrs.frozen
class PromptTile:
    """Some rows of one group.

    :param rows: places among the active rows.
    """

    group: SharedPrompt
    rows: Sequence[int]


def tile_prompts(active: Sequence[BatchRow], share: int) -> tuple[int, list[PromptTile]]:
    """Rows of each group, as many together as one tile holds, and the queries that a tile holds.

    :param share: query heads that share a key-value head.
    """
    members: dict[int, tuple[SharedPrompt, list[int]]] = {}
    for index, row in enumerate(active):
        members.setdefault(id(row.group), (row.group, []))[1].append(index)
    largest = share * max(len(rows) for _, rows in members.values())
    block = max(16, min(TILE, 1 << (largest - 1).bit_length()))
    size = max(1, block // share)
    return block, [
        PromptTile(group, rows[start : start + size])
        for group, rows in members.values()
        for start in range(0, len(rows), size)
    ]


def choose_layout(
    active: Sequence[BatchRow], block: int, tiles: Sequence[PromptTile], steps: int, most: int, kv_heads: int
) -> StepLayout:
    """The shapes of the coming steps, from a short list, so that few graphs are recorded."""
    rows, count = bucket(len(active), most), bucket(len(tiles), most)
    prompt = max(pages_for(tile.group.stored) for tile in tiles)
    own = max(pages_for(row.length + steps) for row in active)
    return StepLayout(
        rows=rows,
        tiles=count,
        block=block,
        prompt_splits=_splits(128 // (count * kv_heads), prompt // 2, 8),
        own_splits=_splits(512 // (rows * kv_heads), own // 4, 16),
    )


def bucket(count: int, most: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, ... that is not under ``count``; at most ``most``."""
    power = 1 << max(0, count - 1).bit_length()
    return min(most, power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power)


def _splits(wanted: int, sensible: int, most: int) -> int:
    """Parts to divide keys into: the largest power of two that none of the three is under, at least 1.

    A part costs a round trip of its sums through memory, so keys are divided only while there are too few
    programs to keep the device busy, and into parts of several pages.
    """
    return 1 << (max(1, min(wanted, sensible, most)).bit_length() - 1)
