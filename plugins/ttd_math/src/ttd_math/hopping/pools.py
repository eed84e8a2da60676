"""What lineages have found: each holds its best functions, all of one number of heights, on the device."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from ttd_math.hopping.hops import Draws

#: Of a pool, better functions are changed more often: a mean of this many places from the best.
_SPREAD = 4.0


@attrs.define
class Pools:
    """The functions of L lineages, the best of each first.

    :param f: [L, K, n] in float64; where the score is infinite, no function.
    :param scores: [L, K], of which the smaller is the better.
    """

    f: Tensor
    scores: Tensor

    @classmethod
    def empty(cls, lineages: int, keep: int, n: int, device: torch.device) -> Pools:
        """Room for functions, and none in it."""
        f = torch.ones((lineages, keep, n), dtype=torch.float64, device=device)
        return cls(f, torch.full((lineages, keep), math.inf, dtype=torch.float64, device=device))

    @property
    def heights(self) -> int:
        """The number of heights of every function."""
        return int(self.f.shape[-1])

    def only(self, lineages: list[int]) -> Pools:
        """Some of the lineages, in the order given."""
        rows = torch.tensor(lineages, dtype=torch.long, device=self.f.device)
        return Pools(self.f[rows], self.scores[rows])

    def joined(self, other: Pools) -> Pools:
        """The lineages of both."""
        return Pools(torch.cat([self.f, other.f]), torch.cat([self.scores, other.scores]))

    def forget(self, lineages: list[int]) -> None:
        """Empty the pools of some lineages."""
        self.scores[lineages] = math.inf

    def parents(self, owners: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Functions to change, the better the likelier, and others of the same pools: [B, n] each.

        :param owners: [B], the lineage of each.
        """
        held = torch.isfinite(self.scores).sum(-1).clamp_min(1)[owners, None]
        far = -_SPREAD * (1 - draws.uniform()).log()
        first = torch.minimum(far.long(), held - 1)[:, 0]
        return self.f[owners, first], self.f[owners, draws.whole(0, held)[:, 0]]

    def bars(self, owners: Tensor, slack: float) -> Tensor:
        """What an optimisation must be able to reach to matter to its lineage, [B].

        :param slack: while there is room, how much worse than the best it may be.
        """
        worst, best = self.scores[:, -1], self.scores[:, 0]
        return torch.where(torch.isfinite(worst), worst, best + slack)[owners]

    def take(self, f: Tensor, scores: Tensor, apart: float) -> None:
        """Keep the best of what is held and what was found, no two of a lineage within ``apart``.

        :param f: [L, H, n], found for each lineage.
        :param scores: [L, H], infinite where nothing was.
        """
        all_f, left = torch.cat([self.f, f], 1), torch.cat([self.scores, scores], 1)
        rows = torch.arange(left.shape[0], device=left.device)
        kept, places = [], []
        for _ in range(self.scores.shape[1]):
            best, place = left.min(1)
            kept.append(best)
            places.append(place)
            left = torch.where(left < best[:, None] + apart, torch.full_like(left, math.inf), left)
        self.scores = torch.stack(kept, 1)
        self.f = all_f[rows[:, None], torch.stack(places, 1)]
