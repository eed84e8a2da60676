"""Which times are believed, from numbers alone: repeats, when there are enough, what contradicts a claim.

Each timed call gives two times: what the candidate's process claims, and what the judge's own clock saw
beyond a call without a kernel. No clock is read in here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs


@attrs.frozen
class TimingRules:
    """The limits of the timing protocol.

    :param min_repeats: timed calls of a shape at least.
    :param max_repeats: timed calls of a shape at most.
    :param relative_error: standard error of the mean, as a share of the mean, at which to stop.
    :param timed_s: seconds of timed work after which to stop.
    :param wall_s: seconds of wall time after which to stop.
    :param slack_us: by how much the judge's time may exceed claims, in the mean of the repeats, where all was
        queued ahead: giving the GPU to another process takes now more, now less.
    :param host_slack_us: the same where the GPU had to wait for the host.
    :param relative_slack: a share of the claim that is allowed on top.
    :param disturbed_factor: how many times the slack one repeat may be off before it counts as disturbed.
    :param max_disturbed_share: share of the repeats that may be disturbed; those are made again.
    :param least_disturbed: repeats that end a series where they are disturbed and none counts; after fewer, a
        program that lies now and then might seem to lie always.
    :param max_series: how often all repeats are taken at most, where the judge's clock bears out some claims
        and contradicts them in the mean.
    :param looks: calls of a shape at least in which it is looked at whether the outputs are complete at
        *done*; they count for no time.
    :param look_share: share of the later calls that are looked at as well.
    :param look_below_us: a call that takes longer than this by the judge's clock is not looked at: what could
        be hidden of it, less than an empty call takes, is no matter.
    :param unseen_factor: how many times older than at empty calls the best look may be before that counts.
    :param empty_calls: calls without a kernel at a shape that count.
    :param known_empty_calls: the same where earlier candidates have made them.
    :param empty_slack_us: by how much fresh ones may be off from those, in the mean.
    :param patience_s: seconds of repeats of a shape after which less precision will do.
    :param near_floor: how many times the floor a program may take that is measured as precisely as any.
    :param least_precise: by what factor less precision will do at most, for a slower one or after that time.
    """

    min_repeats: int = 3
    max_repeats: int = 100
    relative_error: float = 0.001
    timed_s: float = 30.0
    wall_s: float = 120.0
    slack_us: float = 25.0
    host_slack_us: float = 200.0
    relative_slack: float = 0.05
    disturbed_factor: float = 5.0
    max_disturbed_share: float = 0.25
    least_disturbed: int = 8
    max_series: int = 3
    looks: int = 4
    look_share: float = 0.1
    look_below_us: float = 100_000.0
    unseen_factor: float = 2.0
    empty_calls: int = 16
    known_empty_calls: int = 4
    empty_slack_us: float = 5.0
    patience_s: float = 0.5
    near_floor: float = 4.0
    least_precise: float = 20.0


@attrs.frozen
class Repeat:
    """One timed call, microseconds.

    :param claimed_us: between two events on the GPU, as the candidate's process says.
    :param judge_us: by the judge's clock, less what an empty call takes.
    :param host_us: what the host took to queue the call, less what it takes for an empty one.
    :param queued_ahead: whether all was queued before it began, so that the GPU waited for no launch.
    """

    claimed_us: float
    judge_us: float
    host_us: float = 0.0
    queued_ahead: bool = True

    @property
    def excess_us(self) -> float:
        """How much longer the call took by the judge's clock than claimed."""
        return self.judge_us - self.claimed_us

    def allowed_us(self, rules: TimingRules) -> float:
        """The greatest excess that is within the slack at this claim."""
        slack_us = rules.slack_us if self.queued_ahead else rules.host_slack_us
        return slack_us + rules.relative_slack * self.claimed_us

    def is_disturbed(self, rules: TimingRules) -> bool:
        """Whether it is so far off that it says nothing, unless many are."""
        return self.excess_us > rules.disturbed_factor * self.allowed_us(rules)


def empty_call_us(walls_us: Sequence[float], rules: TimingRules) -> float:
    """What an empty call takes, as repeats are weighed: the mean of those that nothing disturbed.

    A mean, for it is taken from means: what a busy machine adds now and then is in both.

    :param walls_us: times of calls without a kernel by the judge's clock, at least one.
    """
    middle = statistics.median(walls_us)
    limit = rules.disturbed_factor * rules.slack_us
    return statistics.fmean(wall for wall in walls_us if wall - middle <= limit)


def still_holds(known_us: Sequence[float], fresh_us: Sequence[float], rules: TimingRules) -> bool:
    """Whether a few fresh empty calls take what those of earlier candidates took.

    :param known_us: of earlier candidates, by the judge's clock.
    :param fresh_us: of this one, before its source runs.
    """
    return abs(empty_call_us(fresh_us, rules) - empty_call_us(known_us, rules)) <= rules.empty_slack_us


