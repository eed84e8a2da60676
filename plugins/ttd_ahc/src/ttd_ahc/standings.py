"""From a sum of scores to a rank in a contest's final standings, and to a performance."""

from __future__ import annotations

import attrs

from ttd_core.package_files import package_text


@attrs.frozen
class Standings:
    """A contest's final standings.

    One entry a rank; people who tied share one.

    :param ranks: ascending.
    :param sums: the sum of case scores at each rank, descending.
    :param performances: AtCoder's performance at each rank (a rating of one contest), descending.
    """

    ranks: tuple[int, ...]
    sums: tuple[int, ...]
    performances: tuple[int, ...]

    @classmethod
    def read(cls, name: str) -> Standings:
        """The standings shipped as ``facts/NAME.txt``: lines of ``rank sum performance``."""
        lines = package_text("ttd_ahc", "facts", f"{name}.txt").splitlines()
        rows = [tuple(map(int, line.split())) for line in lines if line and not line.startswith("#")]
        ranks, sums, performances = zip(*rows, strict=True)
        return cls(ranks, sums, performances)

    def rank_and_performance(self, total: float) -> tuple[int, int]:
        """What a sum would have earned: the best rank whose sum is no larger, and its performance.

        :param total: sum over as many cases as the standings have; the last rank's if it is below all.
        """
        low, high = 0, len(self.sums) - 1
        while low < high:
            middle = (low + high) // 2
            if self.sums[middle] <= total:
                high = middle
            else:
                low = middle + 1
        return self.ranks[low], self.performances[low]
