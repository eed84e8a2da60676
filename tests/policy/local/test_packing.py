"""Packs hold every reply once, within the budget where that can be, and hide replies from each other."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttd_core.policy.local.packing import build_pack, plan_packs

LENGTHS = st.lists(st.integers(0, 50), max_size=12)


@given(st.integers(1, 60), LENGTHS, st.integers(1, 150))
def test_every_reply_is_in_one_pack(prompt: int, replies: list[int], budget: int) -> None:
    packs = plan_packs(prompt, replies, budget)
    members = sorted(member for pack in packs for member in pack)
    assert members == [index for index, length in enumerate(replies) if length]
    for pack in packs:
        assert len(pack) == 1 or prompt + sum(replies[member] for member in pack) <= budget


@given(st.integers(1, 8), st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_layout(prompt_length: int, lengths: list[int]) -> None:
    prompt = np.arange(prompt_length)
    replies = [100 * (n + 1) + np.arange(length) for n, length in enumerate(lengths)]
    pack = build_pack(prompt, replies, range(len(replies)), torch.device("cpu"))
    ids, positions, mask = pack.ids[0], pack.positions[0], pack.mask[0, 0]
    assert pack.targets.tolist() == [token for reply in replies for token in reply]
    place = 0
    for reply in replies:
        for index, token in enumerate(reply):
            source = int(pack.sources[place])
            # What predicts a token sees the prompt and the reply before it, in order, and nothing else.
            seen = ids[mask[source]].tolist()
            assert seen == [*prompt.tolist(), *reply[:index].tolist()]
            assert positions[mask[source]].tolist() == list(range(len(seen)))
            assert int(pack.targets[place]) == token
            place += 1
