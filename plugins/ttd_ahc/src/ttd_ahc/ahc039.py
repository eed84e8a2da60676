"""`ahc039`: Purse Seine Fishing. A polygon that catches mackerels and leaves sardines out (paper 4.3, D)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from ttd_ahc import svg
from ttd_ahc.contest import OFFICIAL_CASES, TRAINING_CASES, Answer, Case, Contest, ContestOptions
from ttd_ahc.fish import POINTS, SIDE, draw_points
from ttd_ahc.reading import integers
from ttd_ahc.rectilinear import Grid, InvalidPolygon, check_edges, perimeter
from ttd_ahc.standings import Standings
from ttd_core.errors import UsageError
from ttd_core.package_files import package_text
from ttd_core.problem import Baseline, Examples, option

#: Vertices that a polygon may have.
MIN_VERTICES, MAX_VERTICES = 4, 1000
#: Total length that its edges may have.
MAX_PERIMETER = 4 * SIDE
#: Cases in the final standings.
FINAL_CASES = 150


@attrs.frozen
class FishingOptions(ContestOptions):
    """Options of `ahc039`."""

    official: bool = option(False, "judge on the 150 cases that decided the contest")
    reward: str = option(
        "performance",
        "'performance' (of the sum's place in the final standings, which are of the official cases, whatever "
        "cases are judged) or 'mean' (mean case score / 1500)",
        validator=attrs.validators.in_(("performance", "mean")),
    )


@functools.cache
def final_standings() -> Standings:
    """The contest's final standings."""
    return Standings.read("ahc039")


@functools.cache
def official_seeds() -> tuple[int, ...]:
    """Seeds of the 150 cases that decided the contest."""
    lines = package_text("ttd_ahc", "facts", "ahc039_seeds.txt").splitlines()
    return tuple(int(line) for line in lines if line and not line.startswith("#"))


def read_polygon(output: bytes) -> Answer:
    """The last polygon of an output: int32 [m, 2].

    :raises InvalidPolygon: for a word that is no integer, a count or a coordinate out of range, coordinates
        that are missing.
    """
    try:
        numbers = integers(output.split())
    except ValueError as error:
        raise InvalidPolygon(str(error)) from None
    if not numbers:
        raise InvalidPolygon("nothing was printed")
    start = 0
    while True:
        count = numbers[start]
        if not MIN_VERTICES <= count <= MAX_VERTICES:
            raise InvalidPolygon(f"{count} vertices; {MIN_VERTICES} to {MAX_VERTICES} are allowed")
        end = start + 1 + 2 * count
        if end > len(numbers):
            given = len(numbers) - start - 1
            raise InvalidPolygon(
                f"{given} coordinates follow a count of {count} vertices; {2 * count} should"
            )
        block = numbers[start + 1 : end]
        if min(block) < 0 or max(block) > SIDE:
            wrong = next(number for number in block if not 0 <= number <= SIDE)
            raise InvalidPolygon(f"a coordinate is {wrong}; 0 to {SIDE} are allowed")
        if end == len(numbers):
            return np.array(block, np.int32).reshape(count, 2)
        start = end


def check_polygon(vertices: npt.NDArray[np.int64]) -> Grid:
    """Check the rules of the contest.

    :param vertices: int64 [m, 2].
    :return: the grid of the polygon's lines, which tells the points inside.
    :raises InvalidPolygon: naming the first rule that is broken.
    """
    if not MIN_VERTICES <= len(vertices) <= MAX_VERTICES:
        raise InvalidPolygon(f"{len(vertices)} vertices; {MIN_VERTICES} to {MAX_VERTICES} are allowed")
    if vertices.min() < 0 or vertices.max() > SIDE:
        raise InvalidPolygon(f"a coordinate is not in 0 to {SIDE}")
    check_edges(vertices)
    length = perimeter(vertices)
    if length > MAX_PERIMETER:
        raise InvalidPolygon(f"the edges are {length} long in all; {MAX_PERIMETER} are allowed")
    if len(np.unique(vertices[:, 0] * (SIDE + 1) + vertices[:, 1])) < len(vertices):
        raise InvalidPolygon("two vertices are at the same place")
    grid = Grid(vertices)
    point = grid.touching_point()
    if point is not None:
        raise InvalidPolygon(f"edges that are not neighbours touch at {point}")
    return grid


