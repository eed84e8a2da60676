"""What a call without a kernel takes: measured before a candidate's source runs, and known from earlier ones.

A judge that evaluates one candidate after another on a device makes the same empty calls again and again. It
keeps those of the last candidates; a few fresh ones show whether they still hold, and only where they do not
are all made anew. No candidate has a part in it: its source is not loaded yet, and the processes of those
before it are gone.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from ttd_kernels.harness import timing
from ttd_kernels.harness.checked_calls import CheckedCalls
from ttd_kernels.harness.device_session import CallResult
from ttd_kernels.harness.kernel_io import Shape, shape_label
from ttd_kernels.harness.timing import TimingRules

#: Empty calls at a shape that are kept: those of the last candidates.
_KEPT = 48


@attrs.frozen
class EmptyCallTime:
    """What a call without a kernel takes, microseconds.

    :param wall_us: by the judge's clock, in the mean.
    :param queued_us: to queue it, by the host's clock; the median.
    :param unseen_us: how soon after *done* a look at its outputs can be, see :func:`timing.unseen_us`.
    """

    wall_us: float
    queued_us: float
    unseen_us: float


class KnownEmptyCalls:
    """Empty calls of earlier candidates on one device: by the judge's clock, microseconds, for each shape."""

    def __init__(self) -> None:
        self._walls_us: dict[str, list[float]] = {}

    def time_at(self, shape: Shape, calls: CheckedCalls, rules: TimingRules) -> EmptyCallTime:
        """What an empty call takes at a shape, by fresh ones and, where these bear them out, by earlier ones.

        :param calls: of the candidate's process, before its source runs.
        """
        label = shape_label(shape)
        known = self._walls_us.get(label, [])
        looks = min(rules.looks, 2)
        # those looked at are the first, which count for no time
        made = calls.empty_calls(shape, max(looks, 2) + _count(known, rules), looks)
        ages = [each.look.age_us for each in made if each.look is not None]
        fresh = made[max(looks, 2) :]
        if known and not timing.still_holds(known, _walls(fresh), rules):
            known = []
            fresh += calls.empty_calls(shape, rules.empty_calls - len(fresh))
        walls = [*known, *_walls(fresh)][-_KEPT:]
        self._walls_us[label] = walls
        wall_us = timing.empty_call_us(walls, rules)
        queued_us = statistics.median(each.queued_us for each in fresh)
        return EmptyCallTime(wall_us, queued_us, timing.unseen_us(ages, wall_us))


def _count(known: Sequence[float], rules: TimingRules) -> int:
    return rules.known_empty_calls if known else rules.empty_calls


def _walls(calls: Sequence[CallResult]) -> list[float]:
    return [call.wall_us for call in calls]
