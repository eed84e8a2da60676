"""How the work of one policy is divided among processes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ttd_core.policy.base import Sequences
from ttd_core.policy.local.packing import plan_packs


def share_replies(prompts: int, count: int, ranks: int) -> list[list[range]]:
    """Which replies to each prompt each rank samples: equal numbers, groups together where they can be."""
    whole = prompts * count
    bounds = [whole * rank // ranks for rank in range(ranks + 1)]
    return [
        [
            range(min(max(first - prompt * count, 0), count), min(max(last - prompt * count, 0), count))
            for prompt in range(prompts)
        ]
        for first, last in itertools.pairwise(bounds)
    ]


def share_packs(batch: Sequence[Sequences], budget: int, ranks: int) -> list[list[Sequences]]:
    """What each rank learns from: the packs of the batch, longest first, each to the rank with the least."""
    packs = [
        (
            len(item.prompt_tokens) + sum(len(item.completions[member].tokens) for member in members),
            place,
            members,
        )
        for place, item in enumerate(batch)
        for members in plan_packs(len(item.prompt_tokens), [len(c.tokens) for c in item.completions], budget)
    ]
    loads = [0] * ranks
    chosen: list[dict[int, list[int]]] = [{} for _ in range(ranks)]
    for tokens, place, members in sorted(packs, key=lambda pack: (-pack[0], pack[1], pack[2])):
        rank = min(range(ranks), key=lambda one: (loads[one], one))
        loads[rank] += tokens
        chosen[rank].setdefault(place, []).extend(members)
    return [[_part(batch[place], sorted(members)) for place, members in one.items()] for one in chosen]


def _part(item: Sequences, members: Sequence[int]) -> Sequences:
    return Sequences(
        item.prompt_tokens,
        [item.completions[member] for member in members],
        [item.advantages[member] for member in members],
    )
