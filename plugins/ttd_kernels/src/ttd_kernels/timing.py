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
    :param slack_us: what the judge's clock may exceed claims by, in the mean of the repeats, where all was
        queued ahead: giving the GPU to another process takes now more, now less.
    :param host_slack_us: the same where the GPU had to wait for the host.
    :param slack: as a share of the claim, on top.
    :param disturbed: how many times the slack one repeat may be off before it counts as disturbed.
    :param most_disturbed: share of repeats that may be disturbed, and are made again.
    :param series: how often repeats are taken at most, where the judge's clock bears out some and refuses all
        in the mean.
    """

    least: int = 3
    most: int = 100
    error: float = 0.001
    timed_s: float = 30.0
    wall_s: float = 120.0
    slack_us: float = 25.0
    host_slack_us: float = 200.0
    slack: float = 0.05
    disturbed: float = 5.0
    most_disturbed: float = 0.25
    series: int = 3


@attrs.frozen
class Repeat:
    """One timed call, microseconds.

    :param claimed_us: by events, as the candidate's process says.
    :param bound_us: by the judge's clock, less what an empty call takes.
    :param host_us: what the host took to queue it, less what an empty call takes.
    :param ahead: whether it was queued before it began.
    """

    claimed_us: float
    bound_us: float
    host_us: float = 0.0
    ahead: bool = True

    @property
    def gap_us(self) -> float:
        """How much longer the call took by the judge's clock than claimed."""
        return self.bound_us - self.claimed_us

    def allowed_us(self, rules: Rules) -> float:
        """The slack at this claim."""
        slack_us = rules.slack_us if self.ahead else rules.host_slack_us
        return slack_us + rules.slack * self.claimed_us

    def is_disturbed(self, rules: Rules) -> bool:
        """Whether it is so far off that it says nothing, unless many are."""
        return self.gap_us > rules.disturbed * self.allowed_us(rules)


def typical(walls_us: Sequence[float], rules: Rules) -> float:
    """What an empty call takes, as repeats are weighed: the mean of those that nothing disturbed.

    A mean, for it is taken from means: what a busy machine adds now and then is in both.
    """
    middle = statistics.median(walls_us)
    return statistics.fmean(wall for wall in walls_us if wall - middle <= rules.disturbed * rules.slack_us)


def enough(times_us: Sequence[float], wall_s: float, rules: Rules) -> bool:
    """Whether repeats can stop."""
    count = len(times_us)
    if count < rules.least:
        return False
    if count >= rules.most or sum(times_us) >= 1e6 * rules.timed_s or wall_s >= rules.wall_s:
        return True
    error = statistics.stdev(times_us) / math.sqrt(count)
    return error < rules.error * statistics.fmean(times_us)


def undisturbed(repeats: Sequence[Repeat], rules: Rules) -> list[Repeat]:
    """The repeats that count."""
    return [repeat for repeat in repeats if not repeat.is_disturbed(rules)]


def refused(repeats: Sequence[Repeat], rules: Rules) -> str:
    """Why claims are refused, in words; empty when the judge's clock bears them out.

    Repeats that are far off are made again, but only if they are few, and of all others the mean counts.
    """
    kept = undisturbed(repeats, rules)
    disturbed = [repeat for repeat in repeats if repeat.is_disturbed(rules)]
    if len(disturbed) > max(2.0, rules.most_disturbed * len(repeats)):
        return _contradiction(disturbed, f"in {len(disturbed)} of {len(repeats)} repeats")
    gap = statistics.fmean(repeat.gap_us for repeat in kept)
    if gap > statistics.fmean(repeat.allowed_us(rules) for repeat in kept):
        return _contradiction(kept, f"in the mean of {len(kept)} repeats")
    return ""


def all_contradicted(repeats: Sequence[Repeat], rules: Rules) -> bool:
    """Whether not one repeat is within the slack: a busy GPU leaves some alone, and work that events do not
    see is there in each."""
    return all(repeat.gap_us > repeat.allowed_us(rules) for repeat in repeats)


def believed(repeats: Sequence[Repeat]) -> float:
    """The time that counts: the mean claim, or what the judge's clock saw in the mean if that is more.

    So a claim that is too low gains nothing, whether it is within the slack or not.
    """
    return max(
        statistics.fmean(repeat.claimed_us for repeat in repeats),
        statistics.fmean(repeat.bound_us for repeat in repeats),
    )


def _contradiction(repeats: Sequence[Repeat], when: str) -> str:
    claimed = statistics.fmean(repeat.claimed_us for repeat in repeats)
    bound = statistics.fmean(repeat.bound_us for repeat in repeats)
    return (
        f"its events claim {claimed:.0f} us, but the judge's clock saw {bound:.0f} us of work beyond that of "
        f"an empty call, {when}: work outside the timed stream, or a forged clock"
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
