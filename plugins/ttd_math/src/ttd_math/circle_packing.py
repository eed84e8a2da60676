"""`cp26` and `cp32`: the largest sum of radii of n disjoint circles in the unit square (paper 4.1.3, B.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ttd_core.certificate import Certificate
from ttd_core.problem import Baseline, Examples
from ttd_core.types import Reward, State
from ttd_math import certify, files, svg
from ttd_math.base import MathProblem
from ttd_math.exact import squared_distance
from ttd_math.plain import Floats, not_finite, plain_points, plain_vector, total

#: By how much a circle may leave the square, or two may overlap.
TOLERANCE = Fraction(1, 10**12)
#: Rounding error of the slack of a pair as computed below: four operations on numbers in [0, 1], `hypot`
#: within one unit in the last place.
SLACK_ERROR = 8 * 2.0**-52
_FIRST = "published: Novikov et al., arXiv:2506.13131"
_SECOND = "published: Georgiev et al., arXiv:2511.02864"
#: Where the digits of the best packings come from; what the tolerance can add to them is below 3e-11.
_CERTIFIED = "the same from several programs, certified"
#: Rows looked at before a packing is refused by its shape alone.
READ_AT_MOST = 10_000


def sum_of_radii(radii: Floats) -> float:
    """The sum of the radii, rounded once.

    :param radii: float64 [n].
    """
    return total(radii)


def violations(centers: Floats, radii: Floats, count: int) -> list[str]:
    """Rules that a packing breaks, one sentence each.

    The slacks are computed in float64, all pairs at once. Where that of a pair, or of a circle to a wall,
    lies so close to the tolerance that rounding (at most ``SLACK_ERROR``) could turn the verdict, exact
    rational arithmetic decides.

    :param centers: float64 [n, 2].
    :param radii: float64 [n].
    :param count: the n asked for.
    """
    if centers.shape != (count, 2) or radii.shape != (count,):
        return [f"centers {centers.shape} and radii {radii.shape} should be ({count}, 2) and ({count},)"]
    infinite = not_finite(centers, "centers") or not_finite(radii, "radii")
    if infinite:
        return [infinite]
    lowest = int(radii.argmin())
    if radii[lowest] < 0:
        return [f"radii[{lowest}] = {float(radii[lowest])!r} is negative"]
    # Numbers near the largest float overflow to infinite slacks, on the right side of the tolerance.
    with np.errstate(over="ignore", invalid="ignore"):
        return _outside(centers, radii) + _overlapping(centers, radii)


def _outside(centers: Floats, radii: Floats) -> list[str]:
    slack = (np.minimum(centers, 1.0 - centers) - radii[:, None]).min(axis=1)
    outside = []
    for index in np.flatnonzero(slack < SLACK_ERROR - float(TOLERANCE)):
        places = [Fraction(float(x)) for x in centers[index]]
        wall = min(min(x, 1 - x) for x in places)
        if wall - Fraction(float(radii[index])) < -TOLERANCE:
            outside.append(f"circle {index} leaves the square by {-float(slack[index]):.3g}")
            if len(outside) == 3:
                break
    return outside


def _overlapping(centers: Floats, radii: Floats) -> list[str]:
    first, second = np.triu_indices(len(radii), 1)
    gap = centers[first] - centers[second]
    slack = np.hypot(gap[:, 0], gap[:, 1]) - radii[first] - radii[second]
    overlaps = []
    for pair in np.flatnonzero(slack < SLACK_ERROR - float(TOLERANCE)):
        i, j = int(first[pair]), int(second[pair])
        reach = Fraction(float(radii[i])) + Fraction(float(radii[j])) - TOLERANCE
        if reach > 0 and squared_distance(centers[i], centers[j]) < reach**2:
            overlaps.append(f"circles {i} and {j} overlap by {-float(slack[pair]):.3g}")
            if len(overlaps) == 3:
                break
    return overlaps


class CirclePacking(MathProblem):
    """Packings of ``count`` circles; a state is ``{"centers": float64 [n, 2], "radii": float64 [n]}``."""

    metric = "sum of radii"
    direction = "max"
    family = "circle_packing"
    entry = "run_packing"
    signature = "run_packing()"
    #: Number of circles.
    count: ClassVar[int]

    def prompt_values(self) -> Mapping[str, Any]:
        """Number of circles for the prompt."""
        return {"count": self.count}

    def starting_program(self) -> str:
        """The program the ``program`` option names, set to this number of circles."""
        return super().starting_program().replace("N = 26\n", f"N = {self.count}\n", 1)

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None: the paper's programs take no arguments."""
        return {}

    def inject(self, state: State) -> Mapping[str, Any]:
        """``initial_centers`` and ``initial_radii``: the state's packing, or None."""
        return {"initial_centers": state.data.get("centers"), "initial_radii": state.data.get("radii")}

    def meant(self, value: Any) -> Any:
        """Centers and radii by name, as columns, or circle by circle; else ``(centers, radii, sum)``."""
        return files.as_packing(value)

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Centers and radii from ``(centers, radii, sum)``; the claimed sum is never looked at."""
        if type(value) not in (list, tuple) or len(value) not in (2, 3):
            raise ValueError("run_packing must return (centers, radii, sum)")
        return {
            "centers": plain_points(value[0], "centers", READ_AT_MOST),
            "radii": plain_vector(value[1], "radii", READ_AT_MOST),
        }

    def check(self, state: State) -> Sequence[str]:
        """The rules of :func:`violations`."""
        try:
            centers = plain_points(state.data.get("centers"), "centers", READ_AT_MOST)
            radii = plain_vector(state.data.get("radii"), "radii", READ_AT_MOST)
        except ValueError as error:
            return [str(error)]
        return violations(centers, radii, self.count)

    def reward(self, state: State) -> Reward:
        """The sum of the radii, recomputed."""
        total = sum_of_radii(plain_vector(state.data["radii"], "radii", READ_AT_MOST))
        return Reward(value=total, score=total)

    def examples(self) -> Examples:
        """Circles in a grid and half as large; outside, overlapping, too few, negative, not a number."""
        side = (np.arange(6) + 0.5) / 6
        centers = np.array([(x, y) for x in side for y in side])[: self.count]
        radii = np.full(self.count, 1 / 12)
        good = [[centers, scale * radii, scale * sum_of_radii(radii)] for scale in (1.0, 0.5)]
        bad = [
            [centers + 0.1, radii],
            [np.concatenate([centers[:1], centers[:-1]]), radii],
            [centers[1:], radii[1:]],
            [centers, -radii],
            [centers, np.nan * radii],
        ]
        return Examples(good=good, bad=bad)

    def certificate(self, state: State) -> Certificate:
        """Exact sum of the radii after the least shrink that makes the packing strictly valid."""
        return certify.packing(
            self.name,
            plain_points(state.data["centers"], "centers", READ_AT_MOST),
            plain_vector(state.data["radii"], "radii", READ_AT_MOST),
        )

    def plot(self, state: State) -> str | None:
        """The packing."""
        if self.check(state):
            return None
        radii = plain_vector(state.data["radii"], "radii", READ_AT_MOST)
        title = f"{self.count} circles, sum of radii {sum_of_radii(radii):.10g}"
        return svg.circles(plain_points(state.data["centers"], "centers", READ_AT_MOST), radii, title)


class CirclePacking26(CirclePacking):
    """26 circles."""

    name = "cp26"
    title = "Packing 26 circles in a square"
    count = 26
    default_target = 2.635983
    baselines = (
        Baseline("AlphaEvolve", 2.635862, _FIRST, date="2025-06", decimals=6),
        Baseline(
            "AlphaEvolve V2",
            2.635983,
            "published: Georgiev et al., arXiv:2511.02864",
            date="2025-11",
            decimals=6,
        ),
        Baseline("TTT-Discover", 2.635983, "published: its paper, Table 3", date="2026-01", decimals=6),
        Baseline("best public packing", 2.6359830849, _CERTIFIED, date="2026-11", decimals=10),
    )


class CirclePacking32(CirclePacking):
    """32 circles."""

    name = "cp32"
    title = "Packing 32 circles in a square"
    count = 32
    default_target = 2.939572
    baselines = (
        Baseline("AlphaEvolve", 2.937944, _FIRST, date="2025-06", decimals=6),
        Baseline(
            "AlphaEvolve V2",
            2.939572,
            "published: Georgiev et al., arXiv:2511.02864",
            date="2025-11",
            decimals=6,
        ),
        Baseline("TTT-Discover", 2.939572, "published: its paper, Table 3", date="2026-01", decimals=6),
        Baseline("best public packing", 2.9395727712, _CERTIFIED, date="2026-11", decimals=10),
    )
