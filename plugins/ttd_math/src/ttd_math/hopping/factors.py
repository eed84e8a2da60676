"""Cholesky factors of many matrices at once, by blocks, so that nearly all of the work is matrix products.

A library's batched factorisation of a few hundred rows uses a small part of what a GPU can compute, its
batched products most of it. Only the blocks on the diagonal are factored by the library; their inverses,
which are small, turn the rest, and every substitution, into products.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

#: Rows of a block.
BLOCK = 48


@attrs.frozen
class Factors:
    """Lower Cholesky factors [B, n, n].

    :param lower: what is below the blocks of the diagonal; what is above is not used.
    :param inverses: of the diagonal's blocks, each [B, b, b].
    :param failed: [B], matrices that are not positive definite: what is solved with them means nothing.
    """

    lower: Tensor
    inverses: tuple[Tensor, ...]
    failed: Tensor

    def solve(self, right: Tensor) -> Tensor:
        """Solutions [B, n, k] for right-hand sides [B, n, k]."""
        n = self.lower.shape[-1]
        forward: list[Tensor] = []
        for row, inverse in enumerate(self.inverses):
            first = row * BLOCK
            rest = right[:, first : first + BLOCK]
            if row:
                known = self.lower[:, first : first + BLOCK, :first]
                rest = torch.baddbmm(rest, known, torch.cat(forward, 1), alpha=-1)
            forward.append(inverse @ rest)
        backward: list[Tensor] = []
        for row in range(len(self.inverses) - 1, -1, -1):
            first, last = row * BLOCK, min(n, (row + 1) * BLOCK)
            rest = forward[row]
            if last < n:
                known = self.lower[:, last:, first:last].mT
                rest = torch.baddbmm(rest, known, torch.cat(backward[::-1], 1), alpha=-1)
            backward.append(self.inverses[row].mT @ rest)
        return torch.cat(backward[::-1], 1)


def factored(system: Tensor) -> Factors:
    """The factors of symmetric matrices [B, n, n], overwritten; only their lower triangles count."""
    n = system.shape[-1]
    failed = torch.zeros(system.shape[0], dtype=torch.bool, device=system.device)
    inverses = []
    for first in range(0, n, BLOCK):
        last = min(n, first + BLOCK)
        block, info = torch.linalg.cholesky_ex(system[:, first:last, first:last])
        failed |= info != 0
        unit = torch.eye(last - first, dtype=system.dtype, device=system.device).expand_as(block)
        inverse = torch.linalg.solve_triangular(block, unit, upper=False)
        inverses.append(inverse)
        if last < n:
            panel = system[:, last:, first:last] @ inverse.mT
            system[:, last:, first:last] = panel
            rest = system[:, last:, last:]
            rest.baddbmm_(panel, panel.mT, alpha=-1)
    return Factors(system, tuple(inverses), failed)
