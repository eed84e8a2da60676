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
    :param slack_us: what the judge's clock may exceed claims by, in the mean of the repeats: what launching,
        waking a process and giving the GPU to another take now more, now less.
    :param slack: the same as a share of the claim, on top.
    :param batch_us: calls are made in a row until they take at least this long at the floor,
    :param most_batch: but at most so many,
    :param batch_bytes: and no more than fit into so many bytes of inputs, and as many of outputs.
    :param audits: how often calls are made in a row at most, until one round bears the claims out.
    :param disturbed: how many times the slack one repeat may be off before it counts as disturbed.
    :param most_disturbed: share of repeats that may be disturbed, and are made again.
    :param series: how often repeats are taken at most, where calls in a row bear the claims out and single
        calls do not.
    """

    least: int = 3
    most: int = 100
    error: float = 0.001
    timed_s: float = 30.0
    wall_s: float = 120.0
    slack_us: float = 200.0
    slack: float = 0.05
    batch_us: float = 2000.0
    most_batch: int = 16
    batch_bytes: int = 4 << 30
    audits: int = 10
    disturbed: float = 5.0
    most_disturbed: float = 0.25
    series: int = 3

    def batch(self, floor_us: float, size: int) -> int:
        """How many calls of a shape are made in a row.

        :param floor_us: the least time of one.
        :param size: bytes of its inputs, or of its outputs if they are more.
        """
        wanted = math.ceil(self.batch_us / max(floor_us, 1.0))
        return max(1, min(wanted, self.most_batch, self.batch_bytes // max(size, 1)))

    def allowed_us(self, claimed_us: float) -> float:
        """The slack at a claim."""
        return self.slack_us + self.slack * claimed_us


@attrs.frozen
class Repeat:
    """One timed call.

    :param claimed_us: by events, as the candidate's process says.
    :param bound_us: by the judge's clock, less what an empty call takes.
    """

    claimed_us: float
    bound_us: float

    @property
    def gap_us(self) -> float:
        """How much longer the call took by the judge's clock than claimed."""
        return self.bound_us - self.claimed_us

    def is_disturbed(self, rules: Rules) -> bool:
        """Whether it is so far off that it says nothing, unless many are."""
        return self.gap_us > rules.disturbed * rules.allowed_us(self.claimed_us)


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


def refused_claims(repeats: Sequence[Repeat], rules: Rules) -> str:
    """Why claims are refused, in words; empty when they are believed.

    A claim can so be at most the slack too low in the mean: repeats that are far off are made again, but
    only if they are few, and of all others the mean counts.
    """
    disturbed = [repeat for repeat in repeats if repeat.is_disturbed(rules)]
    kept = [repeat for repeat in repeats if not repeat.is_disturbed(rules)]
    if len(disturbed) > max(2.0, rules.most_disturbed * len(repeats)):
        return _contradiction(disturbed, f"in {len(disturbed)} of {len(repeats)} repeats")
    gap = statistics.fmean(repeat.gap_us for repeat in kept)
    if gap > statistics.fmean(rules.allowed_us(repeat.claimed_us) for repeat in kept):
        return _contradiction(kept, f"in the mean of {len(kept)} repeats")
    return ""


def refused_batches(
    mean_us: float, bounds_us: Sequence[float], count: int, rules: Rules, own_us: float = 0.0
) -> str:
    """Why a mean is refused that calls in a row contradict; empty when they do not.

    What the judge's clock cannot tell from launching is spread over all the calls, so that a short kernel's
    claims are held as tightly as a long one's. The shortest round counts: a busy machine makes rounds longer,
    and none can be shorter than the work that all its checked outputs took.

    :param bounds_us: for each round of ``count`` calls, the judge's time for one.
    :param own_us: for which the harness keeps the host busy between two calls. Where the host is what a call
        waits for, claims hold the kernel's part of that, and calls in a row both parts.
    """
    bound = min(bounds_us)
    if bound <= mean_us * (1 + rules.slack) + rules.slack_us / count + own_us:
        return ""
    return (
        f"its events claim {mean_us:.0f} us, but the judge's clock saw {bound:.0f} us a call in {count} "
        "calls in a row: work outside the timed stream, or a forged clock"
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
