"""From a sum of scores to a rank in a contest's final standings, and to a performance."""

from __future__ import annotations

import attrs

from ttd_ahc.contest import text_of


@attrs.frozen
class Standings:
    """A contest's final standings.

    :param ranks: rank of each place, ascending; people who tied share one.
    :param sums: the sum of scores of each, descending.
    :param performances: the performance of each, descending.
    """

    ranks: tuple[int, ...]
    sums: tuple[int, ...]
    performances: tuple[int, ...]

    @classmethod
    def read(cls, name: str) -> Standings:
        """The standings shipped as ``facts/NAME.txt``: a line ``rank sum performance`` a place."""
        lines = text_of("facts", f"{name}.txt").splitlines()
        rows = [tuple(map(int, line.split())) for line in lines if line and not line.startswith("#")]
        ranks, sums, performances = zip(*rows, strict=True)
        return cls(ranks, sums, performances)

    def place(self, total: float) -> tuple[int, int]:
        """Rank and performance of a sum: those of the best place with no larger sum.

        :param total: sum over as many cases as the standings count.
        """
        low, high = 0, len(self.sums) - 1
        while low < high:
            middle = (low + high) // 2
            if self.sums[middle] <= total:
                high = middle
            else:
                low = middle + 1
        return self.ranks[low], self.performances[low]
