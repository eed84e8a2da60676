"""Packs: one sequence that holds a prompt once and several replies to it, for exact and lean training.

Each reply sees the prompt and itself, at the positions it was sampled at, so its log-probabilities and
gradients are those of the unpacked sequences, while the prompt is computed once a pack. The whole group goes
into one pack when it fits the budget of tokens; otherwise replies are spread over as few packs as first-fit
decreasing finds.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import numpy.typing as npt
import torch

from ttd_core.policy.base import Sequences

Tokens = npt.NDArray[np.int64]


@attrs.frozen(eq=False)
class Pack:
    """A prompt and some of its replies as one sequence.

    :param ids: int64 [1, length].
    :param positions: int64 [1, length].
    :param sources: int64 [reply tokens], index in the sequence whose hidden state predicts each reply token.
    :param targets: int64 [reply tokens], the reply tokens themselves, reply after reply.
    :param prompt_length: tokens of the prompt.
    :param reply_lengths: tokens of each reply.
    :param routes: int32 [mixture layers, length, choices], the experts to take, or ``None``: the router's.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    prompt_length: int
    reply_lengths: tuple[int, ...]
    routes: torch.Tensor | None = None

    @property
    def mask(self) -> torch.Tensor:
        """Bool [1, 1, length, length], True where attention is allowed; built on each call."""
        device = self.ids.device
        lengths = torch.tensor([self.prompt_length, *self.reply_lengths], device=device)
        part = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
        order = torch.arange(len(part), device=device)
        visible = (part[None, :] == part[:, None]) | (part[None, :] == 0)
        return (visible & (order[None, :] <= order[:, None]))[None, None]


def plan_packs(prompt: int, replies: Sequence[int], budget: int) -> list[tuple[int, ...]]:
    """Which replies share a pack: first-fit decreasing under ``budget`` tokens, a reply alone if it must.

    :param prompt: tokens of the prompt.
    :param replies: tokens of each reply; empty replies are left out.
    :return: for each pack the indices of its replies, ascending.
    """
    packs: list[tuple[int, list[int]]] = []
    for reply in sorted(range(len(replies)), key=lambda index: (-replies[index], index)):
        if replies[reply] == 0:
            continue
        for index, (used, members) in enumerate(packs):
            if used + replies[reply] <= budget:
                members.append(reply)
                packs[index] = (used + replies[reply], members)
                break
        else:
            packs.append((prompt + replies[reply], [reply]))
    return [tuple(sorted(members)) for _, members in packs]


def pack_replies(group: Sequences, budget: int) -> list[tuple[int, ...]]:
    """:func:`plan_packs` of a group's replies."""
    reply_lengths = [len(completion.tokens) for completion in group.completions]
    return plan_packs(len(group.prompt_tokens), reply_lengths, budget)


def build_pack(
    prompt: Tokens, replies: Sequence[Tokens], members: Sequence[int], device: torch.device
) -> Pack:
    """Lay out one pack.

    :param members: which of the replies, in the order they are laid out.
    """
    packed = [replies[member] for member in members]
    ids = np.concatenate([prompt, *packed])
    positions = np.concatenate(
        [np.arange(len(prompt))] + [len(prompt) + np.arange(len(reply)) for reply in packed]
    )
    starts = len(prompt) + np.cumsum([0] + [len(reply) for reply in packed[:-1]])
    sources = np.concatenate(
        # A reply's first token is predicted by the prompt's last; each later one by its predecessor.
        [
            np.concatenate([[len(prompt) - 1], start + np.arange(len(reply) - 1)])
            for start, reply in zip(starts, packed, strict=True)
        ]
    )
    return Pack(
        ids=torch.from_numpy(ids).to(device)[None],
        positions=torch.from_numpy(positions).to(device)[None],
        sources=torch.from_numpy(sources.astype(np.int64)).to(device),
        targets=torch.from_numpy(np.concatenate(packed)).to(device),
        prompt_length=len(prompt),
        reply_lengths=tuple(len(reply) for reply in packed),
    )
