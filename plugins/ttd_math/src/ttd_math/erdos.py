"""`erdos`: upper bounds for Erdős' minimum overlap constant from step functions (paper 4.1.1, B.3).

Split {1, ..., 2N} into two sets of N numbers each, and let M be how often the most frequent difference occurs
between a number of the first set and one of the second. C5 is the limit of M/N for the splits where M is
smallest (Erdős 1955). By a result of Swinnerton-Dyer (in Haugland, "The minimum overlap problem revisited",
arXiv:1609.08000) step functions bound it from above: h on [0, 2] with n equal steps, values in [0, 1] and sum
n/2 gives

    C5 <= max_k (2/n) sum_i h[i + k] (1 - h[i]),

the largest entry of the full correlation (both factors zero outside their range).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.certificate import Certificate
from ttd_core.errors import UsageError
from ttd_core.package_files import package_text
from ttd_core.problem import Baseline, Examples, option
from ttd_core.types import Reward, State
from ttd_math import certify, exact, svg
from ttd_math.base import (
    FILE_KEYS,
    StepOptions,
    StepProblem,
    at_least_min_values,
    plain_heights,
    wrong_length,
)
from ttd_math.plain import Floats, not_finite, total
from ttd_math.rounding import ROUNDOFF, Interval, score_from

#: How far the sum of the heights may be from n/2.
SUM_TOLERANCE = 1e-9
#: Fewest heights that any option allows: one alone would be 1/2, and its bound 1/2.
FEWEST = 2


def overlap_interval(h: Floats) -> Interval:
    """An interval around C5 = (2/n) max of the full correlation of h with 1 - h, by direct sums.

    Every product is non-negative for heights in [0, 1], so the relative error of each entry, and of the
    largest, is at most k u / (1 - k u) with k = n + 3, and five more cover the rounding of the interval's own
    ends: below 1.2e-13 for n = 1000. At these sizes an FFT would be no faster, and its error would not be
    relative to the entry.

    :param h: float64 [n], heights in [0, 1].
    """
    bound = float(np.correlate(h, 1.0 - h, mode="full").max() * 2.0 / h.size)
    error = (h.size + 8) * ROUNDOFF
    error /= 1.0 - error
    return Interval(bound * (1.0 - error), bound * (1.0 + error))


def overlap_bound(h: Floats) -> float:
    """C5, right in ten significant digits: by direct sums, or exactly where rounding could show in them.

    :param h: float64 [n], heights in [0, 1].
    """
    return score_from(overlap_interval(h), lambda: exact.overlap_bound(h))


def violations(h: Floats, least: int = 2, most: int = 1000) -> list[str]:
    """Rules that the heights break, one sentence each; the sum is rounded once.

    :param h: float64 [n].
    """
    if not least <= h.size <= most:
        return [f"h has {h.size} values; {wrong_length(h.size, least, most, FEWEST)}"]
    infinite = not_finite(h, "h")
    if infinite:
        return [infinite]
    broken = []
    low, high = int(h.argmin()), int(h.argmax())
    if h[low] < 0:
        broken.append(f"h[{low}] = {float(h[low])!r} is below 0")
    if h[high] > 1:
        broken.append(f"h[{high}] = {float(h[high])!r} is above 1")
    found = total(h)
    if not abs(found - h.size / 2) <= SUM_TOLERANCE:
        broken.append(f"h sums to {found!r} instead of n/2 = {h.size / 2:g}: off by {found - h.size / 2:.3g}")
    return broken


def project(h: Floats) -> Floats:
    """The heights shifted and clipped until they lie in [0, 1] and sum to n/2 within rounding.

    The shift is found by bisection: the sum of ``clip(h + shift, 0, 1)`` grows with the shift.

    :param h: float64 [n], finite.
    """
    low, high = -float(h.max()), 1.0 - float(h.min())
    for _ in range(100):
        middle = 0.5 * (low + high)
        if np.clip(h + middle, 0.0, 1.0).sum() < h.size / 2:
            low = middle
        else:
            high = middle
    return np.clip(h + high, 0.0, 1.0)


def random_start(rng: np.random.Generator) -> Floats:
    """The paper's start: 40 to 100 values 0.5 + uniform(-0.4, 0.4), mean moved to 0.5, clipped to [0, 1]."""
    n = int(rng.integers(40, 101))
    return project(0.5 + rng.uniform(-0.4, 0.4, n))


@attrs.frozen
class ErdosOptions(StepOptions):
    """Options of ``erdos``."""

    min_values: int = option(2, "fewest heights", validator=attrs.validators.ge(FEWEST))
    max_values: int = option(1000, "most heights", validator=at_least_min_values)


