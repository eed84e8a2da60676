"""How replies under way are put into a batch: rows, tiles that share a prompt, and the shapes of a step."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from torch import Tensor

from ttd_core.policy.local.lean.decode_state import StepLayout
from ttd_core.policy.local.lean.kv_pages import HeldPages
from ttd_core.policy.local.lean.paging import pages_for
from ttd_core.policy.local.lean.routes import Routes
from ttd_core.policy.local.replies import DecodingReply

#: Most queries that one tile of prompt attention holds. Twice as many were slower on an H200.
MAX_TILE_QUERIES = 64


@attrs.define(eq=False)
class SharedPrompt:
    """A prompt whose replies are being decoded; all but its last token are stored once for all of them.

    :param tokens: token ids of the whole prompt.
    :param unfinished: replies that still need it.
    :param held: where its keys and values are, by kind of layers; ``None`` until it has been read.
    :param routes: the experts of its stored tokens, [stored, mixtures, choices], where they are recorded.
    """

    tokens: Sequence[int]
    unfinished: int
    held: list[HeldPages] | None = None
    routes: Routes | None = None

    @property
    def stored(self) -> int:
        """Tokens that are stored for the whole group."""
        return len(self.tokens) - 1


@attrs.define(eq=False)
class BatchRow:
    """A reply under way, and where its own keys and values are.

    :param held: its pages on the device, by kind of layers.
    :param swapped: contents of its pages in the host's memory, while it is swapped out.
    :param routes: the experts of its own tokens, [tokens, mixtures, choices] of each look by the host.
    """

    reply: DecodingReply
    prompt: SharedPrompt
    held: list[HeldPages] = attrs.field(factory=list)
    swapped: list[Tensor] | None = None
    routes: list[Routes] = attrs.field(factory=list)

    @property
    def own_length(self) -> int:
        """Own tokens stored: the prompt's last and all of the reply but its newest, which is read next."""
        return len(self.reply.tokens)

    @property
    def next_input(self) -> int:
        """The token to read next."""
        return int(self.reply.tokens[-1] if self.reply.tokens else self.prompt.tokens[-1])


@attrs.frozen
class PromptTile:
    """Some rows of one group, whose queries meet the prompt's keys in one matrix product.

    :param rows: indices among the active rows.
    """

    prompt: SharedPrompt
    rows: Sequence[int]


def tile_prompts(active: Sequence[BatchRow], heads_per_kv: int) -> tuple[int, list[PromptTile]]:
    """Divide the rows of each group into tiles.

    :param heads_per_kv: query heads that share a key-value head.
    :return: queries that a tile holds (a power of two, at least 16), and the tiles.
    """
    members: dict[int, tuple[SharedPrompt, list[int]]] = {}
    for index, row in enumerate(active):
        members.setdefault(id(row.prompt), (row.prompt, []))[1].append(index)
    most_queries = heads_per_kv * max(len(rows) for _, rows in members.values())
    tile_queries = max(16, min(MAX_TILE_QUERIES, 1 << (most_queries - 1).bit_length()))
    rows_per_tile = max(1, tile_queries // heads_per_kv)
    return tile_queries, [
        PromptTile(prompt, rows[start : start + rows_per_tile])
        for prompt, rows in members.values()
        for start in range(0, len(rows), rows_per_tile)
    ]


def choose_layout(
    active: Sequence[BatchRow],
    tile_queries: int,
    tiles: Sequence[PromptTile],
    steps: int,
    max_rows: int,
    kv_heads: int,
) -> StepLayout:
    """The shapes of the coming steps, out of a short list, so that few graphs are recorded."""
    rows, tile_count = bucket(len(active), max_rows), bucket(len(tiles), max_rows)
    prompt_pages = max(pages_for(tile.prompt.stored) for tile in tiles)
    own_pages = max(pages_for(row.own_length + steps) for row in active)
    return StepLayout(
        rows=rows,
        tiles=tile_count,
        tile_queries=tile_queries,
        prompt_splits=_splits(128 // (tile_count * kv_heads), prompt_pages // 2, 8),
        own_splits=_splits(512 // (rows * kv_heads), own_pages // 4, 16),
    )


def bucket(count: int, most: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, ... that is not under ``count``; at most ``most``."""
    power = 1 << max(0, count - 1).bit_length()
    return min(most, power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power)


def _splits(to_fill_device: int, by_length: int, most: int) -> int:
    """Parts to divide keys into: the largest power of two that is above none of the three, at least 1.

    A part costs a round trip of its sums through memory, so keys are divided only while there are too few
    programs to keep the device busy, and into parts of several pages.

    :param to_fill_device: splits that make enough programs to keep the device busy.
    :param by_length: splits that leave each part several pages.
    """
    return 1 << (max(1, min(to_fill_device, by_length, most)).bit_length() - 1)
