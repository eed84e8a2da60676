"""Times of repeats: what is believed of them, when there are enough, what they come to. No clock in here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs

#: Device memory bytes and half-precision operations per second of the GPU that floors are stated for (an
#: NVIDIA H200, measured).
BYTES_PER_S = 4.3e12
OPERATIONS_PER_S = 790e12


@attrs.frozen
class Rules:
    """The timing protocol.

    :param least: repeats at least.
    :param most: repeats at most.
    :param error: relative error of the mean at which to stop.
    :param timed_s: seconds of timed work after which to stop.
    :param wall_s: seconds of wall time after which to stop.
    :param slack_us: what the judge's clock may exceed a claim by, for each repeat.
    :param slack: the same as a share of the claim.
    :param late: share of repeats beyond the slack at which the claims are refused.
    """

    least: int = 3
    most: int = 100
    error: float = 0.001
    timed_s: float = 30.0
    wall_s: float = 120.0
    slack_us: float = 60.0
    slack: float = 0.03
    late: float = 0.25


@attrs.frozen
class Repeat:
    """One timed call.

    :param claimed_us: by events, as the candidate's process says.
    :param bound_us: by the judge's clock, less what an empty call takes.
    """

    claimed_us: float
    bound_us: float

    def is_late(self, rules: Rules) -> bool:
        """Whether the call took longer than claimed, beyond what launching explains."""
        return self.bound_us > self.claimed_us * (1 + rules.slack) + rules.slack_us

    def believed_us(self, rules: Rules) -> float:
        """The claim, but never less than the judge's clock allows."""
        return max(self.claimed_us, (self.bound_us - rules.slack_us) / (1 + rules.slack))


def enough(times_us: Sequence[float], wall_s: float, rules: Rules) -> bool:
    """Whether repeats can stop."""
    count = len(times_us)
    if count < rules.least:
        return False
    if count >= rules.most or sum(times_us) >= 1e6 * rules.timed_s or wall_s >= rules.wall_s:
        return True
    error = statistics.stdev(times_us) / math.sqrt(count)
    return error < rules.error * statistics.fmean(times_us)


def late_claims(repeats: Sequence[Repeat], rules: Rules) -> str:
    """Why claims are refused, in words; empty when they are believed."""
    late = [repeat for repeat in repeats if repeat.is_late(rules)]
    if len(late) < 2 or len(late) <= rules.late * len(repeats):
        return ""
    claimed = statistics.median(repeat.claimed_us for repeat in late)
    bound = statistics.median(repeat.bound_us for repeat in late)
    return (
        f"its events claim {claimed:.0f} us, but the judge's clock saw {bound:.0f} us of work beyond that of "
        f"an empty call, in {len(late)} of {len(repeats)} repeats: work outside the timed stream, or a "
        "forged clock"
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def floor_us(moved: float, operations: float) -> float:
    """The least time in microseconds: bytes at the memory's rate or operations at the matrix units'.

    :param moved: bytes, each input read once and each output written once.
    :param operations: half-precision multiplications and additions of the products.
    """
    return 1e6 * max(moved / BYTES_PER_S, operations / OPERATIONS_PER_S)
