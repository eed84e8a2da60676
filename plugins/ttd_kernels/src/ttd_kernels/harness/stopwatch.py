"""Where the seconds of an evaluation go: wall time by stage and part, as the judge sees it.

A stage is one of :data:`STAGES`; a part is what was waited for in it. Parts do not overlap, so their sum is
the time that the judge's process spent. Nothing of this counts for a score.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

#: The stages of an evaluation in their order.
STAGES = ("start", "empty calls", "tests", "warm-ups", "repeats", "hidden", "end")
#: The parts in the order of a call: what comes before any, inputs drawn, a program's first call at a shape
#: (compiling included), its later ones, the reference, the comparison.
PARTS = (
    "judge",
    "memory",
    "candidate",
    "load",
    "inputs",
    "first calls",
    "calls",
    "reference",
    "comparison",
    "rest",
)

#: Seconds by stage and part. JSON.
Seconds = Mapping[str, Mapping[str, float]]


class Stopwatch:
    """Adds up wall seconds by stage and part.

    :param settle: waits until the device has done all it was given, so that its work counts for the part that
        asked for it.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, dict[str, float]] = {}
        self.settle = settle
        self._stage = STAGES[0]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count parts for this stage, one of :data:`STAGES`, until the block ends."""
        before, self._stage = self._stage, name
        try:
            yield
        finally:
            self._stage = before

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for this part, one of :data:`PARTS`."""
        began = time.monotonic()
        try:
            yield
            self.settle()
        finally:
            parts = self.seconds.setdefault(self._stage, {})
            parts[name] = parts.get(name, 0.0) + time.monotonic() - began


def total(seconds: Seconds) -> float:
    """All of it, seconds."""
    return sum(sum(parts.values()) for parts in seconds.values())


def completed(seconds: Seconds, whole_s: float, judge_s: float = 0.0) -> dict[str, dict[str, float]]:
    """What a judge counted, with what it cannot see.

    :param whole_s: seconds from when the evaluation was asked for until the candidate's process was gone.
    :param judge_s: seconds of these until the judge's process began with it: long for one that had to be
        started.
    """
    whole = {stage: dict(parts) for stage, parts in seconds.items()}
    whole.setdefault("start", {})["judge"] = max(0.0, judge_s)
    rest = whole_s - total(whole)
    whole.setdefault("end", {})["rest"] = max(0.0, rest)
    return whole


def rounded(seconds: Seconds) -> dict[str, dict[str, float]]:
    """To milliseconds, as they are kept."""
    return {
        stage: {part: round(value, 3) for part, value in parts.items()} for stage, parts in seconds.items()
    }
