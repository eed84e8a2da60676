"""How the work of one policy is divided among ranks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ttd_core.policy.base import Sequences
from ttd_core.policy.local.packing import pack_replies


def shard_replies(prompts: int, count: int, ranks: int) -> list[list[range]]:
    """Which replies each rank samples: equal numbers, groups together where they can be.

    :param count: replies to each prompt.
    :return: for each rank and each prompt, the indices within the prompt's group.
    """
    total = prompts * count
    bounds = [total * rank // ranks for rank in range(ranks + 1)]
    return [
        [
            range(min(max(first - prompt * count, 0), count), min(max(last - prompt * count, 0), count))
            for prompt in range(prompts)
        ]
        for first, last in itertools.pairwise(bounds)
    ]


def shard_packs(batch: Sequence[Sequences], budget: int, ranks: int) -> list[list[Sequences]]:
    """What each rank learns from: the packs of the batch, longest first, each to the rank with the least.

    :param budget: most tokens of a pack.
    """
    packs = [
        (
            len(group.prompt_tokens) + sum(len(group.completions[member].tokens) for member in members),
            number,
            members,
        )
        for number, group in enumerate(batch)
        for members in pack_replies(group, budget)
    ]
    loads = [0] * ranks
    # For each rank: number of a group -> which of its replies.
    shards: list[dict[int, list[int]]] = [{} for _ in range(ranks)]
    for tokens, number, members in sorted(packs, key=lambda pack: (-pack[0], pack[1], pack[2])):
        rank = min(range(ranks), key=lambda rank: (loads[rank], rank))
        loads[rank] += tokens
        shards[rank].setdefault(number, []).extend(members)
    return [
        [_some_replies(batch[number], sorted(members)) for number, members in shard.items()]
        for shard in shards
    ]


def _some_replies(group: Sequences, members: Sequence[int]) -> Sequences:
    return Sequences(
        group.prompt_tokens,
        [group.completions[member] for member in members],
        [group.advantages[member] for member in members],
        # The same arrays: what is written into them is seen in the whole group.
        None if group.recomputed is None else [group.recomputed[member] for member in members],
    )