class Erdos(StepProblem):
    """Erdős' minimum overlap problem; a state is ``{"h": float64 [n]}``."""

    name = "erdos"
    title = "Erdős' minimum overlap problem"
    metric = "upper bound C5"
    direction = "min"
    family = "erdos"
    file_keys = ("h", "h_values", "heights", *FILE_KEYS, "f")
    signature = "run(seed, budget_s, **kwargs)"
    options_type = ErdosOptions
    options: ErdosOptions
    # The paper rounds its figure up to 0.380876; its published function has the digits given here.
    default_target = 0.380876
    baselines = (
        Baseline(
            "best human",
            0.380927,
            "published: Haugland, arXiv:1609.08000, 51 steps",
            date="2016-09",
            decimals=6,
        ),
        Baseline(
            "AlphaEvolve",
            0.380924,
            "published: Novikov et al., arXiv:2506.13131, 95 steps",
            date="2025-06",
            decimals=6,
        ),
        Baseline(
            "TTT-Discover",
            0.3808753232,
            "published: its paper, Table 2 (0.380876 there), 600 steps",
            date="2026-01",
            decimals=10,
        ),
        Baseline("a public array", 0.3808594224, "published", date="2026", decimals=10),
        Baseline("a list of records", 0.3808590568, "published, 512 steps", date="2026-07", decimals=10),
    )

    def prompt_values(self) -> Mapping[str, Any]:
        """Length limits for the prompt."""
        return {"least": self.options.min_values, "most": self.options.max_values}

    def start_data(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """A random start as in the paper."""
        return {"h": random_start(rng)}

    def inject(self, state: State) -> Mapping[str, Any]:
        """``initial_h_values``: the state's heights, or for a state without any a fixed random start."""
        h = state.data.get("h")
        return {"initial_h_values": h if h is not None else random_start(np.random.default_rng(0))}

    def helpers(self) -> str:
        """``evaluate_erdos_solution`` for the candidate's own use."""
        limits = f"LEAST, MOST = {self.options.min_values}, {self.options.max_values}\n"
        return package_text("ttd_math", "helpers", "erdos.py") + limits

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Heights from ``(h, c5, n)`` or from h alone; the claimed bound and length are never looked at."""
        if (
            type(value) in (list, tuple)
            and 1 <= len(value) <= 3
            and type(value[0]) in (list, tuple, np.ndarray)
        ):
            value = value[0]
        return {"h": plain_heights(value, "h", self.options.max_values)}

    def check(self, state: State) -> Sequence[str]:
        """The rules of :func:`violations`."""
        try:
            h = plain_heights(state.data.get("h"), "h", self.options.max_values)
        except ValueError as error:
            return [str(error)]
        return violations(h, self.options.min_values, self.options.max_values)

    def project(self, state: State) -> tuple[State, str]:
        """The nearest heights in [0, 1] with sum n/2: all shifted by the same, then clipped.

        :raises UsageError: when they are not finite, or too few or too many: no shift helps that.
        """
        h = plain_heights(state.data.get("h"), "h", self.options.max_values)
        if h.size == 0 or not_finite(h, "h"):
            raise UsageError(f"{self.name}: no projection of these heights: {'; '.join(self.check(state))}")
        nearest = project(h)
        broken = self.check(State(data={"h": nearest}))
        if broken:
            raise UsageError(f"{self.name}: no projection of these heights: {'; '.join(broken)}")
        change = (
            f"the heights were moved by at most {float(np.abs(nearest - h).max()):.3g}, so that they lie in "
            f"[0, 1] and sum to n/2 = {h.size / 2:g} (the sum was {total(h)!r})"
        )
        return State(data={"h": nearest}), change

    def reward(self, state: State) -> Reward:
        """1 / C5, with C5 recomputed from the heights."""
        h = plain_heights(state.data["h"], "h", self.options.max_values)
        bound = overlap_bound(h)
        return Reward(value=1.0 / bound, score=bound, metrics={"values": int(h.size)})

    def examples(self) -> Examples:
        """Those of every step function, one that says its own bound, one whose sum is off."""
        known = super().examples()
        h = known.good[0]
        return Examples(good=[*known.good, [h, overlap_bound(h), h.size]], bad=[*known.bad, 0.9 * h])

    def certificate(self, state: State) -> Certificate:
        """Exact C5 of the rational heights next to the state's that sum to n/2."""
        return certify.overlap(plain_heights(state.data["h"], "h", self.options.max_values))

    def plot(self, state: State) -> str | None:
        """The step function and its overlap with its complement at each shift."""
        if self.check(state):
            return None
        h = plain_heights(state.data["h"], "h", self.options.max_values)
        overlap = np.correlate(h, 1.0 - h, mode="full") * 2.0 / h.size
        return svg.curves(
            [
                svg.Panel(f"h, {h.size} steps", h, 0.0, 2.0, steps=True),
                svg.Panel(f"overlap by shift, largest {overlap_bound(h):.10g}", overlap, -2.0, 2.0),
            ]
        )
