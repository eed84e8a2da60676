"""How long a run still takes, by the steps that it has made."""

from __future__ import annotations

from collections.abc import Sequence


def seconds_left(step_seconds: Sequence[float], steps: int, elapsed: float) -> float | None:
    """Estimated wall seconds to the end of a run; ``None`` before its first step is over.

    :param step_seconds: wall seconds of steps that are over.
    :param steps: how many are left, the one under way counted.
    :param elapsed: seconds since that one began.
    """
    if not step_seconds:
        return None
    return max(0.0, sum(step_seconds) / len(step_seconds) * steps - elapsed)