def rules_for(wall_us: float, rules: TimingRules) -> TimingRules:
    """The rules for a program at a shape: none of its calls is looked at where they take long.

    :param wall_us: of a call by the judge's clock.
    """
    return attrs.evolve(rules, looks=0, look_share=0.0) if wall_us > rules.look_below_us else rules


def allowed_error(mean_us: float, floor_us: float, wall_s: float, rules: TimingRules) -> float:
    """The standard error of the mean at which to stop, as a share of the mean.

    The least for a program near the floor in the first moments. Precision is bought with repeats, each of
    which is checked: for a program several times slower than the best that is possible, and after some time
    for any, less of it will do.

    :param mean_us: of the claims.
    :param floor_us: the least time that is possible, see :func:`ttd_kernels.roofline.floor_us`; 0 where it is
        not known.
    :param wall_s: seconds since the first repeat began.
    """
    slowness = mean_us / (rules.near_floor * floor_us) if floor_us > 0 else 1.0
    factor = max(1.0, slowness) * max(1.0, wall_s / rules.patience_s)
    return rules.relative_error * min(factor, rules.least_precise)


def enough_repeats(
    times_us: Sequence[float], wall_s: float, rules: TimingRules, floor_us: float = 0.0
) -> bool:
    """Whether repeats can stop.

    :param times_us: claims of the repeats that count.
    :param wall_s: seconds since the first repeat began.
    :param floor_us: see :func:`allowed_error`.
    """
    count = len(times_us)
    if count < rules.min_repeats:
        return False
    if count >= rules.max_repeats or sum(times_us) >= 1e6 * rules.timed_s or wall_s >= rules.wall_s:
        return True
    error, mean = statistics.stdev(times_us) / math.sqrt(count), statistics.fmean(times_us)
    return error < allowed_error(mean, floor_us, wall_s, rules) * mean


def undisturbed(repeats: Sequence[Repeat], rules: TimingRules) -> list[Repeat]:
    """The repeats that count."""
    return [repeat for repeat in repeats if not repeat.is_disturbed(rules)]


def contradiction(repeats: Sequence[Repeat], rules: TimingRules) -> str:
    """How the judge's clock contradicts the claims, in words; empty when it bears them out.

    Repeats that are far off are made again, but only if they are few, and of all others the mean counts.
    """
    kept = undisturbed(repeats, rules)
    disturbed = [repeat for repeat in repeats if repeat.is_disturbed(rules)]
    if len(disturbed) > max(2.0, rules.max_disturbed_share * len(repeats)):
        return _in_words(disturbed, f"in {len(disturbed)} of {len(repeats)} repeats")
    excess = statistics.fmean(repeat.excess_us for repeat in kept)
    if excess > statistics.fmean(repeat.allowed_us(rules) for repeat in kept):
        return _in_words(kept, f"in the mean of {len(kept)} repeats")
    return ""


def all_contradicted(repeats: Sequence[Repeat], rules: TimingRules) -> bool:
    """Whether not one repeat is within the slack: a busy GPU leaves some alone, and work that events do not
    see is there in each."""
    return all(repeat.excess_us > repeat.allowed_us(rules) for repeat in repeats)


def unseen_us(ages_us: Sequence[float], empty_us: float) -> float:
    """The most that a program can do after *done* without being seen by its looks, microseconds.

    A look that is no older than this after *done* found the outputs complete. What an empty call takes is a
    bound as well, since no more is taken off the judge's clock.

    :param ages_us: of the looks at one shape.
    :param empty_us: what an empty call takes.
    """
    return min([*ages_us, empty_us])


def charged_us(unseen: float, usual: float, rules: TimingRules) -> float:
    """What is put on the judge's clock for looks that came late, microseconds.

    Nothing where they come about as soon as at empty calls. A program that keeps the copy engines busy, so
    that they come late, is charged for what it may have done meanwhile.

    :param unseen: see :func:`unseen_us`.
    :param usual: the same at empty calls, made before a byte of the candidate's source has run.
    """
    return max(0.0, unseen - rules.unseen_factor * usual - rules.slack_us)


def believed_us(repeats: Sequence[Repeat], charged: float = 0.0) -> float:
    """The time that counts, microseconds: the mean claim, or the judge's mean if that is more.

    So a claim that is too low gains nothing, whether it is within the slack or not.

    :param charged: see :func:`charged_us`.
    """
    return max(
        statistics.fmean(repeat.claimed_us for repeat in repeats),
        statistics.fmean(repeat.judge_us for repeat in repeats) + charged,
    )


def _in_words(repeats: Sequence[Repeat], when: str) -> str:
    claimed = statistics.fmean(repeat.claimed_us for repeat in repeats)
    seen = statistics.fmean(repeat.judge_us for repeat in repeats)
    return (
        f"its events claim {claimed:.0f} us, but the judge's clock saw {seen:.0f} us of work beyond that of "
        f"an empty call, {when}: work outside the timed stream, or a forged clock"
    )