class Fishing(Contest):
    """An answer is a polygon: int32 [m, 2], its vertices in order."""

    name = "ahc039"
    title = "AtCoder Heuristic Contest 039: Purse Seine Fishing"
    width = 2
    unit = 1500.0
    options_type = FishingOptions
    options: FishingOptions
    # The best published figure, a sum over the official cases: what prompts name, whatever is judged on.
    default_target = 567_062 / FINAL_CASES
    baselines = (
        Baseline(
            "best human",
            566_997 / FINAL_CASES,
            "published: the contest's final standings, sum 566,997",
            date="2024-11",
            on=OFFICIAL_CASES,
        ),
        Baseline(
            "TTT-Discover",
            567_062 / FINAL_CASES,
            "published: its paper, Table 6, sum 567,062",
            date="2026-01",
            on=OFFICIAL_CASES,
        ),
        Baseline(
            "TTT-Discover's program",
            570_404 / FINAL_CASES,
            "measured by us, one run, sum 570,404",
            date="2026-11",
            on=TRAINING_CASES,
        ),
        Baseline(
            "another public program",
            564_101 / FINAL_CASES,
            "measured by us, one run, sum 564,101",
            date="2026-11",
            on=TRAINING_CASES,
        ),
    )

    @classmethod
    def make_case(cls, seed: int) -> Case:
        """The case of a seed; its input is the points, mackerels first: int64 [10000, 2]."""
        points = draw_points(seed)
        points.setflags(write=False)
        lines = "\n".join(f"{x} {y}" for x, y in points.tolist())
        return Case(seed, f"{POINTS}\n{lines}\n", points)

    def seeds(self) -> list[int]:
        """0, 1, 2 and so on, or the official ones.

        :raises UsageError: when more official cases are asked for than there are.
        """
        if not self.options.official:
            return super().seeds()
        chosen = list(official_seeds()[self.options.first_seed :][: self.options.cases])
        if len(chosen) < self.options.cases:
            raise UsageError(
                f"ahc039 has {FINAL_CASES} official cases; {self.options.cases} from number "
                f"{self.options.first_seed} on are more than that"
            )
        return chosen

    def cases_in_words(self) -> str:
        """As of every contest, of the official cases where those are judged."""
        if not self.options.official:
            return super().cases_in_words()
        first, count = self.options.first_seed, self.options.cases
        return OFFICIAL_CASES if count == FINAL_CASES else f"{count} official cases from number {first} on"

    def read_answer(self, case: Case, output: bytes) -> Answer:
        """The last polygon printed."""
        return read_polygon(output)

    def score_answer(self, case: Case, answer: Answer) -> int:
        """``max(0, a - b + 1)`` for ``a`` mackerels and ``b`` sardines inside or on the edge."""
        inside = check_polygon(answer.astype(np.int64)).contains(case.input)
        mackerels, sardines = int(inside[:POINTS].sum()), int(inside[POINTS:].sum())
        return max(0, mackerels - sardines + 1)

    def reward_of(self, total: int, count: int) -> tuple[float, Mapping[str, Any]]:
        """The performance, or the mean form; both are among the metrics.

        A sum over fewer cases than the standings count is scaled to theirs. The standings are of the
        official cases: of other cases the place is an estimate, since a sum over them differs.
        """
        rank, performance = final_standings().rank_and_performance(total * FINAL_CASES / count)
        mean = total / count / self.unit
        value = float(performance) if self.options.reward == "performance" else mean
        return value, {"rank": rank, "performance": performance, "mean_form": mean}

    def picture(self, case: Case, answer: Answer) -> str | None:
        """The polygon over the fish."""
        vertices = answer.astype(np.int64)
        title = f"seed {case.seed}: score {self.score_answer(case, answer)}, {len(vertices)} vertices"
        return svg.polygon_over_points(vertices, case.input[:POINTS], case.input[POINTS:], SIDE, title)

    def examples(self) -> Examples:
        """Halves of the sea, a corner of it, and polygons that break a rule each."""
        cases = [self.case(seed) for seed in self.seeds()]
        corner = _rectangle(0, 0, 1, 1)
        rest = [corner] * (len(cases) - 1)
        return Examples(
            good=[[self._best_half(case) for case in cases], [corner, *rest]],
            bad=[[], *([invalid, *rest] for invalid in _INVALID_POLYGONS)],
        )

    def _best_half(self, case: Case) -> str:
        half = SIDE // 2
        halves: Sequence[str] = [
            _rectangle(*box)
            for box in ((0, 0, half, SIDE), (half, 0, SIDE, SIDE), (0, 0, SIDE, half), (0, half, SIDE, SIDE))
        ]
        return max(halves, key=lambda text: self.score_answer(case, read_polygon(text.encode())))


def _rectangle(left: int, low: int, right: int, high: int) -> str:
    return f"4\n{left} {low}\n{right} {low}\n{right} {high}\n{left} {high}\n"


_INVALID_POLYGONS = (
    "",
    "4\n0 0\n1 0\n1 1\n",
    "4\n0 0\n1 0\n1 1\n0 1\n7\n",
    "3\n0 0\n1 0\n1 1\n",
    "4\n0 0\n1.5 0\n1.5 1\n0 1\n",
    "4\n0 0\n100001 0\n100001 1\n0 1\n",
    "4\n0 0\n2 1\n2 2\n0 2\n",
    "4\n0 0\n0 0\n1 0\n1 1\n",
    "6\n0 0\n4 0\n2 0\n2 2\n1 2\n0 2\n",
    "8\n0 0\n4 0\n4 4\n2 4\n2 0\n1 0\n1 4\n0 4\n",
    "8\n0 0\n9 0\n9 9\n2 9\n2 5\n10 5\n10 7\n0 7\n",
    "8\n0 0\n100000 0\n100000 100000\n60000 100000\n60000 50000\n50000 50000\n50000 100000\n0 100000\n",
)
