"""How many members of a batch take a Newton step together: as many as their matrices allow.

A batch is taken through a step in parts, one after the other, so that its memory is that of a part. What a
member does depends on no other, and a step leaves what it began with as it was: a part that found no memory
is taken again as two. What its members come to stays the same, but for the rounding of matrix products, which
a device may form otherwise for fewer matrices at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import torch

from ttd_math import device_failures

#: Most values of the slopes of a part, 2 GiB: with those a GPU has enough to do.
CELLS = 1 << 28
#: From so many heights on every member is a part: one fills a GPU. cuSOLVER has a Cholesky factorisation for
#: batches of small matrices and another for a large one, and torch takes the first for any batch of several.
ALONE = 4096

T = TypeVar("T")


def cells_of(heights: int) -> int:
    """Values of the largest matrix of one function, its slopes."""
    return (2 * heights - 1) * heights


def memory_of(cells: int) -> float:
    """Bytes that a batch takes whose largest matrices hold so many values, as measured on a CPU."""
    return 13.0 * min(cells, CELLS) + max(0, cells - CELLS)


@attrs.define
class Parts:
    """How batches are taken apart, and what was learned of it.

    :param most: by the number of heights, how many members found memory where more did not.
    :param notes: lines about that, for whoever asked for the search to be told.
    :param under_way: functions that are computed together at the moment, and their heights.
    """

    most: dict[int, int] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)
    under_way: tuple[int, int] = (1, 1)

    def members_at(self, heights: int) -> int:
        """Most members of a part."""
        usual = 1 if heights >= ALONE else max(1, CELLS // cells_of(heights))
        return min(usual, self.most.get(heights, usual))

    def each(self, count: int, heights: int, device: torch.device, work: Callable[[slice], T]) -> list[T]:
        """Work on parts of a batch in turn, on smaller ones when memory runs out.

        :param count: members of the batch.
        :param work: gets the rows of a part, and leaves the batch as it is.
        :raises RuntimeError: from the work, when it fails otherwise or for want of memory for one member.
        """
        made: list[T] = []
        first = 0
        while first < count:
            rows = slice(first, min(count, first + self.members_at(heights)))
            self.under_way = rows.stop - first, heights
            failed = ""
            try:
                made.append(work(rows))
            except device_failures.FAILURES as error:
                if rows.stop - first == 1 or not device_failures.may_be_shortage(error):
                    raise
                failed = type(error).__name__
            if not failed:
                first = rows.stop
                continue
            # Only now: the error holds the frames, and with them the tensors, of the work that failed.
            self._halve(rows.stop - first, heights)
            device_failures.release(device)
        self.under_way = count, heights
        return made

    def _halve(self, members: int, heights: int) -> None:
        self.most[heights] = members // 2
        self.notes.append(
            f"no memory for Newton steps of {members} functions of {heights} heights together: "
            f"on with {members // 2}"
        )
