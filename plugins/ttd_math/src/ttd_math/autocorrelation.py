"""`ac1` and `ac2`: bounds from the autoconvolution of a step function (paper 4.1.2, B.2).

Both constants are those of Matolcsi and Vinuesa, "Improved bounds on the supremum of autoconvolutions" (J.
Math. Anal. Appl. 372, 2010): C1 is the largest with max(f*f) >= C1 (integral of f)^2 for every non-negative f
on [-1/4, 1/4], and C2 the supremum of norm2(f*f)^2 / (norm1(f*f) norminf(f*f)) over non-negative f.

For heights f[0..n-1] on n equal steps f*f is linear between the 2n - 1 values ``np.convolve(f, f)``, and 0
beyond. So `ac1` bounds C1 from above by 2 n max(f*f) / (sum f)^2, and `ac2` bounds C2 from below by the ratio
of norms. Neither bound changes when f is scaled, reversed, or refined by repeating heights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from ttd_core.certificate import Certificate
from ttd_core.package_files import package_text
from ttd_core.problem import Baseline, option
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
from ttd_math.convolution import autoconvolution, first_interval, second_interval
from ttd_math.plain import Floats, not_finite, total
from ttd_math.rounding import score_from

#: Heights above this count as this.
CEILING = 1000.0
#: Least sum of heights.
LEAST_SUM = 0.01
#: Fewest heights that any option allows.
FEWEST = 1


def first_bound(f: Floats) -> float:
    """C1, right in ten significant digits; by FFT, or exactly where its error could show in them.

    Relative error below 1e-9 always (both ends of the interval read the same), and below 1e-12 for functions
    whose values are not concentrated in a few spikes (:func:`ttd_math.convolution.first_interval`).

    :param f: float64 [n], valid heights.
    """
    return score_from(first_interval(f), lambda: exact.first_bound(f), lambda: exact.first_range(f))


def second_bound(f: Floats) -> float:
    """C2, right in ten significant digits, as :func:`first_bound`.

    :param f: float64 [n], valid heights.
    """
    return score_from(second_interval(f), lambda: exact.second_bound(f), lambda: exact.second_range(f))


def violations(f: Floats, least: int = 1000, most: int = 100_000) -> list[str]:
    """Rules that the heights break, one sentence each.

    :param f: float64 [n].
    """
    if not least <= f.size <= most:
        return [f"the sequence has {f.size} heights; {wrong_length(f.size, least, most, FEWEST)}"]
    infinite = not_finite(f, "f")
    if infinite:
        return [infinite]
    low, high = int(f.argmin()), int(f.argmax())
    if f[low] < 0:
        return [f"f[{low}] = {float(f[low])!r} is negative"]
    if f[high] > CEILING:
        return [f"f[{high}] = {float(f[high])!r} is above {CEILING:g}"]
    found = total(f)
    return [] if found >= LEAST_SUM else [f"the heights sum to {found!r}; at least {LEAST_SUM} is needed"]


@attrs.frozen
class SequenceOptions(StepOptions):
    """Options of ``ac1`` and ``ac2``."""

    min_values: int = option(1000, "fewest heights", validator=attrs.validators.ge(FEWEST))
    max_values: int = option(100_000, "most heights", validator=at_least_min_values)


class Autocorrelation(StepProblem):
    """What both inequalities share; a state is ``{"f": float64 [n]}``."""

    file_keys = ("f", "heights", "h", *FILE_KEYS, "f_values", "height_sequence")
    options_type = SequenceOptions
    options: SequenceOptions

    def prompt_values(self) -> Mapping[str, Any]:
        """Length limits for the prompt."""
        return {"least": self.options.min_values, "most": self.options.max_values}

    def start_data(self, rng: np.random.Generator) -> Mapping[str, Any]:
        """One random height repeated 1000 to 8000 times."""
        height = max(float(rng.uniform(0.0, 1.0)), LEAST_SUM)
        return {"f": np.full(int(rng.integers(1000, 8001)), height)}

    def inject(self, state: State) -> Mapping[str, Any]:
        """``height_sequence_1``: the state's heights, or for a state without any a constant function."""
        f = state.data.get("f")
        return {"height_sequence_1": f if f is not None else np.ones(self.options.min_values)}

    def helpers(self) -> str:
        """``evaluate_sequence`` for the candidate's own use."""
        limits = f"LEAST, MOST = {self.options.min_values}, {self.options.max_values}\n"
        return package_text("ttd_math", "helpers", f"{self.family}.py") + limits

    def meant(self, value: Any) -> Any:
        """The heights, those of a taller function scaled by the power of two that brings them to the ceiling.

        A program is told that heights above the ceiling count as the ceiling. A file holds a function, and
        neither bound changes when it is scaled; by a power of two no digit of it changes.
        """
        f = plain_heights(super().meant(value), "f", self.options.max_values)
        if not f.size or not_finite(f, "f") or f.max() <= CEILING:
            return f
        return np.ldexp(f, -math.frexp(float(f.max()) / CEILING)[1])

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Heights from a list, those above the ceiling lowered to it."""
        if type(value) in (list, tuple) and len(value) == 1 and type(value[0]) in (list, tuple, np.ndarray):
            value = value[0]
        f = plain_heights(value, "f", self.options.max_values)
        return {"f": np.where(f > CEILING, CEILING, f) if np.isfinite(f).all() else f}

    def check(self, state: State) -> Sequence[str]:
        """The rules of :func:`violations`."""
        try:
            f = plain_heights(state.data.get("f"), "f", self.options.max_values)
        except ValueError as error:
            return [str(error)]
        return violations(f, self.options.min_values, self.options.max_values)

    def plot(self, state: State) -> str | None:
        """The step function with integral 1 on [-1/4, 1/4], and its autoconvolution."""
        if self.check(state):
            return None
        f = plain_heights(state.data["f"], "f", self.options.max_values)
        f = f * (2.0 * f.size / f.sum())
        score = self.format_score(self.reward(state).score)
        values = np.concatenate([[0.0], autoconvolution(f)[0] / (2.0 * f.size), [0.0]])
        return svg.curves(
            [
                svg.Panel(f"f, {f.size} steps", f, -0.25, 0.25, steps=True),
                svg.Panel(f"f*f, {self.metric} {score}", values, -0.5, 0.5),
            ]
        )


class FirstInequality(Autocorrelation):
    """First autocorrelation inequality."""

    name = "ac1"
    title = "First autocorrelation inequality"
    metric = "upper bound C1"
    direction = "min"
    family = "ac1"
    entry = "propose_candidate"
    signature = "propose_candidate(seed, budget_s, **kwargs)"
    # As the paper's Table 2 rounds it, up.
    default_target = 1.50287
    baselines = (
        Baseline("best human", 1.50973, "published: Matolcsi and Vinuesa 2010", date="2010", decimals=5),
        Baseline(
            "AlphaEvolve V2",
            1.50317,
            "published: Georgiev et al., arXiv:2511.02864, 1319 steps",
            date="2025-11",
            decimals=5,
        ),
        Baseline(
            "ThetaEvolve",
            1.50314,
            "published: Wang et al., arXiv:2511.23473, from AlphaEvolve V2's",
            date="2025-11",
            decimals=5,
        ),
        Baseline(
            "TTT-Discover",
            1.5028629,
            "published: its paper, Table 2 (1.50287 there), 30000 steps",
            date="2026-01",
            decimals=7,
        ),
        Baseline("a public arena", 1.502744, "published: the leader of its list", date="2026-08", decimals=6),
    )

    def reward(self, state: State) -> Reward:
        """1 / C1, with C1 recomputed."""
        f = plain_heights(state.data["f"], "f", self.options.max_values)
        bound = first_bound(f)
        return Reward(value=1.0 / bound, score=bound, metrics={"values": int(f.size)})

    def certificate(self, state: State) -> Certificate:
        """Exact C1."""
        return certify.first_inequality(plain_heights(state.data["f"], "f", self.options.max_values))


class SecondInequality(Autocorrelation):
    """Second autocorrelation inequality."""

    name = "ac2"
    title = "Second autocorrelation inequality"
    metric = "lower bound C2"
    direction = "max"
    family = "ac2"
    entry = "construct_function"
    signature = "construct_function(seed, budget_s, **kwargs)"
    # AlphaEvolve V2's figure, the best when the paper was written.
    default_target = 0.9610
    baselines = (
        Baseline(
            "best human", 0.9015, "published: Boyer and Li, arXiv:2506.16750", date="2025-06", decimals=4
        ),
        Baseline(
            "AlphaEvolve V2",
            0.9610,
            "published: Georgiev et al., arXiv:2511.02864, 50000 steps",
            date="2025-11",
            decimals=4,
        ),
        Baseline(
            "TTT-Discover",
            0.959180,
            "published: its paper, Table 2 (0.9591 there)",
            date="2026-01",
            decimals=6,
        ),
        Baseline("a public array", 0.961206, "published, 50,000 heights", date="2026", decimals=6),
        Baseline("a public arena", 0.963588, "published: the leader of its list", date="2026-07", decimals=6),
    )

    def reward(self, state: State) -> Reward:
        """C2, recomputed."""
        f = plain_heights(state.data["f"], "f", self.options.max_values)
        bound = second_bound(f)
        return Reward(value=bound, score=bound, metrics={"values": int(f.size)})

    def certificate(self, state: State) -> Certificate:
        """Exact C2."""
        return certify.second_inequality(plain_heights(state.data["f"], "f", self.options.max_values))
