"""What a program came to with each share of its budget, and what it counts for beside others of its group.

Where short runs come first (the key ``cascade``, ``docs/cascade.md``), some programs of a group run with all
of their budget and others with a part of it alone. All of their scores are true, but those of short runs say
less: :func:`compared` says what each counts for when the group is compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs


@attrs.frozen
class Stage:
    """One run of a program with a share of its budget.

    :param share: of the budget, above 0 and at most 1.
    :param budget_s: seconds that the program was told it has.
    :param seconds: wall seconds that it ran.
    :param status: how that run ended (:class:`~ttd_core.types.Status`).
    :param value: the reward of what it came to; ``None`` when it failed.
    :param score: in the problem's metric; ``None`` when it failed.
    """

    share: float
    budget_s: float
    seconds: float
    status: str
    value: float | None
    score: float | None


@attrs.frozen
class Counted:
    """What a rollout counts for by itself, and how far it went.

    :param value: its reward, or that of its last run.
    :param runs: how many runs with a share of its budget it had; 0 for one that was judged in one go.
    :param valid: whether the last of them came to a valid result.
    """

    value: float
    runs: int = 0
    valid: bool = False

    @classmethod
    def of(cls, value: float, ran: Sequence[Stage]) -> Counted:
        """What a rollout counts for before its group is looked at.

        :param value: its reward, 0 where it failed.
        :param ran: its runs; empty for one that was judged in one go.
        """
        if not ran:
            return cls(value)
        return cls(ran[-1].value or 0.0, len(ran), ran[-1].value is not None)


def compared(rollouts: Sequence[Counted]) -> list[float]:
    """What each rollout of a group counts for when they are compared.

    A program counts for the reward of its last run, and for 0 where that failed. But one that did not go on
    counts for no more than the least of those that went further and came to a valid result. So two programs
    that ran with all of their budget compare as they would without a cascade, the others are never ahead of
    them, and among those that ended at one stage none overtakes another. One that was judged in one go counts
    for its reward.

    Where some were compared before others of their group were judged, what they counted for then may stand
    for what they count for by themselves: it comes to the same.

    :return: as many values.
    """
    values = [rollout.value for rollout in rollouts]
    ceiling = math.inf
    for runs in sorted({rollout.runs for rollout in rollouts if rollout.runs}, reverse=True):
        valid = [index for index, each in enumerate(rollouts) if each.runs == runs and each.valid]
        for index in valid:
            values[index] = min(values[index], ceiling)
        ceiling = min([ceiling, *(values[index] for index in valid)])
    return values
